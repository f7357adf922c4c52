"""Masks of a clean image folder by thresholding, to be learned from as a source."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.errors import ConfigError, DataError
from ml_backend.loop.context import Progress, silent
from ml_backend.masks.classical import METHODS, foreground_mask
from ml_backend.masks.sheet import Row, contact_sheet, outlined
from ml_backend.store.blobs import Blobs
from ml_backend.store.images import decode_image, find_images
from ml_backend.store.mask_matching import match_masks
from ml_backend.store.mask_values import read_mask

_SHOWN = 30
_IN_A_ROW = 3


@dataclass(frozen=True)
class Thresholding:
    """How objects are told from the background; see `masks.classical.foreground_mask`."""

    method: str = "hysteresis"
    min_area: int = 16
    closing: int = 0
    opening: int = 0
    largest: int | None = None


@dataclass(frozen=True)
class BootstrapReport:
    """What became of the images: names of those written, left alone, without any object."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    empty: tuple[str, ...]
    set_aside: tuple[tuple[str, str], ...]


def bootstrap(
    images: Path,
    masks: Path,
    *,
    how: Thresholding | None = None,
    sheet: Path | None = None,
    progress: Progress = silent,
) -> BootstrapReport:
    """Write an 8-bit PNG (255 object, 0 background) to `masks` for each image that has none.

    A mask that is there is never touched: somebody may have corrected it. Images in which nothing
    is found get no mask, which would say that there is nothing. `sheet`: a PNG of images beside
    their outlined masks, up to 30 of all that have one now. Raises `ConfigError`, `DataError`.
    """
    how = how or Thresholding()
    METHODS[how.method]  # an unknown name is said before anything is read
    if masks.resolve().is_relative_to(images.resolve()):
        raise ConfigError(f"{masks} lies in {images}: masks need a folder of their own")
    files = find_images(images)
    if not files:
        raise DataError(f"no images in {images}: PNG, JPEG, TIFF and BMP are read")
    known = _known(images, files, masks)
    names = {path: path.relative_to(images).with_suffix(".png").as_posix() for path in files}
    _check_names(names, known)
    place = Blobs(masks.absolute())
    written, empty, faults = [], [], []
    for done, path in enumerate(files):
        name = path.relative_to(images).as_posix()
        progress(done, len(files), name)
        if path in known:
            continue
        try:
            found = foreground_mask(decode_image(_bytes(path), name), **vars(how))
        except DataError as error:
            faults.append((name, str(error)))
            continue
        if found.any():
            place.write(names[path], _png(found))
            written.append(name)
        else:
            empty.append(name)
    progress(len(files), len(files), "masks written")
    if sheet is not None:
        _draw(images, _known(images, files, masks), sheet)
    kept = tuple(path.relative_to(images).as_posix() for path in files if path in known)
    return BootstrapReport(tuple(written), kept, tuple(empty), tuple(faults))


def _known(images: Path, files: Sequence[Path], masks: Path) -> dict[Path, Path]:
    """The masks that are there, of those images that have one."""
    if not masks.is_dir():
        return {}
    names = [path.relative_to(images).as_posix() for path in files]
    others = [path.relative_to(masks).as_posix() for path in find_images(masks)]
    pairs = match_masks(names, others).pairs
    return {images / name: masks / pair.parts[0].mask for name, pair in pairs.items()}


def _check_names(names: dict[Path, str], known: dict[Path, Path]) -> None:
    """Two images must not want one mask file."""
    counts = Counter(name for path, name in names.items() if path not in known)
    for path, name in names.items():
        if counts[name] > 1:
            others = [other.name for other in names if names[other] == name]
            raise DataError(
                f"{' and '.join(others)} in {path.parent} would share the mask {name}; give each "
                "image its own name"
            )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _png(mask: NDArray[np.bool_]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(buffer, "PNG")
    return buffer.getvalue()


def _draw(images: Path, pairs: dict[Path, Path], sheet: Path) -> None:
    """Images beside their masks, evenly chosen from all."""
    shown: list[tuple[str, list[NDArray[np.uint8]]]] = []
    paths = list(pairs)
    for index in np.unique(np.linspace(0, len(paths) - 1, _SHOWN).astype(int)) if paths else ():
        path = paths[index]
        try:
            image = decode_image(_bytes(path), path.name)
            shape = image.shape[0], image.shape[1]
            mask = read_mask(_bytes(pairs[path]), pairs[path].name, shape=shape)
        except DataError:
            continue  # what cannot be read is in the report, or will be said by `pool add`
        name = path.relative_to(images).as_posix()
        shown.append((name, [outlined(image, mask * np.uint8(0)), outlined(image, mask)]))
    rows = [_row(shown[at : at + _IN_A_ROW]) for at in range(0, len(shown), _IN_A_ROW)]
    if rows:
        Blobs(sheet.absolute().parent).write(sheet.name, contact_sheet(rows))


def _row(cells: Sequence[tuple[str, list[NDArray[np.uint8]]]]) -> Row:
    return Row(
        " · ".join(name for name, _ in cells), [picture for _, pair in cells for picture in pair]
    )
