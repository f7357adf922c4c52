"""How images of the target pool reach the augmentation: small, few, on any image's grey scale."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ml_backend.errors import DataError
from ml_backend.learning.networks import image_stats

U8 = npt.NDArray[np.uint8]

Small = tuple[U8, tuple[float, float]]
"""An image (side, side, 3), and the `image_stats` that it had when it was large."""

MOST = 64
"""More images cost time at the start of a training, and a look is not an image's alone."""


@dataclass(frozen=True)
class Reference:
    """One unlabelled image of the target: `load` gives (H, W, 3) uint8 RGB."""

    name: str
    load: Callable[[], U8]


class References:
    """Up to 64 random images, each whole but resized to `side` px, in memory.

    Whole, because a random part of an image is often nothing but background, and a histogram
    or the low frequencies survive resizing. The images are opened when the first is asked for,
    each once; those that cannot be read are passed over, and `DataError` is raised when none
    can. `seed` decides which ones. `small` is what this made of them in another process.
    """

    def __init__(
        self,
        images: Sequence[Reference],
        side: int,
        seed: int,
        small: Sequence[Small] | None = None,
    ) -> None:
        self._images, self._side, self._seed = images, side, seed
        self._small = small
        self._opening = threading.Lock()

    def draw(self, rng: np.random.Generator, stats: tuple[float, float]) -> U8:
        """One of them (side, side, 3), as it would look with these `image_stats`.

        Patches are normalised by the statistics of the image that they come from. Levelled to
        them, a reference is to the network what it will be when the model meets the target.
        """
        chosen = self.small()
        small, (centre, half) = chosen[int(rng.integers(len(chosen)))]
        table = (np.arange(256) - centre) * (stats[1] / half) + stats[0]
        levelled: U8 = np.round(np.clip(table, 0, 255)).astype(np.uint8)[small]
        return levelled

    def small(self) -> Sequence[Small]:
        """All that are drawn from; several threads may ask."""
        with self._opening:
            if self._small is None:
                self._small = self._opened()
            return self._small

    def _opened(self) -> list[Small]:
        found: list[Small] = []
        faults = []
        for index in np.random.default_rng([self._seed, 2]).permutation(len(self._images)):
            try:
                image = self._images[index].load()
            except DataError as error:
                faults.append(str(error))
                continue
            side = self._side, self._side
            how = cv2.INTER_AREA if min(image.shape[:2]) > self._side else cv2.INTER_LINEAR
            small = np.asarray(cv2.resize(image, side, interpolation=how), np.uint8)
            found.append((small, image_stats(image)))
            if len(found) == MOST:
                break
        if not found:
            raise DataError(
                "training.augmentation borrows the looks of the pool's images, and none of the "
                f"{len(faults)} can be used: {', '.join(faults[:1])}"
            )
        return found
