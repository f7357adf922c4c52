"""One binary PNG per image and label: 255 where the label is, 0 elsewhere.

    png_classes/classes.json          the folder of each label
    png_classes/<label>/<image>.png   8-bit grey, the image's size

Every image has its file in every folder, all 0 where the label does not occur. The folder is
the label's name; what some file system would refuse in it is replaced by `_`, and what is too long
is cut. Labels that overlap are both there. Unknown pixels are 0.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.names import FileNames
from ml_backend.export.png import png_bytes
from ml_backend.export.stage import Part
from ml_backend.masks.labels import LabelConfig

_TABLE = "classes.json"
_LONGEST = 200  # bytes of a folder's name
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # of Windows


@exporter("png_classes", "png_classes", unknown="0")
def write_png_classes(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `png_classes/`."""
    names, places = part.names(".png"), label_folders(config.names)
    for place in places:
        part.folder(f"png_classes/{place}")

    def add(item: ExportItem, _present: list[int]) -> None:
        name = names.take(item.name)
        for number, place in enumerate(places, start=1):
            binary = item.pixels_of(number).view(np.uint8) * np.uint8(255)
            part.write(f"png_classes/{place}/{name}", png_bytes(Image.fromarray(binary)))

    yield add
    part.write(f"png_classes/{_TABLE}", _table(config, places))


def label_folders(labels: Iterable[str]) -> list[str]:
    """A folder name for each label, safe and different on any file system."""
    names = FileNames("")
    names.take(_TABLE)
    return [names.take(_safe(label)) for label in labels]


def _safe(label: str) -> str:
    name = re.sub(r'[\\/:*?"<>|]', "_", label).strip(" ")
    name = re.sub(r"^\.+|\.+$", "_", name)
    if len(name.encode()) > _LONGEST:  # no file system takes more than 255 bytes
        start = name.encode()[: _LONGEST - 9].decode(errors="ignore")
        name = f"{start}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"_{name}" if not name or _DEVICES.match(name) else name


def _table(config: LabelConfig, places: list[str]) -> bytes:
    classes = [
        {"index": number, "name": name, "folder": place}
        for number, (name, place) in enumerate(zip(config.names, places, strict=True), start=1)
    ]
    return (json.dumps({"classes": classes}, indent=2, ensure_ascii=False) + "\n").encode()
