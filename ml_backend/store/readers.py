"""Numbers of a picture read by rows, so that a large one is never in memory in its own type."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ImageUnreadable

Source = bytes | Path | BinaryIO
"""What a file is given as: its bytes, its path, or open and seekable."""

MAX_PIXELS = 2**29
"""Larger pictures are refused: 537 megapixels, 1.6 GB once decoded to RGB."""

_CHUNK = 2**18  # pixels that are worked on at once


def open_source(source: Source) -> AbstractContextManager[BinaryIO]:
    """Open what a file is given as, at its beginning; a file that was open stays so."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, Path):
        return source.open("rb")
    source.seek(0)
    return nullcontext(source)


def check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture of too many pixels, before any is decoded."""
    if height * width > max_pixels:
        raise ImageUnreadable(
            f"{name} says it is {width} x {height} px, more than the limit of {max_pixels:,} "
            "pixels; cut it into smaller images"
        )


class Reader(Protocol):
    """Rows of numbers; `step` rows are decoded together, as a strip or a row of tiles is."""

    height: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    step: int

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1: (h, w, samples), in native byte order."""
        ...


class ArrayReader:
    """Numbers that are in memory already: (H, W) or (H, W, samples)."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values if values.ndim == 3 else values[..., None]
        self.height, self.width, self.samples = self.values.shape
        self.dtype = values.dtype.newbyteorder("=")
        self.step = max(1, _CHUNK // max(1, self.width))

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1."""
        return self.values[y0:y1, x0:x1].astype(self.dtype, copy=False)


class RawReader:
    """Uncompressed numbers of a file, all in one piece from `offset` on."""

    def __init__(
        self, file: BinaryIO, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> None:
        self._file, self._offset, self._stored = file, offset, dtype
        self.height, self.width, self.samples = shape
        self.dtype = dtype.newbyteorder("=")
        self.step = max(1, _CHUNK // max(1, self.width))

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1; of a narrow window only its own bytes."""
        row, column = self.width * self.samples, self.samples * self._stored.itemsize
        if (x1 - x0) * 4 > self.width:
            values = self._numbers(y0 * self.width * column, (y1 - y0) * row)
            values = values.reshape(y1 - y0, self.width, self.samples)[:, x0:x1]
        else:
            rows = [
                self._numbers((y * self.width + x0) * column, (x1 - x0) * self.samples)
                for y in range(y0, y1)
            ]
            values = np.stack(rows).reshape(y1 - y0, x1 - x0, self.samples)
        return values.astype(self.dtype, copy=False)

    def _numbers(self, start: int, count: int) -> NDArray[Any]:
        self._file.seek(self._offset + start)
        data = self._file.read(count * self._stored.itemsize)
        if len(data) < count * self._stored.itemsize:
            raise ValueError("it ends before its pixels do")
        return np.frombuffer(data, self._stored)


class ConvertedReader:
    """Rows of another reader, changed by a function of (h, w, samples)."""

    def __init__(
        self,
        inner: Reader,
        convert: Callable[[NDArray[Any]], NDArray[Any]],
        samples: int,
        dtype: Any = np.uint8,
    ) -> None:
        self._inner, self._convert = inner, convert
        self.height, self.width, self.step = inner.height, inner.width, inner.step
        self.samples, self.dtype = samples, np.dtype(dtype)

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1, changed."""
        values = self._inner.read(y0, y1, x0, x1)
        rows = max(1, _CHUNK // max(1, x1 - x0))
        if len(values) <= rows:
            return self._convert(values)
        out = np.empty((*values.shape[:2], self.samples), self.dtype)
        for start in range(0, len(values), rows):
            out[start : start + rows] = self._convert(values[start : start + rows])
        return out


class ProjectedReader:
    """The largest or the mean of several readers of one shape, pixel by pixel."""

    def __init__(self, inner: Sequence[Reader], how: str) -> None:
        self._inner, self._how = inner, how
        first = inner[0]
        shapes = {(one.height, one.width, one.samples, one.dtype) for one in inner}
        if len(shapes) > 1:
            raise ValueError("its planes differ in size or type and have no projection")
        self.height, self.width, self.samples = first.height, first.width, first.samples
        self.step = first.step
        self.dtype = np.dtype(np.float32) if how == "mean" else first.dtype

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1, of all planes."""
        total = self._inner[0].read(y0, y1, x0, x1)
        total = total.astype(np.float32) if self._how == "mean" else total.copy()
        for one in self._inner[1:]:
            values = one.read(y0, y1, x0, x1)
            if self._how == "mean":
                total += values
            else:
                np.fmax(total, values, out=total)
        return total / np.float32(len(self._inner)) if self._how == "mean" else total


@dataclass(frozen=True)
class Plane:
    """One channel of a picture: a sample of a reader."""

    reader: Reader
    sample: int = 0


def bands(reader: Reader, window: tuple[int, int, int, int]) -> Iterator[tuple[int, int]]:
    """Row ranges that cover a window (y0, y1, x0, x1), ending where strips end."""
    y, end = window[:2]
    step = max(1, reader.step)
    rows = max(1, _CHUNK // max(1, reader.width) // step) * step
    while y < end:
        following = min(end, (y // step) * step + rows)
        yield y, following
        y = following


def chunks(values: NDArray[Any]) -> Iterator[slice]:
    """Parts of (h, w, …) values small enough for numbers of eight bytes each, 8 rows at least."""
    rows = max(8, _CHUNK // max(1, values.shape[1]) // 8 * 8)
    for start in range(0, values.shape[0], rows):
        yield slice(start, start + rows)
