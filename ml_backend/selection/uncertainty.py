"""How uncertain the model is about one image: maps over its pixels, then one number.

Notation: T passes, C channels (background and K classes), p̄ the mean of the passes. Higher
is more uncertain. Probabilities cover the pixels the annotator will see: padding has been
cut off by the caller. Element-wise work keeps the precision of the input; every sum over
pixels is made in float64.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import LearningError
from ml_backend.registry import Registry
from ml_backend.selection.objects import expected_objects

Floats = NDArray[np.floating[Any]]

_HALO = 3  # px around the predicted foreground: where its outline may turn out to lie
_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _HALO + 1, 2 * _HALO + 1))
_SLACK = 1e-3  # half-precision softmax may sum to a little more than one


@dataclass(frozen=True)
class Passes:
    """The passes over one image, and what several scores need of them, worked out once.

    `probs_TCHW`: floats in 0..1 that sum to one over C ≥ 2. `weights_C`: how much each channel
    counts for `weighted_entropy`, in any unit; None counts all alike. `top_share`: share of the
    pixels that the reduction `top` looks at. Raises `LearningError` when the probabilities are
    none, which is what a diverged model answers.
    """

    probs_TCHW: Floats  # noqa: N815
    weights_C: Sequence[float] | None = None  # noqa: N815
    top_share: float = 0.1

    def __post_init__(self) -> None:
        _check(self.probs_TCHW)

    @property
    def of_two(self) -> bool:
        """Whether there are two channels, of which each says what the other does."""
        return self.probs_TCHW.shape[1] == 2

    @cached_property
    def mean_CHW(self) -> Floats:  # noqa: N802
        """p̄."""
        total_CHW = self.probs_TCHW[0].copy()
        for probs_CHW in self.probs_TCHW[1:]:  # half the time of numpy's mean over few rows
            total_CHW += probs_CHW
        total_CHW /= len(self.probs_TCHW)
        return np.asarray(total_CHW)

    @cached_property
    def entropy_HW(self) -> Floats:  # noqa: N802
        """H(p̄), nats."""
        return _entropy(self.mean_CHW)

    @cached_property
    def disagreement_HW(self) -> Floats:  # noqa: N802
        """H(p̄) - (1/T) Σ_t H(p_t), nats: 0 where all passes say the same."""
        sums_HW = _p_log_p(self.probs_TCHW.reshape(-1, *self.probs_TCHW.shape[2:]))
        sums_HW /= len(self.probs_TCHW)
        sums_HW += self.entropy_HW
        return sums_HW

    @cached_property
    def foreground_HW(self) -> NDArray[np.bool_]:  # noqa: N802
        """Where any class is predicted: is likelier than the background."""
        return np.asarray(self.mean_CHW[1:].max(axis=0) > self.mean_CHW[0])

    @cached_property
    def said_KHW(self) -> NDArray[np.bool_]:  # noqa: N802
        """Where each class is predicted: is the likeliest."""
        if self.of_two:
            return self.foreground_HW[None]
        said_HW = self.mean_CHW.argmax(axis=0)
        return np.stack([said_HW == number for number in range(1, len(self.mean_CHW))])

    @cached_property
    def surroundings_HW(self) -> NDArray[np.bool_]:  # noqa: N802
        """The predicted foreground and 3 px around it; everywhere if there is none."""
        if not self.foreground_HW.any():
            return np.ones_like(self.foreground_HW)
        return np.asarray(cv2.dilate(self.foreground_HW.astype(np.uint8), _DISC) > 0)


Score = Callable[[Passes], Floats]
Reduction = Callable[[Floats, Passes], float]

SCORES: Registry[Score] = Registry("uncertainty score")
REDUCTIONS: Registry[Reduction] = Registry("reduction")
CEILINGS: Registry[Callable[[int], float]] = Registry("uncertainty score")


def _score(name: str, ceiling: Callable[[int], float]) -> Callable[[Score], Score]:
    """File a score together with the largest value it can take with C channels."""
    CEILINGS.register(name)(ceiling)
    return SCORES.register(name)


def _entropy(probs_CHW: Floats) -> Floats:
    """-Σ p log p in nats."""
    sums_HW = _p_log_p(probs_CHW)
    return np.asarray(np.negative(sums_HW, out=sums_HW))


def _p_log_p(planes_NHW: Floats) -> Floats:
    """Σ_n p log p; 0 log 0 is 0 because the logarithm stays finite.

    Plane after plane in the same two arrays, which stay in the processor's cache.
    """
    tiny = np.finfo(planes_NHW.dtype).tiny  # lost in any p that counts, and quicker than a maximum
    sums_HW, logs_HW = np.zeros_like(planes_NHW[0]), np.empty_like(planes_NHW[0])
    for probs_HW in planes_NHW:
        np.log(np.add(probs_HW, tiny, out=logs_HW), out=logs_HW)
        sums_HW += np.multiply(logs_HW, probs_HW, out=logs_HW)
    return np.asarray(sums_HW)


@_score("entropy", ceiling=math.log)
def entropy(passes: Passes) -> Floats:
    """H(p̄) = -Σ_c p̄_c log p̄_c, in 0..log C (Roels & Saeys 2019, eq. 1)."""
    return passes.entropy_HW


@_score("weighted_entropy", ceiling=math.log)
def weighted_entropy(passes: Passes) -> Floats:
    """H(p̄) Σ_c w_c p̄_c with w divided by its largest, in 0..log C.

    The entropy counts where the classes of large weight are thought likely; equal weights give
    the entropy. With the weight of a single class it is the map of ClaSP-PE (TMLR 2026).
    """
    if passes.weights_C is None:
        return passes.entropy_HW
    weights_C = np.asarray(passes.weights_C, passes.mean_CHW.dtype)
    shares_HW = np.tensordot(weights_C / weights_C.max(), passes.mean_CHW, axes=1)
    return np.asarray(passes.entropy_HW * shares_HW)


@_score("least_confidence", ceiling=lambda channels: 1 - 1 / channels)
def least_confidence(passes: Passes) -> Floats:
    """1 - max_c p̄_c, in 0..1 - 1/C (Roels & Saeys 2019, eq. 2)."""
    return np.asarray(1 - passes.mean_CHW.max(axis=0))


@_score("margin", ceiling=lambda _channels: 1.0)
def margin(passes: Passes) -> Floats:
    """1 - (largest - second largest of p̄), in 0..1."""
    first_HW, second_HW = passes.mean_CHW[0], np.zeros_like(passes.mean_CHW[0])
    for probs_HW in passes.mean_CHW[1:]:  # several times as fast as sorting a few channels
        second_HW = np.maximum(second_HW, np.minimum(first_HW, probs_HW))
        first_HW = np.maximum(first_HW, probs_HW)
    return np.asarray(1 - (first_HW - second_HW))


@_score("bald", ceiling=math.log)
def bald(passes: Passes) -> Floats:
    """H(p̄) - (1/T) Σ_t H(p_t), in 0..log C (Roels & Saeys 2019, eq. 3; 0 for one pass).

    What the passes of `mc_dropout` disagree about; it is `jsd` over other passes.
    """
    return passes.disagreement_HW


@_score("jsd", ceiling=math.log)
def jsd(passes: Passes) -> Floats:
    """H(p̄) - (1/T) Σ_t H(p_t), in 0..log C: Jensen-Shannon divergence of augmented views.

    As in Gaillochet et al. 2023: the sum of both signs in their code is none. The same
    expression as `bald`, under the name that it has over `tta` (0 for one pass).
    """
    return passes.disagreement_HW


@_score("variance", ceiling=lambda _channels: 0.25)
def variance(passes: Passes) -> Floats:
    """Population variance over the passes, averaged over the channels, in 0..1/4.

    With two channels this is Var_t of the foreground's probability (Max 2021; 0 for one pass).
    """
    first = int(passes.of_two)
    mean_CHW = passes.mean_CHW[first:]
    squares_CHW, away_CHW = np.zeros_like(mean_CHW), np.empty_like(mean_CHW)
    for probs_CHW in passes.probs_TCHW[:, first:]:
        np.subtract(probs_CHW, mean_CHW, out=away_CHW)
        squares_CHW += np.square(away_CHW, out=away_CHW)
    return np.asarray(squares_CHW.mean(axis=0) / len(passes.probs_TCHW))


@REDUCTIONS.register("mean")
def mean(map_HW: Floats, passes: Passes) -> float:  # noqa: ARG001
    """Mean over all pixels, as the papers have it; background dilutes it."""
    return float(np.asarray(cv2.mean(map_HW))[0])  # float64 sums in a quarter of numpy's time


@REDUCTIONS.register("foreground")
def foreground(map_HW: Floats, passes: Passes) -> float:
    """Mean over the predicted foreground and 3 px around it.

    Where nothing is predicted there is no such area: the mean over all pixels stands in.
    """
    area_HW = passes.surroundings_HW
    total = np.sum(map_HW * area_HW, dtype=np.float64)  # several times as fast as picking pixels
    return float(total / np.count_nonzero(area_HW))


@REDUCTIONS.register("top")
def top(map_HW: Floats, passes: Passes) -> float:
    """Mean of the most uncertain pixels, a share `top_share` of all (at least one)."""
    values = map_HW.ravel()
    count = max(1, round(passes.top_share * values.size))
    return float(np.partition(values, -count)[-count:].mean(dtype=np.float64))


def score_image(passes: Passes) -> dict[str, float]:
    """Every score of one image under every reduction, keyed `"score:reduction"`.

    The key `"foreground"` is the share of pixels predicted as any class, in 0..1; `"objects"` how
    many objects are to be expected; `"class:k"` is the mean over all pixels of H(p̄) p̄_k for each
    class k from 1 to K.
    """
    row = {
        "foreground": np.count_nonzero(passes.foreground_HW) / passes.foreground_HW.size,
        "objects": expected_objects(zip(passes.mean_CHW[1:], passes.said_KHW, strict=True)),
    }
    for name, reduced in _reduced(passes).items():
        row |= {f"{name}:{how}": value for how, value in reduced.items()}
    for number, probs_HW in enumerate(passes.mean_CHW[1:], 1):
        row[f"class:{number}"] = mean(passes.entropy_HW * probs_HW, passes)
    return row


def _reduced(passes: Passes) -> dict[str, dict[str, float]]:
    """Every score under every reduction; what is the same map is reduced once."""
    maps = {name: SCORES[name](passes) for name in SCORES if name != "margin"}
    by_map = {id(map_HW): map_HW for map_HW in maps.values()}
    known = {key: reduce_map(map_HW, passes) for key, map_HW in by_map.items()}
    reduced = {name: known[id(map_HW)] for name, map_HW in maps.items()}
    if passes.of_two:
        half = reduced["least_confidence"].items()
        reduced["margin"] = {how: 2 * value for how, value in half}
    else:
        reduced["margin"] = reduce_map(margin(passes), passes)
    return reduced


def reduce_map(map_HW: Floats, passes: Passes) -> dict[str, float]:
    """A map over the pixels under every reduction."""
    uncertain_HW = np.maximum(map_HW, 0)  # rounding may fall below zero
    return {name: REDUCTIONS[name](uncertain_HW, passes) for name in REDUCTIONS}


def confidence(name: str, value: float, classes: int) -> float:
    """A score as a confidence in 0..1 for Label Studio, which serves the lowest first.

    `name` is a score, with or without its reduction (`"entropy:mean"`); `classes` is K,
    without background. Strictly decreasing in the score, so both order images alike.
    """
    ceiling = CEILINGS[name.partition(":")[0]](classes + 1)
    return min(1.0, max(0.0, 1 - value / ceiling))


def _check(probs_TCHW: Floats) -> None:
    shape = probs_TCHW.shape
    if len(shape) != 4 or shape[1] < 2 or not probs_TCHW.size:
        raise LearningError(
            f"probabilities must be passes x channels (at least 2) x height x width; got {shape}"
        )
    # as whole numbers, negative ones and NaN are larger than all in 0..1: one look in place of two
    most = probs_TCHW.dtype.type(1 + _SLACK)
    whole = f"u{probs_TCHW.itemsize}"
    if probs_TCHW.view(whole).max() <= most.view(whole):
        return
    low, high = probs_TCHW.min(), probs_TCHW.max()
    if not (low >= 0 and high <= 1 + _SLACK):  # also false for NaN
        raise LearningError(
            f"probabilities must lie in 0..1; got {low}..{high}: the model has diverged, "
            "promote an earlier version or train again with a lower learning rate"
        )
