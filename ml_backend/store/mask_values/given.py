"""A mask's values → labels, as a person says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import RegionError
from ml_backend.store.mask_reading import MaskReading
from ml_backend.store.mask_values.codes import Codes, packed
from ml_backend.store.mask_values.numbers import in_pieces, ranks_of
from ml_backend.store.mask_values.options import REST, Band, Values, check_labels
from ml_backend.store.raster import Raster

_SHOWN = 5
Bool = NDArray[np.bool_]
Pixels = range | tuple[int, int, int] | Band


def read_given(raster: Raster, values: Values, labels: int) -> MaskReading:
    """Read a mask by what `values` says; the later of several that fit a pixel counts.

    Greys mean the first channel, or the index where there is a palette; what `values` does not name
    is background, and what of it is not 0 is noted. Raises `RegionError` where nothing but
    names of regions is said.
    """
    check_labels(values, labels)
    plane = raster.values
    first = plane if plane.ndim == 2 else plane[..., 0]
    label_map = np.zeros(first.shape, np.uint8)
    is_named = np.zeros(first.shape, np.bool_)
    if all(isinstance(code, str) and code != REST for code in values):
        names = ", ".join(map(repr, values))
        raise RegionError(
            f"is a picture, but the mask values name only regions of documents ({names}); name "
            "its values or colours as well, such as 255=1"
        )
    for code, label in values.items():
        if isinstance(code, str):  # of documents, or all the rest
            continue
        here = _pixels(code, raster, first, values)
        label_map[here] = label
        is_named |= here
    if REST in values:
        label_map[~is_named] = values[REST]
        is_named[:] = True
    painted = plane != 0 if plane.ndim == 2 else (plane != 0).any(axis=2)
    lost = painted & ~is_named
    notes = (f"the mask values do not name {_some(plane[lost])}: background",) if lost.any() else ()
    objects = _numbers(raster, label_map, labels)
    return MaskReading(label_map, objects, notes, "as the mask values say")


def _some(pixels: NDArray[Any]) -> str:
    """The first values or colours of pixels, as they are written."""
    found = np.unique(pixels, axis=0).tolist()
    more = " …" if len(found) > _SHOWN else ""
    if pixels.ndim == 2 and pixels.dtype.kind == "f":
        return f"{len(found)} colours in decimals"
    if pixels.ndim == 2:
        colours = ("#" + "".join(f"{channel:02x}" for channel in code) for code in found[:_SHOWN])
        return ", ".join(colours) + more
    return ", ".join(f"{code:.6g}" for code in found[:_SHOWN]) + more


def _pixels(code: Pixels, raster: Raster, first: NDArray[Any], values: Values) -> Bool:
    """Where a code is."""
    if isinstance(code, tuple):
        return _of_colour(code, raster)
    low, high = (code.first, code.last) if isinstance(code, Band) else (code[0], code[-1])
    if first.dtype == np.bool_:
        return np.where(first, low <= _true(values) <= high, low <= 0 <= high)
    return np.asarray((first >= low) & (first <= high))


def _true(values: Values) -> int:
    """What the pixels of a 1-bit mask are called: 255, or 1 where nothing speaks of 255."""
    return 255 if any(isinstance(code, range) and 255 in code for code in values) else 1


def _of_colour(colour: tuple[int, int, int], raster: Raster) -> Bool:
    plane = raster.values if raster.palette is None else raster.palette[raster.values]
    plane = np.atleast_3d(plane)
    if plane.dtype == np.uint16 and not (plane % 257).any():
        plane = plane // 257
    return np.asarray((plane == np.asarray(colour)).all(axis=2))


def _numbers(raster: Raster, label_map: NDArray[np.uint8], labels: int) -> NDArray[np.int32] | None:
    """The numbers of objects among the pixels that have a label; None where they are no numbers.

    Two values or colours at least of one label, each in a piece of its own.
    """
    plane = raster.values
    if plane.dtype.kind == "b" or (plane.ndim == 3 and plane.dtype.kind == "f"):
        return None
    whole = packed(plane) if plane.ndim == 3 else _whole(plane)
    if whole is None:
        return None
    has_label = (label_map > 0) & (label_map <= labels)
    ranks = ranks_of(Codes(np.where(has_label, whole, 0), "greys"))
    several = int(ranks.max(initial=0))
    pairs = np.unique(ranks.astype(np.int64) * 256 + np.where(has_label, label_map, 0))
    per_label = np.bincount(pairs % 256)[1:]
    if several < 2 or per_label.max(initial=0) < 2 or not in_pieces(ranks):
        return None
    return ranks


def _whole(plane: NDArray[Any]) -> NDArray[np.int64] | None:
    """Whole numbers from 0; None for others."""
    if plane.dtype.kind == "f":
        plane = plane.astype(np.float64)
        if not np.isfinite(plane).all() or np.abs(plane).max(initial=0) >= 2**31:
            return None
        if (plane != np.rint(plane)).any():
            return None
    return np.asarray(np.maximum(plane, 0), dtype=np.int64)
