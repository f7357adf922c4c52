"""Brush format ⇄ mask.

The format is an MSB-first bit stream in a list of bytes (docs/label-studio.md): a header
of 53 bits, then blocks that are runs or literals of the row-major RGBA values of an image,
of which only alpha means anything. Written streams are byte-identical to
`label_studio_sdk.converter.brush.mask2rle`; read are those of browsers as well (literals
of any length, any size table, R ≠ A). The inner loops are compiled by numba; where numba
cannot be imported, numpy and plain Python give the same results.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import MalformedRLE, RegionError
from ml_backend.masks import _walk

_SIZES = (3, 4, 8, 16)
_HEADER_TAIL = (7 << 16) | 0x237F  # word size 8, the four sizes, each less one
_DENSITIES = [2**size / (11 + size) for size in range(17)]  # the most values a bit, by run size
_MAX_PIXELS = (2**32 - 1) // 4  # the count of values is a 32-bit number

Mask = NDArray[np.bool_] | NDArray[np.uint8]
Stream = Sequence[int] | bytes | bytearray | NDArray[np.uint8]


def encode_brush(mask: Mask) -> list[int]:
    """Write a mask in the brush format.

    `mask`: (H, W) bool, or uint8 alpha as it is. Browsers draw alpha as stored, so True is
    written as 255, and so is the 1 of a uint8 mask that knows only 0 and 1: as an alpha it
    would be invisible. Raises RegionError for other shapes and types, and for empty masks.
    """
    return list(encode_array(mask).tobytes())


def encode_array(mask: Mask) -> NDArray[np.uint8]:
    """Write a mask as `encode_brush` does: a 1-d array, which orjson serialises many times faster.

    Its memory peaks at 1.75 bytes a pixel, in the worst case of no two neighbours alike.
    """
    flat, scale = _flat_alpha(mask)
    header = ((4 * flat.size) << 21) | _HEADER_TAIL
    compiled = _compiled()
    if compiled is None:
        return _write_stream(flat * np.uint8(scale), header)
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    out = np.empty(flat.size * 7 // 4 + 16, np.uint8)
    used = compiled.write_stream(flat, words, scale, header, out)
    out.resize(used, refcheck=False)
    return out


def decode_brush(rle: Stream, height: int, width: int) -> NDArray[np.uint8]:
    """Read the alpha of a brush stream: (height, width) uint8, 0..255.

    What follows the last pixel is padding and ignored, as browsers do. Raises MalformedRLE
    for anything that is not a whole stream of that size, before memory is spent on it.
    """
    data = _to_bytes(rle)
    bits = 8 * len(data)
    data += bytes(_walk.PADDING)
    if bits < _walk.HEADER_BITS:
        raise MalformedRLE(f"a brush stream of {bits // 8} bytes is too short for its header")
    header = int.from_bytes(data[:7], "big") >> 3
    count, word = header >> 21, ((header >> 16) & 31) + 1
    sizes = tuple(((header >> shift) & 15) + 1 for shift in (12, 8, 4, 0))
    if height < 1 or width < 1 or count != 4 * height * width:
        raise MalformedRLE(
            f"a brush stream of {count} values is not a mask of {width} x {height} pixels "
            f"({4 * height * width} values)"
        )
    if word != 8:
        raise MalformedRLE(f"a brush stream of {word}-bit values; Label Studio's have 8 bits")
    # The most values that one bit can stand for bounds what the stream can hold, so a few
    # bytes that claim a gigapixel are refused before it is allocated.
    if (bits - _walk.HEADER_BITS) * max(map(_DENSITIES.__getitem__, sizes)) < count:
        raise _broken(_walk.TRUNCATED, bits, count)
    alpha = np.empty(height * width, np.uint8)  # a whole stream writes all of it
    compiled = _compiled()
    if compiled is None:
        state = _walk.make_walk(int)(data, alpha, sizes, count, bits)
    else:
        stream = np.frombuffer(data, np.uint8)
        state = compiled.walk_blocks(stream, alpha, sizes, count, bits)
    if state != _walk.WHOLE:
        raise _broken(state, bits, count)
    return alpha.reshape(height, width)


def warm_up(cache_folder: Path | None = None) -> bool:
    """Compile the codec, or load it compiled, so that no request waits for it (about 1 s).

    Compiled code is kept in `cache_folder`; by default, and where that cannot be made, beside
    the source, or in the user's cache folder where the source is read-only. Returns False where
    numba is missing.
    """
    if cache_folder is not None and not _compiled.cache_info().currsize:
        try:
            from numba import config
        except ImportError:
            return False
        with suppress(OSError):
            cache_folder.mkdir(parents=True, exist_ok=True)
            config.CACHE_DIR = str(cache_folder)  # type: ignore[attr-defined]
    return _compiled() is not None


@cache
def _compiled() -> ModuleType | None:
    """Return the compiled loops, or None where numba cannot be imported."""
    try:
        from ml_backend.masks import _compiled as module
    except ImportError:
        return None
    return module


def _flat_alpha(mask: Mask) -> tuple[NDArray[np.uint8], int]:
    """Return the pixels of a mask in row-major order, and what their values are multiplied by."""
    if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise RegionError(
            f"a mask of shape {mask.shape} and type {mask.dtype} cannot be written as a brush "
            "region: hand in a (height, width) array of bool, or of uint8 alpha"
        )
    if not 0 < mask.size <= _MAX_PIXELS:
        raise RegionError(
            f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels cannot be written as a brush "
            f"region: the format holds 1 to {_MAX_PIXELS} pixels"
        )
    flat = np.ascontiguousarray(mask).reshape(-1).view(np.uint8)
    if flat.ctypes.data % 8:  # a view into the middle of something; eight pixels are one number
        flat = flat.copy()
    is_binary = mask.dtype == np.bool_ or flat.max() == 1
    return flat, 255 if is_binary else 1


def _to_bytes(rle: Stream) -> bytearray:
    """Copy a stream into bytes; the type is checked because `bytearray(n)` allocates n bytes."""
    if isinstance(rle, np.ndarray) and rle.dtype == np.uint8:
        return bytearray(np.ascontiguousarray(rle).data)
    if not isinstance(rle, list | tuple | bytes | bytearray):
        raise MalformedRLE(f"a brush stream is a list of bytes, not {type(rle).__name__}")
    try:
        return bytearray(rle)
    except (TypeError, ValueError) as error:
        raise MalformedRLE(f"a brush stream is a list of numbers 0..255: {error}") from error


def _broken(state: int, bits: int, count: int) -> MalformedRLE:
    """Say what is wrong with a stream of `bits` bits that promised `count` values."""
    if state == _walk.TRUNCATED:
        return MalformedRLE(
            f"a brush stream of {bits // 8} bytes ends before its {count} values are complete"
        )
    return MalformedRLE(f"a brush stream runs past the {count} values its header promises")


def _write_stream(alpha: NDArray[np.uint8], header: int) -> NDArray[np.uint8]:
    """Write a stream with numpy alone: all blocks at once, one bit of each at a time."""
    ends = np.append(np.flatnonzero(alpha[1:] != alpha[:-1]) + 1, alpha.size)
    lengths = 4 * np.diff(ends, prepend=0)
    indices = np.searchsorted([8, 16, 256], lengths)  # chosen by the whole run, as the SDK does
    pieces = (lengths + 65535) // 65536
    last = np.cumsum(pieces) - 1
    remainders = lengths - 65536 * (pieces - 1)
    lengths = np.full(last[-1] + 1, 65536)
    lengths[last] = remainders
    values = np.repeat(alpha[ends - 1], pieces).astype(np.int64)
    indices = np.repeat(indices, pieces)
    sizes = np.asarray(_SIZES)[indices]
    blocks = ((4 | indices) << (sizes + 8)) | ((lengths - 1) << 8) | values
    widths = sizes + 11
    starts = np.cumsum(widths) - widths + _walk.HEADER_BITS
    total = int(starts[-1] + widths[-1])
    bits = np.zeros(total - total % 8 + 8, np.uint8)
    bits[: _walk.HEADER_BITS] = [(header >> k) & 1 for k in range(_walk.HEADER_BITS - 1, -1, -1)]
    for bit in range(int(widths.max())):
        here = widths > bit
        bits[starts[here] + bit] = (blocks[here] >> (widths[here] - 1 - bit)) & 1
    return np.packbits(bits)
