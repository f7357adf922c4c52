"""The pixels of a mask file → one whole number each, before anyone says what it means."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import RegionError
from ml_backend.store.mask_values.options import IGNORE
from ml_backend.store.raster import Raster

Kind = Literal["bits", "greys", "indices", "shares", "colours"]
_AGREE = 16  # channels of a grey JPEG differ by as much
_FEW = 8
MOST_ROWS = 8
"""Values that a refusal lists."""


@dataclass(frozen=True)
class Codes:
    """A mask's codes, (H, W) whole numbers.

    `kind`: `bits` are 0 and 1; `indices` point into a palette of colours; `shares` are 255 for 1.0;
    `colours` are 2³² red + 2¹⁶ green + blue. `deep`: the file's numbers have more than 8 bits.
    `ignore`: values that stand for unknown pixels where there are others. `lossy`: the file's
    format (JPEG) changes numbers a little.
    """

    plane: NDArray[Any]
    kind: Kind
    deep: bool = False
    ignore: frozenset[int] = frozenset({IGNORE})
    lossy: bool = False

    def count(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The values, ascending, and how many pixels have each."""
        if self.plane.dtype.itemsize <= 2 and self.plane.dtype.kind == "u":
            counts = np.bincount(self.plane.reshape(-1))
            found = np.flatnonzero(counts)
            return found, counts[found]
        found, counts = np.unique(self.plane, return_counts=True)
        return found.astype(np.int64), counts


def codes_of(raster: Raster) -> Codes:
    """The codes of a decoded file. Raises `RegionError` for nan and for decimals beyond 0 to 1."""
    if raster.palette is not None and not _is_grey(raster.palette):
        return Codes(raster.values, "indices")
    plane = raster.values if raster.palette is None else raster.palette[raster.values]
    if plane.ndim == 3 and not _is_grey(plane):
        return _colours(plane, raster)
    grey = _visible(plane if plane.ndim == 2 else plane[..., 0], raster)
    if grey.dtype == np.bool_:
        return Codes(grey.astype(np.uint8), "bits")
    if grey.dtype.kind == "f":
        return _of_floats(grey)
    greatest = int(np.iinfo(grey.dtype).max)
    if grey.dtype == np.uint64:  # beyond what is counted with
        is_greatest, greatest = grey == greatest, 2**63 - 1
        grey = np.where(is_greatest, greatest, np.minimum(grey, greatest - 1)).astype(np.int64)
    ignore = frozenset({IGNORE, greatest})
    if grey.dtype == np.uint16 and not (grey % 257).any():  # 8 bits, stretched
        return Codes((grey // 257).astype(np.uint8), "greys")
    return Codes(grey, "greys", grey.dtype.itemsize > 1, ignore)


def is_lossy(data: bytes) -> bool:
    """Whether a file is a JPEG, or a WebP like one."""
    return data[:2] == b"\xff\xd8" or (data[8:12] == b"WEBP" and data[12:16] == b"VP8 ")


def packed(colours: NDArray[Any]) -> NDArray[np.int64]:
    """(…, 3) whole numbers → one number a colour."""
    return np.asarray(colours.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1]))


def channels_of(code: int) -> tuple[int, int, int]:
    """Red, green and blue of a packed colour."""
    return code >> 32, code >> 16 & 0xFFFF, code & 0xFFFF


def _is_grey(colours: NDArray[Any]) -> bool:
    """Whether the channels (last axis) agree, but for what JPEG does to them."""
    spread = colours.max(axis=-1).astype(np.int64) - colours.min(axis=-1)
    if spread.max(initial=0) > _AGREE:
        return False
    return not spread.any() or len(np.unique(colours.reshape(-1, 3), axis=0)) > _FEW


def _colours(plane: NDArray[Any], raster: Raster) -> Codes:
    if plane.dtype.kind == "f":
        raise RegionError("holds colours in decimals; export it as 8-bit")
    opacity = raster.opacity()
    if opacity is not None:
        plane = np.asarray(plane * opacity[..., None]).astype(plane.dtype)
    if plane.dtype == np.uint16 and not (plane % 257).any():
        plane = plane // 257
    return Codes(packed(plane), "colours", ignore=frozenset())


def _visible(grey: NDArray[Any], raster: Raster) -> NDArray[Any]:
    """The grey, darkened where it is transparent; the opacity where the grey does not vary."""
    opacity = raster.opacity()
    if opacity is None:
        return grey
    visible = grey[opacity > 0]
    if visible.min() == visible.max():
        return np.asarray(np.rint(opacity * 255), dtype=np.uint8)
    return np.asarray(grey * opacity).astype(grey.dtype)


def _of_floats(grey: NDArray[Any]) -> Codes:
    if not np.isfinite(grey).all():
        known = grey[np.isfinite(grey)]
        why = "beside nan or infinity, which stand for no label"
        raise _no_codes(known, why, "0=0,1=1,*=ignore")
    if np.abs(grey.astype(np.float64)).max(initial=0) >= 2**31:
        raise RegionError("holds numbers beyond 2³¹; export it as whole numbers")
    whole = grey.astype(np.int64)
    if (whole == grey).all():
        return Codes(whole, "greys", deep=True, ignore=frozenset({IGNORE, 2**16 - 1}))
    if grey.min() < 0 or grey.max() > 1:
        raise _no_codes(grey, "broken numbers are no labels", "0-0.5=0,0.5-99=1")
    return Codes(np.rint(grey * 255).astype(np.uint8), "shares", ignore=frozenset())


def _no_codes(plane: NDArray[Any], why: str, example: str) -> RegionError:
    """The error for numbers that are no codes, such as decimals."""
    found, counts = np.unique(plane, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_ROWS]
    rows = [f"{found[at]:.6g} ({counts[at] / plane.size:.1%})" for at in sorted(order.tolist())]
    more = f" and {len(found) - len(order)} more values" if len(found) > len(order) else ""
    return RegionError(
        f"holds {', '.join(rows)}{more}: {why}; say what they are, such as --mask-values "
        f"'{example}'"
    )
