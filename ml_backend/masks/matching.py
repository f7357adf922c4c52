"""How well objects are found one by one: panoptic quality and average precision.

An object found and a true one of the same label are a match where their intersection over union
is above a threshold. From 0.5 on an object has one match at most, so that there is nothing to
choose. Unknown pixels (255) belong to no object; a found object that lies mostly there is neither
right nor wrong (Kirillov et al. 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ml_backend.masks.instances import Objects
from ml_backend.masks.labels import IGNORE

Numbers = NDArray[np.int32]

THRESHOLDS = np.arange(50, 100, 5) / 100


@dataclass(frozen=True)
class Found:
    """Means over the labels that occur, 0..1, nan where none does; `by_label` has their PQs.

    `pq` = `sq` x `rq`: the mean IoU of the matches above 0.5, and their share (F1). `ap`: TP / (TP
    + FP + FN), the mean of the thresholds 0.5, 0.55, … 0.95, as in the Data Science Bowl 2018 (no
    confidences are ranked); `ap50` and `ap75`: of one threshold. `true`, `found`: how many.
    """

    pq: float
    sq: float
    rq: float
    ap: float
    ap50: float
    ap75: float
    by_label: tuple[float, ...]
    true: int
    found: int


class Matching:
    """Counts matches over any number of images."""

    def __init__(self, labels: int) -> None:
        self._hits = np.zeros((labels, len(THRESHOLDS)))
        self._overlap = np.zeros(labels)
        self._true = np.zeros(labels)
        self._found = np.zeros(labels)

    def add(self, found: Objects, true: Objects, truth_HW: NDArray[np.uint8] | None = None) -> None:
        """Match the objects of an image; `truth_HW` is a label map that says what is unknown."""
        numbers, labels = found
        true_numbers, true_labels = true
        if truth_HW is not None and (unknown := truth_HW == IGNORE).any():
            numbers, labels = _without_unknown(numbers, labels, unknown)
            true_numbers = np.where(unknown, 0, true_numbers)
        overlaps = _overlaps(true_numbers, numbers, len(true_labels), len(labels))
        true_areas = np.bincount(true_numbers.ravel(), minlength=len(true_labels) + 1)[1:]
        areas = np.bincount(numbers.ravel(), minlength=len(labels) + 1)[1:]
        row, column, shared = overlaps
        iou = shared / (true_areas[row] + areas[column] - shared)
        label_of, found_label_of = np.asarray(true_labels, int), np.asarray(labels, int)
        same = label_of[row] == found_label_of[column]
        for index in range(len(self._true)):
            values = iou[same & (label_of[row] == index + 1)]
            self._hits[index] += (values[:, None] > THRESHOLDS).sum(axis=0)
            self._overlap[index] += values[values > 0.5].sum()
            self._true[index] += ((label_of == index + 1) & (true_areas > 0)).sum()
            self._found[index] += ((found_label_of == index + 1) & (areas > 0)).sum()

    def scores(self) -> Found:
        """Everything counted so far."""
        hits = self._hits[:, 0]
        objects = self._true + self._found
        sq = _ratio(self._overlap, hits)
        rq = _ratio(2 * hits, objects)
        pq = np.where(objects > 0, np.nan_to_num(sq) * rq, np.nan)
        ap = _ratio(self._hits, objects[:, None] - self._hits)
        return Found(
            pq=_mean(pq),
            sq=_mean(sq),
            rq=_mean(rq),
            ap=_mean(ap.mean(axis=1)),
            ap50=_mean(ap[:, 0]),
            ap75=_mean(ap[:, 5]),
            by_label=tuple(pq.tolist()),
            true=int(self._true.sum()),
            found=int(self._found.sum()),
        )


def _without_unknown(numbers: Numbers, labels: Sequence[int], unknown: NDArray[np.bool_]) -> Any:
    """Leave out objects that lie mostly in unknown pixels, and those pixels of the others."""
    areas = np.bincount(numbers.ravel(), minlength=len(labels) + 1)
    inside = np.bincount(numbers[unknown], minlength=len(labels) + 1)
    kept = np.where(2 * inside > areas, 0, np.arange(len(labels) + 1)).astype(np.int32)
    return np.where(unknown, 0, kept[numbers]), labels


def _overlaps(
    true: Numbers, found: Numbers, rows: int, columns: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Every two objects that share pixels, from 0, and how many."""
    both = (true > 0) & (found > 0)
    ones = np.ones(np.count_nonzero(both), np.int64)
    places = (true[both] - 1, found[both] - 1)
    counts = sparse.coo_matrix((ones, places), (rows, columns)).tocsr().tocoo()
    return counts.row, counts.col, counts.data


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.full(above.shape, np.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
