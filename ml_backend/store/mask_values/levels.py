"""K labels as K + 1 greys from black to white, each pixel to the nearest."""

import numpy as np
from numpy.typing import NDArray

from ml_backend.store.mask_values.codes import Codes

_NEAR = 8
_MOST_LEVELS = 8  # more of them stand too close to tell them from noise
_FEW = 8
_STRAYS = 0.0005  # of all pixels
_SHARE = 0.99


def read_levels(codes: Codes, labels: int) -> NDArray[np.uint8] | None:
    """The label map, (H, W) uint8; None where the greys are not spaced so.

    Black must occur, and a grey between the ends. 99 % of the pixels must lie near a level; where
    there are few values, as in a file that nothing has blurred, each level must have one value
    alone, and whatever else there is must be stray pixels.
    """
    found, counts = codes.count()
    if labels > _MOST_LEVELS or found[-1] > 255:
        return None
    levels = (found * labels + 127) // 255
    near = np.abs(found - levels * 255 / labels) <= _NEAR
    between = near & (levels > 0) & (levels < labels)
    if not between.any() or not (near & (levels == 0)).any():
        return None
    total = counts.sum()
    if counts[near].sum() < _SHARE * total:
        return None
    if len(found) <= _FEW and not codes.lossy:
        is_code = counts > _STRAYS * total
        if not near[is_code].all() or len(set(levels[is_code].tolist())) < is_code.sum():
            return None
    table = np.zeros(256, np.uint8)
    table[found] = levels
    return np.take(table, codes.plane.astype(np.intp))
