"""The true masks of a folder, cut to the tiles that tasks show."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.tiles import Window
from ml_backend.store.images import find_images
from ml_backend.store.mask_files import find_masks, read_masks
from ml_backend.store.mask_values import Values

DECODED_MASKS = 8  # the tiles of a round share few images


class MaskTruths:
    """Finds the mask of a task's image by the image's name in the pool.

    `images`: the folder the pool was filled from, `masks`: its masks by name, `labels`: those that
    they tell apart, `values`: what their numbers mean where the defaults do not fit. `overlapping`:
    the truths are set maps. Raises `DataError` if no mask matches any image.
    """

    def __init__(
        self,
        images: Path,
        masks: Path,
        labels: Sequence[str] = ("object",),
        *,
        values: Values | None = None,
        overlapping: bool = False,
    ) -> None:
        found = find_masks(find_images(images), masks, labels)
        if not found:
            raise DataError(f"no mask in {masks} has the name of an image in {images}")
        self._files = {image.relative_to(images).as_posix(): mask for image, mask in found.items()}
        self._labels, self._overlapping = labels, overlapping
        self._values = values
        self._read = lru_cache(maxsize=DECODED_MASKS)(self._read_file)

    def __len__(self) -> int:
        return len(self._files)

    def __call__(self, data: Mapping[str, Any]) -> NDArray[np.uint8] | None:
        """(H, W) uint8 label map, or set map, of a task's tile; None for an image without a mask.

        Raises `RegionError` where the tile leaves the mask.
        """
        name = data.get("name")
        if name not in self._files:
            return None
        whole = self._read(name)
        height, width = whole.shape
        tile = Window(*(int(data[key]) for key in ("x", "y", "width", "height")))
        if min(tile) < 0 or tile.x + tile.width > width or tile.y + tile.height > height:
            raise RegionError(
                f"the mask of {name} is {width} x {height} px and has no {tile}; "
                "give the masks that were drawn on these images"
            )
        return whole[tile.slices]

    def _read_file(self, name: str) -> NDArray[np.uint8]:
        return read_masks(
            self._files[name], self._labels, overlapping=self._overlapping, values=self._values
        )
