"""Losses: logits (N, C, H, W) and targets (N, H, W) int64, 255 ignored → a scalar.

C = 1 is a sigmoid against label 1, C = K + 1 a softmax with the background at 0. Labels that may
overlap have C = K sigmoids, and targets (N, K, H, W) int64 of 0, 1, 255: each label is a question
of its own, to which "not this label" is the background.

Everything is pooled over the batch, in float32. A batch without a known pixel costs exactly
nothing and has no gradient; nor do ignored pixels ever. segmentation-models-pytorch has losses of
most of these names, but its focal loss is nan and its Lovász loss no scalar where nothing is known,
its Dice averages over absent classes and the background, and none takes weights for a single label.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ml_backend.errors import ConfigError
from ml_backend.recipe import Training
from ml_backend.registry import Registry

IGNORE = 255
BACKGROUND = "background"

Loss = Callable[[Tensor, Tensor], Tensor]
WeightedLoss = Callable[[Tensor, Tensor, Tensor, Training], Tensor]
"""(logits, target, weights (K + 1,) with the background first, parameters) → a scalar."""

LOSSES: Registry[WeightedLoss] = Registry("loss")

_LEAST = 1e-8  # what sums are divided by where nothing counts


def make_loss(
    settings: Training,
    classes: int,
    weights: Sequence[float] | None = None,
    *,
    overlapping: bool = False,
) -> Loss:
    """The loss that the recipe names, for `classes` labels and `weights` (`weights_of`).

    It takes targets (N, H, W), which are sets of labels (`masks/sets.py`) where they may overlap.
    """
    weights_K = torch.tensor(weights or [1.0] * (classes + 1), dtype=torch.float32)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        target = planes_of(target, classes) if overlapping else target
        return member(logits.float(), target, weights_K.to(logits.device), settings)

    member = LOSSES[settings.loss]
    return loss


def planes_of(sets_NHW: Tensor, classes: int) -> Tensor:
    """(N, H, W) int64 sets of labels → (N, K, H, W): 1 has the label, 0 has not, 255 unknown."""
    labels_K = torch.arange(1, classes + 1, device=sets_NHW.device)[:, None, None]
    sets = sets_NHW[:, None]
    return torch.where(sets == IGNORE, IGNORE, (sets >> labels_K) & 1)


def weights_of(
    settings: Training, labels: Sequence[str], pixels: Sequence[float]
) -> list[float] | None:
    """Weights of background and labels as `training.class_weights` says; None for all alike.

    `pixels` counts what is known of each, background first. `balanced` is 1 / √share, so that a
    label of a hundredth of the pixels weighs ten times one of all: patches are drawn by label
    already, and full inverse shares would let a speck drown the rest. Mean 1 over those that
    occur. Raises `ConfigError` for names that are no labels.
    """
    wanted = settings.class_weights
    if wanted is None:
        return None
    if isinstance(wanted, str):
        found = [(max(sum(pixels), 1) / count) ** 0.5 for count in pixels if count]
        mean = sum(found) / max(len(found), 1)
        remaining = iter(found)
        return [next(remaining) / mean if count else 1.0 for count in pixels]
    strange = sorted(set(wanted) - {BACKGROUND, *labels})
    if strange:
        raise ConfigError(
            f"training.class_weights names {', '.join(map(repr, strange))}; "
            f"there are: {', '.join([BACKGROUND, *labels])}"
        )
    ground = 1.0 if BACKGROUND in labels else wanted.get(BACKGROUND, 1.0)
    return [ground, *(wanted.get(label, 1.0) for label in labels)]


@LOSSES.register("cross_entropy")
@LOSSES.register("bce")
@LOSSES.register("ce")
def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor, _settings: Training) -> Tensor:
    """Weighted mean of the (binary) cross-entropy over the known pixels, ≥ 0."""
    return _mean(_surprise(logits, target), target, weights)


@LOSSES.register("focal")
def focal(logits: Tensor, target: Tensor, weights: Tensor, settings: Training) -> Tensor:
    """Mean of (1 - p)^gamma x cross-entropy, p the probability of the truth (Lin et al. 2017)."""
    surprise = _surprise(logits, target)
    # 1 - p; the floor keeps the slope of its power finite where the network is certain.
    doubt = -torch.expm1(-surprise).clamp(max=-1e-6)
    return _mean(doubt**settings.focal_gamma * surprise, target, weights)


@LOSSES.register("tversky")
def tversky(logits: Tensor, target: Tensor, weights: Tensor, settings: Training) -> Tensor:
    """1 - TP / (TP + a FP + b FN), weighted mean of the labels present (Salehi et al. 2017).

    Soft counts, smoothed by half a pixel; 0..1. False positives on patches without the label
    count, because all patches of a batch are one.
    """
    return _overlap(logits, target, weights, (settings.tversky_alpha, settings.tversky_beta))


@LOSSES.register("dice")
def dice(logits: Tensor, target: Tensor, weights: Tensor, _settings: Training) -> Tensor:
    """1 - soft Dice, 0..1: Tversky with a = b = 0.5 (Milletari et al. 2016, with plain sums)."""
    return _overlap(logits, target, weights, (0.5, 0.5))


@LOSSES.register("dice_bce")
def dice_bce(logits: Tensor, target: Tensor, weights: Tensor, settings: Training) -> Tensor:
    """Dice plus (binary) cross-entropy: the overlap that is judged, and a smooth gradient."""
    terms = (member(logits, target, weights, settings) for member in (dice, cross_entropy))
    return torch.stack(list(terms)).sum()


@LOSSES.register("lovasz")
def lovasz(logits: Tensor, target: Tensor, weights: Tensor, _settings: Training) -> Tensor:
    """Lovász extension of 1 - IoU, weighted mean of the labels in the batch (Berman et al. 2018).

    Of a single label, and of each that may overlap with others, the hinge on its logits, which the
    paper has for binary masks; of several the error of their probabilities.
    """
    if _is_planes(target):
        each = [_hinge(*pair) for pair in zip(logits.unbind(1), target.unbind(1), strict=True)]
        return _share(torch.stack(each), weights[1:])
    if logits.shape[1] == 1:
        return _hinge(logits[:, 0], target)
    known = target != IGNORE
    truth = target[known]
    probs = logits.softmax(dim=1)
    losses = [
        _lovasz_extension(((truth == label).float() - probs[:, label][known]).abs(), truth == label)
        for label in range(1, logits.shape[1])
    ]
    present = torch.stack([(truth == label).any() for label in range(1, logits.shape[1])])
    return _share(torch.stack(losses), present * weights[1:])


def _is_planes(target: Tensor) -> bool:
    """Whether labels may overlap."""
    return target.ndim == 4


def _hinge(logits_NHW: Tensor, target_NHW: Tensor) -> Tensor:
    """Lovász hinge of one label; `target_NHW`: 1 has it, 255 is ignored."""
    known = target_NHW != IGNORE
    truth = target_NHW[known] == 1
    return _lovasz_extension(functional.relu(1 - logits_NHW[known] * (2.0 * truth - 1)), truth)


def _surprise(logits: Tensor, target: Tensor) -> Tensor:
    """Minus the logarithm of the truth's probability, of the target's shape; 0 if ignored."""
    if _is_planes(target):
        truth = (target == 1).to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return losses * (target != IGNORE)
    if logits.shape[1] > 1:
        return functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    truth = (target == 1).to(logits.dtype)
    losses = functional.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
    return losses * (target != IGNORE)


def _mean(losses: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean over the known pixels, each weighted by its label; `losses` is 0 at the others."""
    if _is_planes(target):
        of_truth = torch.where(target == 1, weights[1:, None, None], weights[0])
    else:
        of_truth = weights[target.clamp(max=len(weights) - 1)]
    weight = torch.where(target == IGNORE, 0.0, of_truth)
    return _share(losses, weight)


def _share(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * weights).sum() / weights.sum().clamp(min=_LEAST)


def _overlap(
    logits: Tensor, target: Tensor, weights: Tensor, errors: tuple[float, float]
) -> Tensor:
    """Mean over the labels present of 1 - Tversky index; `errors`: weights of FP and FN."""
    if _is_planes(target):
        probs, truth, known = logits.sigmoid(), target == 1, target != IGNORE
    else:
        probs = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)[:, 1:]
        labels = torch.arange(1, probs.shape[1] + 1, device=target.device)
        truth, known = target[:, None] == labels[:, None, None], (target != IGNORE)[:, None]
    truth, probs = truth.to(probs.dtype), probs * known
    total = partial(torch.sum, dim=(0, 2, 3))
    hits, wrong, missed = (
        total(probs * truth),
        total(probs * (1 - truth)),
        total((1 - probs) * truth),
    )
    index = (hits + 0.5) / (hits + errors[0] * wrong + errors[1] * missed + 0.5)
    return _share(1 - index, (total(truth) > 0) * weights[1:])


def _lovasz_extension(errors: Tensor, truth: Tensor) -> Tensor:
    """Errors (P,), each times what its pixel adds to 1 - IoU after all with larger errors."""
    ordered, order = errors.sort(descending=True, stable=True)
    hits = truth[order].to(errors.dtype)
    union = hits.sum() + (1 - hits).cumsum(0)
    jaccard = 1 - (hits.sum() - hits.cumsum(0)) / union.clamp(min=1)
    added = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
    return ordered @ added
