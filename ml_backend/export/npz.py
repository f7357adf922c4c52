"""Masks as NumPy archives, one an image.

    npz/<image>.npz     `label_map`: (H, W) uint8; 0 background, 1..K, 255 unknown
                        `classes`: (K + 1,) text, the name of each number

Where labels may overlap, instead of them

                        `masks`: (K, H, W) bool, a plane a label; `unknown`: (H, W) bool
                        `labels`: (K,) text, the name of each plane

`np.load` reads them without pickle. `a/b.tif` becomes `a/b.npz`; the report notes each image
whose archive needs another name.
"""

import io
import zipfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.stage import Part
from ml_backend.masks.labels import IGNORE, LabelConfig
from ml_backend.masks.sets import planes_of


@exporter("npz", "npz")
def write_npz(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `npz/`."""
    names = part.names(".npz")
    classes = np.array(["background", *config.names])
    part.folder("npz")

    def add(item: ExportItem, _present: list[int]) -> None:
        if item.overlapping:
            masks = planes_of(item.label_map, len(config.names))
            unknown = item.label_map == IGNORE
            archive = archived({"masks": masks, "unknown": unknown, "labels": classes[1:]})
        else:
            archive = archived({"label_map": item.label_map, "classes": classes})
        part.write(f"npz/{names.take(item.name)}", archive)

    yield add


def archived(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """Arrays as the bytes of an `.npz`; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            # Clock, system and permissions would otherwise enter the header
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
