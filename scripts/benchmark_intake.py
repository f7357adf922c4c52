"""What `pool add` costs an image, beside reading and decoding the same files bare.

Files are made in a temporary folder: single PNGs, and one TIFF of many pages. The catalog is SQLite
in a temporary home. Both sides run on warm files; the time is that of the wall, as adding waits for
the disk where the catalog is made safe.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from benchmark import Row, row
from PIL import Image

from ml_backend.loop.context import Context
from ml_backend.loop.pool import add_folder
from ml_backend.masks.labels import make_label_config
from ml_backend.settings import Settings
from ml_backend.store.blobs import Blobs
from ml_backend.store.catalog import Catalog
from ml_backend.store.frames import Frame
from ml_backend.store.images import ImageSource, decode_image

SIDE = 512
_MOST = 6  # times reading and decoding alone
_PROJECT = 1


def rows(*, quick: bool = False) -> Iterator[Row]:
    """Measure 400 images and a stack of 400 pages, or 60 of each if `quick`."""
    count = 60 if quick else 400
    with tempfile.TemporaryDirectory(prefix="brushloop-benchmark-") as place:
        for name, make in (("files", _make_files), ("pages of a stack", _make_stack)):
            folder = Path(place) / name
            folder.mkdir()
            bare = make(folder, count)
            other = min(_seconds(bare) for _ in range(3))
            homes = (Path(place) / f"{name} {number}" for number in range(3))
            ours = min(_seconds(partial(_add, folder, home, count)) for home in homes)
            case = f"pool add, {count} {name} of {SIDE} px: per image, against decoding"
            numbers = 1000 * ours / count, 1000 * other / count
            yield row(case, *numbers, ours / other, "ms", _MOST, holds=ours / other <= _MOST)


def _make_files(folder: Path, count: int) -> Callable[[], object]:
    paths = [folder / f"{number:04}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(_picture(number)).save(path)
    return lambda: [decode_image(path.read_bytes(), path.name) for path in paths]


def _make_stack(folder: Path, count: int) -> Callable[[], object]:
    path = folder / "stack.tif"
    pages = np.stack([_picture(number) for number in range(count)])
    tifffile.imwrite(path, pages, photometric="minisblack", compression="zlib")
    return lambda: [decode_image(path, path.name, Frame(page)) for page in range(count)]


def _picture(number: int) -> np.ndarray:
    """A noisy grey picture, no two alike."""
    rng = np.random.default_rng(number)
    shades = np.linspace(20, 200, SIDE).astype(np.uint8)
    return shades[:, None] + rng.integers(0, 40, (SIDE, SIDE), np.uint8)


def _add(folder: Path, home: Path, count: int) -> None:
    settings = Settings(home=home)
    blobs = Blobs(settings.blob_url)
    context = Context(settings, Catalog(settings.catalog_url), blobs, ImageSource(blobs))
    try:
        config = make_label_config(["cell"])
        context.catalog.projects.save(_PROJECT, title="Cells", label_config=config)
        report = add_folder(context, _PROJECT, folder)
    finally:
        context.catalog.close()
    if report.images != count:
        raise SystemExit(f"{report.images} of {count} images are added")


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
