"""Black and white masks with grey edges: whether the greys between are edges, or codes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml_backend.store.mask_values.codes import Codes

_FEW = 8  # values; as many greys are no smooth edge
_STRAYS = 0.002  # of the bright pixels
_END = 16  # greys as near to black or white are noise of it
_NOISE = 5
_BRIGHT = 200
_REACH = 2  # px from the white pixels
_FAR = 0.003  # of the white pixels


def stray_count(codes: Codes, keep: frozenset[int]) -> int | None:
    """How many pixels have none of the values `keep`, if they are stray ones; else None.

    They are fewer than 0.2 % of those of the greatest value and never fill a square of four.
    """
    plane = codes.plane
    stray = ~np.isin(plane, list(keep))
    count = int(stray.sum())
    if count > _STRAYS * int((plane == plane.max()).sum()):
        return None
    squares = stray[1:, 1:] & stray[1:, :-1] & stray[:-1, 1:] & stray[:-1, :-1]
    return None if squares.any() else count


def noise_count(codes: Codes) -> int | None:
    """How many greys lie away from the white, if all others are its edges; else None.

    Codes are up to 255. The greys are fewer than the white pixels, nearly all lie near them, and
    nearly none fills a square of nine.
    """
    plane = codes.plane
    found, _ = codes.count()
    top = int(found[-1])
    if (len(found) <= _FEW and not codes.lossy) or top < _BRIGHT or found[0] > _END:
        return None
    is_white = plane >= top - _END
    is_between = (plane > _END) & ~is_white
    white, between = int(is_white.sum()), int(is_between.sum())
    is_near = ndimage.binary_dilation(is_white, np.ones((3, 3)), iterations=_REACH)
    far = int((is_between & ~is_near).sum())
    flat = _flat(plane)
    noise = ((plane > _NOISE) & (plane <= _END)) | (is_white & (plane < top - _NOISE))
    is_edge = (
        between <= white
        and far <= max(0.05 * between, _FAR * white)
        and (flat & is_between).sum() <= 0.01 * between
        and (flat & noise).sum() <= 0.05 * white
    )
    return int(((plane > _NOISE) & ~is_white & ~is_near).sum()) if is_edge else None


def _flat(plane: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the nine pixels around have one value."""
    lowest, highest = ndimage.minimum_filter(plane, 3), ndimage.maximum_filter(plane, 3)
    return np.asarray(lowest == highest)
