"""Every augmentation recipe of the registry keeps the same promises."""

import threading

import albumentations
import cv2
import numpy as np
import pytest
from support.elsewhere import printed_here_and_elsewhere

from ml_backend.learning.augment import AUGMENTATIONS, NEEDS_POOL, _Transforms

PATCH, REGION = 64, 96
every_recipe = pytest.mark.parametrize("name", list(AUGMENTATIONS))
every_change = pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])


def _region():
    """A region whose labels can be told from its pixels: label k has grey value 60 + 60 k."""
    y, x = np.mgrid[:REGION, :REGION]
    mask = ((x > y) + (x > 60)).astype(np.uint8)
    return np.repeat((60 + 60 * mask)[..., None], 3, axis=2), mask


def _dots():
    """Dark ground, bright discs of label 1 far from each other."""
    image, mask = np.full((REGION, REGION, 3), 30, np.uint8), np.zeros((REGION, REGION), np.uint8)
    for centre in [(24, 24), (24, 72), (72, 24), (72, 72), (48, 48)]:
        cv2.circle(mask, centre, 9, 1, -1)
    image[mask == 1] = 220
    return image, mask


def _style(rng):
    """A region of the target: coarse grey clouds."""
    clouds = rng.uniform(60, 160, (12, 12, 3))
    return np.asarray(cv2.resize(clouds, (REGION, REGION))).astype(np.uint8)


def _augment(name, region, seed):
    return AUGMENTATIONS[name](PATCH)(*region, np.random.default_rng(seed), _style)


@every_recipe
def test_patch_of_the_asked_size_and_type(name):
    """Both answers are contiguous uint8 of the patch's side, and the input stays as it was."""
    image, mask = _region()
    before = image.copy(), mask.copy()
    for seed in range(8):
        seen, labels = _augment(name, (image, mask), seed)
        assert (seen.shape, labels.shape) == ((PATCH, PATCH, 3), (PATCH, PATCH))
        assert seen.dtype == labels.dtype == np.uint8
        assert seen.flags.c_contiguous
        assert labels.flags.c_contiguous
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


@every_recipe
def test_same_generator_same_patch(name):
    """The generator alone decides: neither what was drawn before, nor the instance."""
    used = AUGMENTATIONS[name](PATCH)
    for seed in range(5):
        used(*_region(), np.random.default_rng(100 + seed), _style)
        one = used(*_region(), np.random.default_rng(seed), _style)
        two = _augment(name, _region(), seed)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


def test_same_generator_same_patch_in_another_process():
    """Nothing of the library's own randomness, nor of the process, is in a patch."""
    code = (
        "import zlib, numpy as np\n"
        "from ml_backend.learning.augment import AUGMENTATIONS\n"
        "y, x = np.mgrid[:96, :96]\n"
        "image = np.repeat((x + y).astype(np.uint8)[..., None], 3, 2)\n"
        "mask = (x > y).astype(np.uint8)\n"
        "rng = np.random.default_rng(5)\n"
        "print([zlib.crc32(part.tobytes()) for name in AUGMENTATIONS for part in\n"
        "       AUGMENTATIONS[name](64)(image, mask, rng, lambda _: image[::-1].copy())])\n"
    )
    here, elsewhere = printed_here_and_elsewhere(code)
    assert here == elsewhere


@every_recipe
def test_threads_do_not_disturb_each_other(name):
    """An augmentation that several threads use at once gives each what it gives one alone."""
    shared = AUGMENTATIONS[name](PATCH)
    seen = {}

    def work(first):
        for seed in range(first, first + 6):
            image, mask = shared(*_region(), np.random.default_rng(seed), _style)
            seen[seed] = image.tobytes() + mask.tobytes()

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 6, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 5, 6, 11, 12, 17):
        image, mask = _augment(name, _region(), seed)
        assert seen[seed] == image.tobytes() + mask.tobytes()


@pytest.mark.parametrize("seed", range(8))
@every_recipe
def test_labels_are_never_mixed(name, seed):
    """Only values that were there are there, also beside the ignored part."""
    image, mask = _region()
    mask[:, 40:44] = 255
    _, labels = _augment(name, (image, mask), seed)
    assert set(np.unique(labels)) <= {0, 1, 2, 255}
    assert (labels == 255).any()


@every_recipe
def test_image_and_mask_move_together(name):
    """Most bright pixels are the discs' and most of the discs' are bright, whatever was done."""
    agree = []
    for seed in range(24):
        image, labels = _augment(name, _dots(), seed)
        grey = image.mean(axis=2)
        level, _ = cv2.threshold(grey.astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
        bright, disc = grey > level, labels == 1
        agree.append((bright & disc).sum() / (bright | disc).sum())
    assert np.median(agree) > 0.85
    assert np.quantile(agree, 0.2) > 0.4  # where a hole or a dark light hides a disc


@every_recipe
def test_every_way_a_patch_can_lie(name):
    """No recipe prefers a side: labels of the left end up everywhere."""
    image, mask = _region()
    mask[:] = np.arange(REGION) < REGION // 2
    heavy = set()
    for seed in range(40):
        _, labels = _augment(name, (image, mask), seed)
        offsets = np.argwhere(labels == 1).mean(axis=0) - 31.5
        heavy.add(tuple((np.sign(offsets) * (np.abs(offsets) > 8)).astype(int).tolist()))
    assert heavy >= ({(0, -1)} if name == "none" else {(0, -1), (0, 1), (-1, 0), (1, 0)})


@every_change
def test_patches_vary(name):
    """Different generator states show the patch differently."""
    seen = {_augment(name, _region(), seed)[0].tobytes() for seed in range(16)}
    assert len(seen) > 12


@every_recipe
def test_what_lies_outside_is_ignored(name):
    """What is unknown stays unknown, and stays as large."""
    for seed in range(12):
        image, mask = _dots()
        mask[:, :48] = 255
        _, labels = _augment(name, (image, mask), seed)
        assert 0.3 < np.mean(labels == 255) < 0.7


@every_recipe
def test_bending_beyond_the_region_finds_no_strange_labels(name):
    """Of a region without unknown pixels no patch has any."""
    for seed in range(12):
        _, labels = _augment(name, _dots(), seed)
        assert set(np.unique(labels)) <= {0, 1}


def test_holes_hide_pixels_and_keep_labels():
    """`occlusion` is `basic` with patches of even colour in about half of the cases."""
    rng = np.random.default_rng(0)
    image = rng.integers(100, 130, (REGION, REGION, 3), np.uint8)
    mask = (rng.random((REGION, REGION)) > 0.5).astype(np.uint8)
    covered = []
    for seed in range(40):
        one = AUGMENTATIONS["basic"](PATCH)(image, mask, np.random.default_rng(seed))
        two = AUGMENTATIONS["occlusion"](PATCH)(image, mask, np.random.default_rng(seed))
        assert np.isin(two[1], (0, 1)).all()
        flat = [
            np.abs(np.diff(seen[0].astype(int), axis=0)).sum(axis=2) == 0 for seen in (one, two)
        ]
        covered.append(flat[1].mean() - flat[0].mean())
    assert 0.3 < np.mean(np.array(covered) > 0.005) < 0.8
    assert max(covered) < 0.3


def test_transforms_do_not_happen_in_lockstep():
    """Two transforms with a chance of a half happen in all four combinations."""
    flips = _Transforms(lambda: [albumentations.HorizontalFlip(), albumentations.VerticalFlip()])
    mask = np.arange(4, dtype=np.uint8).reshape(2, 2)
    corners = {
        int(flips(np.zeros((2, 2, 3), np.uint8), mask, np.random.default_rng(seed))[1][0, 0])
        for seed in range(40)
    }
    assert corners == {0, 1, 2, 3}


@pytest.mark.parametrize("name", sorted(NEEDS_POOL))
def test_the_pool_lends_its_looks(name):
    """Over many draws patches come nearer to the brightness of the target, with their labels."""
    image, mask = _dots()
    target = np.full((REGION, REGION, 3), 150, np.uint8)
    target[::3, ::3] = 200

    def mean(name):
        augment = AUGMENTATIONS[name](PATCH)
        seen = [
            augment(image, mask, np.random.default_rng(seed), lambda _: target)[0].mean()
            for seed in range(40)
        ]
        return float(np.mean(seen))

    plain, styled = mean("domain"), mean(name)
    assert abs(styled - target.mean()) < abs(plain - target.mean()) - 20
