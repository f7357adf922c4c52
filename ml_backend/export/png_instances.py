"""Instances as 16-bit PNG: the pixel is the number of its connected component.

    png_instances/instances.json    of each image: its mask's name, and the label of each number
    png_instances/<image>.png       16-bit grey, the image's size: 0 background, 1..N

Components are those of each label, 8-connected, numbered within the image by their first
pixel. Unknown pixels are 0. A number's label is in `instances.json`, one line an image:
`{"image": "a/b.tif", "mask": "a/b.png", "source": "annotation", "instances": {"1": "axon"}}`.

Where labels may overlap each has a folder and numbers of its own, as in `png_classes`:

    png_instances/<label>/<image>.png

and the line says where: `{"image": "a/b.tif", "source": "annotation", "labels": {"axon": {"mask":
"axon/a/b.png", "instances": 1}}}`.
"""

import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.errors import RegionError
from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.png import png_bytes
from ml_backend.export.png_classes import label_folders
from ml_backend.export.stage import Part
from ml_backend.masks.labels import LabelConfig

_MOST = 2**16 - 1


_BEGIN = b'{"images": ['


@exporter("png_instances", "png_instances", unknown="0")
def write_png_instances(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `png_instances/`. Raises `RegionError` for an image of more than 65,535 instances."""
    names, table = part.names(".png"), part.growing("png_instances/instances.json")
    places = label_folders(config.names) if config.overlapping else []
    if not table.tell():
        table.write(_BEGIN)

    def add(item: ExportItem, _present: list[int]) -> None:
        mask, entry = names.take(item.name), dict[str, object](image=item.name)
        if places:
            entry |= {"source": item.source, "labels": _by_label(part, item, config, places, mask)}
        else:
            instances, labels_of = item.instances()
            part.write(f"png_instances/{mask}", _encoded(item, instances))
            named = {str(n): config.names[label - 1] for n, label in enumerate(labels_of, 1)}
            entry |= {"mask": mask, "source": item.source, "instances": named}
        entry |= item.own_name()
        table.write(b"\n" if table.tell() == len(_BEGIN) else b",\n")
        table.write(json.dumps(entry, ensure_ascii=False).encode())

    yield add
    table.write(b"\n]}\n")


def _by_label(
    part: Part, item: ExportItem, config: LabelConfig, places: list[str], mask: str
) -> dict[str, dict[str, object]]:
    """Write a PNG for each label; where it is, and how many instances it has."""
    found: dict[str, dict[str, object]] = {}
    labels = range(1, len(places) + 1)
    for name, place, layer in zip(config.names, places, item.layers(labels), strict=True):
        instances, labels_of = layer
        part.write(f"png_instances/{place}/{mask}", _encoded(item, instances))
        found[name] = {"mask": f"{place}/{mask}", "instances": len(labels_of)}
    return found


def _encoded(item: ExportItem, instances: NDArray[np.int32]) -> bytes:
    """An image's instances as a PNG."""
    most = int(instances.max(initial=0))
    if most > _MOST:
        raise RegionError(
            f"the mask of {item.name!r} has {most} instances, and a 16-bit PNG holds {_MOST}; "
            "export it as coco_instances, or remove its specks"
        )
    return png_bytes(Image.fromarray(instances.astype(np.uint16)))
