"""What each round's model gained over the one before, with bootstrap intervals over images.

The gate measures candidate and current model on the same validation images and keeps the pixel
counts of each image. Images are drawn again with replacement, the same draw for every model, so
that differences are paired and what one hard image does to all of them cancels out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.masks.labels import IGNORE
from ml_backend.masks.sets import planes_of
from ml_backend.store.rows import Gate, Model

F64 = NDArray[np.float64]
LabelMap = NDArray[np.uint8]
Counts = Mapping[str, Sequence[Sequence[int]]]
"""Image → for each label its pixels that are right, true and predicted."""

DRAWS = 1000
LEVEL = (2.5, 97.5)  # percentiles: the middle 95 %


class ByImage:
    """Counts the pixels of each label on each image, as `evaluate` tells them."""

    def __init__(self, images: Sequence[int], labels: int, *, overlapping: bool = False) -> None:
        """`images`: the id of the image that each sample is cut from."""
        self._images, self._labels, self._overlapping = images, labels, overlapping
        self._counts: dict[int, NDArray[np.int64]] = {}

    def __call__(self, index: int, predicted: LabelMap, truth: LabelMap) -> None:
        """Count a sample: label maps (H, W); pixels that are unknown (255) do not count."""
        known = truth != IGNORE
        said, true = predicted[known], truth[known]
        if self._overlapping:
            said_KN, true_KN = planes_of(said, self._labels), planes_of(true, self._labels)
            counts_3K = [part.sum(axis=1) for part in (said_KN & true_KN, true_KN, said_KN)]
        else:
            parts = (said[said == true], true, said)
            counts_3K = [np.bincount(part, minlength=self._labels + 1)[1:] for part in parts]
        image = self._images[index]
        so_far = self._counts.get(image, np.zeros((self._labels, 3), np.int64))
        self._counts[image] = so_far + np.stack(counts_3K, axis=1)

    def numbers(self) -> dict[str, list[list[int]]]:
        """Give the counts for JSON, an image's tiles summed."""
        return {str(image): counts.tolist() for image, counts in self._counts.items()}


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Measured:
    """A model as the gate saw it: validation IoU, and its gain over what served, if anything.

    `round` is the newest it learned from, `labelled` how many tiles people had annotated,
    `images` how many validation images there were. IoU and gain are means over the labels that
    occur; None where there was nothing to compare.
    """

    version: str
    round: int
    labelled: int
    decision: str
    images: int
    iou: Interval | None
    gain: Interval | None


@dataclass(frozen=True)
class Gains:
    """Every model that was measured, oldest first, and what rounds bring.

    `rounds` are those whose model was compared with the one before; `mean` is the mean gain of
    the last of them.
    """

    models: tuple[Measured, ...]
    rounds: tuple[int, ...]
    mean: Interval | None


def gains_of(
    gates: Sequence[Gate], models: Sequence[Model], last: int, rng: np.random.Generator
) -> Gains:
    """Measure all candidates that the gate has judged, and the mean gain of the `last` rounds.

    A round's gain is the sum of those of its promoted models, or that of its last model if none
    was. Decisions that people made are no measurements.
    """
    cards = {model.version: model.card for model in models}
    judged = [gate for gate in gates if _counts(gate, "candidate") and cards.get(gate.candidate)]
    places = _places(judged)
    weights_BM = _draws(len(places), rng)
    measured: list[Measured] = []
    by_round: dict[int, list[tuple[str, F64]]] = {}
    for gate in judged:
        iou_B, gain_B = _bootstrapped(gate, places, weights_BM)
        one = _measured(gate, cards[gate.candidate], iou_B, gain_B)
        measured.append(one)
        if gain_B is not None:
            by_round.setdefault(one.round, []).append((gate.decision, gain_B))
    newest = [_of_round(by_round[number]) for number in sorted(by_round)[-last:]]
    mean = interval(np.mean(newest, axis=0)) if newest else None
    return Gains(tuple(measured), tuple(sorted(by_round)), mean)


def _measured(gate: Gate, card: Mapping[str, Any], iou_B: F64, gain_B: F64 | None) -> Measured:
    return Measured(
        version=gate.candidate,
        round=int(card.get("round", 0)),
        labelled=int(card.get("labelled", 0)),
        decision=gate.decision,
        images=len(_counts(gate, "candidate") or ()),
        iou=interval(iou_B),
        gain=None if gain_B is None else interval(gain_B),
    )


def _bootstrapped(gate: Gate, places: Mapping[str, int], weights_BM: F64) -> tuple[F64, F64 | None]:
    """The candidate's IoU in each draw, and its gain where the same images saw both models."""
    candidate, current = _counts(gate, "candidate") or {}, _counts(gate, "current")
    images = sorted(candidate)
    drawn_BM = weights_BM[:, [places[image] for image in images]]
    iou_B = _ious(candidate, images, drawn_BM)
    if current is None or set(current) != set(images):
        return iou_B, None
    return iou_B, iou_B - _ious(current, images, drawn_BM)


def _places(judged: Sequence[Gate]) -> dict[str, int]:
    """Every image that validated any model, with its place among the draws."""
    images = {image for gate in judged for image in _counts(gate, "candidate") or ()}
    return {image: place for place, image in enumerate(sorted(images))}


def _counts(gate: Gate, side: str) -> Counts | None:
    found: Counts | None = (gate.numbers.get("by_image") or {}).get(side)
    return found or None


def interval(values_B: F64) -> Interval | None:
    """The first value is the measured one, the others are its bootstrap draws; None for nan."""
    draws = values_B[1:][np.isfinite(values_B[1:])]
    if not np.isfinite(values_B[0]) or not draws.size:
        return None
    low, high = np.percentile(draws, LEVEL)
    return Interval(float(values_B[0]), float(low), float(high))


def mean_interval(values: Sequence[float], rng: np.random.Generator) -> Interval | None:
    """The mean of independent values with its bootstrap interval; None without any."""
    weights_BN = _draws(len(values), rng)
    return interval(weights_BN @ np.asarray(values) / max(len(values), 1)) if values else None


def _draws(count: int, rng: np.random.Generator) -> F64:
    """How often each of `count` items counts: once in the first row, then as drawn at random."""
    if not count:
        return np.ones((1, 0))
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    return np.concatenate([np.ones((1, count)), drawn])


def _ious(counts: Counts, images: Sequence[str], weights_BM: F64) -> F64:
    """Mean IoU over the labels that occur, for each draw; nan where none does."""
    parts_MK3 = np.array([counts[image] for image in images], np.float64)
    sums_BK3 = np.einsum("bm,mkp->bkp", weights_BM, parts_MK3)
    hits_BK, either_BK = sums_BK3[..., 0], sums_BK3[..., 1:].sum(axis=-1) - sums_BK3[..., 0]
    there_BK = either_BK > 0
    ious_BK = np.divide(hits_BK, either_BK, out=np.zeros_like(hits_BK), where=there_BK)
    labels_B = there_BK.sum(axis=1)
    nothing_B = np.full(len(labels_B), np.nan)
    mean_B: F64 = np.divide(ious_BK.sum(axis=1), labels_B, out=nothing_B, where=labels_B > 0)
    return mean_B


def _of_round(found: Sequence[tuple[str, F64]]) -> F64:
    promoted = [gain_B for decision, gain_B in found if decision != "rejected"]
    return np.asarray(np.sum(promoted, axis=0) if promoted else found[-1][1])
