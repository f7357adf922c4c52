"""The true masks of a folder, cut to the tiles that tasks show."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.tiles import Window
from ml_backend.store.images import find_images
from ml_backend.store.masks_in import Values, read_mask
from ml_backend.store.pairs import match_masks

DECODED_MASKS = 8  # the tiles of a round share few images


class MaskTruths:
    """Finds the mask of a task's image by the image's name in the pool.

    `images`: the folder the pool was filled from, `masks`: its masks by name, `labels`: how many
    labels they tell apart, `values`: what their numbers mean where the defaults do not fit.
    Raises `DataError` if no mask matches any image.
    """

    def __init__(
        self, images: Path, masks: Path, labels: int = 1, *, values: Values | None = None
    ) -> None:
        found = match_masks(find_images(images), masks)
        if not found:
            raise DataError(f"no mask in {masks} has the name of an image in {images}")
        self._files = {image.relative_to(images).as_posix(): mask for image, mask in found.items()}
        self._labels = labels
        self._values = values
        self._read = lru_cache(maxsize=DECODED_MASKS)(self._read_file)

    def __len__(self) -> int:
        return len(self._files)

    def __call__(self, data: Mapping[str, Any]) -> NDArray[np.uint8] | None:
        """(H, W) uint8 label map of a task's tile; None for an image without a mask.

        Raises `RegionError` where the tile leaves the mask.
        """
        name = data.get("name")
        if name not in self._files:
            return None
        whole = self._read(self._files[name])
        height, width = whole.shape
        tile = Window(*(int(data[key]) for key in ("x", "y", "width", "height")))
        if min(tile) < 0 or tile.x + tile.width > width or tile.y + tile.height > height:
            raise RegionError(
                f"mask {self._files[name].name} is {width} x {height} px and has no {tile}; "
                "give the masks that were drawn on these images"
            )
        return whole[tile.slices]

    def _read_file(self, path: Path) -> NDArray[np.uint8]:
        return read_mask(path.read_bytes(), path.name, self._labels, values=self._values)
