"""Opening a file: its pictures, whatever its format, or the reason why there are none."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tifffile
from PIL import UnidentifiedImageError

from ml_backend.errors import ImageUnreadable
from ml_backend.store.endings import way_out
from ml_backend.store.microscopes import is_microscope_file, open_microscope_file
from ml_backend.store.pictures import Pictures
from ml_backend.store.pillow_files import open_pillow
from ml_backend.store.readers import Source, open_source
from ml_backend.store.tiff import TIFF, open_tiff


@contextmanager
def open_pictures(source: Source, name: str, max_pixels: int) -> Iterator[Pictures]:
    """Open a file for as long as its pictures are read; its content decides the format.

    Raises `ImageUnreadable` with the reason, also while they are read: empty, not an image,
    truncated, too large.
    """
    with translate_errors(name), ExitStack() as stack:
        file = stack.enter_context(open_source(source))
        head = file.read(4)
        file.seek(0)
        if not head:
            raise ImageUnreadable(f"{name} is empty (0 bytes); copy or export it again")
        if head in TIFF:
            slide: dict[str, Any] = {"is_ndpi": True} if name.lower().endswith(".ndpi") else {}
            tiff = stack.enter_context(tifffile.TiffFile(file, _multifile=False, **slide))
            if slide and not tiff.pages:  # a plain TIFF called so
                file.seek(0)
                plain = tifffile.TiffFile(file, name="x.tif", _multifile=False)
                tiff = stack.enter_context(plain)
            yield open_tiff(file, tiff, name, max_pixels)
        elif is_microscope_file(name):
            opened = source if isinstance(source, bytes | Path) else file
            yield stack.enter_context(open_microscope_file(opened, name, max_pixels))
        else:
            yield open_pillow(file, name, max_pixels)


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Say of every way in which decoders fail that the file cannot be read, and why."""
    try:
        yield
    except ImageUnreadable:
        raise
    except UnidentifiedImageError:
        raise ImageUnreadable(
            f"{name} is not an image: it is no PNG, JPEG, TIFF, BMP, GIF or WebP, "
            f"whatever its name says; {way_out(name) or 'remove it from the folder or convert it'}"
        ) from None
    except Exception as error:  # the decoders raise a dozen types for damaged files
        reason = str(error) or type(error).__name__
        raise ImageUnreadable(
            f"{name} is damaged or truncated ({reason}); copy or export it again"
        ) from error
