"""A PNG of 16 bits a sample read by rows: its decoder alone would hold all of them at once.

The rows that are asked for are unpacked and handed to the decoder as a small PNG of their own,
with the row before them on top, because rows may be told by their difference to that one.
"""

import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

PNG = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
_PIECE = 2**16


class DeepPngReader:
    """Rows of a 16-bit PNG that is not interlaced; going back begins again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(16)
        head = file.read(13)
        self._kind = head[9]
        self.width, self.height = (int.from_bytes(head[n : n + 4], "big") for n in (0, 4))
        self.samples = _SAMPLES[self._kind]
        self.dtype = np.dtype(np.uint16)
        self._row = self.width * self.samples * 2
        self.step = max(1, _PIECE * 16 // (self._row + 1))
        self._rewind()

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1."""
        if y0 < self._next:
            self._rewind()
        while self._next < y0:
            self._decode(min(self.step, y0 - self._next))
        out = np.empty((y1 - y0, x1 - x0, self.samples), np.uint16)
        done = 0
        while done < len(out):
            rows = self._decode(min(self.step, len(out) - done))
            out[done : done + len(rows)] = rows[:, x0:x1]
            done += len(rows)
        return out

    def _rewind(self) -> None:
        self._next = 0
        self._before = bytes(self._row)
        self._inflated = bytearray()
        self._pieces = self._inflate()

    def _decode(self, count: int) -> NDArray[np.uint16]:
        """The next rows: (count, width, samples)."""
        size = count * (self._row + 1)
        while len(self._inflated) < size:
            piece = next(self._pieces, None)
            if piece is None:
                raise ValueError("it ends before its pixels do")
            self._inflated += piece
        data = b"\0" + self._before + self._inflated[:size]
        del self._inflated[:size]
        values = np.asarray(imagecodecs.png_decode(self._small(count + 1, data)))
        values = values.reshape(count + 1, self.width, self.samples)
        self._before = values[-1].astype(">u2").tobytes()
        self._next += count
        return values[1:]

    def _small(self, height: int, data: bytes) -> bytes:
        size = self.width.to_bytes(4, "big") + height.to_bytes(4, "big")
        header = size + bytes([16, self._kind, 0, 0, 0])
        packed = zlib.compress(data, level=0)
        return PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")

    def _inflate(self) -> Iterator[bytes]:
        inflater = zlib.decompressobj()
        for packed in _image_data(self._file):
            yield inflater.decompress(packed, _PIECE)
            while inflater.unconsumed_tail:
                yield inflater.decompress(inflater.unconsumed_tail, _PIECE)
        yield inflater.flush()


def _image_data(file: BinaryIO) -> Iterator[bytes]:
    """The packed pixels of all IDAT chunks, in small pieces. Raises `ValueError` if damaged."""
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        length = int.from_bytes(head[:4], "big")
        place += 12 + length
        if head[4:] != b"IDAT":
            continue
        check, start = zlib.crc32(b"IDAT"), file.tell()
        for offset in range(0, length, _PIECE):
            file.seek(start + offset)
            piece = file.read(min(_PIECE, length - offset))
            check = zlib.crc32(piece, check)
            yield piece
        file.seek(start + length)
        if int.from_bytes(file.read(4), "big") != check:
            raise ValueError("its pixels do not have their check sum")


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(kind))
    return len(body).to_bytes(4, "big") + kind + body + check.to_bytes(4, "big")


def is_interlaced(file: BinaryIO) -> bool:
    """Whether the rows of a PNG lie in an order of their own."""
    file.seek(28)
    interlaced = file.read(1) != b"\0"
    file.seek(0, io.SEEK_SET)
    return interlaced
