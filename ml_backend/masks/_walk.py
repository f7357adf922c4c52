"""The decoder's inner loop, in the subset of Python that numba compiles.

Without numba the same source runs as it stands: the same result, only slower.
"""

from collections.abc import Callable
from typing import Any

HEADER_BITS = 53  # 32 count, 5 word size, four times 4 run size
PADDING = 8  # zero bytes behind a stream, so that a 40-bit window never leaves it
WHOLE, TRUNCATED, OVERFULL = 0, 1, 2


def make_walk(natural: Callable[[int], Any]) -> Callable[..., int]:
    """Return `walk_blocks`, whose places in the stream are made by `natural`.

    `int`, or numba's unsigned type: an index that may be negative counts from the end in Python,
    and the test for that costs the compiled walk a tenth of its time.
    """

    def walk_blocks(data: Any, alpha: Any, sizes: Any, count: int, bits: int) -> int:
        """Write the alpha plane of a brush stream.

        `data`: stream bytes plus `PADDING` zeros; `alpha`: uint8, `count` / 4 long, all of it
        written where the stream is `WHOLE`: whoever allocates it need not zero it first;
        `sizes`: the four bit sizes of run lengths; `bits`: length of the stream.
        Returns `WHOLE`, `TRUNCATED` or `OVERFULL` (a block passes the end of the image).
        """
        position = HEADER_BITS
        start = 0
        while start < count:
            if position >= bits:
                return TRUNCATED
            at = natural(position >> 3)
            window = (
                (int(data[at]) << 32)
                | (int(data[at + natural(1)]) << 24)
                | (int(data[at + natural(2)]) << 16)
                | (int(data[at + natural(3)]) << 8)
                | int(data[at + natural(4)])
            )
            spare = 37 - (position & 7)  # bits of the window behind the flag and the size index
            is_run = (window >> (spare + 2)) & 1
            size = sizes[(window >> spare) & 3]
            spare -= size
            stop = start + ((window >> spare) & ((1 << size) - 1)) + 1
            position += 3 + size
            values = 1 if is_run else stop - start
            if position + 8 * values > bits:
                return TRUNCATED
            if stop > count:
                return OVERFULL
            # Pixel k's alpha is value 4k + 3 of the RGBA stream, so a block that spans
            # [start, stop) holds the alpha of the pixels [start // 4, stop // 4).
            if is_run:
                alpha[start >> 2 : stop >> 2] = (window >> (spare - 8)) & 255
            else:
                for k in range(start >> 2, stop >> 2):
                    bit = position + 8 * (4 * k + 3 - start)
                    at = natural(bit >> 3)
                    pair = (int(data[at]) << 8) | int(data[at + natural(1)])
                    alpha[k] = (pair >> (8 - (bit & 7))) & 255
            position += 8 * values
            start = stop
        return WHOLE

    return walk_blocks
