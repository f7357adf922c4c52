"""How uncertain the model is about one image: maps over its pixels, then one number.

Notation: T passes, C channels (background and K classes), p̄ the mean of the passes. Higher
is more uncertain. Probabilities cover the pixels the annotator will see: padding has been
cut off by the caller. Element-wise work keeps the precision of the input; every sum over
passes, channels or pixels is made in float64.
"""

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import LearningError
from ml_backend.registry import Registry

Floats = NDArray[np.floating[Any]]
Score = Callable[[Floats], Floats]
Reduction = Callable[[Floats, Floats], float]

SCORES: Registry[Score] = Registry("uncertainty score")
REDUCTIONS: Registry[Reduction] = Registry("reduction")
CEILINGS: Registry[Callable[[int], float]] = Registry("uncertainty score")

_HALO = 3  # px around the predicted foreground: where its outline may turn out to lie
_TOP_SHARE = 0.1
_SLACK = 1e-3  # half-precision softmax may sum to a little more than one


def _score(name: str, ceiling: Callable[[int], float]) -> Callable[[Score], Score]:
    """File a score together with the largest value it can take with C channels."""
    CEILINGS.register(name)(ceiling)
    return SCORES.register(name)


def _mean(probs_TCHW: Floats) -> Floats:
    return np.asarray(np.mean(probs_TCHW, axis=0, dtype=np.float64))


def _entropy(probs: Floats, axis: int) -> Floats:
    """-Σ p log p in nats along `axis`; 0 log 0 is 0 because the logarithm stays finite."""
    logs = np.log(np.maximum(probs, np.finfo(probs.dtype).tiny))
    return np.asarray(-np.sum(probs * logs, axis=axis, dtype=np.float64))


@_score("entropy", ceiling=math.log)
def entropy(probs_TCHW: Floats) -> Floats:
    """H(p̄) = -Σ_c p̄_c log p̄_c, in 0..log C (Roels & Saeys 2019, eq. 1)."""
    return _entropy(_mean(probs_TCHW), axis=0)


@_score("least_confidence", ceiling=lambda channels: 1 - 1 / channels)
def least_confidence(probs_TCHW: Floats) -> Floats:
    """1 - max_c p̄_c, in 0..1 - 1/C (Roels & Saeys 2019, eq. 2)."""
    return np.asarray(1 - _mean(probs_TCHW).max(axis=0))


@_score("margin", ceiling=lambda _channels: 1.0)
def margin(probs_TCHW: Floats) -> Floats:
    """1 - (largest - second largest of p̄), in 0..1."""
    ranked_CHW = np.sort(_mean(probs_TCHW), axis=0)
    return np.asarray(1 - (ranked_CHW[-1] - ranked_CHW[-2]))


@_score("bald", ceiling=math.log)
def bald(probs_TCHW: Floats) -> Floats:
    """H(p̄) - (1/T) Σ_t H(p_t), in 0..log C (Roels & Saeys 2019, eq. 3; 0 for one pass).

    The passes differ by dropout in the paper; over augmented views the same expression is
    the Jensen-Shannon divergence (Gaillochet et al. 2023).
    """
    return np.asarray(entropy(probs_TCHW) - _entropy(probs_TCHW, axis=1).mean(axis=0))


@_score("variance", ceiling=lambda _channels: 0.25)
def variance(probs_TCHW: Floats) -> Floats:
    """Population variance over the passes, averaged over the channels, in 0..1/4.

    With two channels this is Var_t of the foreground's probability (Max 2021; 0 for one pass).
    """
    return np.asarray(np.var(probs_TCHW, axis=0, dtype=np.float64).mean(axis=0))


def _foreground(mean_probs_CHW: Floats) -> NDArray[np.bool_]:
    return np.asarray(mean_probs_CHW.argmax(axis=0) > 0)


@REDUCTIONS.register("mean")
def mean(map_HW: Floats, mean_probs_CHW: Floats) -> float:  # noqa: ARG001
    """Mean over all pixels, as the papers have it; background dilutes it."""
    return float(np.mean(map_HW, dtype=np.float64))


@REDUCTIONS.register("foreground")
def foreground(map_HW: Floats, mean_probs_CHW: Floats) -> float:
    """Mean over the predicted foreground and 3 px around it.

    Where nothing is predicted there is no such area: the mean over all pixels stands in.
    """
    area_HW = _foreground(mean_probs_CHW).astype(np.uint8)
    if not area_HW.any():
        return mean(map_HW, mean_probs_CHW)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _HALO + 1, 2 * _HALO + 1))
    return float(np.mean(map_HW[cv2.dilate(area_HW, disc) > 0], dtype=np.float64))


@REDUCTIONS.register("top")
def top(map_HW: Floats, mean_probs_CHW: Floats) -> float:  # noqa: ARG001
    """Mean of the most uncertain tenth of the pixels (at least one)."""
    values = map_HW.ravel()
    count = max(1, round(_TOP_SHARE * values.size))
    return float(np.partition(values, -count)[-count:].mean(dtype=np.float64))


def score_image(probs_TCHW: Floats) -> dict[str, float]:
    """Every score of one image under every reduction, keyed `"score:reduction"`.

    `probs_TCHW`: floats in 0..1 that sum to one over C ≥ 2. The extra key `"foreground"` is
    the share of pixels predicted as any class, in 0..1. Raises `LearningError` when the
    probabilities are none, which is what a diverged model answers.
    """
    _check(probs_TCHW)
    mean_probs_CHW = _mean(probs_TCHW)
    row = {"foreground": float(_foreground(mean_probs_CHW).mean())}
    for name in SCORES:
        map_HW = np.maximum(SCORES[name](probs_TCHW), 0)  # rounding may fall below zero
        for reduction in REDUCTIONS:
            row[f"{name}:{reduction}"] = REDUCTIONS[reduction](map_HW, mean_probs_CHW)
    return row


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
    low, high = probs_TCHW.min(), probs_TCHW.max()
    if not (low >= 0 and high <= 1 + _SLACK):  # also false for NaN
        raise LearningError(
            f"probabilities must lie in 0..1; got {low}..{high}: the model has diverged, "
            "promote an earlier version or train again with a lower learning rate"
        )
