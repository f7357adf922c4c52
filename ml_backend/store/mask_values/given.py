"""A mask's values → labels, as a person says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ConfigError
from ml_backend.store.mask_reading import MaskReading
from ml_backend.store.mask_values.codes import Codes, packed
from ml_backend.store.mask_values.numbers import in_pieces, ranks_of
from ml_backend.store.mask_values.options import REST, Band, Code, Values, check_labels
from ml_backend.store.raster import Raster

Bool = NDArray[np.bool_]


def read_given(raster: Raster, values: Values, labels: int) -> MaskReading:
    """Read a mask by what `values` says; the later of several that fit a pixel counts.

    Greys mean the first channel, or the index where there is a palette; what `values` does not name
    is background, and how much of it is not 0 is noted. Raises `ConfigError` for names of regions.
    """
    check_labels(values, labels)
    plane = raster.values
    first = plane if plane.ndim == 2 else plane[..., 0]
    label_map = np.zeros(first.shape, np.uint8)
    is_named = np.zeros(first.shape, np.bool_)
    for code, label in values.items():
        if code == REST:
            continue
        here = _pixels(code, raster, first, values)
        label_map[here] = label
        is_named |= here
    if REST in values:
        label_map[~is_named] = values[REST]
        is_named[:] = True
    painted = plane != 0 if plane.ndim == 2 else (plane != 0).any(axis=2)
    lost = int((painted & ~is_named).sum())
    share = f"{lost / first.size:.1%}"
    note = f"{lost} px ({share}) have values that the mask values do not name: background"
    objects = _numbers(raster, label_map, labels)
    return MaskReading(label_map, objects, (note,) if lost else (), "as the mask values say")


def _pixels(code: Code, raster: Raster, first: NDArray[Any], values: Values) -> Bool:
    """Where a code is."""
    if isinstance(code, str):
        raise ConfigError(
            f"mask values name {code!r}, which COCO, LabelMe and YOLO may hold, but no mask of "
            "pixels; name its values or colours"
        )
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
