"""Looking before training: any augmentation recipe on the user's own images, as one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ConfigError, DataError
from ml_backend.loop.mask_folder import open_masks
from ml_backend.masks.sets import on_top
from ml_backend.masks.sheet import CELL, Row, contact_sheet, outlined
from ml_backend.recipe import Recipe
from ml_backend.store.blobs import Blobs
from ml_backend.store.collection import open_collection
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_values import Values
from ml_backend.store.summary import Summary

if TYPE_CHECKING:
    from ml_backend.learning.references import Reference

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True)
class SheetReport:
    """Which images are on the sheet, which could not be, with the reason, and all files told."""

    shown: tuple[str, ...]
    set_aside: tuple[tuple[str, str], ...]
    summary: Summary


def augment_sheet(
    images: Path | str,
    masks: Path | str,
    out: Path,
    *,
    recipe: Recipe,
    labels: Sequence[str] = ("object",),
    values: Values | None = None,
    match: Match = "name",
    pool: Path | str | None = None,
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
    summary = Summary()
    faults: list[tuple[str, str]] = []
    collection = open_collection(
        images, recipe, summary, problems=faults, masks=masks, labels=labels
    )
    known = open_masks(collection, masks, labels, recipe, values, match, summary=summary)
    paired = known.paired
    chosen: list[Sample] = []
    for index in np.random.default_rng([settings.seed, 3]).permutation(len(paired)):
        if len(chosen) == rows:
            break
        image = paired[index]
        try:
            pair = image.pixels(), known.read(image)
        except DataError as error:
            faults.append((image.name, str(error)))
            summary.add("set_aside", image.name, str(error))
            continue
        summary.add("taken", image.name, "shown")
        chosen.append(Sample(image.name, partial(_same, pair)))
    if not chosen:
        reason = faults[0][1] if faults else f"no mask in {masks} has the name of one"
        raise DataError(f"no image in {images} can be shown: {reason}")
    sets = known.overlapping
    looks = _references(pool, recipe) if pool else ()
    patches = Patches(chosen, len(known.names), settings, looks, overlapping=sets)
    side = min(settings.patch, CELL)
    lines = [
        Row(name, [outlined(image, on_top(mask) if sets else mask, side) for image, mask in pairs])
        for name, pairs in (patches.variants(index, columns) for index in range(len(chosen)))
    ]
    Blobs(out.absolute().parent).write(out.name, contact_sheet(lines))
    return SheetReport(tuple(line.title for line in lines), tuple(faults), summary)


def _same(pair: Pair) -> Pair:
    return pair


def _references(address: Path | str, recipe: Recipe) -> "list[Reference]":
    from ml_backend.learning.references import Reference

    return [Reference(image.name, image.pixels) for image in open_collection(address, recipe)]
