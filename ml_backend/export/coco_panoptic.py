"""Instances in COCO's panoptic format: a PNG whose colours are ids, and what the ids are.

    coco_panoptic/panoptic.json            info, licenses, categories, images, annotations
    coco_panoptic/panoptic/<image>.png     RGB, the image's size: id = R + 256 G + 256² B

The segments of an image are the connected components of each label (8-connected, numbered
1, 2, … by their first pixel), each with id, category, area, box. Id 0 is what the format
calls void: background and unknown pixels. Every category is a thing. A pixel belongs to one
segment: where labels overlap, the later one in the labeling config's order lies on top, and the
segments are the components of what is seen.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.export.coco_document import CocoDocument, categories_of, coco_document
from ml_backend.export.coco_instances import instance_regions
from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.png import png_bytes
from ml_backend.export.stage import Part
from ml_backend.masks.labels import LabelConfig

_FOLDER = "coco_panoptic"


@exporter("coco_panoptic", _FOLDER, unknown="void, as background", hides=True)
def write_panoptic(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `coco_panoptic/`."""
    names = part.names(".png")
    categories = [
        {**category, "isthing": 1, "color": list(bytes.fromhex(label.colour.removeprefix("#")))}
        for category, label in zip(categories_of(config), config.labels, strict=True)
    ]
    part.folder(f"{_FOLDER}/panoptic")
    with coco_document(part, f"{_FOLDER}/panoptic.json", categories) as document:

        def add(item: ExportItem, _present: list[int]) -> None:
            name = names.take(item.name)
            part.write(f"{_FOLDER}/panoptic/{name}", _add(document, item, name))

        yield add


def _add(document: CocoDocument, item: ExportItem, name: str) -> bytes:
    """Write an image and its segments; the PNG of its ids."""
    instances, labels_of = item.instances()
    regions = instance_regions(instances, len(labels_of))
    segments = [
        {
            "id": number,
            "category_id": document.category_of(label),
            "area": fields["area"],
            "bbox": fields["bbox"],
            "iscrowd": 0,
        }
        for number, (label, fields) in enumerate(zip(labels_of, regions, strict=True), start=1)
    ]
    image_id = document.image(item)
    document.annotation({"image_id": image_id, "file_name": name, "segments_info": segments})
    return png_bytes(Image.fromarray(_as_colours(instances)))


def _as_colours(ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """(H, W) ids below 256³ as (H, W, 3) RGB: an id's low bytes, the lowest first."""
    low_bytes = ids.astype("<i4", copy=False).view(np.uint8).reshape(*ids.shape, 4)
    return np.ascontiguousarray(low_bytes[..., :3])
