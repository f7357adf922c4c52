"""Bytes of an image file → the numbers that stand in it, before anyone says what they mean.

PNG, JPEG, BMP, GIF and WebP go through Pillow, 16-bit colour PNG and TIFF through imagecodecs and
tifffile, because Pillow reduces or refuses those. The size is read from the header and checked
before a pixel is decoded.
"""

import io
import struct
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ml_backend.errors import ImageUnreadable
from ml_backend.store.mapped import watched

Source = bytes | Path | BinaryIO
"""What a file is given as: its bytes, its path, or open and seekable."""

MAX_PIXELS = 2**29
"""Larger images are refused: 537 megapixels, 1.6 GB once decoded to RGB."""

# Pillow's own limit is lower and only warns; `_check_size` stands in for it.
Image.MAX_IMAGE_PIXELS = None

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG\r\n\x1a\n"
_DIRECT_TIFF = {
    tifffile.PHOTOMETRIC.MINISWHITE,
    tifffile.PHOTOMETRIC.MINISBLACK,
    tifffile.PHOTOMETRIC.RGB,
    tifffile.PHOTOMETRIC.PALETTE,
}
_PILLOW_NATIVE = {"1", "L", "I", "F", "RGB", "LA", "RGBA", "I;16", "I;16L", "I;16B", "I;16N"}
_MAPPED = {
    (tifffile.PHOTOMETRIC.MINISBLACK, 1, tifffile.PLANARCONFIG.CONTIG),
    (tifffile.PHOTOMETRIC.RGB, 3, tifffile.PLANARCONFIG.CONTIG),
}
_ORIENTATION = 274  # the tag's number in EXIF and in TIFF


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
    try:
        with _open(source) as file:
            head = file.read(26)
            file.seek(0)
            _check_content(head, name)
            if head[:4] in _TIFF:
                return _read_tiff(file, name, max_pixels, page)
            with Image.open(file) as image:
                pages = getattr(image, "n_frames", 1)
                image.seek(page)
                _check_size(name, image.height, image.width, max_pixels)
                orientation = _orientation(image)
                deep = head[:8] == _PNG and head[24] == 16 and image.mode in {"RGB", "RGBA", "LA"}
                raster = _split(_decode_png(file)) if deep else _read_pillow(image)
                return replace(_upright(raster, orientation), pages=pages)
    except ImageUnreadable:
        raise
    except UnidentifiedImageError:
        raise ImageUnreadable(
            f"{name} is not an image: it is no PNG, JPEG, TIFF, BMP, GIF or WebP, "
            "whatever its name says; remove it from the folder or convert it"
        ) from None
    except Exception as error:  # the decoders raise a dozen types for damaged files
        reason = str(error) or type(error).__name__
        raise ImageUnreadable(
            f"{name} is damaged or truncated ({reason}); copy or export it again"
        ) from error


def _open(source: Source) -> AbstractContextManager[BinaryIO]:
    """Open what a file is given as, at its beginning; a file that was open stays so."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, Path):
        return source.open("rb")
    source.seek(0)
    return nullcontext(source)


def _decode_png(file: BinaryIO) -> NDArray[Any]:
    file.seek(0)
    return np.asarray(imagecodecs.png_decode(file.read()))


def map_tiff(path: Path, at_least: int, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8, read-only, of an uncompressed 8-bit TIFF where it lies on the disk.

    Only its pages that are looked at are read. Grey is shown as three channels without being
    copied. None for any other file, one of less than `at_least` bytes, and one to be refused, such
    as a file that ends before its pixels do. One that is cut short later raises `ImageUnreadable`
    where a part is taken of the array.
    """
    if path.stat().st_size < at_least:
        return None
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            tag = page.tags.get(_ORIENTATION)
            plain = page.is_memmappable and page.dtype == np.uint8 and page.imagedepth == 1
            kind = page.photometric, page.samplesperpixel, page.planarconfig
            ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if (
                not plain
                or kind not in _MAPPED
                or (tag is not None and tag.value != 1)
                or page.imagelength * page.imagewidth > max_pixels
                or max(ends, default=0) > path.stat().st_size
            ):
                return None
            values = watched(tifffile.memmap(path, page=0, mode="r"))
    except (OSError, ValueError, tifffile.TiffFileError):
        return None  # decoding says what is wrong with it
    if values.ndim == 2:
        return np.broadcast_to(values[..., None], (*values.shape, 3), subok=True)
    return values


def _check_content(head: bytes, name: str) -> None:
    if not head:
        raise ImageUnreadable(f"{name} is empty (0 bytes); copy or export it again")


def _check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise ImageUnreadable(
            f"{name} says it is {width} x {height} px, more than the limit of {max_pixels:,} "
            "pixels; cut it into smaller images"
        )


def _read_pillow(image: Image.Image) -> Raster:
    """The first frame; modes without a meaning of their own here become RGB or RGBA."""
    image.load()
    if image.mode == "P":
        indices = np.asarray(image)
        flat = image.getpalette("RGBA") or []
        colours = np.asarray(flat, dtype=np.uint8).reshape(-1, 4)
        table = np.zeros((256, 4), np.uint8)
        table[:, 3] = 255
        table[: len(colours)] = colours
        key = image.info.get("transparency")
        if isinstance(key, bytes):
            table[: len(key), 3] = np.frombuffer(key, np.uint8)
        elif isinstance(key, int):
            table[key, 3] = 0
        return Raster(indices, table[indices, 3], table[:, :3])
    if image.mode not in _PILLOW_NATIVE:
        image = image.convert("RGBA" if image.mode in {"PA", "La", "RGBa"} else "RGB")
    return _split(np.asarray(image))


def _read_tiff(source: BinaryIO, name: str, max_pixels: int, number: int) -> Raster:
    with tifffile.TiffFile(source) as file:
        pages = len(file.pages)
        page: Any = file.pages[number]
        page = page.aspage() if isinstance(page, tifffile.TiffFrame) else page
        _check_size(name, page.imagelength * page.imagedepth, page.imagewidth, max_pixels)
        ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)]
        size = source.seek(0, io.SEEK_END)
        if not ends or max(ends) > size:
            raise ImageUnreadable(
                f"{name} is truncated: its pixels end at byte {max(ends, default=0)}, the file "
                f"at byte {size}; copy or export it again"
            )
        if page.photometric not in _DIRECT_TIFF:  # CMYK, YCbCr, Lab
            source.seek(0)
            with Image.open(source) as image:  # turns itself upright
                image.seek(number)
                return replace(_read_pillow(image), pages=pages)
        if page.samplesperpixel > 4:
            raise ImageUnreadable(
                f"{name} has {page.samplesperpixel} channels; export it as grey or RGB"
            )
        values = page.asarray()
        if page.imagedepth > 1:
            values = values[0]
        if page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            values = np.moveaxis(values, 0, -1)
        raster = _split(values, has_alpha=bool(page.extrasamples) and page.extrasamples[0] != 0)
        if page.colormap is not None:
            raster = replace(raster, palette=(page.colormap.T >> 8).astype(np.uint8))
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        tag = page.tags.get(_ORIENTATION)
        upright = _upright(raster, int(tag.value) if tag is not None else 1)
        return replace(upright, inverted=inverted, pages=pages)


def _split(values: NDArray[Any], *, has_alpha: bool = True) -> Raster:
    """Part (H, W[, 1 to 4]) samples into grey or colour and alpha, in native byte order."""
    if values.dtype.kind not in "buif":
        raise ValueError(f"{values.dtype} pixels")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 2:
        return Raster(values)
    samples = values.shape[2]
    alpha = values[..., -1] if samples in {2, 4} and has_alpha else None
    return Raster(values[..., 0] if samples <= 2 else values[..., :3], alpha)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; a damaged EXIF block is no reason to lose the pixels."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (ValueError, TypeError, SyntaxError, KeyError, OSError, struct.error):
        return 1


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
