"""Objects that touch, cut apart at their necks.

The distance of a component's pixels to its edge has a hill for every object and a pass at the neck
between two of them. Water rising from the hilltops (a watershed) meets at the passes; a pass that
lies hardly lower than the lower one of its two hills is no neck, and its basins are joined again.
How much lower it must be, in px, is the `neck` of the recipe's `instances`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml_backend.masks.instances import (
    EIGHT,
    NEIGHBOURS,
    Objects,
    Slices,
    components,
    in_raster_order,
    meeting,
)
from ml_backend.recipe import Instances

Bool = NDArray[np.bool_]
Numbers = NDArray[np.int32]


@dataclass(frozen=True)
class Part:
    """The basins of one component: their numbers 1..n in its box, their heights, their passes.

    `passes`: (lower basin, higher basin, height) as rows, the highest pass first, one for every
    two basins that meet.
    """

    number: int
    box: Slices
    basins: Numbers
    heights: NDArray[np.float64]
    passes: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class Basins:
    """A label map's components, and the basins of those that have several."""

    components: Numbers
    labels_of: list[int]
    parts: list[Part]


def objects(label_map: NDArray[np.uint8], settings: Instances) -> Objects:
    """Number the objects of every label 1..N by their first pixel, and give the label of each.

    As `components`, but objects that touch are cut apart, and those below the minimum area are
    left out. Without `settings.enabled` they are the components, all of them.
    """
    if not settings.enabled:
        return components(label_map)
    return joined(find_basins(label_map, settings.smoothing), settings)


def find_basins(label_map: NDArray[np.uint8], smoothing: float) -> Basins:
    """Cut every component wherever it could be; what `joined` takes. `smoothing`: sigma, px."""
    numbers, labels_of = components(label_map)
    parts = []
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        part = _part(number, box, numbers[box] == number, smoothing)
        if part is not None:
            parts.append(part)
    return Basins(numbers, labels_of, parts)


def joined(found: Basins, settings: Instances) -> Objects:
    """Join basins over passes that are no necks; numbers and labels as `objects` gives them."""
    numbers, labels_of = found.components.copy(), list(found.labels_of)
    for part in found.parts if settings.neck is not None else ():
        _, groups = np.unique(_groups(part, settings.neck or 0.0)[1:], return_inverse=True)
        # the first object keeps the component's number, the others follow the last one
        own = np.where(groups == 0, part.number, len(labels_of) + groups).astype(np.int32)
        labels_of += [found.labels_of[part.number - 1]] * int(groups.max())
        inside = part.basins > 0
        numbers[part.box][inside] = own[part.basins[inside] - 1]
    return _without_small(numbers, labels_of, settings.minimum_area)


def _part(number: int, box: Slices, mask: Bool, smoothing: float) -> Part | None:
    """The basins of a component; None where it has but one hill."""
    from skimage.segmentation import watershed  # slow to import

    edge = 1 + ceil(4 * smoothing)  # beyond its own pixels a component is as low as anything
    padded = np.pad(mask, edge)
    heights: NDArray[np.float32] = np.asarray(
        cv2.distanceTransform(padded.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE),
        dtype=np.float32,
    )
    if smoothing:
        heights = ndimage.gaussian_filter(heights, smoothing)
    tops, count = ndimage.label((heights == ndimage.maximum_filter(heights, 3)) & padded, EIGHT)
    if count < 2:
        return None
    basins: Numbers = np.asarray(
        watershed(-heights, tops, mask=padded, connectivity=2),  # type: ignore[no-untyped-call]
        dtype=np.int32,
    )
    inner = np.s_[edge:-edge, edge:-edge]
    basins, heights = basins[inner], heights[inner]
    highest = np.zeros(count + 1)
    np.maximum.at(highest, basins, heights)
    return Part(number, box, basins, highest, tuple(_passes(basins, heights)))


def _passes(basins: Numbers, heights: NDArray[np.floating]) -> Iterator[tuple[int, int, float]]:
    """For every two basins that meet: the highest place at which one gets across."""
    pairs, levels = [], []
    for down, right in NEIGHBOURS:
        here, there = meeting(basins.shape, down, right)
        one, other = basins[here], basins[there]
        meet = (one != other) & (one > 0) & (other > 0)
        pairs.append(np.sort(np.stack([one[meet], other[meet]], axis=1), axis=1))
        levels.append(np.minimum(heights[here][meet], heights[there][meet]))
    rows, level = np.concatenate(pairs), np.concatenate(levels)
    order = np.argsort(-level, kind="stable")
    _, first = np.unique(rows[order], axis=0, return_index=True)
    for index in order[np.sort(first)].tolist():
        yield int(rows[index, 0]), int(rows[index, 1]), float(level[index])


def _groups(part: Part, neck: float) -> NDArray[np.intp]:
    """Basin → the basin that stands for its object; from the highest pass to the lowest."""
    root, heights = list(range(len(part.heights))), part.heights.tolist()

    def find(basin: int) -> int:
        while root[basin] != basin:
            root[basin] = root[root[basin]]
            basin = root[basin]
        return basin

    for one, other, level in part.passes:
        low, high = sorted((find(one), find(other)), key=heights.__getitem__)
        if low != high and heights[low] - level <= neck:
            root[low] = high
    return np.array([find(basin) for basin in root])


def _without_small(numbers: Numbers, labels_of: list[int], minimum_area: int) -> Objects:
    """Leave out small objects and number the others by their first pixel; may change `numbers`."""
    if minimum_area > 1 and labels_of:
        keeps = np.bincount(numbers.ravel(), minlength=len(labels_of) + 1) >= minimum_area
        keeps[0] = False
        renumbered = np.where(keeps, np.cumsum(keeps), 0).astype(np.int32)
        numbers = renumbered[numbers]
        labels_of = [label for label, kept in zip(labels_of, keeps[1:], strict=True) if kept]
    return numbers, in_raster_order(numbers, labels_of)
