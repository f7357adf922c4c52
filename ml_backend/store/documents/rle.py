"""COCO's run lengths → masks: background and object in turn, column by column.

Compressed, each number is written in characters of 5 bits, the lowest first (less 48; bit 5
says that more follow, bit 4 of the last is the sign), and from the fourth number on it is the
difference to the one two places before it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import RegionError

_MOST_CHARACTERS = 7  # of a number: 35 bits


def decode_rle(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Read `{"size": [height, width], "counts": …}` as (H, W) bool. Raises `RegionError`."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise RegionError(f"an RLE of size {size} lies on an image of {[height, width]}")
    if isinstance(counts, str):
        runs = _expand(counts)
    elif isinstance(counts, list) and all(type(run) is int and 0 <= run < 2**48 for run in counts):
        runs = np.array(counts, np.int64)
    else:
        raise RegionError("the counts of an RLE are neither text nor whole numbers")
    if (runs < 0).any() or (runs > height * width).any() or runs.sum() != height * width:
        raise RegionError(
            f"the runs of an RLE are {int(runs.sum())} px long, its image has {height * width}"
        )
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _expand(text: str) -> NDArray[np.int64]:
    """The numbers of a compressed RLE."""
    try:
        codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        codes = np.array([-1])
    ends = np.flatnonzero(codes & 32 == 0)
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise RegionError("the counts of an RLE are damaged")
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if lengths.max() > _MOST_CHARACTERS:
        raise RegionError("the counts of an RLE are damaged")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    is_negative = codes[ends] & 16 > 0
    numbers -= np.where(is_negative, np.int64(1) << (5 * lengths), 0)
    # From the fourth on they are differences: 2nd, 4th, 6th …, and 3rd, 5th, 7th … add up
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
