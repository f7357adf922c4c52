"""What a candidate learns from: people's masks and source images, on the two sides of the split."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.annotators import labelled, names_of
from ml_backend.loop.context import Context
from ml_backend.loop.encoders import start_of
from ml_backend.loop.masks import load_mask
from ml_backend.masks.labels import LabelConfig
from ml_backend.store.rows import Labelled, Project

if TYPE_CHECKING:
    from ml_backend.learning.data import Sample
    from ml_backend.learning.references import Reference


@dataclass(frozen=True)
class Dataset:
    """The labelled tiles of a project, of which `annotated` are people's.

    `fingerprint` changes when any of it does. A tile is there as often as the recipe's
    `loop.annotators` lets annotations of it count.
    """

    train: tuple[Labelled, ...]
    val: tuple[Labelled, ...]
    annotated: int
    masks: tuple[str, ...]  # "tile:mask" of each annotation, to count what is new later
    fingerprint: str


def dataset_of(context: Context, project_id: int) -> Dataset:
    """Collect what there is to learn from.

    Source images validate only as long as people have not annotated any validation
    image: the gate must judge by the domain that matters.
    """
    annotated = labelled(context, project_id)
    answered = {item.tile.id for item in annotated}
    sources = [
        item for item in context.catalog.pool.sources(project_id) if item.tile.id not in answered
    ]
    train = [item for item in annotated if item.tile.image.split == "train"]
    val = [item for item in annotated if item.tile.image.split == "val"]
    source_val = [item for item in sources if item.tile.image.split == "val"]
    if val:
        train += sources
    else:
        val = source_val
        train += [item for item in sources if item.tile.image.split == "train"]
    project = context.catalog.projects.get(project_id)
    cut = {"instances"} if project.recipe.instances.enabled else set()
    sections = {"network", "training", "schedule"} | cut
    learning = project.recipe.model_dump_json(include=sections)
    digest = hashlib.sha256(learning.encode())
    labels = context.labels(project)
    digest.update(repr(labels.names).encode() + b"overlapping" * labels.overlapping)
    start = start_of(context.blobs, project.recipe.network, project_id)
    if start.sha256 is not None:  # the same name may stand for other weights one day
        digest.update(start.sha256.encode())
    scoring = project.recipe.scoring
    if scoring.passes == "ensemble":
        digest.update(repr((scoring.members, scoring.member_share)).encode())
    for side, items in (("train", train), ("val", val)):
        for item in items:
            tile = item.tile
            place = (side, tile.image.sha256, tile.x, tile.y, tile.width, tile.height, item.mask)
            digest.update(repr(place).encode())
    masks = names_of(annotated)
    fingerprint = prefix_of(masks) + digest.hexdigest()[16:]
    return Dataset(tuple(train), tuple(val), len(answered), masks, fingerprint)


def newest_round(context: Context, project_id: int, dataset: Dataset) -> int:
    """Number of the newest round that was answered in `dataset`; 0 before any.

    It follows from the data alone, so that a training that was killed finds it again.
    """
    tiles = {item.tile.id for item in (*dataset.train, *dataset.val)}
    answered = {
        task.round_id for task in context.catalog.work.tasks(project_id) if task.tile_id in tiles
    }
    rounds = context.catalog.rounds.all(project_id)
    return max((record.number for record in rounds if record.id in answered), default=0)


def prefix_of(masks: Sequence[str]) -> str:
    """How fingerprints of data with these masks begin, whatever else is learned from."""
    return hashlib.sha256("\n".join(masks).encode()).hexdigest()[:16]


def samples_of(
    context: Context, items: Sequence[Labelled], labels: LabelConfig, target_weight: float = 1
) -> "list[Sample]":
    """Turn labelled tiles into samples that load their pixels when they are needed.

    Source images weigh 1, what people annotated of the pool `target_weight`.
    """
    from ml_backend.learning.data import Sample

    def loader(item: Labelled) -> Callable[[], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        return lambda: (context.pixels(item.tile), mask_of(item))

    def mask_of(item: Labelled) -> NDArray[np.uint8]:
        return load_mask(context.blobs, item.mask, labels.names, overlapping=labels.overlapping)

    weights = {"pool": target_weight, "source": 1.0}
    return [Sample(item.tile.title, loader(item), weights[item.tile.image.role]) for item in items]


def source_keys(context: Context, project: Project, dataset: Dataset) -> dict[str, object]:
    """Give the recipe's keys that differ while nothing but source images is learned from."""
    wanted = project.recipe.training.source_augmentation
    roles = {item.tile.image.role for item in dataset.train}
    if wanted is None or roles != {"source"} or not looks_of(context, project.id):
        return {}
    return {"training.augmentation": wanted}


def references_of(context: Context, project: Project) -> "list[Reference]":
    """Give the images whose looks the augmentation may borrow, if it does."""
    from ml_backend.learning.augment import NEEDS_POOL

    if project.recipe.training.augmentation not in NEEDS_POOL:
        return []
    return looks_of(context, project.id)


def looks_of(context: Context, project_id: int) -> "list[Reference]":
    """Give the pool's images but for those of the validation: even their looks must not help."""
    from ml_backend.learning.references import Reference

    return [
        Reference(image.name, partial(context.whole, image))
        for image in context.catalog.pool.images(project_id)
        if (image.role, image.split, image.status) == ("pool", "train", "ready")
    ]
