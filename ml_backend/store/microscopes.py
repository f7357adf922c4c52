"""Microscopes' own formats, by bioio and its readers: each image of a file by its scene.

An optional extra: bioio is imported when a file of such an ending is opened.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ImageUnreadable
from ml_backend.store.endings import MICROSCOPES, way_out
from ml_backend.store.pictures import Picture, Pictures, Scene
from ml_backend.store.readers import Plane, Reader, Source, check_size, open_source


def is_microscope_file(name: str) -> bool:
    """Whether a file is read by bioio, by its ending."""
    return PurePosixPath(name).suffix.lower() in MICROSCOPES


@contextmanager
def open_microscope_file(source: Source, name: str, max_pixels: int) -> Iterator[Pictures]:
    """List the pictures of all scenes of a file; planes are read when they are asked for."""
    try:
        from bioio import BioImage
        from bioio_base.exceptions import UnsupportedFileFormatError
    except ImportError:
        raise ImageUnreadable(f"{name} is not read: {way_out(name)}") from None
    with _as_path(source, name) as path:
        try:
            image = BioImage(path)
        except UnsupportedFileFormatError:
            raise ImageUnreadable(
                f"{name} has no reader: install bioio's for {path.suffix} files, such as "
                "bioio-bioformats"
            ) from None
        scenes = [_scene(image, scene, name, max_pixels) for scene in image.scenes]
        yield Pictures(tuple(scenes), by_window=True)


@contextmanager
def _as_path(source: Source, name: str) -> Iterator[Path]:
    """The file as one on this machine, for readers that know no other."""
    if isinstance(source, Path):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{PurePosixPath(name).suffix}"
        with open_source(source) as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
        yield path


def _scene(image: Any, scene: str, name: str, max_pixels: int) -> Scene:
    image.set_scene(scene)
    data = image.xarray_dask_data
    axes = "".join(data.dims)
    sizes = dict(zip(axes, data.shape, strict=True))
    check_size(name, sizes["Y"], sizes["X"], max_pixels)
    note = (f"scene {scene}",) if len(image.scenes) > 1 else ()

    def make(t: int, z: int) -> Picture:
        plane = data.isel({a: n for a, n in (("T", t), ("Z", z)) if a in sizes}, drop=True)
        if "S" in sizes:
            colours = plane.isel(C=0, drop=True) if "C" in plane.dims else plane
            reader: Reader = LazyReader(colours.transpose("Y", "X", "S").data)
            planes = tuple(Plane(reader, sample) for sample in range(min(3, reader.samples)))
            return Picture(planes, "colour", total=3, notes=note)
        channels = [
            plane.isel(C=c, drop=True).transpose("Y", "X") for c in range(sizes.get("C", 1))
        ]
        planes = tuple(Plane(LazyReader(channel.data)) for channel in channels)
        return Picture(
            planes, "composite" if len(planes) > 1 else "grey", total=len(planes), notes=note
        )

    return Scene(sizes.get("T", 1), sizes.get("Z", 1), make)


class LazyReader:
    """Rows of a dask array (H, W) or (H, W, samples): what is not asked for is not read."""

    def __init__(self, data: Any) -> None:
        self._data = data if data.ndim == 3 else data[..., None]
        self.height, self.width, self.samples = self._data.shape
        self.dtype = np.dtype(data.dtype).newbyteorder("=")
        self.step = max(1, int(self._data.chunks[0][0]))

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1."""
        values = np.asarray(self._data[y0:y1, x0:x1].compute())
        return values.astype(self.dtype, copy=False)
