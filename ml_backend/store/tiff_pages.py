"""A page of a TIFF read by strips, tiles or rows, whatever its compression."""

from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from ml_backend.errors import ImageUnreadable
from ml_backend.store.readers import RawReader, Reader, check_size

SEPARATE = tifffile.PLANARCONFIG.SEPARATE


class SegmentReader:
    """A page by its strips or tiles: only those that a window touches are decoded.

    Of planes apart one reader is one plane, with one sample.
    """

    def __init__(self, page: Any, file: BinaryIO, plane: int = 0, depth: int = 0) -> None:
        self._page, self._file, self._plane, self._depth = page, file, plane, depth
        self.height, self.width = page.imagelength, page.imagewidth
        self.samples = 1 if page.planarconfig == SEPARATE else page.samplesperpixel
        self.dtype = np.dtype(page.dtype).newbyteorder("=")
        self._rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, self.height)
        self._columns = page.tilewidth if page.is_tiled else self.width
        self.step = self._rows

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1."""
        out = np.full((y1 - y0, x1 - x0, self.samples), self._page.nodata or 0, self.dtype)
        for row in range(y0 // self._rows, -(-y1 // self._rows)):
            for column in range(x0 // self._columns, -(-x1 // self._columns)):
                segment = self._segment(row, column)
                if segment is not None:
                    top, left = row * self._rows, column * self._columns
                    bottom = min(top + segment.shape[0], y1)
                    right = min(left + segment.shape[1], x1)
                    part = (
                        slice(max(top, y0) - y0, bottom - y0),
                        slice(max(left, x0) - x0, right - x0),
                    )
                    out[part] = segment[
                        max(y0 - top, 0) : bottom - top, max(x0 - left, 0) : right - left
                    ]
        return out

    def _segment(self, row: int, column: int) -> NDArray[Any] | None:
        """(rows, columns, samples) of a strip or tile; None where the file leaves it out."""
        page = self._page
        down, across = -(-self.height // self._rows), -(-self.width // self._columns)
        deep = page.tiledepth if page.is_tiled else 1
        layers = -(-page.imagedepth // deep)
        index = ((self._plane * layers + self._depth // deep) * down + row) * across + column
        count = page.databytecounts[index]
        if not count:
            return None
        self._file.seek(page.dataoffsets[index])
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("it ends before its pixels do")
        options = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}
        header = getattr(page, "jpegheader", None)
        if header is not None:
            options["jpegheader"] = header
        values = page.decode(data, index, **options)[0]
        if values is None:
            return None
        return np.asarray(np.asarray(values)[self._depth % deep])


def page_readers(page: Any, file: BinaryIO, depth: int = 0) -> list[Reader]:
    """One reader of all samples, or one for each where planes lie apart."""
    apart = page.planarconfig == SEPARATE and page.samplesperpixel > 1
    shape = (page.imagelength, page.imagewidth, 1 if apart else page.samplesperpixel)
    planes = range(page.samplesperpixel if apart else 1)
    if not _is_plain(page):
        return [SegmentReader(page, file, plane, depth) for plane in planes]
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    size = int(np.prod(shape)) * dtype.itemsize
    start = page.dataoffsets[0]
    return [
        RawReader(file, start + (plane * page.imagedepth + depth) * size, shape, dtype)
        for plane in planes
    ]


def _is_plain(page: Any) -> bool:
    """Whether all rows lie in the file one after another, as whole numbers of bytes."""
    return bool(
        page.compression == 1
        and not page.is_tiled
        and page.is_contiguous
        and page.predictor == 1
        and page.fillorder == 1
        and page.dtype is not None
        and page.bitspersample == np.dtype(page.dtype).itemsize * 8
        and page.dtype != np.bool_
    )


def check_page(page: Any, name: str, size: int, max_pixels: int) -> None:
    """Refuse a page that is too large, or whose pixels end beyond the file."""
    check_size(name, page.imagelength * page.imagedepth, page.imagewidth, max_pixels)
    if page.dtype is None or np.dtype(page.dtype).kind not in "buif":
        raise ImageUnreadable(
            f"{name} holds {page.dtype or 'numbers of a type'} pixels, which are no picture; "
            "export it as grey or RGB"
        )
    ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > size:
        raise ImageUnreadable(
            f"{name} is truncated: its pixels end at byte {max(ends, default=0)}, the file "
            f"at byte {size}; copy or export it again"
        )
