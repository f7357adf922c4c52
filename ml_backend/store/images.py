"""Images as learning wants them: any file from a folder or a bucket → (H, W, 3) uint8 RGB."""

import io
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ImageUnreadable, PoolMoved
from ml_backend.store.addresses import file_system
from ml_backend.store.blobs import Blobs, local_folder
from ml_backend.store.endings import SUFFIXES
from ml_backend.store.frames import Frame
from ml_backend.store.image_files import open_pictures
from ml_backend.store.mapped import map_tiff
from ml_backend.store.pictures import Picture, Pictures
from ml_backend.store.readers import MAX_PIXELS, Source
from ml_backend.store.remote import RemoteFile, translate_fetch_errors
from ml_backend.store.rendering import render

__all__ = ["MAX_BYTES", "SUFFIXES", "Box", "ImageSource", "decode_image"]

Box = tuple[int, int, int, int]
"""(x, y, width, height) in pixels, such as a `masks.tiles.Window`."""

MAX_BYTES = 2**31
"""Larger files are not fetched whole; those on disks are read by parts."""

_AT_ONCE = 64 * 2**20  # bytes of a remote file that is fetched whole
_BLOCK = 4 * 2**20  # bytes of the parts of a larger one

_TIFF = {".tif", ".tiff", ".btf", ".tf8"}


def decode_image(
    source: Source, name: str, frame: Frame | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode a picture of an image file into (H, W, 3) uint8 RGB, upright as a browser shows it.

    `frame` says which; None is the first. PNG, JPEG, TIFF, BMP, GIF, WebP; 1-bit, grey, palette,
    RGB, CMYK, with or without alpha. 8-bit values stay as they are. Deeper ones (16-bit, 32-bit,
    float) are scaled so that the 0.1th percentile becomes 0 and the 99.9th 255, the same for all
    channels, whatever range the camera used; nan and infinities count as 0. An alpha channel that
    varies is laid over white, a constant one is dropped. Raises `ImageUnreadable`.
    """
    frame = frame or Frame()
    with open_pictures(source, name, max_pixels) as pictures:
        return _render(_picture(pictures, frame, name), frame)


def _picture(pictures: Pictures, frame: Frame, name: str) -> Picture:
    meant = pictures.view(frame.channels)
    picture = meant.picture(frame.page, frame.plane, frame.projection, name)
    return picture.show(frame.channels, name) if frame.channels else picture.view()


def _render(picture: Picture, frame: Frame, window: Box | None = None) -> NDArray[np.uint8]:
    box = None
    if window is not None:
        x, y, width, height = window
        box = y, y + height, x, x + width
    ranges = list(zip(frame.low, frame.high, strict=True))
    return render(picture, ranges, frame.nodata, box)


def _check_window(window: Box | None, shape: tuple[int, ...], name: str) -> None:
    if window is None:
        return
    x, y, width, height = window
    if min(x, y) < 0 or y + height > shape[0] or x + width > shape[1]:
        raise ImageUnreadable(
            f"{name} is {shape[1]} x {shape[0]} px and has no window {tuple(window)}: "
            "the file was replaced; add the pool again"
        )


class ImageSource:
    """Images by URI: an absolute path, `file:`, any fsspec URL, or else a key of `blobs`.

    Keeps the last decoded images, up to `cache_bytes`, because the tiles of one image are asked
    for one after another. A TIFF of more bytes than that is left on the disk, if its pixels lie
    there as they are. Safe to share between threads.
    """

    def __init__(
        self, blobs: Blobs, *, cache_bytes: int = 256 * 2**20, max_bytes: int = MAX_BYTES
    ) -> None:
        self._blobs = blobs
        self._cache_bytes = cache_bytes
        self._max_bytes = max_bytes
        self._cache: OrderedDict[tuple[str, Frame], NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    def fetch(self, uri: str) -> bytes:
        """Return the bytes of `uri`, all of them.

        Raises `ImageUnreadable` if it is missing, too large or cut short, and `PoolMoved` where
        its whole folder is gone: then the pool has moved, and no image of it is to blame.
        """
        with translate_fetch_errors(uri):
            if _is_key(uri):
                return self._blobs.read(uri)
            path = local_folder(uri)
            return self._fetch_remote(uri) if path is None else self._fetch_file(path)

    def pixels(
        self, uri: str, window: Box | None = None, frame: Frame | None = None
    ) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB, read-only; of the `window` only, if one is given.

        `frame` says which picture of the file, as the catalog records it; None is the first.

        Raises `ImageUnreadable`, also for a window that leaves the image.
        """
        key = uri, frame or Frame()
        with self._lock:
            image = self._cache.get(key)
            if image is not None:
                self._cache.move_to_end(key)
        if image is None and key[1] == Frame():
            image = self._mapped(uri)
        if image is None:
            image, window = self._decode(uri, key, window)
        if window is None:
            return image
        _check_window(window, image.shape, uri)
        x, y, width, height = window
        return image[y : y + height, x : x + width]

    def _decode(
        self, uri: str, key: tuple[str, Frame], window: Box | None
    ) -> tuple[NDArray[np.uint8], Box | None]:
        """Decode the whole and keep it, or the window alone of what is too large to be kept.

        Returns the pixels and what is left to be cut out of them.
        """
        with self._opened(uri) as source, open_pictures(source, uri, MAX_PIXELS) as pictures:
            picture = _picture(pictures, key[1], uri)
            large = picture.size[0] * picture.size[1] * 3 > self._cache_bytes
            if window is not None and large and pictures.by_window:
                _check_window(window, picture.size, uri)
                image = _render(picture, key[1], window)
                window = None
            else:
                image = _render(picture, key[1])
                large = False
        image.flags.writeable = False
        if not large:
            self._keep(key, image)
        return image, window

    @contextmanager
    def _opened(self, uri: str) -> Iterator[Source]:
        """What a file is read from: its path, a seekable remote file, or bytes if they are few."""
        path = None if _is_key(uri) else local_folder(uri)
        if path is not None:
            with translate_fetch_errors(uri):
                _check_file(path)
            yield path
            return
        if _is_key(uri):
            yield self.fetch(uri)
            return
        with translate_fetch_errors(uri):
            fs, remote = file_system(uri)
            small = (fs.info(remote).get("size") or 0) <= _AT_ONCE
        if small:
            yield self.fetch(uri)
            return
        with translate_fetch_errors(uri):
            file = fs.open(remote, "rb", block_size=_BLOCK)
        with file:
            yield io.BufferedReader(RemoteFile(file, uri), _BLOCK)

    def _mapped(self, uri: str) -> NDArray[np.uint8] | None:
        path = None if _is_key(uri) else local_folder(uri)
        if path is None or path.suffix.lower() not in _TIFF or not path.is_file():
            return None
        return map_tiff(path, self._cache_bytes)

    def _keep(self, key: tuple[str, Frame], image: NDArray[np.uint8]) -> None:
        with self._lock:
            self._cache[key] = image
            while sum(kept.nbytes for kept in self._cache.values()) > self._cache_bytes:
                self._cache.popitem(last=False)

    def _fetch_file(self, path: Path) -> bytes:
        _check_file(path)
        self._check_bytes(str(path), path.stat().st_size)
        return path.read_bytes()

    def _fetch_remote(self, uri: str) -> bytes:
        fs, path = file_system(uri)
        size = fs.info(path).get("size")
        self._check_bytes(uri, size or 0)
        data: bytes = fs.cat_file(path)
        if size is not None and len(data) != size:
            raise ImageUnreadable(
                f"{uri} was cut short: {len(data)} of {size} bytes arrived; try again"
            )
        return data

    def _check_bytes(self, uri: str, size: int) -> None:
        if size > self._max_bytes:
            raise ImageUnreadable(
                f"{uri} has {size:,} bytes, more than the limit of {self._max_bytes:,}; "
                "cut it into smaller images"
            )


def _check_file(path: Path) -> None:
    if not path.parent.is_dir():
        raise PoolMoved(
            f"the folder {path.parent} is gone: mount it again, or add the pool from where it "
            "is now with `brushloop pool add`"
        )
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.is_file():  # a pipe would block for ever
        raise ImageUnreadable(f"{path} is not a file")


def _is_key(uri: str) -> bool:
    return not uri.startswith("/") and re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", uri) is None
