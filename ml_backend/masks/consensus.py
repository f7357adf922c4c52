"""Several people's label maps → one, by a vote at each pixel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import RegionError
from ml_backend.masks import sets
from ml_backend.masks.labels import IGNORE


def vote(
    label_maps: Sequence[NDArray[np.uint8]], minimum: int, *, overlapping: bool = False
) -> NDArray[np.uint8]:
    """(H, W) uint8 label maps of one image → theirs by majority; background is a vote as well.

    A pixel becomes what more than half of those who know it (whose pixel is not 255) say, if
    they are at least `minimum`, and unknown (255) elsewhere. Of set maps (`overlapping`) each
    label is voted on for itself. Raises RegionError where the maps differ in size.
    """
    shapes = {label_map.shape for label_map in label_maps}
    if len(shapes) != 1:
        raise RegionError(f"masks of {len(shapes)} sizes cannot be merged: {sorted(shapes)}")
    if overlapping:
        return sets.vote(label_maps, minimum)
    merged = np.full(shapes.pop(), IGNORE, np.uint8)
    known = sum((label_map != IGNORE).astype(np.uint16) for label_map in label_maps)
    values = sorted({int(value) for label_map in label_maps for value in np.unique(label_map)})
    for value in values:
        if value != IGNORE:
            votes = sum((label_map == value).astype(np.uint16) for label_map in label_maps)
            merged[(votes >= minimum) & (2 * votes > known)] = value
    return merged
