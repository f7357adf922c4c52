"""Looking before training: any augmentation recipe on the user's own images, as one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ConfigError, DataError
from ml_backend.loop.mask_folder import MaskFolder, open_masks
from ml_backend.masks.sets import on_top
from ml_backend.masks.sheet import CELL, Row, contact_sheet, outlined
from ml_backend.recipe import Recipe
from ml_backend.store.blobs import Blobs
from ml_backend.store.images import decode_image, find_images
from ml_backend.store.mask_values import Values

if TYPE_CHECKING:
    from ml_backend.learning.references import Reference

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True)
class SheetReport:
    """Which images are on the sheet, and which could not be, with the reason."""

    shown: tuple[str, ...]
    set_aside: tuple[tuple[str, str], ...]


def augment_sheet(
    images: Path,
    masks: Path,
    out: Path,
    *,
    recipe: Recipe,
    labels: Sequence[str] = ("object",),
    values: Values | None = None,
    pool: Path | None = None,
    rows: int = 6,
    columns: int = 6,
) -> SheetReport:
    """Write a PNG to `out`: in each row a patch of one image as it is, then augmented variants.

    The recipe's training section says which augmentation, patch and seed, its labels section what
    becomes of the `labels` that the masks tell apart; of labels that overlap the last one is
    outlined. `pool` is the folder whose looks some augmentations borrow. Raises `ConfigError`, and
    `DataError` where no image of the folder can be used.
    """
    from ml_backend.learning.augment import AUGMENTATIONS, NEEDS_POOL
    from ml_backend.learning.data import Patches, Sample

    settings = recipe.training
    AUGMENTATIONS[settings.augmentation]  # an unknown name is said before anything is read
    if settings.augmentation in NEEDS_POOL and pool is None:
        raise ConfigError(
            f"{settings.augmentation} borrows the looks of unlabelled images: name their folder "
            "with --pool"
        )
    known = open_masks(find_images(images), masks, labels, recipe, values)
    names, faults = list(known.files), []
    chosen: list[Sample] = []
    for index in np.random.default_rng([settings.seed, 3]).permutation(len(names)):
        if len(chosen) == rows:
            break
        path = names[index]
        name = path.relative_to(images).as_posix()
        try:
            pair = _read(path, known)
        except DataError as error:
            faults.append((name, str(error)))
            continue
        chosen.append(Sample(name, partial(_same, pair)))
    if not chosen:
        reason = faults[0][1] if faults else f"no mask in {masks} has the name of one"
        raise DataError(f"no image in {images} can be shown: {reason}")
    sets = known.overlapping
    looks = _references(pool) if pool else ()
    patches = Patches(chosen, len(known.names), settings, looks, overlapping=sets)
    side = min(settings.patch, CELL)
    lines = [
        Row(name, [outlined(image, on_top(mask) if sets else mask, side) for image, mask in pairs])
        for name, pairs in (patches.variants(index, columns) for index in range(len(chosen)))
    ]
    Blobs(out.absolute().parent).write(out.name, contact_sheet(lines))
    return SheetReport(tuple(line.title for line in lines), tuple(faults))


def _same(pair: Pair) -> Pair:
    return pair


def _open(path: Path) -> NDArray[np.uint8]:
    return decode_image(_bytes(path), path.name)


def _read(image: Path, masks: MaskFolder) -> Pair:
    pixels = _open(image)
    return pixels, masks.read(image, (pixels.shape[0], pixels.shape[1]))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _references(folder: Path) -> "list[Reference]":
    from ml_backend.learning.references import Reference

    return [Reference(path.name, partial(_open, path)) for path in find_images(folder)]
