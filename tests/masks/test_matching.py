"""Panoptic quality and average precision, worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_backend.masks.instances import components
from ml_backend.masks.matching import Matching


def row(text):
    """One row of objects by their digits, 0 none; all of label 1."""
    numbers = np.array([[int(digit) for digit in text]], np.int32)
    return numbers, [1] * int(numbers.max())


def scores(*images, labels=1):
    """Scores of (found, true) rows."""
    matching = Matching(labels)
    for found, true in images:
        matching.add(found, true)
    return matching.scores()


def test_one_match_one_miss_one_invention():
    """IoU 3/4 counts up to 0.7; a true object unfound, a found object untrue: PQ = .75 x 1/2."""
    found = scores((row("1110002200"), row("1111000022")))
    assert found.sq == 0.75
    assert found.rq == 0.5
    assert found.pq == 0.375
    assert found.ap50 == pytest.approx(1 / 3)
    assert found.ap75 == 0  # 0.75 is not above 0.75
    assert found.ap == pytest.approx(5 / 10 * 1 / 3)
    assert (found.true, found.found) == (2, 2)


def test_merged_and_split_objects_are_wrong():
    """Two of equal size found as one match neither; one found as two halves neither."""
    merged = scores((row("11111111"), row("11112222")))
    assert (merged.pq, merged.ap50) == (0, 0)
    split = scores((row("11112222"), row("11111111")))
    assert (split.pq, split.ap50) == (0, 0)
    assert math.isnan(split.sq)
    unequal = scores((row("1111111122"), row("1111111111")))
    assert unequal.sq == 0.8
    assert unequal.rq == pytest.approx(2 / 3)


def test_images_are_pooled():
    """One perfect object and one miss in two images are one of two, not the mean of 1 and 0."""
    found = scores((row("11"), row("11")), (row("000000"), row("110220")))
    assert found.rq == pytest.approx(2 / 4)
    assert found.ap == pytest.approx(1 / 3)


def test_labels_are_matched_for_themselves():
    """An object of another label is no match; the mean is over the labels that occur."""
    numbers = np.array([[1, 1, 0, 2, 2]], np.int32)
    found = scores(((numbers, [1, 2]), (numbers, [1, 1])), labels=3)
    assert found.by_label[0] == pytest.approx(2 / 3)
    assert found.by_label[1] == 0
    assert math.isnan(found.by_label[2])
    assert found.pq == pytest.approx(1 / 3)


def test_unknown_pixels_have_no_say():
    """They leave both objects; what was found mostly there is neither right nor wrong."""
    matching = Matching(1)
    truth = np.array([[1, 1, 255, 0, 255, 255, 255, 0]], np.uint8)
    matching.add(row("11100222"), row("11000000"), truth)
    found = matching.scores()
    assert (found.pq, found.ap, found.found) == (1, 1, 1)
    edge = Matching(1)  # exactly half outside counts as found where it is known
    edge.add(row("0011"), row("0000"), np.array([[0, 0, 0, 255]], np.uint8))
    assert edge.scores().found == 1


def test_nothing_anywhere_is_nan():
    """Without an object there is nothing to judge; one invented object is a zero."""
    empty = np.zeros((1, 3), np.int32), []
    nothing = scores((empty, empty))
    assert math.isnan(nothing.pq)
    assert math.isnan(nothing.ap)
    assert scores((row("110"), empty)).pq == 0
    assert scores((empty, row("110"))).ap == 0


@given(
    label_map=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([0, 1, 2, 255]),
    )
)
def test_the_truth_itself_is_perfect(label_map):
    """Every score of a label that occurs is 1."""
    matching = Matching(2)
    matching.add(components(label_map), components(label_map), label_map)
    found = matching.scores()
    if found.true:
        values = (found.pq, found.sq, found.rq, found.ap, found.ap50, found.ap75)
        assert values == pytest.approx((1,) * 6)
    assert found.true == found.found == len(components(label_map)[1])
