"""The codec's loops as machine code. Importing this module compiles or loads them.

numba keeps the result beside the source, or in the user's cache folder when that is
read-only, or in `numba.config.CACHE_DIR` when that is set; see `rle.warm_up`.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ml_backend.masks import _walk

_WHOLE = numba.types.int64
_PIXELS = numba.types.Array(numba.types.uint8, 1, "C")
_FROZEN = numba.types.Array(numba.types.uint8, 1, "C", readonly=True)
_WORDS = numba.types.Array(numba.types.uint64, 1, "C", readonly=True)
_SIZES = numba.types.UniTuple(_WHOLE, 4)  # type: ignore[no-untyped-call]
_ENDS = _STATE = numba.types.Array(numba.types.int64, 1, "C")


def _compile(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: compile for fixed types, at once, so that no call ever compiles."""

    def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = result(*arguments)
        try:
            compiled = numba.njit(signature, cache=True, nogil=True)(function)
        except (RuntimeError, OSError):  # nowhere to keep the result, or a full disk
            compiled = numba.njit(signature, nogil=True)(function)
        return compiled  # type: ignore[no-any-return]

    return compile_function


walk_blocks = _compile(_WHOLE, _FROZEN, _PIXELS, _SIZES, _WHOLE, _WHOLE)(
    _walk.make_walk(numba.uint64)
)


@_compile(_WHOLE, _FROZEN, _WHOLE, _ENDS, _WHOLE, _STATE, _PIXELS)
def _write_runs(flat: Any, scale: int, ends: Any, found: int, state: Any, out: Any) -> Any:
    """Write the runs that end (exclusive) at the first `found` of `ends`.

    `state`, carried from call to call: where the next run starts, the next byte of `out`,
    bits not yet written, and how many (below 32).
    """
    start, at, pending, held = state[0], state[1], state[2], state[3]
    for k in range(found):
        left = 4 * (ends[k] - start)
        value = flat[start] * scale
        start = ends[k]
        # The whole run chooses the size even of its last piece, as in the SDK.
        index = (left > 8) + (left > 16) + numba.int64(left > 256)
        size = 3 + numba.int64(left > 8) + 4 * (left > 16) + 8 * (left > 256)
        while left > 0:
            length = min(left, 65536)
            left -= length
            block = ((4 | index) << (size + 8)) | ((length - 1) << 8) | value
            pending = (pending << (11 + size)) | block  # old bits leave at the top
            held += 11 + size
            if held >= 32:
                held -= 32
                for shift in (24, 16, 8, 0):
                    out[at] = (pending >> (held + shift)) & 255
                    at += 1
    state[0], state[1], state[2], state[3] = start, at, pending, held
    return at


@_compile(_WHOLE, _FROZEN, _WORDS, _WHOLE, _WHOLE, _PIXELS)
def write_stream(flat: Any, words: Any, scale: int, header: int, out: Any) -> Any:
    """Write the pixels `flat * scale` as a brush stream, padded as the SDK pads.

    `words`: the first pixels of `flat`, eight to a number; `out`: 1.75 bytes a pixel and 16
    more are always enough. Returns how many bytes of `out` were used.
    """
    ends = np.empty(4096, np.int64)
    found = 0
    state = np.array([0, 4, header, 21])  # the header's first 32 bits are written here
    for k in range(4):
        out[k] = (header >> (45 - 8 * k)) & 255
    value = flat[0]
    for word in range(len(words)):
        if words[word] == numba.uint64(value) * numba.uint64(0x0101010101010101):
            continue
        for k in range(8 * word, 8 * word + 8):
            ends[found] = k  # kept only if a run ends here: no branch to mispredict
            found += flat[k] != value
            value = flat[k]
        if found > 4096 - 32:
            _write_runs(flat, scale, ends, found, state, out)
            found = 0
    for k in range(8 * len(words), len(flat)):
        ends[found] = k
        found += flat[k] != value
        value = flat[k]
    ends[found] = len(flat)
    at = _write_runs(flat, scale, ends, found + 1, state, out)
    pending, held = state[2], state[3]
    while held >= 0:  # even a stream of whole bytes is padded, by one byte
        held -= 8
        out[at] = ((pending >> held) if held >= 0 else (pending << -held)) & 255
        at += 1
    return at
