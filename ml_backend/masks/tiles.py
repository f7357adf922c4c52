"""Cutting images into windows and tiles, and blending windows seamlessly."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class Window(NamedTuple):
    """A rectangle of pixels; `x` and `y` are its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an (H, W, …) array with."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def cut(height: int, width: int, side: int, overlap: int = 0) -> list[Window]:
    """Cover an image with windows of side² pixels, row by row, for inference.

    Neighbours share at least `overlap` px, the last of a row or column more: it is shifted
    inwards, so that all windows are of one size. An image smaller than a window is its own.
    """
    if side < 1 or not 0 <= overlap < side:
        raise ValueError(f"windows of {side} px cannot overlap by {overlap} px")
    rows, columns = _starts(height, side, overlap), _starts(width, side, overlap)
    size = min(side, width), min(side, height)
    return [Window(x, y, *size) for y in rows for x in columns]


def cut_tiles(height: int, width: int, side: int) -> list[Window]:
    """Divide an image into disjoint tiles of about side² pixels, row by row, for a pool.

    Tiles at the right and lower edge are smaller; what would be narrower than side / 4 is
    joined to its neighbour, because nobody can label a sliver.
    """
    if side < 1:
        raise ValueError(f"tiles of {side} px")
    rows, columns = _parts(height, side), _parts(width, side)
    return [Window(x, y, across, down) for y, down in rows for x, across in columns]


def blend(windows: Sequence[Window], values_CHW: Iterable[F32]) -> Iterator[tuple[int, F32]]:
    """Join the values of windows, in the order of `cut`, into finished rows of the whole.

    Yields (y, float32 (channels, rows, width)) from top to bottom, which the caller may change: a
    weighted mean where windows overlap, with weights that fall smoothly to nearly zero at a
    window's edge, so that no seam is visible. Exact where one window covers a pixel and where all
    windows agree. Values are taken as they are needed. What a caller still holds of the rows
    before included, no more than three rows of windows are in memory.
    """
    columns = [window.x for window in windows if window.y == windows[0].y]
    rows = [window.y for window in windows[:: len(columns)]]
    shares = _shares(columns, windows[0].width)
    source = iter(values_CHW)
    top, waiting = 0, _joined(columns, source, shares)
    for y, share in zip(rows[1:], _shares(rows, windows[0].height)[1:], strict=True):
        # copies, since views would keep the whole row of windows alive while the next one is made
        finished, above = waiting[:, : y - top].copy(), waiting[:, y - top :].copy()
        del waiting
        yield top, finished
        del finished
        top, waiting = y, _joined(columns, source, shares)
        _merge(waiting, above, share)
    yield top, waiting


def _merge(strip: F32, above: F32, share: F32) -> None:
    """Blend what the row of windows above says into the upper rows of `strip`, in place."""
    shared = above.shape[1]
    new = strip[:, :shared]
    new -= above
    new *= share[:shared, None]
    new += above


def _joined(columns: Sequence[int], source: Iterator[F32], shares: Sequence[F32]) -> F32:
    """One row of windows side by side, float32 (channels, height of a window, width)."""
    first = next(source)
    strip = np.empty((*first.shape[:2], columns[-1] + first.shape[2]), np.float32)
    end = 0
    for x, share, values in zip(columns, shares, chain([first], source), strict=False):
        shared = end - x if x else 0
        old, new = strip[:, :, x:end], values[:, :, :shared]
        old += (new - old) * share[:shared]
        strip[:, :, end : x + values.shape[2]] = values[:, :, shared:]
        end = x + values.shape[2]
    return strip


def _starts(length: int, side: int, overlap: int) -> list[int]:
    last = max(length - side, 0)
    return [*range(0, last, side - overlap), last]


def _parts(length: int, side: int) -> list[tuple[int, int]]:
    """Starts and lengths of the parts of an edge."""
    starts = list(range(0, length, side))
    if len(starts) > 1 and 4 * (length - starts[-1]) < side:
        starts.pop()
    return [(a, b - a) for a, b in zip(starts, [*starts[1:], length], strict=True)]


def _shares(starts: Sequence[int], length: int) -> list[F32]:
    """How much each window of a row or column counts against those before it, pixel by pixel.

    The weight of a window is the product of its shares along and across, so that a running mean
    may be taken one way first and then the other.
    """
    total = np.zeros(starts[-1] + length, np.float32)
    found = []
    for start in starts:
        total[start : start + length] += _taper(length)
        found.append(_taper(length) / total[start : start + length])
    return found


@cache
def _taper(length: int) -> NDArray[np.float32]:
    """Hann window, sampled between its zeros: positive everywhere."""
    phase = (np.arange(length) + 0.5) * (np.pi / length)
    return np.asarray(np.sin(phase) ** 2, np.float32)
