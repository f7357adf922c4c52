"""The true masks at an address, cut to the tiles that tasks show."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import RegionError
from ml_backend.masks.tiles import Window
from ml_backend.recipe import Recipe
from ml_backend.store.collection import open_collection
from ml_backend.store.mask_files import LabelUse
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_pairing import pair_masks
from ml_backend.store.mask_values import Values

DECODED_MASKS = 8  # the tiles of a round share few images


class MaskTruths:
    """Finds the mask of a task's image by the image's name in the pool.

    `images`: what the pool was filled from, `masks`: where its masks are, both as `pool add` takes
    them. `labels`: those that the masks tell apart, `values`: what their numbers mean where the
    defaults do not fit. `overlapping`: the truths are set maps. Raises `DataError` if no mask
    matches any image.
    """

    def __init__(
        self,
        images: Path | str,
        masks: Path | str,
        labels: Sequence[str] = ("object",),
        *,
        values: Values | None = None,
        match: Match = "name",
        overlapping: bool = False,
        recipe: Recipe | None = None,
    ) -> None:
        found = open_collection(images, recipe or Recipe(), masks=masks, labels=labels)
        pairs = pair_masks(found, masks, labels, match=match)
        self._files = pairs.files
        self._shapes = {image.name: (image.height, image.width) for image in pairs.images}
        self._use = LabelUse(labels, overlapping=overlapping, values=values)
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
        return self._files[name].read(self._shapes[name], self._use).mask
