"""Semantic masks as COCO: one annotation per image and label, as a compressed RLE.

`folder/coco.json` holds `info`, `licenses`, `categories` (ids as in the labeling config, or 1..K in
its order), `images` (ids 1, 2, … in the order given; `file_name` is the image's own name; `source`
says who drew the mask) and `annotations`. Area and box are those of the mask. Images without
annotations are kept. Labels that overlap have annotations that overlap. Unknown pixels (255)
belong to no annotation: only the PNG tells them from background. Nothing depends on the clock.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from ml_backend.export.coco_document import categories_of, coco_document
from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.stage import Part
from ml_backend.masks.labels import LabelConfig


@exporter("coco", "coco.json")
def write_coco(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `coco.json`."""
    with coco_document(part, "coco.json", categories_of(config)) as document:

        def add(item: ExportItem, present: list[int]) -> None:
            image_id = document.image(item)
            for label in present:
                document.region(image_id, label, region(item.pixels_of(label)))

        yield add


def region(mask: NDArray[np.bool_]) -> dict[str, object]:
    """COCO's fields of an (H, W) mask: compressed RLE, area in px, box as x, y, width, height."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return rle_fields(rle)


def rle_fields(rle: dict[str, Any]) -> dict[str, object]:
    """COCO's fields of a region as pycocotools writes it: size, and counts as bytes."""
    return {
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "area": int(coco_mask.area(rle)),
        "bbox": [int(value) for value in coco_mask.toBbox(rle)],
        "iscrowd": 0,
    }
