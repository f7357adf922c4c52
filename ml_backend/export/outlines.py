"""Masks → one closed outline an instance, holes included, for readers that fill polygons.

The outline runs through the centres of the border pixels, as `cv2.findContours` has it, so
`cv2.fillPoly`, which paints the outline too, returns the mask exactly. A hole is joined to the
outline by a cut: a straight line through the instance, walked there and back.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.int64]


@dataclass(frozen=True)
class Outline:
    """`points`: (N, 2) int64, x and y of pixels, N ≥ 3; `holes`: how many were joined by cuts."""

    points: Points
    holes: int


@dataclass
class _Border:
    """One closed border of a component: its pixels, and the holes' borders cut to them."""

    points: Points
    cuts: dict[int, list[tuple["_Border", int]]] = field(default_factory=dict)


def outlines(mask: NDArray[np.bool_]) -> list[Outline]:
    """Outline the 8-connected components of an (H, W) mask, ordered by their first pixel."""
    borders, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not borders:
        return []
    parents = tree[0, :, 3]
    points = [border[:, 0].astype(np.int64) for border in borders]
    holes_of: dict[int, list[Points]] = {}
    for number in np.flatnonzero(parents >= 0).tolist():
        holes_of.setdefault(int(parents[number]), []).append(points[number])
    found = []
    for number in np.flatnonzero(parents < 0).tolist():
        holes = holes_of.get(number, [])
        whole = _joined(points[number], holes, mask)
        found.append(Outline(_without_waypoints(whole), len(holes)))
    return sorted(found, key=lambda outline: _first(outline.points))


def _first(points: Points) -> tuple[int, int]:
    """The first pixel in raster order: its y and x."""
    x, y = points[np.lexsort((points[:, 0], points[:, 1]))[0]]
    return int(y), int(x)


def _joined(outer: Points, holes: list[Points], mask: NDArray[np.bool_]) -> Points:
    """The outer border with every hole's border cut to it."""
    if not holes:
        return outer
    width = mask.shape[1]
    root = _Border(outer)
    borders = [root, *(_Border(points) for points in holes)]
    starts = [_left_of_hole(border.points, mask) for border in borders[1:]]
    order = np.lexsort(([x for x, _, _ in starts], [y for _, y, _ in starts]))
    places = _Places(width)
    places.add(root)
    # What a cut to the left meets begins higher, or in its row further left: it is placed by now
    for index in order.tolist():
        (x, y, start), hole = starts[index], borders[index + 1]
        row = mask[y, : x + 1][::-1]
        length = int(np.argmin(row)) if not row.all() else x + 1
        target, at = places.find((y * width) + x - length + 1)
        target.cuts.setdefault(at, []).append((hole, start))
        places.add(hole)
    return _walk(root)


def _left_of_hole(points: Points, mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """The border's first pixel in the hole's top row with none of the instance to its right.

    Returns its x and y, and its place in the border. The first border pixels lie above the hole.
    """
    x, y = points.T
    places = np.flatnonzero((y == y.min() + 1) & (x + 1 < mask.shape[1]))
    places = places[~mask[y[places], x[places] + 1]]
    chosen = places[np.argmin(x[places])]
    return int(x[chosen]), int(y[chosen]), int(chosen)


class _Places:
    """Finds the border, among those joined so far, that a pixel belongs to."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._found: dict[int, tuple[_Border, int]] = {}

    def add(self, border: _Border) -> None:
        """Enter the pixels of a border that has been joined."""
        keys = (border.points[:, 1] * self._width + border.points[:, 0]).tolist()
        for at, key in enumerate(keys):
            self._found.setdefault(key, (border, at))

    def find(self, key: int) -> tuple[_Border, int]:
        """The border and the place in it of pixel y · width + x."""
        return self._found[key]


def _walk(root: _Border) -> Points:
    """Every border once around, with an excursion along each cut; no recursion, cuts nest."""
    pieces: list[Points] = []
    todo: list[tuple[_Border, int, int, int]] = [(root, 0, 0, 0)]  # border, start, step, cut
    while todo:
        border, start, step, cut = todo.pop()
        size = len(border.points)
        while step < size:
            at = (start + step) % size
            cuts = border.cuts.get(at, [])
            pieces.append(border.points[at : at + 1])
            if cut < len(cuts):
                hole, begin = cuts[cut]
                todo += [(border, start, step, cut + 1), (hole, begin, 0, 0)]
                break
            cut, step = 0, step + 1
        else:
            if start or border is not root:
                pieces.append(border.points[start : start + 1])
    return np.concatenate(pieces)


def _without_waypoints(points: Points) -> Points:
    """Leave out the points that lie straight between their neighbours; keep three at least."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = (np.sign(before) != np.sign(after)).any(axis=1)
    turns |= before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    kept = points[turns] if turns.any() else points[:1]
    return np.concatenate([kept, np.repeat(kept[-1:], max(0, 3 - len(kept)), axis=0)])
