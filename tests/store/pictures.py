"""Image files made in memory, for the tests of the store."""

import io

import numpy as np
import tifffile
from PIL import Image


def file_of(image, kind="PNG", **options):
    """The bytes of a Pillow image saved as `kind`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(array, mode=None, **options):
    """The bytes of a PNG that holds `array`."""
    image = Image.fromarray(np.ascontiguousarray(array))
    return file_of(image if mode is None else image.convert(mode), **options)


def tiff(array, **options):
    """The bytes of a TIFF that holds `array`."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()
