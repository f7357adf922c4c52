"""Predictions: made once for each tile and version, kept, and shown in Label Studio."""

import logging
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from ml_backend.errors import DataError, RegionError, StudioRefused
from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.existing import fetch_images
from ml_backend.loop.models import WHOLE, Likeliest, Models, Serving
from ml_backend.masks.instances import Objects
from ml_backend.masks.labels import LabelConfig
from ml_backend.masks.regions import encode_results
from ml_backend.masks.watershed import objects
from ml_backend.recipe import Instances
from ml_backend.recipe import Prediction as PredictionRecipe
from ml_backend.selection.uncertainty import confidence
from ml_backend.store.rows import Prediction, Project, Tile

log = logging.getLogger(__name__)
CHUNK = 16  # tiles between two looks at the catalog: what a crash may cost
LEAST_SURE_FIRST = "Uncertainty sampling"  # Label Studio's name for it
SPECKS = (64, 1024)  # pixels; smaller objects are left out of a prediction that is too large


def predict(context: Context, project_id: int, progress: Progress) -> Report:
    """Show the current model's predictions on the open tasks that lack them.

    Those are the tasks of the rounds: Label Studio serves what has predictions of the version that
    is shown, the least sure first, so that *Label All Tasks* stays with the batch. Where nothing
    is selected they are all tasks.
    """
    project = context.catalog.projects.get(project_id)
    serving = Models(context).current(project)
    if serving is None:
        return Report("there is no model yet")
    selects = project.recipe.loop.auto_select or context.catalog.rounds.any(project_id)
    if not selects:
        fetch_images(context, project, progress)
    tasks: dict[int, list[int]] = {}
    for task in context.catalog.work.tasks(project_id, open_only=True):
        if task.tile_id is not None and (task.round_id is not None or not selects):
            tasks.setdefault(task.tile_id, []).append(task.id)
    shown, reduced = show_predictions(context, project, serving, tasks, progress)
    show_version(context, project_id, serving.version)
    summary = f"{serving.version} shown on {shown} open tasks"
    if reduced:
        summary += f"; {reduced} predictions are too large to be shown whole, see the status"
    numbers = {"version": serving.version, "shown": shown, "reduced": reduced}
    return Report(summary, numbers)


def show_predictions(
    context: Context,
    project: Project,
    serving: Serving,
    tasks: Mapping[int, Sequence[int]],
    progress: Progress,
) -> tuple[int, int]:
    """Show a version on tasks, tile → its tasks, where it is not shown yet.

    Returns how many tiles there were, and how many predictions are not shown whole.
    """
    key = project.recipe.prediction.shown_key
    known = context.catalog.rounds.predictions(serving.version, tasks, key)
    waiting = [tile_id for tile_id in sorted(tasks) if not getattr(known.get(tile_id), "shown", 0)]
    tiles = context.catalog.pool.by_ids(waiting)
    shown = reduced = 0
    for start in range(0, len(waiting), CHUNK):
        part = [tiles[tile_id] for tile_id in waiting[start : start + CHUNK] if tile_id in tiles]
        made = predictions_for(context, project, serving, part)
        gone = context.studio.post_predictions(
            project.id,
            [
                {
                    "task": task_id,
                    "result": regions_of(row),
                    "score": row.score,
                    "model_version": row.model,
                }
                for tile_id, row in made.items()
                for task_id in tasks[tile_id]
            ],
        )
        context.catalog.work.mark_deleted(sorted(gone))
        context.catalog.rounds.mark_shown(serving.version, made)
        shown += sum(not gone.issuperset(tasks[tile_id]) for tile_id in made)
        reduced += sum(row.note is not None for row in made.values())
        progress(shown, len(waiting), f"{serving.version}: shown on {shown} tasks")
    return shown, reduced


def show_version(context: Context, project_id: int, version: str) -> None:
    """Have Label Studio show this version, which it refuses while it has no prediction of it.

    Its own ordering by uncertainty looks at the predictions of the version that is shown.
    """
    first = context.catalog.projects.get(project_id).recipe.loop.uncertain_first
    sampling = LEAST_SURE_FIRST if first else None
    try:
        context.studio.set_model_version(project_id, version, sampling=sampling)
    except StudioRefused as error:
        log.info("project %s does not show %s yet: %s", project_id, version, error)


def predictions_for(
    context: Context, project: Project, serving: Serving, tiles: Sequence[Tile]
) -> dict[int, Prediction]:
    """Tile → prediction; what the catalog has is taken from there, the rest is computed.

    What it has of another `prediction` in the recipe is computed again.

    Tiles whose image cannot be read are quarantined and left out.
    """
    recipe = project.recipe.prediction
    key = recipe.shown_key
    found = context.catalog.rounds.predictions(serving.version, [tile.id for tile in tiles], key)
    missing = [tile for tile in tiles if tile.id not in found]
    labels = context.labels(project)
    readable: deque[Tile] = deque()

    def pixels() -> Iterator[NDArray[np.uint8]]:
        for tile, image in readable_tiles(context, missing):
            readable.append(tile)
            yield image

    fresh = []
    names, sets = labels.names, labels.overlapping
    for said in serving.likeliest_many(pixels(), names, overlapping=sets):
        tile = readable.popleft()
        regions, score, note = regions_from(said, labels, recipe, serving.instances)
        body = zlib.compress(orjson.dumps(regions, option=orjson.OPT_SERIALIZE_NUMPY), 1)
        fresh.append(Prediction(tile.id, serving.version, score, body, note=note, key=key))
        if note is not None:
            log.warning("project %s, prediction of %s: %s", project.id, tile.title, note)
    context.catalog.rounds.save_predictions(fresh)
    return found | {row.tile_id: row for row in fresh}


def readable_tiles(
    context: Context, tiles: Sequence[Tile]
) -> Iterator[tuple[Tile, NDArray[np.uint8]]]:
    """Tiles with their pixels; an image that broke since it was added is quarantined."""
    for tile in tiles:
        try:
            yield tile, context.pixels(tile)
        except DataError as error:
            context.catalog.pool.quarantine(tile.image.id, str(error))


def regions_from(
    said: Likeliest,
    labels: LabelConfig,
    recipe: PredictionRecipe,
    instances: Instances = WHOLE,
) -> tuple[list[dict[str, object]], float, str | None]:
    """A label map → Label Studio's regions with their scores, and the confidence of the whole.

    One region a label, or an object where `instances` cuts them apart; regions of labels that may
    overlap do. The third is a note for people where the regions are too large and not all are
    given. A region's score is the mean probability of its label inside it. The streams are arrays,
    which orjson writes ten times as fast as lists.
    """
    found = objects(said.label_map, instances) if instances.enabled else None
    sure = confidence(
        "least_confidence", 1 - said.mean, 1 if labels.overlapping else len(labels.labels)
    )
    regions, note = _drawable(said, labels, recipe, found)
    return regions, sure, note


def _drawable(
    said: Likeliest,
    labels: LabelConfig,
    recipe: PredictionRecipe,
    found: Objects | None,
) -> tuple[list[dict[str, object]], str | None]:
    """Regions that a browser can draw; of a prediction that is noise, without specks or none."""
    least, limit = recipe.minimum_area, recipe.payload_limit
    crowd = 0 if found is None else _count(found, least)
    ways: list[tuple[Objects | None, int, str | None]] = [(found, least, None)]
    if crowd > recipe.region_limit:
        ways = [(None, least, _too_many(crowd, recipe.region_limit))]
    elif found is not None:
        ways.append((None, least, _too_large(limit, "its objects are shown as one region a label")))
    ways += [
        (None, speck, _too_large(limit, f"objects of fewer than {speck} px are not shown"))
        for speck in SPECKS
        if speck > least
    ]
    for apart, area, note in ways:
        try:
            regions = encode_results(
                said.label_map, labels, said.likelihood,
                as_arrays=True, objects=apart, minimum_area=area, limit=limit,
            )  # fmt: skip
        except RegionError:
            continue
        return regions, note
    return [], _too_large(limit, "nothing of it is shown")


def _count(found: Objects, least: int) -> int:
    """How many objects would be shown."""
    return int(np.count_nonzero(np.bincount(found[0].ravel())[1:] >= max(least, 1)))


def _too_many(count: int, limit: int) -> str:
    return (
        f"it has {count} objects, more than {limit} (prediction.region_limit), which a browser "
        "does not draw in time, so they are shown as one region a label; cut the images into tiles "
        "(pool.tile)"
    )


def _too_large(limit: int, left_out: str) -> str:
    return (
        f"it takes more than {limit / 1e6:g} MB (prediction.payload_limit), which a browser does "
        f"not draw in time, so {left_out}; cut the images into tiles (pool.tile), or leave small "
        "objects out of every prediction (prediction.minimum_area)"
    )


def regions_of(row: Prediction) -> list[dict[str, object]]:
    """Label Studio's list of regions of a kept prediction."""
    regions: list[dict[str, object]] = orjson.loads(zlib.decompress(row.result))
    return regions
