"""Components: each label's own, 8-connected, numbered the same everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import measure

from ml_backend.errors import RegionError
from ml_backend.masks.instances import components, join_across, numbered

label_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.sampled_from([0, 0, 1, 2, 3, 255]),
)


def test_numbers_follow_the_first_pixel():
    """Neighbours of another label part, corners join, unknown and background belong to none."""
    instances, labels_of = components(
        np.array([[0, 2, 0, 1], [2, 0, 1, 0], [255, 0, 0, 2]], np.uint8)
    )
    assert instances.tolist() == [[0, 1, 0, 2], [1, 0, 2, 0], [0, 0, 0, 3]]
    assert instances.dtype == np.int32
    assert labels_of == [2, 1, 2]


@settings(max_examples=60, deadline=None)
@given(label_map=label_maps)
def test_components_are_those_of_scikit_image(label_map):
    """The same partition as an independent implementation's, in raster order of first pixels."""
    instances, labels_of = components(label_map)
    known = np.where(label_map == 255, 0, label_map)
    expected, count = measure.label(known, connectivity=2, return_num=True)
    assert len(labels_of) == count
    pairs = set(zip(instances.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == len({number for number, _ in pairs}) == len({other for _, other in pairs})
    np.testing.assert_array_equal(np.array([0, *labels_of])[instances], known)
    firsts = [int(np.argmax(instances.ravel() == n)) for n in range(1, count + 1)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 3), np.uint8)])
def test_other_arrays_are_refused(bad):
    """What is no label map is named, not misread."""
    with pytest.raises(RegionError, match="it must be"):
        components(bad)


def test_nothing_is_no_instance():
    """Empty masks and empty arrays have no components."""
    for shape in [(3, 4), (0, 4)]:
        instances, labels_of = components(np.zeros(shape, np.uint8))
        assert instances.shape == shape
        assert labels_of == []


def test_objects_go_on_across_seams():
    """Numbers of one label that face each other where patches meet are one; elsewhere they stay."""
    label_map = np.array([[1, 1, 1, 1, 2, 0, 1, 1], [0, 0, 0, 0, 0, 0, 0, 1]], np.uint8)
    numbers = np.array([[1, 1, 2, 2, 3, 0, 4, 5], [0, 0, 0, 0, 0, 0, 0, 5]], np.int32)
    patches = np.array([[0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 0, 0, 0, 0, 0, 3]], np.int32)
    joined, labels_of = numbered(label_map, join_across(label_map, numbers, patches))
    assert joined.tolist() == [[1, 1, 1, 1, 2, 0, 3, 4], [0, 0, 0, 0, 0, 0, 0, 4]]
    assert labels_of == [1, 2, 1, 1]
    same = join_across(label_map, numbers, np.zeros_like(patches))
    assert numbered(label_map, same)[1] == [1, 1, 2, 1, 1]


def test_neighbours_that_are_off_by_a_pixel_are_not_joined():
    """Two objects above each other, one row lower in the next patch, stay two."""
    numbers = np.array([[1, 3], [1, 3], [1, 3], [2, 3], [2, 4], [2, 4]], np.int32)
    patches = np.array([[0, 1]] * 6, np.int32)
    ones = np.ones((6, 2), np.uint8)
    joined, labels_of = numbered(ones, join_across(ones, numbers, patches))
    assert joined.T.tolist() == [[1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 2, 2]]
    assert labels_of == [1, 1]
