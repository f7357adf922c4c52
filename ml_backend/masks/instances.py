"""Label maps → instances: 8-connected components, numbered, one by one, or without specks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from ml_backend.errors import RegionError
from ml_backend.masks.labels import IGNORE

Bool = NDArray[np.bool_]
Objects = tuple[NDArray[np.int32], list[int]]
"""(H, W) numbers 1..N, 0 where there is no object, and the label of each number from 1."""

Slices = tuple[slice, slice]
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # of a pixel, down and to the right
EIGHT = np.ones((3, 3), np.bool_)
_ROWS = 64  # at a time, where numpy would copy the whole array as a larger type


def components(label_map: NDArray[np.uint8]) -> Objects:
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
            found = int(ndimage.label(mask, EIGHT, output=instances))
        else:
            part, found = ndimage.label(mask, EIGHT)
            np.add(part, len(labels_of), out=instances, where=mask)
        labels_of += [label] * found
    return instances, in_raster_order(instances, labels_of)


def numbered(label_map: NDArray[np.uint8], numbers: NDArray[np.int32]) -> Objects:
    """Number the objects that (H, W) `numbers` tell apart 1..N, as `components` does.

    Pixels of one number above 0 and one label are one object, wherever they lie.
    """
    labelled = (label_map > 0) & (label_map != IGNORE)
    codes = np.where(labelled & (numbers > 0), numbers.astype(np.int64) * 256 + label_map, 0)
    found, ranks = np.unique(codes, return_inverse=True)
    objects = (ranks.reshape(codes.shape) + (found[:1] != 0).sum()).astype(np.int32)
    return objects, in_raster_order(objects, (found[found > 0] % 256).tolist())


def told_apart(label_map: NDArray[np.uint8], numbers: NDArray[np.int32]) -> Objects:
    """`numbered`, where labelled pixels of number 0 are objects by their components."""
    rest = np.where(numbers == 0, label_map, 0)
    others, count = components(rest)[0], numbers.max(initial=0)
    return numbered(label_map, np.where(others > 0, others + count, numbers))


def join_across(
    label_map: NDArray[np.uint8], numbers: NDArray[np.int32], patches: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Give one number to objects of one label that face each other where two `patches` meet.

    All three (H, W). Two go together where they face along at least half of what one of them shows
    to other patches; a pixel by which an object is off in the next patch joins no neighbours.
    """
    faces = []
    for down, right in NEIGHBOURS[:2]:  # straight across
        here, there = meeting(label_map.shape, down, right)
        seam = (patches[here] != patches[there]) & (label_map[here] == label_map[there])
        seam &= (numbers[here] > 0) & (numbers[there] > 0)
        faces.append(np.stack([numbers[here][seam], numbers[there][seam]]))
    pairs, lengths = np.unique(
        np.sort(np.concatenate(faces, axis=1), axis=0), axis=1, return_counts=True
    )
    count = int(numbers.max(initial=0)) + 1
    shown = sum(np.bincount(side, lengths, minlength=count) for side in pairs)
    go = lengths >= 0.5 * np.minimum(*np.asarray(shown)[pairs])
    graph = sparse.coo_matrix((np.ones(go.sum()), pairs[:, go]), (count, count))
    _, groups = sparse.csgraph.connected_components(graph, directed=False)
    joined: NDArray[np.int32] = np.where(numbers > 0, groups[numbers] + 1, 0).astype(np.int32)
    return joined


def meeting(shape: tuple[int, ...], down: int, right: int) -> tuple[Slices, Slices]:
    """The pixels that have a neighbour so far down and to the right, and those neighbours."""
    height, width = shape
    here = np.s_[: height - down, max(0, -right) : width - max(0, right)]
    there = np.s_[down:, max(0, right) : width + min(0, right)]
    return here, there


def connected(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number the connected parts (8 neighbours) of equal number, (H, W); 0 stays 0."""
    from skimage import measure  # slow to import

    return np.asarray(
        measure.label(numbers, background=0, connectivity=2),  # type: ignore[no-untyped-call]
        dtype=np.int32,
    )


def or_none(label_map: NDArray[np.uint8], numbers: NDArray[np.int32]) -> NDArray[np.int32] | None:
    """`numbers` put into order if they tell objects apart that touch; None where none do."""
    mine, _ = told_apart(label_map, numbers)
    plain, _ = components(label_map)
    return None if np.array_equal(mine, plain) else mine


def pixel_counts(label_map: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels of an (H, W) uint8 array have each of the values 0..255: (256,) int64."""
    counts = np.zeros(256, np.int64)
    for row in range(0, len(label_map), _ROWS):
        counts += np.bincount(label_map[row : row + _ROWS].ravel(), minlength=256)
    return counts


def in_raster_order(instances: NDArray[np.int32], labels_of: list[int]) -> list[int]:
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


def each_object(objects: Objects, label: int, minimum_area: int = 0) -> Iterator[Bool]:
    """`each_component` for the objects of one label."""
    numbers, labels_of = objects
    single = np.zeros(numbers.shape, np.bool_)
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if labels_of[number - 1] != label:
            continue
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
    numbers, count = ndimage.label(mask, EIGHT)
    return numbers, count
