"""What a recipe is tuned on: a project's masks, or a folder of images with theirs."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, NothingToLearn
from ml_backend.loop.context import Context
from ml_backend.loop.dataset import dataset_of, looks_of, samples_of
from ml_backend.loop.encoders import Weights, weights_for
from ml_backend.loop.instances import Truth
from ml_backend.loop.mask_folder import MaskFolder, open_masks
from ml_backend.loop.masks import UNKNOWN, load_objects
from ml_backend.loop.splits import split_images
from ml_backend.masks.instances import Objects, components, told_apart
from ml_backend.recipe import Network, Recipe
from ml_backend.store.blobs import Blobs
from ml_backend.store.collection import SourceImage, open_collection
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_values import Values
from ml_backend.store.rows import Project
from ml_backend.store.summary import Summary

if TYPE_CHECKING:
    from ml_backend.learning.data import Sample
    from ml_backend.learning.references import Reference


@dataclass(frozen=True)
class Material:
    """What is learned from and judged by; `fingerprint` changes when any of it does.

    `labels`: names, as many as there are. `truth`: the objects that are told apart on the n-th
    validation image. `targets`: names of the training samples that `training.target_weight` is
    about. `pool`: images whose looks an augmentation may borrow. `weights` fetches what a
    network's encoder starts from. `overlapping`: masks are set maps. `summary`: what became of the
    files of a folder.
    """

    train: "Sequence[Sample]"
    val: "Sequence[Sample]"
    labels: tuple[str, ...]
    fingerprint: str
    truth: Truth
    weights: Callable[[Network], Weights]
    targets: frozenset[str] = frozenset()
    pool: "Sequence[Reference]" = ()
    overlapping: bool = False
    summary: Summary = field(default_factory=Summary)


def material_of(context: Context, project: Project) -> Material:
    """A project's masks, on the two sides of its frozen split."""
    dataset, labels = dataset_of(context, project.id), context.labels(project)
    names = labels.names
    return Material(
        samples_of(context, dataset.train, labels),
        samples_of(context, dataset.val, labels),
        names,
        dataset.fingerprint,
        lambda index: load_objects(context.blobs, dataset.val[index].mask, names)[1],
        weights_for(context.blobs, project.id),
        frozenset(row.tile.title for row in dataset.train if row.tile.image.role == "pool"),
        looks_of(context, project.id),
        labels.overlapping,
    )


def material_in(
    folder: Path | str,
    masks: Path | str,
    recipe: Recipe,
    *,
    labels: Sequence[str] = ("object",),
    values: Values | None = None,
    match: Match = "name",
    blobs: Blobs | None = None,
) -> Material:
    """Images of a folder that have a mask, split as a project's would be; the others are the pool.

    Masks are read as the recipe's `labels` says (`mask_folder.py`). What cannot be read is set
    aside; a file that breaks later raises `DataError`. `blobs`: where versions lie that the recipe
    may name as encoder weights, by default the folder.
    """
    from ml_backend.learning.data import Sample
    from ml_backend.learning.references import Reference

    summary = Summary()
    found = open_collection(folder, recipe, summary, digest=True, masks=masks, labels=labels)
    known = open_masks(found, masks, labels, recipe, values, match, summary=summary)
    pairs = sorted(known.paired, key=lambda image: PurePosixPath(image.file.name))
    split = split_images(pairs, recipe.validation.share, recipe.selection.seed)
    digest = hashlib.sha256(repr(known.question).encode())
    sides: dict[str, list[Sample]] = {"train": [], "val": []}
    judges: list[SourceImage] = []
    for image in pairs:
        try:
            notes = known.reading(image).notes
        except DataError as error:  # one image never stops the others
            summary.add("set_aside", image.name, str(error))
            continue
        for note in notes:
            summary.add("warnings", image.name, note)
        side = split[image.name]
        digest.update(side.encode() + image.identity)
        digest.update(known.files[image.name].digest())
        summary.add("taken", image.name, "learned from" if side == "train" else "judged by")
        sides[side].append(Sample(image.name, partial(_loaded, image, known)))
        judges += [image] if side == "val" else []

    def truth(index: int) -> Objects:
        _, label_map = sides["val"][index].load()
        numbers = known.reading(judges[index]).objects
        return components(label_map) if numbers is None else told_apart(label_map, numbers)

    pool = [
        Reference(image.name, image.pixels)
        for image in known.images
        if image.name not in known.files
    ]
    weights = weights_for(blobs or Blobs(folder))
    return Material(
        sides["train"], sides["val"], known.names, digest.hexdigest(), truth, weights,
        pool=pool, overlapping=known.overlapping, summary=summary,
    )  # fmt: skip


def _loaded(image: SourceImage, masks: MaskFolder) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return image.pixels(), masks.read(image)


def check(material: Material) -> None:
    """Raise `NothingToLearn` where there is nothing to learn from, or nothing to judge by."""
    if not material.train or not material.val:
        raise NothingToLearn(
            f"tuning needs masks to learn from and masks to judge by: there are "
            f"{len(material.train)} training and {len(material.val)} validation images with one"
        )
    if not any(_has_object(sample.load()[1]) for sample in material.val):
        raise NothingToLearn("tuning needs an object in at least one validation mask")


def _has_object(label_map: NDArray[np.uint8]) -> bool:
    return bool(((label_map > 0) & (label_map != UNKNOWN)).any())
