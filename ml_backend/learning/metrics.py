"""How good a segmentation is, from pooled pixel counts."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IGNORE = 255
LabelMap = npt.NDArray[np.integer[Any]]
Scores = npt.NDArray[np.float64]


def _ratio(above: Scores, below: Scores) -> Scores:
    """`above / below`, nan where nothing was counted."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _mean(values: Scores) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


class Confusion:
    """Counts of (true, predicted) pixels over any number of images; 255 in the truth is ignored.

    A class that neither the truth nor the prediction contains has no score (nan) and stays out
    of the means. Where labels may overlap (`overlapping`) maps are set maps, and each label is
    counted for itself: `counts` is then (K, 2, 2), with it and without in truth and prediction.
    """

    def __init__(self, classes: int, *, overlapping: bool = False) -> None:
        self.classes = classes
        self.overlapping = overlapping
        shape = (classes, 2, 2) if overlapping else (classes + 1, classes + 1)
        self.counts = np.zeros(shape, np.int64)

    def add(self, pred_HW: LabelMap, target_HW: LabelMap) -> None:
        """Count one image. Raises `ValueError` when the sizes differ."""
        if pred_HW.shape != target_HW.shape:
            raise ValueError(f"prediction {pred_HW.shape} and truth {target_HW.shape} differ")
        known = target_HW != IGNORE
        if self.overlapping:
            pred, target = pred_HW[known], target_HW[known]
            for label in range(1, self.classes + 1):
                pairs = (target >> label & 1) * 2 + (pred >> label & 1)
                self.counts[label - 1] += np.bincount(pairs, minlength=4).reshape(2, 2)
            return
        side = self.classes + 1
        pairs = target_HW[known].astype(np.int64) * side + pred_HW[known]
        self.counts += np.bincount(pairs, minlength=side * side).reshape(side, side)

    def _parts(self) -> tuple[Scores, Scores, Scores]:
        """Pixels of each label that are right, true, predicted."""
        if self.overlapping:
            both = self.counts.astype(np.float64)
            return both[:, 1, 1], both[:, 1].sum(axis=1), both[:, :, 1].sum(axis=1)
        hits = np.diag(self.counts)[1:].astype(np.float64)
        return hits, self.counts[1:].sum(axis=1) * 1.0, self.counts[:, 1:].sum(axis=0) * 1.0

    def iou(self) -> Scores:
        """Intersection over union of the foreground classes 1..K (Jaccard), 0..1 or nan."""
        hits, true, predicted = self._parts()
        return _ratio(hits, true + predicted - hits)

    def dice(self) -> Scores:
        """Dice of the foreground classes 1..K, 0..1 or nan."""
        hits, true, predicted = self._parts()
        return _ratio(2 * hits, true + predicted)

    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that occur; nan when none does."""
        return _mean(self.iou())

    def mean_dice(self) -> float:
        """Mean of `dice` over the classes that occur; nan when none does."""
        return _mean(self.dice())

    def accuracy(self) -> float:
        """Share of the known pixels that are right, background included; nan without any.

        Where labels may overlap the mean of the labels' shares.
        """
        total = int(self.counts.sum())
        right = np.trace(self.counts, axis1=-2, axis2=-1).sum()
        return float(right / total) if total else float("nan")


class Reliability:
    """How often a pixel's likeliest label is right, by how confident it was: 15 equal bins."""

    _BINS = 15

    def __init__(self) -> None:
        self._weight, self._confidence, self._right = np.zeros((3, self._BINS))

    def add(
        self,
        confidence_N: npt.NDArray[np.floating[Any]],
        right_N: npt.NDArray[np.bool_],
        weights_N: Scores | None = None,
    ) -> None:
        """Count pixels: the probability of their likeliest label, 0..1, and whether it is right."""
        bins = np.minimum((confidence_N * self._BINS).astype(np.int64), self._BINS - 1)
        weights = np.ones(bins.shape) if weights_N is None else weights_N

        def summed(values: npt.NDArray[np.floating[Any]]) -> Scores:
            return np.bincount(bins, values, minlength=self._BINS).astype(np.float64)

        self._weight += summed(weights)
        self._confidence += summed(weights * confidence_N)
        self._right += summed(weights * right_N)

    def ece(self) -> float:
        """Expected calibration error: mean gap of confidence and accuracy, 0..1; nan if nothing."""
        total = self._weight.sum()
        gaps = np.abs(self._confidence - self._right).sum()
        return float(gaps / total) if total else float("nan")


class PixelCounts:
    """A `Confusion` in the making on the training's device, which is never waited for."""

    def __init__(self, classes: int, device: torch.device, *, overlapping: bool = False) -> None:
        self._empty = Confusion(classes, overlapping=overlapping)
        # the last place takes the ignored pixels
        places = self._empty.counts.size + 1
        self._counts = torch.zeros(places, dtype=torch.int64, device=device)

    def add(self, logits_NCHW: Tensor, target_NHW: Tensor) -> None:
        """Count a batch: logits with one channel (sigmoid) or K + 1, labels int64.

        Of labels that may overlap K logits, and sets of labels.
        """
        classes, ignored = self._empty.classes, self._empty.counts.size
        if self._empty.overlapping:
            labels = torch.arange(classes, device=target_NHW.device)[:, None, None]
            has = target_NHW[:, None] >> (labels + 1) & 1
            place = labels * 4 + has * 2 + (logits_NCHW > 0)
            pairs = torch.where(target_NHW[:, None] == IGNORE, ignored, place).flatten()
        else:
            binary = logits_NCHW.shape[1] == 1
            pred = (logits_NCHW[:, 0] > 0).long() if binary else logits_NCHW.argmax(dim=1)
            place = target_NHW * (classes + 1) + pred
            pairs = torch.where(target_NHW == IGNORE, ignored, place).flatten()
        if pairs.device.type == "cpu":  # where scatter_add_ takes fifteen times as long
            self._counts += torch.bincount(pairs, minlength=ignored + 1)
        else:  # where bincount would wait for the device
            self._counts.scatter_add_(0, pairs, torch.ones_like(pairs))

    def confusion(self) -> Confusion:
        """What has been counted."""
        confusion = Confusion(self._empty.classes, overlapping=self._empty.overlapping)
        confusion.counts += self._counts[:-1].cpu().numpy().reshape(confusion.counts.shape)
        return confusion


def dice(a_HW: LabelMap, b_HW: LabelMap) -> float:
    """Dice of two label maps: pixels of equal label over all labelled pixels, 0..1.

    Pixels that either map ignores (255) do not count; two empty maps agree (1.0).
    """
    known = (a_HW != IGNORE) & (b_HW != IGNORE)
    a, b = a_HW[known], b_HW[known]
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero((a == b) & (a > 0)) / total) if total else 1.0
