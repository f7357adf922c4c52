"""The pictures of PNG, JPEG, BMP, GIF, WebP, AVIF, JPEG 2000, PNM, TGA … files, by Pillow.

16-bit colour PNG and JPEG XL go through imagecodecs, because Pillow keeps eight bits of the one and
knows nothing of the other.
"""

import io
import struct
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.store.deep_png import PNG, DeepPngReader, is_interlaced
from ml_backend.store.pictures import Kind, Picture, Pictures, Scene
from ml_backend.store.readers import ArrayReader, ConvertedReader, Plane, Reader, check_size

# Pillow's own limit is lower and only warns; `check_size` stands in for it.
Image.MAX_IMAGE_PIXELS = None

NATIVE = {"1", "L", "I", "F", "RGB", "LA", "RGBA", "I;16", "I;16L", "I;16B", "I;16N"}
_ALPHA = {"PA", "La", "RGBa", "LA", "RGBA"}
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_SINGLE = {"MPO"}  # a photograph and its preview, or a left and a right one
_CHUNK = 2**20
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}


class PillowReader:
    """Rows of a Pillow image that is loaded."""

    def __init__(self, image: Image.Image, mode: str) -> None:
        image.load()
        self._image, self._mode = image, mode
        self.height, self.width = image.height, image.width
        self.step = max(1, _CHUNK // max(1, image.width) // 4)
        probe = self.read(0, 1, 0, 1)
        self.samples, self.dtype = probe.shape[2], probe.dtype

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Rows y0 to y1 of columns x0 to x1."""
        part = self._image.crop((x0, y0, x1, y1))
        if part.mode != self._mode:
            part = part.convert(self._mode)
        values = np.asarray(part)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values if values.ndim == 3 else values[..., None]


def open_pillow(file: BinaryIO, name: str, max_pixels: int) -> Pictures:
    """List the pictures of a file that Pillow reads."""
    head = file.read(12)
    file.seek(0)
    if head.startswith(_JXL):
        return _jpeg_xl(file, name, max_pixels)
    image = open_image(file)
    check_size(name, image.height, image.width, max_pixels)
    pages = 1 if image.format in _SINGLE else getattr(image, "n_frames", 1)

    def make(page: int, _z: int) -> Picture:
        image.seek(page)
        check_size(name, image.height, image.width, max_pixels)
        return _picture(image, file, still=pages == 1)

    return Pictures((Scene(pages, 1, make),))


def _jpeg_xl(file: BinaryIO, name: str, max_pixels: int) -> Pictures:
    values = np.asarray(imagecodecs.jpegxl_decode(file.read()))
    check_size(name, values.shape[0], values.shape[1], max_pixels)
    reader = ArrayReader(values)
    return Pictures((Scene(1, 1, lambda _t, _z: picture_of(reader, None)),))


def open_image(file: BinaryIO) -> Image.Image:
    """Open it; a PNG with more text than Pillow takes without that text."""
    try:
        return Image.open(file)
    except ValueError as error:
        file.seek(0)
        if "MAX_TEXT" not in str(error) or file.read(8) != PNG:
            raise
    return Image.open(io.BytesIO(without_text(file)))


def without_text(file: BinaryIO) -> bytes:
    """The bytes of a PNG but for its chunks of text."""
    file.seek(8)
    kept = [PNG]
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] in _TEXT:
            file.seek(length + 4, io.SEEK_CUR)
        else:
            kept += [head, file.read(length + 4)]
    return b"".join(kept)


def _picture(image: Image.Image, file: BinaryIO, *, still: bool) -> Picture:
    turn = orientation_of(image)
    file.seek(0)
    head = file.read(25)
    if still and head[:8] == PNG and head[24] == 16 and image.mode in {"RGB", "RGBA", "LA"}:
        interlaced = is_interlaced(file)
        reader: Reader = ArrayReader(decode_png(file)) if interlaced else DeepPngReader(file)
        key = image.info.get("transparency") if reader.samples == 3 else None
        return picture_of(reader, key, orientation=turn)
    image.load()
    key = image.info.get("transparency")
    if image.mode == "P":
        return picture_of(_palette(image), None, orientation=turn)
    mode = image.mode if image.mode in NATIVE else "RGBA" if image.mode in _ALPHA else "RGB"
    return picture_of(PillowReader(image, mode), key, orientation=turn)


def picture_of(reader: Reader, key: Any, *, orientation: int = 1) -> Picture:
    """Grey or colour and alpha by the number of samples; `key`: the numbers that are no picture."""
    if key is not None and not isinstance(key, bytes) and reader.samples in {1, 3}:
        reader = _keyed(reader, np.atleast_1d(np.asarray(key)))
    colours = 1 if reader.samples <= 2 else 3
    planes = tuple(Plane(reader, sample) for sample in range(colours))
    alpha = Plane(reader, colours) if reader.samples > colours else None
    kind: Kind = "grey" if colours == 1 else "colour"
    return Picture(planes, kind, alpha, orientation=orientation, total=colours)


def _keyed(reader: Reader, key: NDArray[Any]) -> Reader:
    """Add an alpha sample that is 0 where all numbers are those of `key`."""
    top = np.iinfo(reader.dtype).max if reader.dtype.kind in "ui" else 1

    def convert(values: NDArray[Any]) -> NDArray[Any]:
        opaque = (values != key[: values.shape[2]]).any(axis=2, keepdims=True)
        return np.dstack([values, (opaque * top).astype(values.dtype)])

    return ConvertedReader(reader, convert, reader.samples + 1, reader.dtype)


def palette_of(image: Image.Image) -> NDArray[np.uint8]:
    """(256, 4) colours and opacity of an image of mode P."""
    colours = np.asarray(image.getpalette("RGBA") or [], dtype=np.uint8).reshape(-1, 4)
    table = np.zeros((256, 4), np.uint8)
    table[:, 3] = 255
    table[: len(colours)] = colours
    key = image.info.get("transparency")
    if isinstance(key, bytes):
        table[: len(key), 3] = np.frombuffer(key, np.uint8)
    elif isinstance(key, int):
        table[key, 3] = 0
    return table


def _palette(image: Image.Image) -> Reader:
    table = palette_of(image)
    if (table[:, 3] == 255).all():
        table = table[:, :3]
    inner = PillowReader(image, "P")
    return ConvertedReader(inner, lambda values: table[values[..., 0]], table.shape[1])


def decode_png(file: BinaryIO) -> NDArray[Any]:
    """All numbers of a 16-bit PNG."""
    file.seek(0)
    return np.asarray(imagecodecs.png_decode(file.read()))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; a damaged EXIF block is no reason to lose the pixels."""
    try:
        turn = int(image.getexif().get(274, 1))
    except (ValueError, TypeError, SyntaxError, KeyError, OSError, struct.error):
        return 1
    return turn if turn in range(1, 9) else 1
