"""Label maps → instances: 8-connected components, numbered, one by one, or without specks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml_backend.errors import RegionError
from ml_backend.masks.labels import IGNORE

Bool = NDArray[np.bool_]

_EIGHT = np.ones((3, 3), np.bool_)
_ROWS = 64  # at a time, where numpy would copy the whole array as a larger type


def components(label_map: NDArray[np.uint8]) -> tuple[NDArray[np.int32], list[int]]:
    """Number the 8-connected components of every label 1..N by their first pixel in raster order.

    `label_map`: (H, W) uint8; 0 background, 255 unknown; neither belongs to an instance. Returns
    instances_HW, int32, 0 where there is none, and the label of each number: instance n has
    label `labels_of[n - 1]`. Raises RegionError for arrays that are no label maps.
    """
    if label_map.ndim != 2 or label_map.dtype != np.uint8:
        raise RegionError(
            f"a label map of shape {label_map.shape} and type {label_map.dtype} has no "
            "components; it must be (height, width) uint8"
        )
    instances = np.zeros(label_map.shape, np.int32)
    labels_of: list[int] = []
    present = np.flatnonzero(pixel_counts(label_map)).tolist()
    for label in present:
        if label in {0, IGNORE}:
            continue
        mask = label_map == label
        if not labels_of:  # the usual single label needs no second array
            found = int(ndimage.label(mask, _EIGHT, output=instances))
        else:
            part, found = ndimage.label(mask, _EIGHT)
            np.add(part, len(labels_of), out=instances, where=mask)
        labels_of += [label] * found
    return instances, _in_raster_order(instances, labels_of)


def pixel_counts(label_map: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels of an (H, W) uint8 array have each of the values 0..255: (256,) int64."""
    counts = np.zeros(256, np.int64)
    for row in range(0, len(label_map), _ROWS):
        counts += np.bincount(label_map[row : row + _ROWS].ravel(), minlength=256)
    return counts


def _in_raster_order(instances: NDArray[np.int32], labels_of: list[int]) -> list[int]:
    """Renumber in place by first pixel; return the labels in the new order."""
    flat = instances.reshape(-1)
    # A component's first pixel starts a run, and runs are far fewer than pixels
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    values = flat[np.concatenate([[0], starts])] if flat.size else flat
    numbers, first = np.unique(values, return_index=True)
    in_order = numbers[np.argsort(first)]
    in_order = in_order[in_order > 0]
    if not np.array_equal(in_order, np.arange(1, len(labels_of) + 1)):
        renumbered = np.zeros(len(labels_of) + 1, np.int32)
        renumbered[in_order] = np.arange(1, len(labels_of) + 1)
        for row in range(0, len(instances), _ROWS):
            instances[row : row + _ROWS] = renumbered[instances[row : row + _ROWS]]
    return [labels_of[number - 1] for number in in_order]


def each_component(mask: Bool, minimum_area: int = 0) -> Iterator[Bool]:
    """Take a mask ((H, W) bool) apart: each component as a mask of its own, of the same size.

    Pixels that touch at a corner belong together, so a diagonal stroke of one pixel is one
    object. Components of fewer than `minimum_area` pixels are left out. The array is reused:
    each is valid until the next is asked for. In the order of their first pixels, row by row.
    """
    numbers, _ = _label(mask)
    single = np.zeros_like(mask)
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        part = numbers[box] == number
        if np.count_nonzero(part) >= minimum_area:
            single[box] = part
            yield single
            single[box] = False


def without_specks(mask: Bool, minimum_area: int) -> Bool:
    """Return a mask without its components of fewer than `minimum_area` pixels."""
    if minimum_area <= 1:
        return mask
    numbers, count = _label(mask)
    keeps = np.bincount(numbers.ravel(), minlength=count + 1) >= minimum_area
    keeps[0] = False
    kept: Bool = keeps[numbers]
    return kept


def _label(mask: Bool) -> tuple[NDArray[np.int32], int]:
    numbers, count = ndimage.label(mask, _EIGHT)
    return numbers, count
