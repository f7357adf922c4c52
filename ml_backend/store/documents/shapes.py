"""Geometry as documents write it → pixels, checked."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import RegionError
from ml_backend.masks import shapes
from ml_backend.masks.shapes import Patch

_FARTHEST = 1e7  # px from the image; beyond it coordinates are a mistake


def points_of(values: Any, *, at_least: int) -> NDArray[np.float64]:
    """Numbers x, y, x, y, … or pairs of them as (N, 2) float64. Raises `RegionError`."""
    try:
        flat = np.asarray(values, dtype=np.float64)
        points_N2 = flat.reshape(-1, 2) if flat.ndim == 1 else flat.reshape(len(flat), 2)
    except (TypeError, ValueError, OverflowError):
        raise RegionError("points of a region are no pairs of numbers") from None
    if not (np.abs(points_N2) <= _FARTHEST).all():
        raise RegionError("points of a region are nan, or far outside every image")
    if len(points_N2) < at_least:
        raise RegionError(f"a region has {len(points_N2)} points, of {at_least} at least")
    return points_N2


def union(polygons: list[NDArray[np.float64]], height: int, width: int) -> Patch:
    """Fill polygons; a pixel of any of them belongs to the region."""
    patches = [shapes.polygon(points_N2, height, width) for points_N2 in polygons]
    if len(patches) == 1:
        return patches[0]
    return joined(patches)


def joined(patches: list[Patch]) -> Patch:
    """Several patches as one."""
    full = [patch for patch in patches if patch.mask.size]
    if not full:
        return Patch(slice(0, 0), slice(0, 0), np.zeros((0, 0), np.bool_))
    top = min(patch.rows.start for patch in full)
    left = min(patch.columns.start for patch in full)
    bottom = max(patch.rows.stop for patch in full)
    right = max(patch.columns.stop for patch in full)
    mask = np.zeros((bottom - top, right - left), np.bool_)
    for patch in full:
        rows = slice(patch.rows.start - top, patch.rows.stop - top)
        columns = slice(patch.columns.start - left, patch.columns.stop - left)
        mask[rows, columns] |= patch.mask
    return Patch(slice(top, bottom), slice(left, right), mask)
