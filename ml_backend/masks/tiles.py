"""Cutting images into windows and tiles, and blending windows seamlessly."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


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


class Blend:
    """Weighted mean of overlapping windows; memory is that of the image, not of the windows.

    Weights fall smoothly to nearly zero at a window's edge, so no seam is visible. The mean is
    kept up to date with every window, which makes it exact where one window covers a pixel and
    where all windows agree.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        self._mean = np.zeros((channels, height, width), np.float32)
        self._weight = np.zeros((height, width), np.float32)

    def add(self, window: Window, values_CHW: NDArray[np.float32]) -> None:
        """Add a window's values, float32 (channels, window.height, window.width)."""
        weight = np.outer(_taper(window.height), _taper(window.width))
        total = self._weight[window.slices]
        total += weight
        mean = self._mean[:, *window.slices]
        mean += (values_CHW - mean) * (weight / total)

    def result(self) -> NDArray[np.float32]:
        """Return the mean, float32 (channels, height, width). Every pixel must be covered."""
        if not self._weight.all():
            raise ValueError(f"{np.sum(self._weight == 0)} pixels are covered by no window")
        return self._mean


def _starts(length: int, side: int, overlap: int) -> list[int]:
    last = max(length - side, 0)
    return [*range(0, last, side - overlap), last]


def _parts(length: int, side: int) -> list[tuple[int, int]]:
    """Starts and lengths of the parts of an edge."""
    starts = list(range(0, length, side))
    if len(starts) > 1 and 4 * (length - starts[-1]) < side:
        starts.pop()
    return [(a, b - a) for a, b in zip(starts, [*starts[1:], length], strict=True)]


@cache
def _taper(length: int) -> NDArray[np.float32]:
    """Hann window, sampled between its zeros: positive everywhere."""
    phase = (np.arange(length) + 0.5) * (np.pi / length)
    return np.asarray(np.sin(phase) ** 2, np.float32)
