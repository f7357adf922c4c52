"""Colours of a TIFF: spaces other than RGB, and the colours that its metadata give to channels."""

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from ml_backend.store.pictures import Colour, ramp
from ml_backend.store.readers import Plane

_DIRECT = {
    tifffile.PHOTOMETRIC.MINISWHITE,
    tifffile.PHOTOMETRIC.MINISBLACK,
    tifffile.PHOTOMETRIC.RGB,
    tifffile.PHOTOMETRIC.PALETTE,
    tifffile.PHOTOMETRIC.MASK,
}
_JPEG = {6, 7, 33003, 33005, 33007, 34892, 34934, 50001}  # compressions that give RGB for YCbCr
_WHITE = -1


def needs_pillow(page: Any) -> bool:
    """Whether a page's colours are of a kind that only Pillow (libtiff) makes RGB of."""
    kind = page.photometric
    if kind == tifffile.PHOTOMETRIC.YCBCR:
        return int(page.compression) not in _JPEG
    if kind == tifffile.PHOTOMETRIC.SEPARATED:
        return bool(page.compression in _JPEG or page.samplesperpixel < 4 or page.planarconfig == 2)
    if kind in {tifffile.PHOTOMETRIC.CIELAB, tifffile.PHOTOMETRIC.ICCLAB}:
        return bool(page.dtype == np.uint8 or page.planarconfig == 2)
    return False


def pillow_page(file: BinaryIO, number: int) -> tuple[Plane, ...]:
    """The page as Pillow shows it: red, green and blue."""
    from ml_backend.store.pillow_files import PillowReader

    file.seek(0)
    image = Image.open(file)
    image.seek(number)
    reader = PillowReader(image, "RGB")
    return tuple(Plane(reader, sample) for sample in range(3))


def cmyk_to_rgb(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w, 4) ink → RGB, rounded as Pillow rounds."""
    ink = values.astype(np.uint32)
    if values.dtype == np.uint16:
        ink //= 257
    light = 255 - ink[..., 3:4]
    product = ink[..., :3] * light + 128
    return np.asarray(
        np.clip(light.astype(np.int32) - (((product >> 8) + product) >> 8), 0, 255), np.uint8
    )


def lab_to_rgb(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w, 3) 16-bit CIE L*a*b* → sRGB."""
    from skimage.color import lab2rgb

    lab = values.astype(np.float32)
    signed = values[..., 1:].astype(np.uint16).view(np.int16).astype(np.float32)
    rgb = lab2rgb(np.dstack([lab[..., :1] * (100 / 65535), signed / 256]))
    return np.asarray(np.rint(rgb * 255), np.uint8)


def channel_colours(tiff: tifffile.TiffFile, number: int, channels: int) -> tuple[Colour, ...]:
    """Colours that ImageJ, OME or Zeiss metadata give to the channels; empty where they do not."""
    if channels < 2:
        return ()
    try:
        found = _imagej(tiff) or _ome(tiff, number) or _lsm(tiff)
    except (KeyError, ValueError, TypeError, AttributeError):
        return ()  # damaged metadata are no reason to lose the pixels
    same = all((table == found[0]).all() for table in found)
    return tuple(found[:channels]) if len(found) >= channels and not same else ()


def has_channel_names(tiff: tifffile.TiffFile) -> bool:
    """Whether OME metadata name the channels: then they are some, however many."""
    if tiff.ome_metadata is None:
        return False
    try:
        return any("Name" in channel for channel in _ome_channels(tiff, 0))
    except (KeyError, ValueError, TypeError, AttributeError):
        return False  # damaged metadata are no reason to lose the pixels


def _imagej(tiff: tifffile.TiffFile) -> list[Colour]:
    tables = (tiff.imagej_metadata or {}).get("LUTs") or []
    return [np.asarray(table, np.uint8).T for table in tables if np.shape(table) == (3, 256)]


def _ome(tiff: tifffile.TiffFile, number: int) -> list[Colour]:
    if tiff.ome_metadata is None:
        return []
    channels = _ome_channels(tiff, number)
    numbers = [int(channel.get("Color", _WHITE)) & 0xFFFFFFFF for channel in channels]
    return [ramp((n >> 24, n >> 16 & 255, n >> 8 & 255)) for n in numbers]


def _ome_channels(tiff: tifffile.TiffFile, number: int) -> list[Any]:
    images = _several(tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"])
    return _several(images[min(number, len(images) - 1)]["Pixels"].get("Channel"))


def _lsm(tiff: tifffile.TiffFile) -> list[Colour]:
    data: Mapping[str, Any] = tiff.lsm_metadata or {}
    colours = (data.get("ChannelColors") or {}).get("Colors") or []
    return [ramp(colour[:3]) for colour in colours]


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
