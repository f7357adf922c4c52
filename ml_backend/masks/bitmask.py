"""Bitmask regions: a PNG in a data URL whose alpha is the mask."""

import base64
import binascii
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ml_backend.errors import RegionError


def decode_bitmask(url: object, height: int, width: int) -> NDArray[np.uint8]:
    """Read the alpha of a bitmask: (height, width) uint8; 255 throughout where it has none.

    Raises RegionError for what is no PNG of this size, before its pixels are decoded.
    """
    head, _, body = url.partition(",") if isinstance(url, str) else ("", "", "")
    if head != "data:image/png;base64":
        raise RegionError("a bitmask must be a PNG in a data URL (data:image/png;base64,...)")
    try:
        with Image.open(BytesIO(base64.b64decode(body, validate=True)), formats=["PNG"]) as image:
            if image.size != (width, height):
                raise RegionError(
                    f"a bitmask of {image.width} x {image.height} pixels, but the image has "
                    f"{width} x {height}"
                )
            return np.array(image.convert("RGBA").getchannel("A"))
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise RegionError(f"a bitmask that cannot be read as PNG: {error}") from error
