"""A picture of a file → the numbers that stand in it, before anyone says what they mean.

For masks: nothing is inverted, scaled or blended. The size is read from the header and checked
before a pixel is decoded.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.errors import ImageUnreadable
from ml_backend.store.deep_png import PNG
from ml_backend.store.image_files import open_pictures, translate_errors
from ml_backend.store.pillow_files import (
    NATIVE,
    decode_png,
    open_image,
    orientation_of,
    palette_of,
)  # fmt: skip
from ml_backend.store.readers import MAX_PIXELS, Plane, Source, bands, check_size, open_source
from ml_backend.store.tiff import TIFF

__all__ = ["MAX_PIXELS", "Raster", "Source", "read_raster"]


@dataclass(frozen=True)
class Raster:
    """One decoded image, upright as a browser shows it.

    `values`: (H, W), or (H, W, 3) for colour, in the file's own dtype (bool for 1-bit files).
    `alpha`: (H, W) of the same dtype, or None. `palette`: (N, 3) uint8 if `values` are indices.
    `inverted`: whether 0 is shown as white; the numbers are the file's all the same, as a mask's
    codes must be. `pages`: how many pictures the file holds.
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None = None
    palette: NDArray[np.uint8] | None = None
    inverted: bool = False
    pages: int = 1

    def opacity(self) -> NDArray[np.float32] | None:
        """`alpha` as (H, W) from 0 to 1; None where it says nothing because it does not vary."""
        if self.alpha is None or self.alpha.min() == self.alpha.max():
            return None
        full = np.iinfo(self.alpha.dtype).max if self.alpha.dtype.kind in "ui" else 1
        return np.clip(np.nan_to_num(self.alpha.astype(np.float32)) / np.float32(full), 0, 1)


def read_raster(
    source: Source, name: str, max_pixels: int = MAX_PIXELS, *, page: int = 0
) -> Raster:
    """Decode a picture of a file; `name` is for messages only, the content decides the format.

    `page` counts the file's pictures from 0. Raises `ImageUnreadable` with the reason: empty, not
    an image, truncated, too large.
    """
    with translate_errors(name), open_source(source) as file:
        head = file.read(25)
        file.seek(0)
        if not head or head[:4] in TIFF:
            return _read_tiff(source, name, max_pixels, page)
        with open_image(file) as image:
            pages = getattr(image, "n_frames", 1)
            image.seek(page)
            check_size(name, image.height, image.width, max_pixels)
            orientation = orientation_of(image)
            deep = head[:8] == PNG and head[24] == 16 and image.mode in {"RGB", "RGBA", "LA"}
            raster = _split(decode_png(file)) if deep else _read_pillow(image)
            return replace(_upright(raster, orientation), pages=pages)


def _read_tiff(source: Source, name: str, max_pixels: int, page: int) -> Raster:
    with open_pictures(source, name, max_pixels) as opened:
        pictures = opened.apart or opened
        picture = pictures.picture(page, name=name)
        if picture.kind == "composite":
            raise ImageUnreadable(
                f"{name} has {len(picture.planes)} channels; export it as grey or RGB"
            )
        planes = picture.planes if picture.indices is None else (picture.indices,)
        values = [_plane(plane) for plane in planes]
        raster = Raster(
            values[0] if len(values) == 1 else np.dstack(values),
            None if picture.alpha is None else _plane(picture.alpha),
            picture.palette,
            inverted=picture.inverted,
            pages=pictures.pages(),
        )
        return _upright(raster, picture.orientation)


def _plane(plane: Plane) -> NDArray[Any]:
    reader = plane.reader
    out = np.empty((reader.height, reader.width), reader.dtype)
    for top, bottom in bands(reader, (0, reader.height, 0, reader.width)):
        out[top:bottom] = reader.read(top, bottom, 0, reader.width)[..., plane.sample]
    return out


def _read_pillow(image: Image.Image) -> Raster:
    """The frame it is at; modes without a meaning of their own here become RGB or RGBA."""
    image.load()
    if image.mode == "P":
        indices = np.asarray(image)
        table = palette_of(image)
        return Raster(indices, table[indices, 3], table[:, :3])
    if image.mode not in NATIVE:
        image = image.convert("RGBA" if image.mode in {"PA", "La", "RGBa"} else "RGB")
    return _split(np.asarray(image))


def _split(values: NDArray[Any]) -> Raster:
    """Part (H, W[, 1 to 4]) samples into grey or colour and alpha, in native byte order."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 2:
        return Raster(values)
    samples = values.shape[2]
    alpha = values[..., -1] if samples in {2, 4} else None
    return Raster(values[..., 0] if samples <= 2 else values[..., :3], alpha)


def _upright(raster: Raster, orientation: int) -> Raster:
    """Turn all planes as the tag says (EXIF 2.32, table 6)."""
    if orientation not in range(2, 9):
        return raster

    def turn(plane: NDArray[Any]) -> NDArray[Any]:
        if orientation in {5, 6, 7, 8}:  # rows and columns change places
            plane = plane.swapaxes(0, 1)
        if orientation in {3, 4, 7, 8}:
            plane = plane[::-1]
        if orientation in {2, 3, 6, 7}:
            plane = plane[:, ::-1]
        return np.ascontiguousarray(plane)

    alpha = None if raster.alpha is None else turn(raster.alpha)
    return replace(raster, values=turn(raster.values), alpha=alpha)
