"""Scores from pixel counts, checked against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml_backend.learning.metrics import Confusion, PixelCounts, dice
from ml_backend.masks.sets import decided

MAPS = arrays(np.uint8, (5, 4), elements=st.sampled_from([0, 1, 2]))


@given(pred=MAPS, target=MAPS, ignored=arrays(bool, (5, 4)))
def test_iou_and_dice_are_their_definitions(pred, target, ignored):
    """Per class: intersection over union, and 2·intersection over both, of the known pixels."""
    target = np.where(ignored, 255, target).astype(np.uint8)
    confusion = Confusion(2)
    confusion.add(pred[:2], target[:2])
    confusion.add(pred[2:], target[2:])
    known = target != 255
    for label in (1, 2):
        a, b = (pred == label) & known, (target == label) & known
        union, total = (a | b).sum(), a.sum() + b.sum()
        expected = (a & b).sum() / union if union else math.nan
        assert confusion.iou()[label - 1] == pytest.approx(expected, nan_ok=True)
        expected = 2 * (a & b).sum() / total if total else math.nan
        assert confusion.dice()[label - 1] == pytest.approx(expected, nan_ok=True)
    right = (pred == target)[known].mean() if known.any() else math.nan
    assert confusion.accuracy() == pytest.approx(right, nan_ok=True)


def test_absent_classes_stay_out_of_the_mean():
    """A class in neither map is nan; one that was invented counts as 0."""
    confusion = Confusion(3)
    confusion.add(np.array([[1, 1, 2, 0]]), np.array([[1, 1, 0, 0]]))
    np.testing.assert_array_equal(confusion.iou(), [1.0, 0.0, math.nan])
    assert confusion.mean_iou() == confusion.mean_dice() == 0.5


def test_nothing_counted_is_nan():
    """Without foreground or without pixels there is no mean to speak of."""
    assert math.isnan(Confusion(1).mean_iou())
    assert math.isnan(Confusion(1).accuracy())


def test_sizes_must_agree():
    """A prediction for another image is a programming error, not a low score."""
    with pytest.raises(ValueError, match="differ"):
        Confusion(1).add(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


@given(a=MAPS, b=MAPS)
def test_dice_of_two_maps(a, b):
    """Symmetric, within 0..1, and 1 exactly when the maps agree."""
    assert dice(a, b) == dice(b, a)
    assert 0 <= dice(a, b) <= 1
    assert (dice(a, b) == 1) == np.array_equal(a, b)


def test_dice_of_empty_and_ignored():
    """Two empty maps agree; ignored pixels have no say."""
    empty = np.zeros((2, 2), np.uint8)
    assert dice(empty, empty) == 1
    assert dice(np.array([[1, 1]], np.uint8), np.array([[1, 255]], np.uint8)) == 1


@given(arrays(np.uint8, (2, 5, 4), elements=st.sampled_from([0, 2, 4, 6])), arrays(bool, (5, 4)))
def test_labels_that_overlap_are_counted_each_for_itself(maps, ignored):
    """Of each label as if it were the only one; the accuracy is the mean of the labels'."""
    pred, target = maps
    target = np.where(ignored, 255, target).astype(np.uint8)
    together = Confusion(2, overlapping=True)
    together.add(pred[:2], target[:2])
    together.add(pred[2:], target[2:])
    alone = [Confusion(1), Confusion(1)]
    for label, confusion in enumerate(alone, 1):
        has = (target >> label & 1).astype(np.uint8)
        confusion.add(pred >> label & 1, np.where(ignored, np.uint8(255), has))
    for scores in (Confusion.iou, Confusion.dice):
        expected = [scores(confusion)[0] for confusion in alone]
        np.testing.assert_array_equal(scores(together), expected)
    accuracies = [confusion.accuracy() for confusion in alone]
    assert together.accuracy() == pytest.approx(np.mean(accuracies), nan_ok=True)


def test_overlaps_on_the_device_are_the_confusion():
    """Batches of logits are counted as their set maps would be, ignored pixels left out."""
    rng = np.random.default_rng(3)
    counts = PixelCounts(3, torch.device("cpu"), overlapping=True)
    expected = Confusion(3, overlapping=True)
    for _ in range(2):
        logits, target = rng.normal(size=(3, 3, 6, 5)), rng.choice([0, 2, 6, 14, 255], (3, 6, 5))
        counts.add(torch.from_numpy(logits), torch.from_numpy(target))
        for one, truth in zip(logits, target, strict=True):
            expected.add(decided(1 / (1 + np.exp(-one))), truth)
    np.testing.assert_array_equal(counts.confusion().counts, expected.counts)


@pytest.mark.parametrize("classes", [1, 2])
def test_counts_on_the_device_are_the_confusion(classes):
    """Batches of logits are counted as their label maps would be, ignored pixels left out."""
    rng = np.random.default_rng(classes)
    counts, expected = PixelCounts(classes, torch.device("cpu")), Confusion(classes)
    for _ in range(2):
        logits = rng.normal(size=(3, 1 if classes == 1 else classes + 1, 6, 5))
        target = rng.choice([*range(classes + 1), 255], (3, 6, 5))
        counts.add(torch.from_numpy(logits), torch.from_numpy(target))
        pred = logits[:, 0] > 0 if classes == 1 else logits.argmax(axis=1)
        for one, truth in zip(pred.astype(np.uint8), target, strict=True):
            expected.add(one, truth)
    np.testing.assert_array_equal(counts.confusion().counts, expected.counts)
