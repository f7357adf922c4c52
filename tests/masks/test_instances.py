"""Components: each label's own, 8-connected, numbered the same everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import measure

from ml_backend.errors import RegionError
from ml_backend.masks.instances import components

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
