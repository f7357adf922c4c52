"""Images as learning wants them: any file from a folder or a bucket → (H, W, 3) uint8 RGB."""

import re
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ImageUnreadable, NotFound, PoolMoved
from ml_backend.store.blobs import Blobs, local_folder, natural_order
from ml_backend.store.frames import Frame
from ml_backend.store.raster import MAX_PIXELS, Raster, Source, map_tiff, read_raster

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".gif", ".webp"})
Box = tuple[int, int, int, int]
"""(x, y, width, height) in pixels, such as a `masks.tiles.Window`."""

MAX_BYTES = 2**31
"""Larger files are not fetched."""

_TIFF = {".tif", ".tiff"}
_PERCENTILES = (0.1, 99.9)
_SAMPLE = 2**20  # percentiles of a regular grid of about a million pixels are exact enough


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
    raster = read_raster(source, name, max_pixels, page=frame.page)
    values: NDArray[Any] = raster.values
    if raster.inverted:
        values = ~values if values.dtype.kind in "bu" else values.max() - values
    if raster.palette is not None:
        values = raster.palette[values]
    rgb = _to_8_bit(values)
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., None], 3, axis=2)
    return np.require(_over_white(rgb, raster), np.uint8, "C")


def _to_8_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return np.asarray(values)
    if values.dtype == np.bool_:
        return np.asarray(values * 255, dtype=np.uint8)
    low, high = _range(values)
    if values.dtype == np.uint16:  # by table: a large scan never becomes floats
        return np.asarray(_stretch(np.arange(2**16), low, high)[values], dtype=np.uint8)
    return _stretch(values, low, high)


def _range(values: NDArray[Any]) -> tuple[float, float]:
    """The numbers that become 0 and 255."""
    step = max(1, int((values.size / _SAMPLE) ** 0.5))
    sample = values[::step, ::step].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 0.0
    low, high = np.percentile(sample, _PERCENTILES)
    if high <= low:  # all but a few pixels are equal: let those few be seen
        low, high = sample.min(), sample.max()
    return float(low), float(high)


def _stretch(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    peak = max(abs(low), abs(high))  # the difference of the largest floats would overflow
    numbers = np.where(np.isfinite(values), np.clip(values, low, high), low) / peak
    shares = (numbers - low / peak) / (high / peak - low / peak)
    return np.asarray(np.rint(255 * shares), dtype=np.uint8)


def _over_white(rgb: NDArray[np.uint8], raster: Raster) -> NDArray[np.uint8]:
    opacity = raster.opacity()
    if opacity is None:
        return rgb
    opacity = opacity[..., None]
    blended: NDArray[np.uint8] = np.rint(rgb * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return blended


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
        try:
            if _is_key(uri):
                return self._blobs.read(uri)
            folder = local_folder(uri)
            return self._fetch_remote(uri) if folder is None else self._fetch_file(folder)
        except (ImageUnreadable, PoolMoved):
            raise
        except (FileNotFoundError, NotFound):
            raise ImageUnreadable(
                f"{uri} does not exist; put it back or add the pool again"
            ) from None
        except Exception as error:  # fsspec's back ends raise their vendors' own types
            raise ImageUnreadable(
                f"{uri} cannot be fetched: {type(error).__name__}: {error}"
            ) from error

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
            image = decode_image(self.fetch(uri), uri, frame)
            image.flags.writeable = False
            self._keep(key, image)
        if window is None:
            return image
        x, y, width, height = window
        if min(x, y) < 0 or y + height > image.shape[0] or x + width > image.shape[1]:
            raise ImageUnreadable(
                f"{uri} is {image.shape[1]} x {image.shape[0]} px and has no "
                f"window {tuple(window)}: "
                "the file was replaced; add the pool again"
            )
        return image[y : y + height, x : x + width]

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
        if not path.parent.is_dir():
            raise PoolMoved(
                f"the folder {path.parent} is gone: mount it again, or add the pool from where it "
                "is now with `brushloop pool add`"
            )
        if not path.exists():
            raise FileNotFoundError(path)
        if not path.is_file():  # a pipe would block for ever
            raise ImageUnreadable(f"{path} is not a file")
        self._check_bytes(str(path), path.stat().st_size)
        return path.read_bytes()

    def _fetch_remote(self, uri: str) -> bytes:
        fs, path = fsspec.core.url_to_fs(uri)
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


def _is_key(uri: str) -> bool:
    return not uri.startswith("/") and re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", uri) is None


def find_images(folder: Path) -> list[Path]:
    """Return the image files in `folder` and below, by suffix, in natural order (2 before 10).

    Hidden files and folders are passed over. Raises `NotFound` if `folder` is none.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder; give one that holds images")
    found = []
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if not hidden and path.suffix.lower() in SUFFIXES and path.is_file():
            found.append(inside)
    found.sort(key=lambda inside: natural_order(inside.as_posix()))
    return [folder / inside for inside in found]
