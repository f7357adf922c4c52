"""Masks as NumPy archives, one an image.

    npz/<image>.npz     `label_map`: (H, W) uint8; 0 background, 1..K, 255 unknown
                        `classes`: (K + 1,) text, the name of each number

`np.load` reads them without pickle. `a/b.tif` becomes `a/b.npz`; the report notes each image
whose archive needs another name.
"""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.export.items import EXPORTERS, ExportItem, Report, Tally
from ml_backend.export.names import FileNames
from ml_backend.export.publish import staged_folder, write_synced
from ml_backend.masks.labels import LabelConfig


@EXPORTERS.register("npz")
def write_npz(items: Iterable[ExportItem], folder: Path, config: LabelConfig) -> Report:
    """Write `folder/npz/`, whole or not at all. Raises as `write_png`."""
    target = folder / "npz"
    tally = Tally(labels=len(config.labels))
    names = FileNames(".npz", tally)
    classes = np.array(["background", *config.names])
    with staged_folder(target) as fresh:
        for item, _ in tally.checked(items):
            archive = archived({"label_map": item.label_map, "classes": classes})
            write_synced(fresh / names.take(item.name), archive)
    return tally.report(target)


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
