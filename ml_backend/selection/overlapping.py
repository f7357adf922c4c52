"""How uncertain the model is about labels that may overlap.

Every score is defined on probabilities that exclude each other. A label that may overlap with
others is a question of its own, yes or no, and has its own map of a score over two channels; the
score of the image is that of the mean of the labels' maps. So each keeps its range for C = 2.
"""

from collections.abc import Sequence

import numpy as np

from ml_backend.errors import LearningError
from ml_backend.selection.objects import expected_objects
from ml_backend.selection.uncertainty import SCORES, Floats, Passes, mean, reduce_map


def score_sets(
    probs_TKHW: Floats, weights_C: Sequence[float] | None = None, top_share: float = 0.1
) -> dict[str, float]:
    """`score_image` for K labels, each with its own probability 0..1; the same keys.

    `weights_C`: of background and labels, for `weighted_entropy`; the background of a label is
    whatever is not this label. `"foreground"` is the share of pixels predicted as any label,
    `"objects"` the sum over the labels, and `"class:k"` the mean over all pixels of the entropy
    of label k times its probability. Raises `LearningError` for what are no probabilities.
    """
    labels = _labels(probs_TKHW, weights_C, top_share)
    any_label = _any(labels, top_share)
    row = {
        "foreground": float(any_label.foreground_HW.mean()),
        "objects": expected_objects((one.mean_CHW[1], one.foreground_HW) for one in labels),
    }
    shares = _shares(len(labels), weights_C)
    for name in SCORES:
        reduced = reduce_map(_map(name, labels, shares), any_label)
        row |= {f"{name}:{how}": value for how, value in reduced.items()}
    for number, one in enumerate(labels, 1):
        row[f"class:{number}"] = mean(one.entropy_HW * one.mean_CHW[1], one)
    return row


def uncertainty_map(
    probs_TKHW: Floats, name: str, weights_C: Sequence[float] | None = None
) -> Floats:
    """(H, W): what `score_sets` reduces to the score `name`, the mean of the labels' maps."""
    labels = _labels(probs_TKHW, weights_C)
    return _map(name, labels, _shares(len(labels), weights_C))


def _map(name: str, labels: Sequence[Passes], shares: Sequence[float]) -> Floats:
    weighing = shares if name == "weighted_entropy" else [1.0] * len(labels)
    maps = [weight * SCORES[name](one) for weight, one in zip(weighing, labels, strict=True)]
    return np.asarray(np.mean(maps, axis=0))


def _labels(
    probs_TKHW: Floats, weights_C: Sequence[float] | None, top_share: float = 0.1
) -> list[Passes]:
    """Each label as passes of its own over two classes: not this label, and this label."""
    if probs_TKHW.ndim != 4 or not probs_TKHW.size:
        raise LearningError(
            f"probabilities must be passes x labels x height x width; got {probs_TKHW.shape}"
        )
    return [
        Passes(np.stack([1 - probs_THW, probs_THW], axis=1), weights, top_share)
        for probs_THW, weights in zip(
            probs_TKHW.swapaxes(0, 1), _pairs(probs_TKHW.shape[1], weights_C), strict=True
        )
    ]


def _any(labels: Sequence[Passes], top_share: float) -> Passes:
    """One pass whose foreground is where any label is likelier than not."""
    highest = np.max([one.mean_CHW[1] for one in labels], axis=0)
    return Passes(np.stack([1 - highest, highest])[None], None, top_share)


def _pairs(labels: int, weights_C: Sequence[float] | None) -> list[tuple[float, float] | None]:
    """Weights of "not this label" and "this label"; None for all alike, or where both are 0."""
    if weights_C is None:
        return [None] * labels
    ground, *own = weights_C
    return [(ground, weight) if ground or weight else None for weight in own]


def _shares(labels: int, weights_C: Sequence[float] | None) -> list[float]:
    """How much a label's weighted entropy counts, 0..1: `Passes` divides by the pair's largest."""
    if weights_C is None:
        return [1.0] * labels
    ground, *own = weights_C
    return [max(ground, weight) / max(weights_C) for weight in own]
