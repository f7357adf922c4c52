"""Patches: what is drawn, from where, and that a seed decides it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.errors import DataError, NothingToLearn
from ml_backend.learning.data import Patches, Sample, cached, cut_region


def _sample(mask, name="one", weight=1.0, level=100):
    image = np.full((*mask.shape, 3), level, np.uint8)
    return Sample(name, lambda: (image, mask), weight)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    centre=st.tuples(st.integers(-20, 60), st.integers(-20, 60)),
)
def test_region_is_the_image_inside_and_ignored_outside(size, centre):
    """Inside the image the region is the image itself; outside it, labels are 255."""
    side, rng = 16, np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    mask = rng.integers(0, 3, size).astype(np.uint8)
    region, labels = cut_region(image, mask, centre, side)
    assert (region.shape, labels.shape) == ((side, side, 3), (side, side))
    for y in range(side):
        for x in range(side):
            at = centre[0] - side // 2 + y, centre[1] - side // 2 + x
            if 0 <= at[0] < size[0] and 0 <= at[1] < size[1]:
                assert labels[y, x] == mask[at]
                assert (region[y, x] == image[at]).all()
            else:
                assert labels[y, x] == 255


def test_reflection_continues_the_image():
    """The pixel left of the border is the one right of it."""
    image = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None], 8, 0).repeat(3, 2)
    region, _ = cut_region(image, np.zeros((8, 8), np.uint8), (4, 0), 6)
    assert region[0, :, 0].tolist() == [3, 2, 1, 0, 1, 2]


def test_rare_labels_are_seen(recipe):
    """A label of 4 in 65536 pixels is in a large share of the patches; so is pure background."""
    mask = np.zeros((256, 256), np.uint8)
    mask[:, :100] = 1
    mask[200:202, 200:202] = 2
    settings = recipe(batch_size=64, augmentation="none").training
    masks = Patches([_sample(mask)], 2, settings).batch(0).masks
    assert 10 <= sum((patch == 2).any() for patch in masks) <= 35
    assert sum(not patch.any() for patch in masks) >= 5


def test_heavier_samples_are_drawn_more_often(recipe):
    """Weight 9 beside weight 1 is about nine draws in ten."""
    mask = np.ones((32, 32), np.uint8)
    samples = [_sample(mask, weight=9, level=200), _sample(mask, weight=1, level=50)]
    settings = recipe(batch_size=200, augmentation="none").training
    images = Patches(samples, 1, settings).batch(0).images
    assert 160 <= np.sum(images[:, 16, 16, 0] == 200) <= 196


def test_pixels_are_counted_as_often_as_they_are_drawn(recipe):
    """Of background and each label, with the weights of their samples; unknown ones never."""
    one = np.array([[0, 0, 1, 255], [1, 1, 2, 255]], np.uint8)
    samples = [_sample(one, weight=10), _sample(np.zeros((2, 2), np.uint8))]
    assert Patches(samples, 3, recipe().training).pixels == [24, 30, 10, 0]


def test_images_smaller_than_a_patch(recipe):
    """They are padded by reflection, and the padding is ignored."""
    batch = Patches([_sample(np.ones((10, 50), np.uint8))], 1, recipe(patch=64).training).batch(0)
    assert batch.images.shape == (2, 64, 64, 3)
    assert all((mask != 255).sum() == 500 for mask in batch.masks)


def test_a_step_and_a_seed_decide_a_batch(recipe, discs):
    """Prefetching, history and instance do not matter; step and seed do."""
    patches = Patches(discs(3), 1, recipe().training)
    stream = list(patches.batches(range(2, 5)))
    assert len(stream) == 3
    alone = Patches(discs(3), 1, recipe().training).batch(3)
    for one, two in zip(stream[1], alone, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (stream[0].images != stream[1].images).any()
    other = Patches(discs(3), 1, recipe(seed=1).training).batch(3)
    assert (other.images != alone.images).any()


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_to_learn(recipe, value):
    """Empty or wholly unknown masks are refused with advice."""
    with pytest.raises(NothingToLearn, match="annotate at least one object"):
        Patches([_sample(np.full((32, 32), value, np.uint8))], 1, recipe().training)


def test_masks_that_do_not_fit_are_named(recipe):
    """A wrong size and an unknown label name the sample."""
    wrong = Sample("crab.png", lambda: (np.zeros((8, 9, 3), np.uint8), np.ones((9, 8), np.uint8)))
    with pytest.raises(DataError, match=r"crab\.png: the mask is \(9, 8\)"):
        Patches([wrong], 1, recipe().training)
    with pytest.raises(DataError, match=r"one: the mask holds \[2\]"):
        Patches([_sample(np.full((8, 8), 2, np.uint8))], 1, recipe().training)


def test_cache_loads_once_within_its_budget():
    """What fits is loaded once; what does not is loaded each time and still right."""
    calls = []

    def load(size):
        calls.append(size)
        return np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)

    samples = [Sample("small", lambda: load(4)), Sample("large", lambda: load(100))]
    small, large = cached(samples, budget=1000)
    shapes = [sample.load()[1].shape for sample in (small, large, small, large)]
    assert shapes == [(4, 4), (100, 100)] * 2
    assert calls == [4, 100, 100]
