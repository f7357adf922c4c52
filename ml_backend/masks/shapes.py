"""Polygons, rectangles and ellipses → the pixels that they cover.

A pixel belongs to a shape if its centre, half a pixel from its edges, is inside. A centre
that lies on an edge belongs to the shape on its right, or below it where the edge is level,
as in a browser's canvas: shapes that share an edge share no pixel and leave no gap. Inside a
polygon that crosses itself is what a canvas fills by default: where its edges wind around
(the nonzero rule). Coordinates are in pixels, y down, the image's top left corner is (0, 0).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CROSSINGS = 1 << 20  # how many crossings of edges and rows are held at a time
_THIN = 1e-6  # an ellipse of a smaller radius, in pixels, covers nothing


class Patch(NamedTuple):
    """The part of an image that a shape touches, and its pixels there: (rows, columns) bool."""

    rows: slice
    columns: slice
    mask: NDArray[np.bool_]


def polygon(points_N2: NDArray[np.float64], height: int, width: int) -> Patch:
    """Fill a polygon: (N, 2) corners x, y, the last joined to the first.

    What lies outside the image is cut off; fewer than three corners cover nothing.
    """
    rows = _between(points_N2[:, 1], height)
    columns = _between(points_N2[:, 0], width)
    ends_N2 = np.roll(points_N2, -1, axis=0)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    turns = np.zeros((shape[0], shape[1] + 1), np.int32)
    step = max(1, _CROSSINGS // max(1, shape[0]))
    for start in range(0, len(points_N2), step):
        edges = slice(start, start + step)
        _count_turns(points_N2[edges], ends_N2[edges], rows, columns, turns)
    np.cumsum(turns, axis=1, out=turns)
    return Patch(rows, columns, turns[:, :-1] != 0)


def rectangle(
    x: float, y: float, breadth: float, depth: float, degrees: float, height: int, width: int
) -> Patch:
    """Fill a rectangle turned clockwise about its corner (x, y), the top left one before."""
    cos, sin = _turn(degrees)
    across, down = np.array([cos, sin]) * breadth, np.array([-sin, cos]) * depth
    corner = np.array([x, y])
    return polygon(
        np.array([corner, corner + across, corner + across + down, corner + down]), height, width
    )


def ellipse(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float, height: int, width: int
) -> Patch:
    """Fill an ellipse about (x, y), turned clockwise; centres on its edge are inside.

    A radius below zero is as long as one above: Label Studio writes it of an ellipse that was
    pulled by a handle through itself.
    """
    radius_x, radius_y = abs(radius_x), abs(radius_y)
    cos, sin = _turn(degrees)
    reach = np.hypot([radius_x * cos, radius_x * sin], [radius_y * sin, radius_y * cos])
    rows = _between(np.array([y - reach[1], y + reach[1]]), height)
    columns = _between(np.array([x - reach[0], x + reach[0]]), width)
    if min(radius_x, radius_y) < _THIN:
        return Patch(slice(0, 0), slice(0, 0), np.zeros((0, 0), bool))
    # Each row's chord: where (u / rx)² + (v / ry)² <= 1 for the turned offsets u, v, a quadratic
    # inequality a dx² + 2 b dx + c <= 0 in the offset from the centre along the row.
    dy = np.arange(rows.start, rows.stop)[:, None] + 0.5 - y
    a = (cos / radius_x) ** 2 + (sin / radius_y) ** 2
    b = dy * cos * sin * (radius_x**-2 - radius_y**-2)
    left = a - (dy / (radius_x * radius_y)) ** 2  # b² - a c, without the cancellation
    half = np.sqrt(np.maximum(left, 0)) / a
    dx = np.arange(columns.start, columns.stop) + 0.5 - x
    inside = (dx >= -b / a - half) & (dx <= -b / a + half) & (left >= 0)
    return Patch(rows, columns, inside)


def _turn(degrees: float) -> tuple[float, float]:
    """Return cosine and sine, exact at quarter turns so that pixel edges stay pixel edges."""
    quarters, rest = divmod(degrees, 90.0)
    if rest == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _between(values: NDArray[np.float64], size: int) -> slice:
    """Return the pixels of 0..size-1 between the least and the greatest of the coordinates."""
    if not values.size:
        return slice(0, 0)
    start, stop = np.clip([np.floor(values.min()), np.ceil(values.max())], 0, size)
    return slice(int(start), int(stop))


def _count_turns(
    starts_N2: NDArray[np.float64],
    ends_N2: NDArray[np.float64],
    rows: slice,
    columns: slice,
    turns: NDArray[np.int32],
) -> None:
    """Add each edge's turn (±1), in every row it crosses, at the first pixel right of it."""
    # From top to bottom always, so that shapes which share an edge agree where it runs.
    falls = (ends_N2[:, 1] > starts_N2[:, 1])[:, None]
    x0, y0 = np.where(falls, starts_N2, ends_N2).T
    x1, y1 = np.where(falls, ends_N2, starts_N2).T
    # The rows whose centres an edge passes: the upper end counts, the lower does not.
    first = np.clip(np.ceil(y0 - 0.5), rows.start, rows.stop).astype(np.int64)
    last = np.clip(np.ceil(y1 - 0.5), rows.start, rows.stop).astype(np.int64)
    counts = last - first
    edge = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    row = np.arange(len(edge)) - before[edge] + first[edge]
    slope = (x1 - x0)[edge] * (row + 0.5 - y0[edge]) / (y1 - y0)[edge]
    column = np.ceil(x0[edge] + slope - 0.5)
    column = np.clip(column, columns.start, columns.stop).astype(np.int64)
    direction = np.where(falls[:, 0], 1, -1)[edge]
    np.add.at(turns, (row - rows.start, column - columns.start), direction)
