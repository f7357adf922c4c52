"""Every augmentation recipe of the registry keeps the same promises."""

import numpy as np
import pytest

from ml_backend.learning.augment import AUGMENTATIONS

PATCH, REGION = 32, 48


def _region():
    """A region whose labels can be told from its pixels: label k has grey value 60 + 60 k."""
    y, x = np.mgrid[:REGION, :REGION]
    mask = ((x > y) + (x > 30)).astype(np.uint8)
    return np.repeat((60 + 60 * mask)[..., None], 3, axis=2), mask


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_patch_of_the_asked_size_and_type(name):
    """Both answers are contiguous uint8 of the patch's side, and the input stays as it was."""
    image, mask = _region()
    before = image.copy(), mask.copy()
    seen, labels = AUGMENTATIONS[name](PATCH)(image, mask, np.random.default_rng(0))
    assert (seen.shape, labels.shape) == ((PATCH, PATCH, 3), (PATCH, PATCH))
    assert seen.dtype == labels.dtype == np.uint8
    assert seen.flags.c_contiguous
    assert labels.flags.c_contiguous
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_same_generator_same_patch(name):
    """The generator alone decides."""
    one, two = (AUGMENTATIONS[name](PATCH)(*_region(), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_image_and_mask_move_together(name, seed):
    """Labels are never mixed, and in the inside of each label all pixels have one grey value."""
    image, mask = _region()
    seen, labels = AUGMENTATIONS[name](PATCH)(image, mask, np.random.default_rng(seed))
    assert set(np.unique(labels)) <= {0, 1, 2, 255}
    away = np.pad(labels, 2, mode="edge")
    inside = np.ones(labels.shape, bool)
    for dy in range(5):
        for dx in range(5):
            inside &= away[dy : dy + PATCH, dx : dx + PATCH] == labels
    values = [np.unique(seen[inside & (labels == label)]) for label in (0, 1, 2)]
    assert all(len(value) <= 1 for value in values)
    greys = [int(value[0]) for value in values if len(value)]
    assert greys == sorted(greys)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_patches_vary(name):
    """Different generator states show the patch differently."""
    augment = AUGMENTATIONS[name](PATCH)
    seen = {augment(*_region(), np.random.default_rng(seed))[0].tobytes() for seed in range(16)}
    assert len(seen) > 12


def test_what_lies_outside_is_ignored():
    """Ignored pixels stay ignored when the patch is turned."""
    image, mask = _region()
    mask[:, :24] = 255
    _, labels = AUGMENTATIONS["affine"](PATCH)(image, mask, np.random.default_rng(3))
    assert 0.3 < np.mean(labels == 255) < 0.7
