"""Masks of a clean image folder by thresholding, to be learned from as a source."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.errors import ConfigError, DataError, NotFound
from ml_backend.loop.context import Progress, silent
from ml_backend.masks.classical import METHODS, foreground_mask
from ml_backend.masks.sheet import Row, contact_sheet, outlined
from ml_backend.recipe import Recipe
from ml_backend.store.blobs import Blobs, local_folder
from ml_backend.store.collection import SourceImage, open_collection
from ml_backend.store.listing import absolute
from ml_backend.store.mask_files import LabelUse, MaskFiles
from ml_backend.store.mask_pairing import pair_masks
from ml_backend.store.summary import Summary

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
    summary: Summary


def bootstrap(
    images: Path | str,
    masks: Path | str,
    *,
    how: Thresholding | None = None,
    sheet: Path | None = None,
    recipe: Recipe | None = None,
    progress: Progress = silent,
) -> BootstrapReport:
    """Write an 8-bit PNG (255 object, 0 background) to `masks` for each image that has none.

    Both are folders or fsspec addresses; the recipe says what of each file is an image. A mask that
    is there is never touched: somebody may have corrected it. Images in which nothing is found get
    no mask, which would say that there is nothing. `sheet`: a PNG of images beside their outlined
    masks, up to 30 of all that have one now. Raises `ConfigError`, `DataError`.
    """
    how = how or Thresholding()
    METHODS[how.method]  # an unknown name is said before anything is read
    _check_apart(images, masks)
    summary = Summary()
    faults: list[tuple[str, str]] = []
    found = open_collection(images, recipe or Recipe(), summary, problems=faults)
    known = _known(found, masks)
    names = _mask_names(found)
    place = Blobs(absolute(masks))
    written, empty = [], []
    for done, image in enumerate(found):
        progress(done, len(found), image.name)
        if image.name in known:
            summary.add("taken", image.name, "has a mask, which stays")
            continue
        try:
            objects = foreground_mask(image.pixels(), **vars(how))
        except DataError as error:
            faults.append((image.name, str(error)))
            summary.add("set_aside", image.name, str(error))
            continue
        if objects.any():
            place.write(names[image.name], _png(objects))
            written.append(image.name)
            summary.add("taken", image.name, "mask written")
        else:
            empty.append(image.name)
            summary.add("set_aside", image.name, "nothing is found in it")
    progress(len(found), len(found), "masks written")
    if sheet is not None:
        _draw(found, _known(found, masks), sheet)
    kept = tuple(image.name for image in found if image.name in known)
    return BootstrapReport(tuple(written), kept, tuple(empty), tuple(faults), summary)


def _check_apart(images: Path | str, masks: Path | str) -> None:
    """Masks below the images would be taken for images the next time."""
    place, folder = local_folder(str(masks)), local_folder(str(images))
    if place is None or folder is None:
        inside = f"{masks}/".startswith(f"{str(images).rstrip('/')}/")
    else:
        inside = place.resolve().is_relative_to(folder.resolve())
    if inside:
        raise ConfigError(f"{masks} lies in {images}: masks need a folder of their own")


def _known(images: Sequence[SourceImage], masks: Path | str) -> Mapping[str, MaskFiles]:
    """The masks that are there, of those images that have one."""
    try:
        return pair_masks(images, masks, needed=False).files
    except NotFound:  # none is there yet
        return {}


def _mask_names(images: Sequence[SourceImage]) -> dict[str, str]:
    """Image → its mask's name: `a.png` of `a.tif`; where two would share it, `a.tif.png`."""
    plain = {image.name: PurePosixPath(image.name).with_suffix(".png") for image in images}
    counts = Counter(plain.values())
    return {
        name: f"{name}.png" if counts[mask] > 1 else mask.as_posix() for name, mask in plain.items()
    }


def _png(mask: NDArray[np.bool_]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(buffer, "PNG")
    return buffer.getvalue()


def _draw(images: Sequence[SourceImage], masks: Mapping[str, MaskFiles], sheet: Path) -> None:
    """Images beside their masks, evenly chosen from all."""
    shown: list[tuple[str, list[NDArray[np.uint8]]]] = []
    paired = [image for image in images if image.name in masks]
    for index in np.unique(np.linspace(0, len(paired) - 1, _SHOWN).astype(int)) if paired else ():
        one = paired[index]
        try:
            image = one.pixels()
            mask = masks[one.name].read((one.height, one.width), LabelUse(("object",))).mask
        except DataError:
            continue  # what cannot be read is in the report, or will be said by `pool add`
        shown.append((one.name, [outlined(image, mask * np.uint8(0)), outlined(image, mask)]))
    rows = [_row(shown[at : at + _IN_A_ROW]) for at in range(0, len(shown), _IN_A_ROW)]
    if rows:
        Blobs(sheet.absolute().parent).write(sheet.name, contact_sheet(rows))


def _row(cells: Sequence[tuple[str, list[NDArray[np.uint8]]]]) -> Row:
    return Row(
        " · ".join(name for name, _ in cells), [picture for _, pair in cells for picture in pair]
    )
