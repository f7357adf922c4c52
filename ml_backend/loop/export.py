"""Masks out: people's where there are any, the current model's for the rest, tiles stitched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import NotFound, UnknownName
from ml_backend.export import EXPORTERS, ExportItem
from ml_backend.export import Report as Written
from ml_backend.loop.annotators import labelled
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.masks import UNKNOWN, load_mask, write_mask
from ml_backend.loop.models import Models, Serving
from ml_backend.recipe import Annotators
from ml_backend.store.rows import Image, Labelled

SOURCES = ("people", "model", "both")


@dataclass(frozen=True)
class Export:
    """What was written: one report a format."""

    images: int
    written: dict[str, Written]


def export(
    context: Context,
    project_id: int,
    folder: Path,
    *,
    formats: Sequence[str] = ("png", "coco"),
    source: str = "both",
    annotators: Annotators | None = None,
    progress: Progress,
) -> Export:
    """Write the masks of a project below `folder`, whole or not at all for each format.

    `people`: images with at least one finished tile, unknown (255) where nobody has been;
    `both`: the current model fills in the rest; `model`: what it says of every image.
    `annotators`: whose masks count, None: as the recipe says. Raises `NotFound` when there is
    nothing to export.
    """
    if source not in SOURCES:
        raise UnknownName(f"unknown source {source!r}; choose one of: {', '.join(SOURCES)}")
    project = context.catalog.projects.get(project_id)
    images = {tile.image.name: tile.image for tile in context.catalog.pool.tiles(project_id)}
    people = _by_image(labelled(context, project_id, annotators))
    images |= {items[0].tile.image.name: items[0].tile.image for items in people.values()}
    serving = None if source == "people" else Models(context).current(project)
    if source == "people" or serving is None:
        images = {name: image for name, image in images.items() if image.id in people}
    if source == "model":
        people = {}
    if not images or (source == "model" and serving is None):
        raise NotFound(
            f"project {project_id} has nothing to export from {source!r}: "
            "submit annotations and `brushloop sync`, or wait for the first model"
        )
    written = {}
    for name in formats:
        labels = context.labels(project)
        items = _items(context, images, people, serving, labels.names, progress)
        written[name] = EXPORTERS[name](items, folder, labels)
    return Export(len(images), written)


def _by_image(items: Sequence[Labelled]) -> dict[int, list[Labelled]]:
    found: dict[int, list[Labelled]] = {}
    for item in items:
        found.setdefault(item.tile.image.id, []).append(item)
    return found


def _items(
    context: Context,
    images: dict[str, Image],
    people: dict[int, list[Labelled]],
    serving: Serving | None,
    labels: Sequence[str],
    progress: Progress,
) -> Iterator[ExportItem]:
    for done, (name, image) in enumerate(sorted(images.items())):
        progress(done, len(images), name)
        mine = people.get(image.id, [])
        label_map = _stitch(context, image, mine, serving, labels)
        yield ExportItem(
            name,
            label_map,
            "annotation" if mine else "model",
            version=serving.version if serving else None,
            split=image.split,
        )
    progress(len(images), len(images), "written")


def _stitch(
    context: Context,
    image: Image,
    people: Sequence[Labelled],
    serving: Serving | None,
    labels: Sequence[str],
) -> NDArray[np.uint8]:
    """The model's prediction of the whole image, with people's tiles laid over it."""
    covered = np.zeros((image.height, image.width), bool)
    canvas = np.full((image.height, image.width), UNKNOWN, np.uint8)
    for item in people:
        tile = item.tile
        place = np.s_[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        canvas[place] = load_mask(context.blobs, item.mask, labels)
        covered[place] = True
    if serving is not None and not covered.all():
        canvas[~covered] = _predicted(context, image, serving, labels)[~covered]
    return canvas


def _predicted(
    context: Context, image: Image, serving: Serving, labels: Sequence[str]
) -> NDArray[np.uint8]:
    """What a version says of a whole image; kept, because every format asks again."""
    key = f"predicted/{serving.version}/{image.id}-{image.sha256[:16]}.png"
    if not context.blobs.exists(key):
        label_map = serving.label_map(context.whole(image), serving.labels)
        write_mask(context.blobs, key, label_map, serving.labels)
    return load_mask(context.blobs, key, labels)
