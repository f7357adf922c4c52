"""A picture's numbers → (H, W, 3) uint8 RGB, strip by strip."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.store.grey_range import Parts
from ml_backend.store.pictures import Picture
from ml_backend.store.readers import Plane, Reader, bands, chunks

Box = tuple[int, int, int, int]
"""(y0, y1, x0, x1)."""

Range = tuple[float, float]

_PERCENTILES = (0.1, 99.9)
_SAMPLE = 2**20  # percentiles of a regular grid of about a million pixels are exact enough


def render(
    picture: Picture, ranges: Sequence[Range], nodata: Sequence[float] = (), box: Box | None = None
) -> NDArray[np.uint8]:
    """Show a picture in RGB, upright.

    Args:
        picture: What to show.
        ranges: Black and white, one pair for all channels or one a channel; empty for those of
            homes of the version before: bytes as they are, others between percentiles.
        nodata: Numbers that are shown black.
        box: Only these rows and columns, of the upright picture.

    """
    height, width = picture.stored
    stored = (0, height, 0, width) if box is None else _stored_box(box, picture)
    if not ranges and picture.deep:
        ranges = _former_ranges(picture)
    out = np.zeros((stored[1] - stored[0], stored[3] - stored[2], 3), np.uint8)
    greys = [_Greys(picture, ranges[n % len(ranges)] if ranges else None, nodata)
             for n in range(len(picture.planes))]  # fmt: skip
    opacity = _Opacity(picture, stored)
    premultiplied = picture.associated and _is_plain(picture, greys)
    for top, bottom in bands(picture.planes[0].reader, stored):
        strip = _strip(picture, (top, bottom, *stored[2:]))
        for part in chunks(out[top - stored[0] : bottom - stored[0]]):
            rows = out[top - stored[0] : bottom - stored[0]][part]
            values = [plane[part] for plane in strip]
            alpha = values.pop() if picture.alpha is not None else None
            share = None if alpha is None else opacity.share(alpha)
            _show(picture, greys, values, rows, share)
            if share is not None:
                _lay_over_white(rows, share, premultiplied=premultiplied)
    return _upright(out, picture.orientation)


def _strip(picture: Picture, box: Box) -> list[NDArray[Any]]:
    """(h, w) numbers of each channel, and of alpha at the end if there is one."""
    planes = [*picture.planes, *([picture.alpha] if picture.alpha is not None else [])]
    read: dict[int, NDArray[Any]] = {}
    for plane in planes:
        if id(plane.reader) not in read:
            read[id(plane.reader)] = plane.reader.read(*box)
    return [read[id(plane.reader)][..., plane.sample] for plane in planes]


class _Greys:
    """Numbers of one channel → greys."""

    def __init__(self, picture: Picture, limits: Range | None, nodata: Sequence[float]) -> None:
        self._inverted, self._limits, self._nodata = picture.inverted, limits, nodata
        self._table: NDArray[np.uint8] | None = None
        dtype = picture.dtype
        same = limits in {None, (0.0, 255.0)} and not nodata and not self._inverted
        self.plain = dtype == np.uint8 and same
        if dtype.kind in "ui" and dtype.itemsize <= 2:
            numbers = np.arange(2 ** (8 * dtype.itemsize)).astype(f"u{dtype.itemsize}").view(dtype)
            self._table = self._of(numbers)

    def __call__(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Greys of (h, w) numbers."""
        if self.plain:
            return values
        if values.dtype == np.bool_:
            return np.asarray((values ^ self._inverted) * np.uint8(255), np.uint8)
        if self._table is not None:
            return np.asarray(self._table[values.view(f"u{values.dtype.itemsize}")])
        return self._of(values)

    def _of(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        limits = self._limits
        greys = values.astype(np.uint8) if limits is None else stretch(values, *limits)
        if self._inverted:
            greys = 255 - greys
            if values.dtype.kind == "f":
                greys[~np.isfinite(values)] = 0
        for number in self._nodata:
            greys[values == number] = 0
        return greys


def stretch(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Greys between two numbers; what is no finite number is black."""
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    peak = max(abs(low), abs(high))  # the difference of the largest floats would overflow
    numbers = np.clip(values, low, high)
    if values.dtype.kind == "f":
        numbers[~np.isfinite(values)] = low
    shares = (numbers / peak - low / peak) / (high / peak - low / peak)
    return np.asarray(np.rint(255 * shares), dtype=np.uint8)


def _show(
    picture: Picture,
    greys: Sequence[_Greys],
    values: Sequence[NDArray[Any]],
    rows: NDArray[np.uint8],
    share: NDArray[np.float32] | None,
) -> None:
    """Write greys or colours of a part into its rows of the output."""
    if picture.associated and share is not None and not _is_plain(picture, greys):
        values = [_divided(one, share) for one in values]
    if picture.kind == "grey":
        rows[...] = greys[0](values[0])[..., None]
    elif picture.kind == "colour":
        for channel, one in enumerate(values):
            rows[..., channel] = greys[channel](one)
    else:
        total = np.zeros(rows.shape, np.uint16)
        for channel, one in enumerate(values):
            total += picture.colour(channel)[greys[channel](one)]
        rows[...] = np.minimum(total, 255)


def _is_plain(picture: Picture, greys: Sequence[_Greys]) -> bool:
    return picture.kind != "composite" and all(one.plain for one in greys)


def _divided(values: NDArray[Any], share: NDArray[np.float32]) -> NDArray[Any]:
    """Numbers that were multiplied by their opacity, as they were."""
    with np.errstate(divide="ignore", invalid="ignore"):
        straight = np.where(share > 0, values / share, 0)
    if values.dtype.kind == "f":
        return np.asarray(straight)
    most = np.iinfo(values.dtype).max
    return np.asarray(np.minimum(np.rint(straight), most)).astype(values.dtype)


class _Opacity:
    """How opaque pixels are; nothing is said by an alpha channel that is the same all over."""

    def __init__(self, picture: Picture, box: Box) -> None:
        self._plane = picture.alpha
        self._constant = picture.alpha is not None and _is_constant(picture.alpha, box)

    def share(self, alpha: NDArray[Any]) -> NDArray[np.float32] | None:
        """From 0 to 1, as (h, w)."""
        if self._constant:
            return None
        full = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
        numbers = np.nan_to_num(alpha.astype(np.float32)) / np.float32(full)
        return np.asarray(np.clip(numbers, 0, 1), np.float32)


def _is_constant(plane: Plane, box: Box) -> bool:
    """Whether the whole plane holds one number; asked near the window first."""
    reader = plane.reader
    first: Any = None
    whole = (0, reader.height, 0, reader.width)
    for window in (box, whole) if box != whole else (whole,):
        for top, bottom in bands(reader, window):
            values = reader.read(top, bottom, *window[2:])[..., plane.sample]
            first = values.flat[0] if first is None else first
            if (values != first).any():
                return False
        full = np.iinfo(reader.dtype).max if reader.dtype.kind in "ui" else 1
        if first == full:
            return True  # opaque here: it makes no difference
    return True


def _lay_over_white(
    rows: NDArray[np.uint8], share: NDArray[np.float32], *, premultiplied: bool
) -> None:
    opacity = share[..., None]
    shown = rows if premultiplied else rows * opacity
    rows[...] = np.clip(np.rint(shown + 255 * (1 - opacity)), 0, 255).astype(np.uint8)


def parts(picture: Picture) -> Parts:
    """The numbers of all channels, for measuring, in parts of multiples of 8 rows."""
    height, width = picture.stored
    plain = replace(picture, alpha=None)
    left = [np.empty((0, width), picture.dtype) for _ in picture.planes]
    for top, bottom in bands(picture.planes[0].reader, (0, height, 0, width)):
        strip = _strip(plain, (top, bottom, 0, width))
        first = top - len(left[0])
        if len(left[0]):
            strip = [np.concatenate(pair) for pair in zip(left, strip, strict=True)]
        end = len(strip[0]) if bottom == height else len(strip[0]) // 8 * 8
        for part in chunks(strip[0][:end]):
            yield first + part.start, [values[:end][part] for values in strip]
        left = [values[end:].copy() for values in strip]


def _former_ranges(picture: Picture) -> list[Range]:
    """Between percentiles, as it was before ranges were recorded; colours share one."""
    channels = range(len(picture.planes))
    if picture.kind == "composite":
        return [_percentiles(picture, [channel]) for channel in channels]
    return [_percentiles(picture, list(channels))]


def _percentiles(picture: Picture, channels: Sequence[int]) -> Range:
    height, width = picture.stored
    step = max(1, int((height * width * len(channels) / _SAMPLE) ** 0.5))
    sample = np.empty(-(-height // step) * -(-width // step) * len(channels))
    count = 0
    for channel in channels:
        for part in _grid(picture.planes[channel], step):
            sample[count : count + part.size] = part
            count += part.size
    if not count:
        return 0.0, 0.0
    low, high = np.percentile(sample[:count], _PERCENTILES, overwrite_input=True)
    if high <= low:  # all but a few pixels are equal: let those few be seen
        low, high = sample[:count].min(), sample[:count].max()
    return float(low), float(high)


def _grid(plane: Plane, step: int) -> Iterator[NDArray[Any]]:
    """Finite numbers of every `step`-th row and column."""
    reader: Reader = plane.reader
    for top, bottom in bands(reader, (0, reader.height, 0, reader.width)):
        rows = reader.read(top, bottom, 0, reader.width)[-top % step :: step, ::step, plane.sample]
        yield rows[np.isfinite(rows)]


def _stored_box(box: Box, picture: Picture) -> Box:
    """The rows and columns, as stored, of a box of the upright picture."""
    y0, y1, x0, x1 = box
    height, width = picture.size
    turn = picture.orientation
    if turn in {2, 3, 6, 7}:
        x0, x1 = width - x1, width - x0
    if turn in {3, 4, 7, 8}:
        y0, y1 = height - y1, height - y0
    return (x0, x1, y0, y1) if turn in {5, 6, 7, 8} else (y0, y1, x0, x1)


def _upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn it as the tag says (EXIF 2.32, table 6)."""
    if orientation in {5, 6, 7, 8}:  # rows and columns change places
        rgb = rgb.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        rgb = rgb[::-1]
    if orientation in {2, 3, 6, 7}:
        rgb = rgb[:, ::-1]
    return np.require(rgb, np.uint8, "C")
