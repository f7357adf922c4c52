"""Arrays over files on the disk that may be cut short while they are read.

A page of a mapped file that is no longer there does not raise: the system ends the process
(SIGBUS), and a worker with it. So the file's length is looked at each time a part is taken.
"""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ml_backend.errors import ImageUnreadable
from ml_backend.store.readers import MAX_PIXELS

_MAPPED = {
    (tifffile.PHOTOMETRIC.MINISBLACK, 1, tifffile.PLANARCONFIG.CONTIG),
    (tifffile.PHOTOMETRIC.RGB, 3, tifffile.PLANARCONFIG.CONTIG),
}
_ORIENTATION = 274


class Watched(np.memmap[Any, np.dtype[np.uint8]]):
    """A memory map whose parts are given only while the file is as long as it was when mapped.

    Raises `ImageUnreadable` instead. A file that is replaced by renaming is no danger: the map
    keeps the former one. What is left is the moment between a part's being taken and read.
    """

    _mmap: mmap.mmap | None  # numpy's; None where an array is no longer the file's memory

    def __getitem__(self, index: Any) -> Any:
        """Take a part, as of any array."""
        if self._mmap is not None:
            begin = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
            expected, found = begin + len(self._mmap), self._mmap.size()
            if found < expected:
                raise ImageUnreadable(
                    f"{self.filename} was cut short while it was read: its pixels end at byte "
                    f"{expected}, the file at byte {found}; copy or export it again"
                )
        return super().__getitem__(index)


def watched(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same memory map, watched; what is no memory map is returned as it is."""
    return values.view(Watched) if isinstance(values, np.memmap) else values


def map_tiff(path: Path, at_least: int, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8, read-only, of an uncompressed 8-bit TIFF where it lies on the disk.

    Only its pages that are looked at are read. Grey is shown as three channels without being
    copied. None for any other file, one of less than `at_least` bytes, and one to be refused, such
    as a file that ends before its pixels do. One that is cut short later raises `ImageUnreadable`
    where a part is taken of the array.
    """
    if path.stat().st_size < at_least:
        return None
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            page: Any = file.pages.first
            tag = page.tags.get(_ORIENTATION)
            plain = page.is_memmappable and page.dtype == np.uint8 and page.imagedepth == 1
            kind = page.photometric, page.samplesperpixel, page.planarconfig
            ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if (
                not plain
                or len(file.pages) > 1
                or file.is_imagej
                or file.is_ome
                or kind not in _MAPPED
                or (tag is not None and tag.value != 1)
                or page.imagelength * page.imagewidth > max_pixels
                or max(ends, default=0) > path.stat().st_size
            ):
                return None
            values = watched(tifffile.memmap(path, page=0, mode="r"))
    except (OSError, ValueError, tifffile.TiffFileError):
        return None  # decoding says what is wrong with it
    if values.ndim == 2:
        return np.broadcast_to(values[..., None], (*values.shape, 3), subok=True)
    return values
