"""Masks → polygons along the edges of their pixels, exact in area and in every pixel."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Which of the 16 fillings of a point's four pixels (1 top left, 2 top right, 4 low left, 8 low
# right) bend an outline: an odd number of pixels, or two that touch by their corners
_IS_CORNER = np.isin(np.arange(16), [1, 2, 4, 6, 7, 8, 9, 11, 13, 14])


@dataclass(frozen=True)
class Ring:
    """A closed outline; the last point joins the first.

    `points`: (N, 2) int64, x and y of the corners in px, 0..W and 0..H; neighbours differ in
    one of them. `is_hole`: what lies inside is not of the mask.
    """

    points: NDArray[np.int64]
    is_hole: bool


def rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """The outlines of an (H, W) mask's 4-connected parts, by their first corner in raster order.

    Where two pixels touch at a corner, the outlines part there; so whatever only such corners
    enclose is no hole.
    """
    ys, xs, has_right, has_down = _corners(mask)
    # Along a line of the grid, edges lie between the 1st and 2nd corner, the 3rd and 4th, …. Two
    # outlines that touch meet in one point: there the edge that ends comes before the next.
    across = _partners(np.lexsort((has_right, xs, ys)))
    down = _partners(np.lexsort((has_down, ys, xs)))
    found = []
    for cycle in _cycles(across, down):
        points_N2 = np.stack([xs[cycle], ys[cycle]], axis=1)
        # From a ring's first corner the edges lead right and down, around this pixel
        x, y = points_N2[0]
        found.append(Ring(points_N2, is_hole=not mask[y, x]))
    return found


def _corners(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """Every corner's y and x, and whether its horizontal edge lies right, its vertical below."""
    around = np.pad(mask, 1).view(np.uint8)
    code = around[:-1, :-1] + (around[:-1, 1:] << 1)
    code += (around[1:, :-1] << 2) + (around[1:, 1:] << 3)
    y, x = np.nonzero(_IS_CORNER[code])
    top_left, top_right, low_left, low_right = ((code[y, x] >> bit) & 1 for bit in range(4))
    right, down = top_right != low_right, low_left != low_right
    # Two corners in one point: the upper pixel's has its vertical edge above, the other's below
    touch = (top_left == low_right) & (top_right == low_left)
    lower = top_left[touch].astype(np.bool_)  # one pixel lies top left, the other low right
    right[touch], down[touch] = ~lower, False
    found = (
        np.concatenate([y, y[touch]]),
        np.concatenate([x, x[touch]]),
        np.concatenate([right, lower]).astype(np.int64),
        np.concatenate([down, np.ones_like(lower)]).astype(np.int64),
    )
    order = np.lexsort((found[3], found[1], found[0]))
    return tuple(values[order] for values in found)


def _partners(order: NDArray[np.int64]) -> list[int]:
    """For each corner the one at the other end of its edge."""
    partner = np.empty(len(order), np.int64)
    partner[order[0::2]] = order[1::2]
    partner[order[1::2]] = order[0::2]
    return partner.tolist()


def _cycles(across: list[int], down: list[int]) -> Iterator[list[int]]:
    """Follow edges, horizontal and vertical in turn, until all corners are used."""
    used = bytearray(len(across))
    for start in range(len(across)):
        cycle: list[int] = []
        corner = start
        while not used[corner]:
            after = across[corner]
            cycle += (corner, after)
            used[corner] = used[after] = 1
            corner = down[after]
        if cycle:
            yield cycle
