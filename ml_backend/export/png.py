"""Semantic masks as indexed PNG: the pixel is the label's number, the palette its colour.

    png/classes.json     names and colours of the numbers
    png/<image>.png      8-bit indexed, the image's size: 0 background, 1..K, 255 unknown

A pixel has one number: where labels overlap, the later one in the labeling config's order lies on
top, and the report says so.

The mask of `a/b.tif` is `a/b.png`; the report notes each mask that needs another name
(`export/names.py`).
"""

import io
import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.stage import Part
from ml_backend.masks.labels import IGNORE, LabelConfig

_UNKNOWN = (128, 128, 128)


@exporter("png", "png", hides=True)
def write_png(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `png/`."""
    palette, names = _palette(config), part.names(".png")

    def add(item: ExportItem, _present: list[int]) -> None:
        part.write(f"png/{names.take(item.name)}", encode_indexed(item.on_top(), palette))

    yield add
    part.write("png/classes.json", _classes(config, palette))


def encode_indexed(label_map: NDArray[np.uint8], palette: bytes) -> bytes:
    """A label map as the bytes of an indexed PNG; `palette` holds 256 RGB triples."""
    image = Image.fromarray(label_map)
    image.putpalette(palette)
    return png_bytes(image)


def png_bytes(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _palette(config: LabelConfig) -> bytes:
    """256 RGB triples; numbers of no label are black."""
    colours = np.zeros((256, 3), np.uint8)
    colours[IGNORE] = _UNKNOWN
    for number, label in enumerate(config.labels, start=1):
        colours[number] = tuple(bytes.fromhex(label.colour.removeprefix("#")))
    return colours.tobytes()


def _classes(config: LabelConfig, palette: bytes) -> bytes:
    def entry(number: int, name: str) -> dict[str, object]:
        return {"index": number, "name": name, "colour": f"#{palette[3 * number :][:3].hex()}"}

    table = {
        "background": 0,
        "unknown": IGNORE,
        "classes": [entry(number, label.name) for number, label in enumerate(config.labels, 1)],
    }
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()
