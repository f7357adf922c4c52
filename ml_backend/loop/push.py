"""From a recorded round to Label Studio tasks with pre-annotations."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from ml_backend.errors import BrushloopError, LabelConfigError, StudioError, StudioRefused
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.models import Models
from ml_backend.loop.predict import predictions_for, readable_tiles, regions_of
from ml_backend.loop.site import image_prefix
from ml_backend.masks.labels import LabelConfig
from ml_backend.recipe import Recipe
from ml_backend.store.frames import Frame
from ml_backend.store.names import original_name
from ml_backend.store.rows import Image, Prediction, Project, Round, Task, Tile
from ml_backend.studio.addresses import kept_address

BROWSERS_SHOW = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})
CHUNK = 10  # tasks an import: small enough to show progress, large enough to be quick


def push(context: Context, project: Project, record: Round, progress: Progress) -> int:
    """Push what Label Studio does not have yet of a round; returns how many tasks that were.

    Tiles that a task shows already, whoever made it, are not pushed. Raises `StudioRefused` where
    Label Studio says no, and `LabelConfigError` where the labeling config has no place for the
    images: then what did not arrive is not in the round any more, and a round of which nothing
    arrived is forgotten. Whatever else cuts a push off is carried on by the next one.
    """
    have = _arrived(context, project, record)
    theirs = context.catalog.work.existing(project.id, deleted=True).values()
    have |= {tile_id for tile_id in theirs if tile_id is not None}
    waiting = [item.tile_id for item in record.chosen if item.tile_id not in have]
    tiles = context.catalog.pool.by_ids(waiting)
    serving = Models(context).current(project)
    pushed = 0
    for start in range(0, len(waiting), CHUNK):
        part = [tiles[tile_id] for tile_id in waiting[start : start + CHUNK]]
        made = predictions_for(context, project, serving, part) if serving else {}
        try:
            pushed += _import(context, project, record, list(readable_tiles(context, part)), made)
        except (StudioRefused, LabelConfigError) as error:
            raise _taken_back(context, project, record, error) from error
        progress(pushed, len(waiting), f"round {record.number}: {pushed} tasks pushed")
    return pushed


def _taken_back(
    context: Context, project: Project, record: Round, error: StudioRefused | LabelConfigError
) -> BrushloopError:
    """Keep of a round what Label Studio has, and say so."""
    kept = {task.tile_id for task in context.catalog.work.tasks(project.id)}
    kept &= {item.tile_id for item in record.chosen}
    context.catalog.rounds.take_back(record.id, [tile_id for tile_id in kept if tile_id])
    left = f"{len(kept)} tasks of it arrived before" if kept else "nothing of it is left there"
    return type(error)(
        f"round {record.number} was refused, {left}: {error}; what to do about it says "
        f"`brushloop doctor --project {project.id}`, then `brushloop select` chooses again"
    )


def _arrived(context: Context, project: Project, record: Round) -> set[int]:
    """Tiles of the round that an interrupted push brought to Label Studio."""
    wanted = {item.tile_id for item in record.chosen}
    tasks = context.catalog.work.tasks(project.id)
    have = {task.tile_id for task in tasks if task.tile_id in wanted and task.tile_id}
    if len(have) == len(wanted):
        return have
    found = {}
    for info in context.studio.tasks_of_round(project.id, record.number):
        tile_id = info.data.get("tile")
        if tile_id in wanted - have and shows(context.catalog.pool.tile(tile_id), info.data):
            uri = kept_address(context.labels(project).image.read(info.data))
            found[tile_id] = Task(info.id, tile_id, uri, record.id, info.updated_at)
    context.catalog.work.save_tasks(project.id, list(found.values()))
    return have | set(found)


def shows(tile: Tile, data: Mapping[str, Any]) -> bool:
    """Whether a task's data name this tile: numbers alone may be those of another catalog."""
    return all(data.get(key) == value for key, value in _place(tile).items())


def _place(tile: Tile) -> dict[str, Any]:
    box = {"x": tile.x, "y": tile.y, "width": tile.width, "height": tile.height}
    return box | {"name": tile.image.name, "tile": tile.id}


def task_data(
    labels: LabelConfig, recipe: Recipe, tile: Tile, number: int, address: str
) -> dict[str, Any]:
    """Give the data of a task of round `number` that shows a tile, whose image has this address.

    Further keys that the labeling config names say what the recipe's `pool.data` has them say.
    Raises `LabelConfigError` where the labeling config cannot show such an address.
    """
    texts = {
        key: text.replace("{name}", tile.image.name).replace("{image}", address)
        for key, text in recipe.pool.data.items()
    }
    return labels.image.write(address, _place(tile) | {"round": number}, texts)


def _import(
    context: Context,
    project: Project,
    record: Round,
    tiles: Sequence[tuple[Tile, NDArray[np.uint8]]],
    predictions: dict[int, Prediction],
) -> int:
    labels, recipe = context.labels(project), project.recipe
    prefix = image_prefix(context, project.id)
    for tile, _ in tiles:  # before anything is uploaded
        uploaded = f"{prefix}/data/upload/{project.id}/{_file_name(tile)}"
        likely = referenced(recipe, tile, prefix) or uploaded
        task_data(labels, recipe, tile, record.number, likely)
    urls = _addresses(context, project, tiles)
    try:
        bodies = [
            _task(task_data(labels, recipe, tile, record.number, url), predictions.get(tile.id))
            for (tile, _), url in zip(tiles, urls, strict=True)
        ]
        ids = context.studio.import_tasks(project.id, bodies)
    except (StudioRefused, LabelConfigError):
        with suppress(StudioError):  # the refusal says more
            context.studio.delete_uploads(project.id, urls)
        raise
    context.catalog.work.save_tasks(
        project.id,
        [
            Task(task_id, tile.id, kept_address(url), record.id)
            for task_id, (tile, _), url in zip(ids, tiles, urls, strict=True)
        ],
    )
    shown = [tile.id for tile, _ in tiles if tile.id in predictions]
    if shown:
        context.catalog.rounds.mark_shown(predictions[shown[0]].model, shown)
    return len(ids)


def _addresses(
    context: Context, project: Project, tiles: Sequence[tuple[Tile, NDArray[np.uint8]]]
) -> list[str]:
    """Where Label Studio finds each tile: in the pool itself if the recipe says so, else uploaded.

    What a browser cannot show as it is, a tile, a TIFF, deep greys, is always uploaded as PNG.
    Below a sub-path browsers need it in the address.
    """
    prefix = image_prefix(context, project.id)
    known = {
        tile.id: address
        for tile, _ in tiles
        if (address := referenced(project.recipe, tile, prefix))
    }
    rest = [(tile, image) for tile, image in tiles if tile.id not in known]
    files = [(_file_name(tile), _png(image)) for tile, image in rest]
    uploaded = context.studio.upload_images(project.id, files) if files else []
    known |= {tile.id: prefix + url for (tile, _), url in zip(rest, uploaded, strict=True)}
    return [known[tile.id] for tile, _ in tiles]


def referenced(recipe: Recipe, tile: Tile, prefix: str) -> str | None:
    """Give the address of a tile in the pool itself; None where it is uploaded."""
    base = recipe.pool.reference
    if not base or not _shown_as_it_is(tile):
        return None
    name = _own_name(tile.image)
    if _in_bucket(base) and os.fsencode(name) != name.encode(errors="replace"):
        return None  # no object is called so: the pool is a folder whose copy is in the bucket
    return _below(_prefixed(base, prefix), name)


def _prefixed(base: str, prefix: str) -> str:
    """Give a file that Label Studio serves itself the address that browsers need."""
    return prefix + base if base.startswith("/data/") else base


def _shown_as_it_is(tile: Tile) -> bool:
    """Whether a browser shows the tile's file as the network sees the tile."""
    suffix = PurePosixPath(tile.image.name).suffix.lower()
    return tile.whole and tile.image.frame == Frame() and suffix in BROWSERS_SHOW


def _own_name(image: Image) -> str:
    """The name of the image's file where it lies, below the pool's folder."""
    return image.name if image.original is None else original_name(image.original)


def _in_bucket(base: str) -> bool:
    return base.partition("://")[0] in {"s3", "gs", "azure-blob"}


def _below(base: str, name: str) -> str:
    in_bucket = _in_bucket(base)
    return f"{base.rstrip('/')}/{name if in_bucket else quote(os.fsencode(name))}"


def _task(data: dict[str, Any], prediction: Prediction | None) -> dict[str, Any]:
    body: dict[str, Any] = {"data": data}
    if prediction is not None:
        body["predictions"] = [
            {
                "result": regions_of(prediction),
                "score": prediction.score,
                "model_version": prediction.model,
            }
        ]
    return body


def _file_name(tile: Tile) -> str:
    stem = tile.image.name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in stem)
    return f"{tile.id}_{plain[:80]}_{tile.x}_{tile.y}.png"


def _png(image: NDArray[np.uint8]) -> bytes:
    grey = bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())
    buffer = BytesIO()
    Picture.fromarray(np.ascontiguousarray(image[..., 0] if grey else image)).save(
        buffer, "PNG", compress_level=3
    )
    return buffer.getvalue()
