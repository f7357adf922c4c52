"""Looks of the target pool: which images, on which grey scale, at what price."""

import numpy as np
import pytest

from ml_backend.errors import ConfigError, DataError, ImageUnreadable
from ml_backend.learning.data import Patches
from ml_backend.learning.networks import image_stats, normalise
from ml_backend.learning.references import Reference, References
from ml_backend.learning.training import train

STATS = (128.0, 64.0)
_rng = np.random.default_rng


def _image(seed, shape=(80, 100), low=20, high=60):
    return np.random.default_rng(seed).integers(low, high, (*shape, 3), np.uint8)


def _pool(count, **options):
    return [Reference(f"pool-{seed}", lambda seed=seed: _image(seed, **options))
            for seed in range(count)]  # fmt: skip


def test_they_look_to_the_network_as_the_pool_will():
    """Normalised by the stats they were levelled to, they are as normalised by their own."""
    image = _image(0, shape=(64, 64))
    small = References([Reference("one", lambda: image)], 64, 0).draw(_rng(0), STATS)
    levelled = normalise(small[None], np.array([STATS]))
    expected = normalise(image[None], np.array([image_stats(image)]))
    assert np.abs(levelled.numpy() - expected.numpy()).max() <= 0.5 / STATS[1] + 1e-6


@pytest.mark.parametrize("shape", [(10, 300), (1, 1), (31, 64), (64, 64), (200, 200)])
def test_they_have_the_asked_side(shape):
    """Whatever the sizes of the pool's images are."""
    few = References(_pool(3, shape=shape), 64, 0)
    assert {few.draw(_rng(seed), STATS).shape for seed in range(10)} == {(64, 64, 3)}


def test_images_are_opened_late_and_once():
    """Nothing is read before the first draw; then each image once, and 64 of them at most."""
    opened = []

    def load(name):
        opened.append(name)
        return _image(name)

    many = References([Reference(str(i), lambda i=i: load(i)) for i in range(200)], 32, 0)
    assert not opened
    seen = {many.draw(_rng(seed), STATS).tobytes() for seed in range(300)}
    assert len(opened) == len(set(opened)) == 64
    assert len(seen) > 40


def test_the_seed_decides():
    """Same seed and generator, same image; other seeds draw others."""
    drawn = [References(_pool(100), 32, seed).draw(_rng(1), STATS).tobytes() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_broken_images_are_passed_over():
    """One unreadable image of the pool stops no training; a pool of nothing else is named."""

    def broken():
        raise ImageUnreadable("crab.png is cut short")

    crab = Reference("crab.png", broken)
    assert References([crab, *_pool(1)], 32, 0).draw(_rng(0), STATS).any()
    with pytest.raises(DataError, match=r"none of the 1 can be used: crab\.png"):
        References([crab], 32, 0).draw(_rng(0), STATS)


def test_patches_borrow_from_the_pool(recipe, discs):
    """Batches follow the pool for `specialized` and for nothing else; without one it is said."""
    batches = {
        (name, high): Patches(
            discs(2), 1, recipe(augmentation=name, batch_size=16).training, _pool(4, high=high)
        ).batch(0).images
        for name in ("domain", "specialized") for high in (60, 200)
    }  # fmt: skip
    assert np.array_equal(batches["domain", 60], batches["domain", 200])
    assert not np.array_equal(batches["specialized", 60], batches["specialized", 200])
    with pytest.raises(ConfigError, match="there are none: add some, or choose domain"):
        Patches(discs(2), 1, recipe(augmentation="specialized").training)


def test_a_training_with_another_pool_is_another_training(recipe, discs, tmp_path):
    """A checkpoint is taken up only with the pool it was made with."""
    path = tmp_path / "state.safetensors"

    def epochs(count):
        seen = []
        train(
            discs(2), [], recipe=recipe(augmentation="specialized"), classes=1,
            pool=_pool(count), checkpoint=path, on_epoch=seen.append,
        )  # fmt: skip
        return len(seen)

    assert [epochs(2), epochs(2), epochs(3)] == [2, 0, 2]
