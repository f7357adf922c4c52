"""Instances as COCO: one annotation per connected component.

`coco_instances` writes `folder/coco_instances.json`, every region as a compressed RLE.
`coco_polygons` writes `folder/coco_polygons.json`, for tools that read polygons only: along
the edges of the pixels, so that pycocotools draws exactly the mask. A COCO polygon cannot
leave a hole out, so an instance with holes keeps its RLE there, and the report says how many.

Components are 8-connected and numbered by their first pixel; where labels may overlap label by
label, each with its whole area. Images, categories and what
becomes of unknown pixels are as in `coco`.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage

from ml_backend.export.coco import rle_fields
from ml_backend.export.coco_document import CocoDocument, categories_of, coco_document
from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.rings import rings
from ml_backend.export.stage import Part
from ml_backend.masks.instances import Objects
from ml_backend.masks.labels import LabelConfig

Fields = dict[str, object]
_COLUMNS = 64  # looked through for runs at a time: columns of an array in rows need a copy


@exporter("coco_instances", "coco_instances.json")
def write_instances(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `coco_instances.json`."""
    with coco_document(part, "coco_instances.json", categories_of(config)) as document:

        def add(item: ExportItem, present: list[int]) -> None:
            _add(document, item, present, polygons=False)

        yield add


@exporter("coco_polygons", "coco_polygons.json")
def write_polygons(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `coco_polygons.json`."""
    with coco_document(part, "coco_polygons.json", categories_of(config)) as document:

        def add(item: ExportItem, present: list[int]) -> None:
            part.counts["with_holes"] += _add(document, item, present, polygons=True)

        yield add
    if part.counts["with_holes"]:
        part.notes.append(
            "instances with holes, which no COCO polygon can leave out: "
            f"{part.counts['with_holes']} kept as RLE"
        )


def instance_regions(instances: NDArray[np.int32], count: int) -> Iterator[Fields]:
    """COCO's fields of the instances 1..count of an (H, W) map, in order, in one pass over it.

    Segmentation as compressed RLE, byte for byte what pycocotools encodes; area in px; box as
    x, y, width, height. Every number must occur.
    """
    height, width = instances.shape
    starts, values = _column_runs(instances)
    ends = np.append(starts[1:], instances.size)
    chosen = np.flatnonzero(values)
    chosen = chosen[np.argsort(values[chosen], kind="stable")]
    bounds = np.searchsorted(values[chosen], np.arange(1, count + 2))
    for first, last in pairwise(bounds):
        runs = chosen[first:last]
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0)
        if edges[-1] < instances.size:
            counts = np.append(counts, instances.size - edges[-1])
        whole = {"size": [height, width], "counts": counts.tolist()}
        yield rle_fields(coco_mask.frPyObjects(whole, height, width))


def _add(document: CocoDocument, item: ExportItem, present: list[int], *, polygons: bool) -> int:
    """Write an image and its instances; how many have holes that no polygon can leave out."""
    image_id = document.image(item)
    layers = item.layers(present)
    return sum(_add_layer(document, image_id, layer, polygons=polygons) for layer in layers)


def _add_layer(document: CocoDocument, image_id: int, layer: Objects, *, polygons: bool) -> int:
    with_holes = 0
    instances, labels_of = layer
    regions = instance_regions(instances, len(labels_of))
    boxes = ndimage.find_objects(instances) if polygons else ()
    for index, (label, fields) in enumerate(zip(labels_of, regions, strict=True)):
        if polygons:
            outlines = _outlines(instances, boxes[index], index + 1)
            with_holes += outlines is None
            if outlines is not None:
                fields["segmentation"] = outlines
        document.region(image_id, label, fields)
    return with_holes


def _outlines(
    instances: NDArray[np.int32], box: tuple[slice, slice], number: int
) -> list[list[int]] | None:
    """An instance's polygons x, y, x, y, … along its pixels' edges; None where it has holes."""
    found = rings(instances[box] == number)
    if any(ring.is_hole for ring in found):
        return None
    corner = (box[1].start, box[0].start)
    return [(ring.points + corner).ravel().tolist() for ring in found]


def _column_runs(
    instances: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """First pixel and value of each run of equal values, in column-major order."""
    height, width = instances.shape
    all_starts, all_values = [], []
    for left in range(0, width, _COLUMNS):
        flat = instances[:, left : left + _COLUMNS].T.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        all_starts.append(starts + left * height)
        all_values.append(flat[starts])
    starts, values = np.concatenate(all_starts), np.concatenate(all_values)
    goes_on = np.concatenate([[False], values[1:] == values[:-1]])
    return starts[~goes_on], values[~goes_on]
