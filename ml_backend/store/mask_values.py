"""Masks as people have them → label maps.

Without `values`, `read_mask` reads a file as follows and refuses to guess beyond it:

- **Pixels.** Grey, or colour whose channels agree (the first is taken). An alpha channel that
  varies darkens the grey, and is itself the mask if the grey does not vary. 16-bit files whose
  values are all multiples of 257 are 8-bit files in disguise. Floats are whole numbers, or
  shares from 0 to 1 cut at 0.5. Coloured palettes (indexed PNG): the indices are the labels.
- **One label.** 1-bit: True. 8-bit up to 127 (0/1, 0/100, instance numbers): above 0. 8-bit
  beyond: above 127, so grey edge pixels go to the nearer side; but it is an error if greys
  between dark and bright form flat areas (codes, instance numbers) and one of them covers 2 % of
  the image or all of them outnumber the bright pixels. 16-bit and more (instance numbers): above
  0. Colour on black: the brightest channel above 127.
- **Several labels.** 0…K as they are with 255 for *ignore*; or K + 1 evenly spaced greys from
  0 to 255 (K = 2: up to 63, 64 to 191, from 192), each pixel to the nearest, if at least one grey
  between the ends occurs and 99 % of the pixels lie within 8 of a level (K up to 8).

Everything else needs `values`, for example `0=1,255=0` where 0 is the object, `64-191=1,192-255=2`
for bands, `#0000ff=1,#ff0000=2` for colours, `65535=ignore` for unknown.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ConfigError, RegionError
from ml_backend.masks.instances import connected
from ml_backend.store.raster import MAX_PIXELS, Raster, read_raster

IGNORE = 255

Code = range | tuple[int, int, int]
Values = Mapping[Code, int]
"""Greys (a range) or an RGB colour → label, 1…K, 0 background, 255 ignore."""

_RULE = re.compile(r"^(?:#([0-9a-f]{6})|(\d+)(?:\s*-\s*(\d+))?)\s*=\s*(\d+|ignore)$", re.IGNORECASE)
_AGREE = 16  # channels of a grey JPEG differ by as much
_NEAR = 8
_MOST_LEVELS = 8  # more of them stand too close to tell them from noise
_THIRD_GREY = 0.02
_PIECES = 2


def parse_values(text: str) -> dict[Code, int]:
    """Read `CODE=LABEL,…` with CODE a grey, a band `64-191` or a colour `#0000ff`.

    LABEL is a number (0 background, 1 the first label, …) or `ignore`. Raises `ConfigError`.
    """
    rules: dict[Code, int] = {}
    for part in filter(None, (piece.strip() for piece in re.split("[,;]", text))):
        match = _RULE.match(part)
        if match is None:
            raise ConfigError(
                f"mask values {text!r}: {part!r} is not CODE=LABEL; write for example "
                "0=1,255=0 or 64-191=1,192-255=2 or #0000ff=1"
            )
        colour, first, last, label = match.groups()
        code: Code
        if colour:
            red, green, blue = bytes.fromhex(colour)
            code = (red, green, blue)
        else:
            code = range(int(first), int(last or first) + 1)
        number = IGNORE if label.lower() == "ignore" else int(label)
        if not code or number > IGNORE or code in rules:
            raise ConfigError(f"mask values {text!r}: {part!r} is empty, too large or said twice")
        rules[code] = number
    if not rules:
        raise ConfigError("mask values are empty; write for example 0=1,255=0")
    return rules


def read_mask(
    data: bytes,
    name: str,
    labels: int = 1,
    *,
    values: Values | None = None,
    shape: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read a mask file as (H, W) uint8: 0 background, 1…`labels`, 255 ignore.

    `values` says what each grey or colour stands for (those it does not name are background;
    greys mean the first channel, or the index where there is a palette); without it the rules
    above hold. `shape`: the image's (height, width). Raises `ImageUnreadable`, and `RegionError`
    for a mask of another size or one whose values do not say which label they are.
    """
    if not 1 <= labels < IGNORE:
        raise ConfigError(f"{labels} labels: a label map holds 1 to {IGNORE - 1}")
    raster = read_raster(data, name, max_pixels)
    if shape is not None and raster.values.shape[:2] != tuple(shape):
        height, width = raster.values.shape[:2]
        raise RegionError(
            f"mask {name} is {width} x {height} px, its image {shape[1]} x {shape[0]} px; "
            "give the mask that was drawn on this image"
        )
    if values is not None:
        return _by_rules(raster, values, labels)
    if raster.palette is not None and not _is_grey(raster.palette):
        return _known(raster.values, name, labels)
    plane = raster.values if raster.palette is None else raster.palette[raster.values]
    if plane.ndim == 3 and not _is_grey(plane):
        return _on_black(plane, name, labels)
    codes = _codes(_grey(plane, raster), name, labels)
    return _one_label(codes, name) if labels == 1 else _known(codes, name, labels)


def read_objects(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32] | None:
    """The numbers of a one-label mask file that numbers its objects, (H, W) int32; else None.

    Numbers are grey whole numbers, at least two above 0, of 16 bits or more, or of 8 up to 127 as
    `read_mask` has it. Where they lie about in many more pieces than there are numbers they are
    soft edges.
    """
    raster = read_raster(data, name, max_pixels)
    plane = raster.values
    if raster.palette is not None or plane.ndim != 2 or plane.dtype.kind not in "ui":
        return None
    if plane.dtype == np.uint16 and not (plane % 257).any():
        plane = (plane // 257).astype(np.uint8)
    if plane.dtype == np.uint8 and plane.max(initial=0) > 127:
        return None
    found, ranks = np.unique(np.maximum(plane, 0), return_inverse=True)
    above = int(found.size > 0 and found[0] != 0)  # the lowest is an object, too
    numbers: NDArray[np.int32] = (ranks.reshape(plane.shape) + above).astype(np.int32)
    several = int(numbers.max(initial=0))
    if several < 2 or connected(numbers).max() > _PIECES * several:
        return None
    return numbers


def _by_rules(raster: Raster, values: Values, labels: int) -> NDArray[np.uint8]:
    plane = raster.values
    first = plane if plane.ndim == 2 else plane[..., 0]
    colours = plane if raster.palette is None else raster.palette[plane]
    label_map = np.zeros(first.shape, np.uint8)
    for code, label in values.items():
        if label > labels and label != IGNORE:
            raise ConfigError(f"mask values name label {label}, but there are only {labels}")
        if isinstance(code, range):
            numbers = first.astype(np.uint8) * np.uint8(255) if first.dtype == np.bool_ else first
            label_map[(numbers >= code[0]) & (numbers <= code[-1])] = label
        else:
            target = np.asarray(code)
            label_map[(np.atleast_3d(colours) == target).all(axis=2)] = label
    return label_map


def _is_grey(colours: NDArray[Any]) -> bool:
    """Whether the channels (last axis) agree, but for what JPEG does to them."""
    spread = colours.max(axis=-1).astype(np.int64) - colours.min(axis=-1)
    return bool(spread.max(initial=0) <= _AGREE)


def _grey(plane: NDArray[Any], raster: Raster) -> NDArray[Any]:
    grey: NDArray[Any] = plane if plane.ndim == 2 else plane[..., 0]
    opacity = raster.opacity()
    if opacity is None:
        return grey
    visible = grey[opacity > 0]
    if visible.min() == visible.max():
        return np.asarray(np.rint(opacity * 255), dtype=np.uint8)
    return np.asarray(grey * opacity).astype(grey.dtype)


def _codes(grey: NDArray[Any], name: str, labels: int) -> NDArray[Any]:
    """Whole numbers ≥ 0: bool, uint8, or wider where they are instance numbers."""
    if grey.dtype.kind == "f":
        if not np.isfinite(grey).all():
            raise RegionError(f"mask {name} holds nan or infinity; export it as 8-bit")
        whole = grey.astype(np.int64)
        if not (whole == grey).all():
            if labels > 1 or grey.min() < 0 or grey.max() > 1:
                raise RegionError(f"mask {name} holds broken numbers; export it as 8-bit")
            return np.asarray(grey >= 0.5)
        grey = whole
    if grey.min(initial=0) < 0:
        raise RegionError(f"mask {name} holds negative values; export it as 8-bit")
    if grey.dtype == np.uint16 and not (grey % 257).any():
        return (grey // 257).astype(np.uint8)
    return grey


def _one_label(codes: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if codes.dtype != np.uint8 or codes.max(initial=0) <= 127:
        return (codes > 0).astype(np.uint8)
    if _has_codes(codes):
        raise _ambiguous(codes, name, 1)
    return (codes > 127).astype(np.uint8)


def _has_codes(greys: NDArray[np.uint8]) -> bool:
    """Whether greys between dark and bright are areas of their own rather than soft edges."""
    counts = np.bincount(greys.ravel(), minlength=256)
    brightest = int(greys.max()) - _AGREE
    between = counts[_AGREE + 1 : brightest]
    if between.max() < _THIRD_GREY * greys.size and between.sum() <= counts[brightest:].sum():
        return False
    corner = greys[:-1, :-1]
    flat = (corner == greys[1:, 1:]) & (corner == greys[1:, :-1]) & (corner == greys[:-1, 1:])
    inside = (corner > _AGREE) & (corner < brightest)
    return bool((flat & inside).sum() > inside.sum() / 2)


def _known(codes: NDArray[Any], name: str, labels: int) -> NDArray[np.uint8]:
    """Label numbers as they are, or evenly spaced greys."""
    found = np.unique(codes).astype(np.int64)
    if found[found != IGNORE].max(initial=0) <= labels and not (
        labels > 1 and set(found.tolist()) <= {0, IGNORE} and IGNORE in found
    ):
        return codes.astype(np.uint8)
    if codes.dtype == np.uint8 and labels <= _MOST_LEVELS:
        table = (np.arange(256) * labels + 127) // 255
        offset = np.abs(np.arange(256) - table * 255 / labels)
        middle = (table[found] > 0) & (table[found] < labels)
        if middle.any() and (offset <= _NEAR)[codes].mean() >= 0.99:
            return np.asarray(table[codes], dtype=np.uint8)
    raise _ambiguous(codes, name, labels)


def _on_black(colours: NDArray[Any], name: str, labels: int) -> NDArray[np.uint8]:
    """Colours on a black ground, for one label only."""
    brightest = colours.max(axis=2)
    if labels == 1 and colours.dtype == np.uint8 and (brightest <= _AGREE).any():
        return np.asarray(brightest > 127, dtype=np.uint8)
    packed = colours.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1])
    raise _ambiguous(packed, name, labels, colours=True)


def _ambiguous(
    codes: NDArray[Any], name: str, labels: int, *, colours: bool = False
) -> RegionError:
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:6]
    shown = []
    for value, count in zip(found[order].tolist(), counts[order].tolist(), strict=True):
        rgb = (value >> 32, value >> 16 & 0xFFFF, value & 0xFFFF)
        text = "#" + "".join(f"{channel:02x}" for channel in rgb) if colours else str(value)
        shown.append(f"{text} ({count / codes.size:.1%})")
    example = "#ff0000=1" if colours else "0=0,127=1,255=0"
    return RegionError(
        f"mask {name} holds {', '.join(shown)}{' …' if len(found) > 6 else ''}, which does not "
        f"say which of the {labels} label(s) they are; say it with mask values such as {example}"
    )
