"""Touching objects: cut at their necks, never elsewhere, numbered the same everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_backend.masks.instances import components
from ml_backend.masks.watershed import find_basins, joined, objects
from ml_backend.recipe import Instances

CUT = Instances(enabled=True)


def discs(*circles, shape=(60, 90)):
    """Label 1 on discs of (y, x, radius)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, np.uint8)
    for cy, cx, radius in circles:
        mask[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 1
    return mask


def cut(label_map, **changes):
    """The objects under changed settings."""
    return objects(label_map, CUT.model_copy(update=changes))


def test_two_discs_that_touch_are_two():
    """The cut runs through the neck, each disc keeps its own pixels."""
    both = discs((30, 25, 15), (30, 51, 13))
    numbers, labels_of = cut(both)
    assert labels_of == [1, 1]
    assert components(both)[1] == [1]
    np.testing.assert_array_equal(numbers > 0, both > 0)
    for number, alone in ((1, discs((30, 25, 15))), (2, discs((30, 51, 13)))):
        overlap = ((numbers == number) & (alone > 0)).sum()
        assert overlap / ((numbers == number) | (alone > 0)).sum() > 0.95


def test_the_neck_decides():
    """A shallow waist is no neck, unless it is asked for; null never cuts."""
    peanut = discs((30, 35, 15), (30, 47, 15))
    assert len(cut(peanut, neck=3.0)[1]) == 1
    assert len(cut(peanut, neck=0.5)[1]) == 2
    apart = discs((30, 20, 12), (30, 60, 12))
    assert len(cut(apart, neck=None)[1]) == 2
    assert len(cut(discs((30, 25, 15), (30, 51, 13)), neck=None)[1]) == 1


def test_what_has_no_neck_stays_whole():
    """Bars, squares, rings and a lone pixel are one object each, whatever plateaus they have."""
    bar = np.zeros((40, 90), np.uint8)
    bar[10:20, 5:85] = 1
    ring = discs((30, 30, 25)) * (discs((30, 30, 15)) == 0)
    square = np.ones((30, 30), np.uint8)
    for shape in (bar, ring, square, np.ones((1, 1), np.uint8)):
        assert len(cut(shape, smoothing=0.0)[1]) == 1
    bump = np.maximum(bar, discs((15, 45, 9), shape=bar.shape))  # higher than its two level arms
    for flat in (bar, square, bump):
        assert len(cut(flat, smoothing=0.0, neck=0.0)[1]) == 1


def test_ragged_edges_are_smoothed():
    """Noise at the edge makes hills; smoothing takes them away."""
    rng = np.random.default_rng(0)
    disc = discs((30, 40, 20))
    disc[(rng.random(disc.shape) < 0.3) & (disc != discs((30, 40, 17)))] = 0
    many = len(cut(disc, smoothing=0.0, neck=0.25)[1])
    assert len(cut(disc, smoothing=2.0, neck=0.25)[1]) < many


def test_labels_are_cut_for_themselves():
    """Neighbours of another label need no cut; unknown pixels belong to nobody."""
    label_map = discs((30, 25, 15), (30, 51, 13))
    label_map[:, 60:] *= 2
    label_map[40:, :] = 255
    numbers, labels_of = cut(label_map)
    assert sorted(labels_of) == [1, 1, 2]
    assert (numbers[label_map == 255] == 0).all()
    for number, label in enumerate(labels_of, 1):
        assert set(label_map[numbers == number]) == {label}


def test_small_objects_are_left_out_after_the_cut():
    """The minimum counts the pixels of an object, not of the component that it was cut from."""
    both = discs((30, 25, 15), (30, 47, 7))
    whole = cut(both)
    assert len(whole[1]) == 2
    numbers, labels_of = cut(both, minimum_area=300)
    assert labels_of == [1]
    np.testing.assert_array_equal(numbers == 1, whole[0] == 1)
    assert cut(both, minimum_area=10_000)[1] == []
    plain = objects(both, Instances(enabled=False, minimum_area=10_000))
    assert plain[1] == components(both)[1]


@settings(max_examples=80, deadline=None)
@given(
    label_map=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
        elements=st.sampled_from([0, 1, 1, 1, 2, 255]),
    ),
    smoothing=st.sampled_from([0.0, 0.5, 2.0]),
    neck=st.sampled_from([None, 0.0, 0.5, 1.5, 100.0]),
)
def test_objects_refine_components(label_map, smoothing, neck):
    """Every labelled pixel has one number, of its own label, within one component, in order."""
    found = find_basins(label_map, smoothing)
    numbers, labels_of = joined(found, Instances(enabled=True, neck=neck))
    plain, _ = components(label_map)
    np.testing.assert_array_equal(numbers > 0, plain > 0)
    flat = numbers.ravel()
    firsts = [int(np.argmax(flat == n)) for n in range(1, len(labels_of) + 1)]
    assert firsts == sorted(firsts)
    assert set(flat.tolist()) - {0} == set(range(1, len(labels_of) + 1))
    for number, label in enumerate(labels_of, 1):
        assert set(label_map[numbers == number].tolist()) == {label}
        assert len(set(plain[numbers == number].tolist())) == 1
    if neck in {None, 100.0}:
        np.testing.assert_array_equal(numbers, plain)
    again, _ = joined(found, Instances(enabled=True, neck=neck))
    np.testing.assert_array_equal(again, numbers)


@pytest.mark.parametrize(("neck", "fewer"), [(0.25, 0.75), (0.75, 3.0)])
def test_a_wider_neck_cuts_less(neck, fewer):
    """The number of objects falls as necks must be deeper."""
    rng = np.random.default_rng(1)
    crowd = discs(*((*rng.integers(5, [195, 295]), rng.integers(5, 12)) for _ in range(80)),
                  shape=(200, 300))  # fmt: skip
    counts = [len(cut(crowd, neck=value)[1]) for value in (neck, fewer, None)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
