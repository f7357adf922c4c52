"""Instances as 16-bit PNG: the pixel is the number of its connected component.

    png_instances/instances.json    of each image: its mask's name, and the label of each number
    png_instances/<image>.png       16-bit grey, the image's size: 0 background, 1..N

Components are those of each label, 8-connected, numbered within the image by their first
pixel. Unknown pixels are 0. A number's label is in `instances.json`, one line an image:
`{"image": "a/b.tif", "mask": "a/b.png", "source": "annotation", "instances": {"1": "axon"}}`.
"""

import json
from collections.abc import Iterator

import numpy as np
from PIL import Image

from ml_backend.errors import RegionError
from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.png import png_bytes
from ml_backend.export.stage import Part
from ml_backend.masks.labels import LabelConfig

_MOST = 2**16 - 1


_BEGIN = b'{"images": ['


@exporter("png_instances", "png_instances", unknown="0")
def write_png_instances(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `png_instances/`. Raises `RegionError` for an image of more than 65,535 instances."""
    names, table = part.names(".png"), part.growing("png_instances/instances.json")
    if not table.tell():
        table.write(_BEGIN)

    def add(item: ExportItem, _present: list[int]) -> None:
        mask = names.take(item.name)
        pixels, numbers = _encoded(item, config)
        part.write(f"png_instances/{mask}", pixels)
        entry = {"image": item.name, "mask": mask, "source": item.source, "instances": numbers}
        table.write(b"\n" if table.tell() == len(_BEGIN) else b",\n")
        table.write(json.dumps(entry, ensure_ascii=False).encode())

    yield add
    table.write(b"\n]}\n")


def _encoded(item: ExportItem, config: LabelConfig) -> tuple[bytes, dict[str, str]]:
    """An image's instances as a PNG, and the label of each number."""
    instances, labels_of = item.instances()
    if len(labels_of) > _MOST:
        raise RegionError(
            f"the mask of {item.name!r} has {len(labels_of)} instances, and a 16-bit PNG holds "
            f"{_MOST}; export it as coco_instances, or remove its specks"
        )
    pixels = png_bytes(Image.fromarray(instances.astype(np.uint16)))
    numbers = enumerate(labels_of, start=1)
    return pixels, {str(number): config.names[label - 1] for number, label in numbers}
