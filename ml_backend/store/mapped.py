"""Arrays over files on the disk that may be cut short while they are read.

A page of a mapped file that is no longer there does not raise: the system ends the process
(SIGBUS), and a worker with it. So the file's length is looked at each time a part is taken.
"""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ImageUnreadable


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
