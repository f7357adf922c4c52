"""A mask file → its label map, and the numbers of its objects."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ConfigError, RegionError
from ml_backend.store.mask_reading import MaskReading
from ml_backend.store.mask_values.codes import codes_of, is_lossy
from ml_backend.store.mask_values.given import read_given
from ml_backend.store.mask_values.guesses import guess
from ml_backend.store.mask_values.options import IGNORE, Values
from ml_backend.store.raster import MAX_PIXELS, Raster, read_raster


def read_mask_file(
    data: bytes,
    name: str,
    labels: int = 1,
    *,
    values: Values | None = None,
    shape: tuple[int, int] | None = None,
    page: int | None = None,
    instances: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> MaskReading:
    """Read a mask file: its label map, its objects' numbers, and what a person should be told.

    `values` says what each grey or colour stands for; without it, the rules of docs/files.md hold.
    `shape`: the image's (height, width). `page`: the picture of the file to be read, from 0; None
    for the only one. `instances`: objects are to be told apart, so that a few numbers are read as
    such, too. Raises `ImageUnreadable`, and `RegionError` for a mask of another size and for one
    whose values do not say which label they are, with a list of them and the option that helps.
    """
    if not 1 <= labels < IGNORE:
        raise ConfigError(f"{labels} labels: a label map holds 1 to {IGNORE - 1}")
    raster, notes = _raster(data, name, page, max_pixels)
    if shape is not None and raster.values.shape[:2] != tuple(shape):
        height, width = raster.values.shape[:2]
        raise RegionError(
            f"mask {name} is {width} x {height} px, its image {shape[1]} x {shape[0]} px; "
            "give the mask that was drawn on this image"
        )
    try:
        if values is not None:
            reading = read_given(raster, values, labels)
        else:
            codes = replace(codes_of(raster), lossy=is_lossy(data))
            reading = guess(codes, labels, instances=instances)
    except RegionError as error:
        raise RegionError(f"mask {name} {error}") from None
    return replace(reading, notes=(*notes, *reading.notes))


def read_mask(
    data: bytes,
    name: str,
    labels: int = 1,
    *,
    values: Values | None = None,
    shape: tuple[int, int] | None = None,
    page: int | None = None,
    instances: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read the label map of a mask file, (H, W) uint8, as `read_mask_file` does."""
    return read_mask_file(
        data, name, labels, values=values, shape=shape, page=page, instances=instances,
        max_pixels=max_pixels,
    ).mask  # fmt: skip


def read_objects(
    data: bytes,
    name: str,
    max_pixels: int = MAX_PIXELS,
    *,
    labels: int = 1,
    values: Values | None = None,
    page: int | None = None,
) -> NDArray[np.int32] | None:
    """Read the numbers of a mask file's objects, (H, W) int32; None where it does not number them.

    Values of no label have none. With `values` two numbers of one label at least, such as of
    `1-255=1`, are objects; they are not where they lie about in many more pieces than there are.
    """
    try:
        return read_mask_file(
            data, name, labels, values=values, page=page, instances=True, max_pixels=max_pixels
        ).objects
    except RegionError:
        return None


def _raster(
    data: bytes, name: str, page: int | None, max_pixels: int
) -> tuple[Raster, tuple[str, ...]]:
    """The picture to be read; where nobody says which, the only one that is not empty."""
    raster = read_raster(data, name, max_pixels, page=page or 0)
    if page is not None or raster.pages == 1:
        return raster, ()
    painted = [raster] if raster.values.any() else []
    places = [1] if painted else []
    for number in range(1, raster.pages):
        other = read_raster(data, name, max_pixels, page=number)
        if other.values.shape[:2] == raster.values.shape[:2] and other.values.any():
            painted.append(other)
            places.append(number + 1)
    if len(painted) > 1:
        some = ", ".join(map(str, places[:5]))
        raise RegionError(
            f"mask {name} has {raster.pages} pages, of which {some} are painted; give one page for "
            "an image, or a stack of masks for a stack of images"
        )
    if not painted:
        return raster, (f"all of its {raster.pages} pages are empty",)
    return painted[0], (f"page {places[0]} of {raster.pages}, the only one that is painted",)
