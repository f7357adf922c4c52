"""The geometry of one region, as Label Studio writes it down → pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import RegionError
from ml_backend.masks import shapes
from ml_backend.masks.bitmask import decode_bitmask
from ml_backend.masks.rle import decode_brush
from ml_backend.masks.shapes import Patch
from ml_backend.text import shorten

_FAR = 1e5  # percent; a coordinate beyond is no drawing

# What tells the shapes apart. A key point has x, y and width, but no height.
_KEYS = {
    "brush": ("rle",),
    "bitmask": ("imageDataURL",),
    "polygon": ("points",),
    "ellipse": ("x", "y", "radiusX", "radiusY"),
    "rectangle": ("x", "y", "width", "height"),
}


@dataclass(frozen=True)
class Geometry:
    """A shape (a key of `_KEYS`) and the value that describes it."""

    shape: str
    value: Mapping[str, Any]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry) or self.shape != other.shape:
            return NotImplemented if not isinstance(other, Geometry) else False
        keys = (*_KEYS[self.shape], "rotation")
        return all(self.value.get(key) == other.value.get(key) for key in keys)

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_open(self) -> bool:
        """Whether this is a polygon that somebody did not finish."""
        return self.shape == "polygon" and self.value.get("closed") is False


def geometry_of(value: Mapping[str, Any]) -> Geometry | None:
    """Tell which shape a result's value describes; None where it describes none."""
    for shape, keys in _KEYS.items():
        if all(key in value for key in keys):
            return Geometry(shape, value)
    return None


def draw(geometry: Geometry, height: int, width: int) -> Patch:
    """Return the pixels that a region covers in an image of this size.

    Raises MalformedRLE or RegionError for what cannot be drawn.
    """
    value = geometry.value
    if geometry.shape in ("brush", "bitmask"):
        alpha = (
            decode_brush(value["rle"], height, width)
            if geometry.shape == "brush"
            else decode_bitmask(value["imageDataURL"], height, width)
        )
        # Browsers store soft edges; half covered is covered, of a brush of whatever opacity.
        half = max(1, (int(alpha.max(initial=0)) + 1) // 2)
        return Patch(slice(0, height), slice(0, width), alpha >= half)
    if geometry.shape == "polygon":
        return shapes.polygon(_points(value["points"], height, width), height, width)
    degrees = _number(value, "rotation") if value.get("rotation") is not None else 0.0
    x, y, across, down = (_number(value, key) / 100 for key in _KEYS[geometry.shape])
    fill = shapes.ellipse if geometry.shape == "ellipse" else shapes.rectangle
    return fill(x * width, y * height, across * width, down * height, degrees, height, width)


def _points(points: Any, height: int, width: int) -> NDArray[np.float64]:
    """Return corners in pixels, (N, 2), of [[x, y], ...] in percent."""
    try:
        corners = np.array(points, np.float64)
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or not (np.abs(corners) <= _FAR).all():
        raise RegionError("a polygon's points must be a list of [x, y] in percent of the image")
    pixels: NDArray[np.float64] = corners * np.array([width, height]) / 100
    return pixels


def _number(value: Mapping[str, Any], key: str) -> float:
    number = value[key]
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not abs(number) <= _FAR:
        raise RegionError(
            f"{key} must be a number (percent or degrees), but it is '{shorten(number)}'"
        )
    return float(number)
