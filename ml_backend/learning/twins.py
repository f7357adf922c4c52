"""Unlabelled images → an endless, reproducible stream of places, each seen in two views."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ml_backend.errors import DataError, NothingToLearn
from ml_backend.learning.augment import AUGMENTATIONS
from ml_backend.learning.data import F32, MARGIN, U8, Sample, cached, cut_region, prepared
from ml_backend.learning.networks import image_stats
from ml_backend.learning.references import Reference, References
from ml_backend.recipe import Pretraining

_APART = 4  # a view's middle is at most patch / 4 from the place: views overlap by half and more


class TwinBatch(NamedTuple):
    """Two views (N, p, p, 3) of N places, and the `image_stats` (N, 2) of their images."""

    one: U8
    two: U8
    stats: F32


class Twins:
    """Draws places of images, every image equally often, and looks at each in two ways.

    The views of a place are shifted against each other and augmented independently. A batch
    depends on the seed, its step and the images that can be read, alone; those that cannot are
    passed over and named in `faults` with the reason. Raises `NothingToLearn` without images,
    `DataError` where none can be read.
    """

    def __init__(self, images: Sequence[Reference], settings: Pretraining) -> None:
        if not images:
            raise NothingToLearn("there are no images to learn from: add some to the pool")
        self._settings = settings
        self._side = int(settings.patch * MARGIN) // 2 * 2
        self._augment = AUGMENTATIONS[settings.augmentation](settings.patch)
        self._looks = References(images, self._side, settings.seed)
        self._samples = cached([Sample(image.name, partial(_bare, image)) for image in images])
        self._stats: dict[int, tuple[float, float]] = {}
        self.faults: dict[str, str] = {}

    def batches(self, steps: range) -> Iterator[TwinBatch]:
        """The batch of each step; the next one is prepared while the current one is used."""
        return prepared(self.batch, steps)

    def batch(self, step: int) -> TwinBatch:
        """The batch of one step."""
        rng = np.random.default_rng([self._settings.seed, 5, step])
        drawn = [self._draw(rng) for _ in range(self._settings.batch_size)]
        one, two, stats = zip(*drawn, strict=True)
        return TwinBatch(np.stack(one), np.stack(two), np.array(stats, np.float32))

    def _draw(self, rng: np.random.Generator) -> tuple[U8, U8, tuple[float, float]]:
        image, mask, stats = self._image(rng)
        patch, place = self._settings.patch, rng.integers(mask.shape)
        style = partial(self._looks.draw, stats=stats)
        views = []
        for _ in range(2):
            at = place + rng.integers(-(patch // _APART), patch // _APART, 2, endpoint=True)
            y, x = (
                int(np.clip(a, patch // 2, size - patch // 2)) if size >= patch else size // 2
                for a, size in zip(at, mask.shape, strict=True)
            )
            region, known = cut_region(image, mask, (y, x), self._side)
            views.append(self._augment(region, known, rng, style)[0])
        return views[0], views[1], stats

    def _image(self, rng: np.random.Generator) -> tuple[U8, U8, tuple[float, float]]:
        """One that can be read; the next draw takes the place of one that cannot."""
        while len(self.faults) < len(self._samples):
            index = int(rng.integers(len(self._samples)))
            sample = self._samples[index]
            if sample.name in self.faults:
                continue
            try:
                image, mask = sample.load()
            except DataError as error:
                self.faults[sample.name] = str(error)
                continue
            if index not in self._stats:
                self._stats[index] = image_stats(image)
            return image, mask, self._stats[index]
        reason = next(iter(self.faults.values()))
        raise DataError(f"none of the {len(self._samples)} images can be read: {reason}")


def _bare(image: Reference) -> tuple[U8, npt.NDArray[np.uint8]]:
    pixels = image.load()
    return pixels, np.zeros(pixels.shape[:2], np.uint8)
