"""Pulling finished annotations: only what changed, each as often as you like, none lost.

The cursor is Label Studio's own clock. It moves only after everything before it has been
stored, and every pull starts a little before it, so that a crash, a lost event or two
tasks of the same instant cost a second look and never an annotation.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from ml_backend.errors import DataError
from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.dataset import training_due
from ml_backend.loop.masks import keep_mask, mean_dice
from ml_backend.loop.pool import add_studio_image
from ml_backend.loop.push import shows
from ml_backend.loop.reading import notice
from ml_backend.loop.select import next_batch
from ml_backend.masks.labels import LabelConfig
from ml_backend.masks.regions import decode_results
from ml_backend.store.rows import Annotation, Project, Task, Tile
from ml_backend.studio.models import TaskInfo

PAGE = 50  # tasks a request, with their annotations and predictions: what memory holds
OVERLAP = timedelta(seconds=10)  # transactions that were open while we pulled


@dataclass
class _Pull:
    tasks: int = 0
    fresh: int = 0
    changed: int = 0
    unusable: int = 0


def sync(context: Context, project_id: int, progress: Progress) -> Report:
    """Bring the catalog up to date with Label Studio; may be repeated at any time."""
    before = context.catalog.projects.get(project_id).reading
    project = refresh_project(context, project_id)
    labels = context.labels(project)
    pull, newest = _Pull(), project.cursor
    for info in context.studio.changed_tasks(
        project_id, _before(project.cursor), PAGE, predictions=True
    ):
        progress(pull.tasks, 0, f"task {info.id}")
        _store(context, project, labels, info, pull)
        newest = max(newest or "", info.updated_at)
    gone = _forget_deleted(context, project_id)
    if newest and newest != project.cursor:
        context.catalog.projects.set_cursor(project_id, newest)
    follow = ("train",) if training_due(context, project_id) else _idle(context, project)
    changed = project.reading.changed if project.reading and project.reading != before else None
    return Report(
        f"{pull.fresh} new annotations, {pull.changed} changed, {gone} tasks gone, "
        f"{pull.unusable} unusable" + (f"; read all again: {changed}" if changed else ""),
        {**vars(pull), "gone": gone, "labels": changed},
        follow,
    )


def _idle(context: Context, project: Project) -> tuple[str, ...]:
    """Ask for the next batch when one ended without anything new to learn: all of it skipped."""
    tasks = context.catalog.work.tasks(project.id, open_only=True)
    waiting = any(task.round_id is not None for task in tasks)
    if waiting or not context.catalog.rounds.all(project.id):
        return ()
    return next_batch(context, project) if context.catalog.pool.unasked(project.id) else ()


def _forget_deleted(context: Context, project_id: int) -> int:
    """Mark tasks that Label Studio deleted; ids are listed only when the numbers differ."""
    here = {task.id for task in context.catalog.work.tasks(project_id)}
    if len(here) == context.studio.get_project(project_id).task_count:
        return 0
    return context.catalog.work.mark_deleted(here - context.studio.task_ids(project_id))


def refresh_project(context: Context, project_id: int) -> Project:
    """Take title and labeling config over from Label Studio, and notice what they change."""
    info = context.studio.get_project(project_id)
    project = context.catalog.projects.save(
        project_id, title=info.title, label_config=info.label_config
    )
    return notice(context, project)


def _before(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    moment = datetime.fromisoformat(cursor) - OVERLAP
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _store(
    context: Context, project: Project, labels: LabelConfig, info: TaskInfo, pull: _Pull
) -> None:
    pull.tasks += 1
    task, tile = _place(context, project, labels, info)
    context.catalog.work.save_tasks(project.id, [task])
    known = {row.id: row for row in context.catalog.work.annotations(project.id, task_id=info.id)}
    rows = [
        _read(context, project, labels, tile, info, raw, known.get(int(raw["id"])))
        for raw in info.annotations
    ]
    fresh, changed = context.catalog.work.save_annotations(project.id, info.id, rows)
    pull.fresh += fresh
    pull.changed += changed
    pull.unusable += sum(not row.usable and not row.cancelled for row in rows)


def _place(
    context: Context, project: Project, labels: LabelConfig, info: TaskInfo
) -> tuple[Task, Tile | None]:
    """Find the tile that a task shows; a task that we did not push brings its image along."""
    uri = str(info.data.get(labels.image_key) or "")
    known = context.catalog.work.task(info.id)
    tile_id = known.tile_id if known else None
    round_id = known.round_id if known else None
    if tile_id is None:
        round_id, tile_id = find_pushed(context, project.id, info.data) or (round_id, None)
    reason = None
    if tile_id is not None:
        tile = context.catalog.pool.tile(tile_id)
    else:
        try:
            tile = add_studio_image(context, project.id, uri)
        except DataError as error:
            tile, reason = None, str(error)
    task = Task(info.id, tile.id if tile else None, uri, round_id, info.updated_at, False, reason)
    return task, tile


def find_pushed(
    context: Context, project_id: int, data: Mapping[str, Any]
) -> tuple[int, int] | None:
    """(round id, tile id) of a task that we pushed, by its data; None for any other task."""
    found = context.catalog.rounds.find_chosen(project_id, data.get("tile"))
    if found is None or not shows(context.catalog.pool.tile(found[1]), data):
        return None
    return found


def _read(
    context: Context,
    project: Project,
    labels: LabelConfig,
    tile: Tile | None,
    info: TaskInfo,
    raw: Mapping[str, Any],
    known: Annotation | None,
) -> Annotation:
    reading = project.reading.key if project.reading else ""
    cancelled, ground_truth = bool(raw.get("was_cancelled")), bool(raw.get("ground_truth"))
    if known is not None and _settled(context, known):
        answer = known.updated_at, known.cancelled, known.reading
        if answer == (raw["updated_at"], cancelled, reading):
            # another annotation that becomes ground truth takes it from this one silently
            return replace(known, ground_truth=ground_truth)
    found: dict[str, Any] = {"mask": None}
    if tile is None:
        found["reason"] = "its image cannot be used"
    elif not cancelled:
        found = _decoded(context, project, labels, tile, info, raw, known.mask if known else None)
    return Annotation(
        id=int(raw["id"]),
        task_id=info.id,
        usable=found["mask"] is not None,
        cancelled=cancelled,
        ground_truth=ground_truth,
        author=_id_of(raw.get("completed_by")),
        lead_time=raw.get("lead_time"),
        parent_prediction=_id_of(raw.get("parent_prediction")),
        created_at=raw["created_at"],
        updated_at=raw["updated_at"],
        reading=reading,
        **found,
    )


def _decoded(
    context: Context,
    project: Project,
    labels: LabelConfig,
    tile: Tile,
    info: TaskInfo,
    raw: Mapping[str, Any],
    former: str | None,
) -> dict[str, Any]:
    """What an annotation's row says of its regions; `former` is the mask that it had."""
    results, size = raw.get("result") or [], (tile.height, tile.width)
    unknown = project.recipe.labels.unpainted == "unknown"
    try:
        decoded = decode_results(results, labels, *size)
        label_map = decoded.label_map
        if unknown:
            label_map = decode_results(results, labels, *size, unpainted_unknown=True).label_map
    except DataError as error:
        return {"mask": None, "reason": str(error)}
    model, dice = _shown(context, labels, tile, info, raw, decoded.label_map)
    return {
        "mask": keep_mask(context.blobs, project.id, label_map, labels.names, former),
        "reason": "; ".join(decoded.notes) or None,
        "asides": ", ".join(decoded.asides) or None,
        "shown_model": model,
        "shown_dice": dice,
    }


def _settled(context: Context, known: Annotation) -> bool:
    """Whether there is nothing more to be had from an annotation that did not change."""
    if known.deleted:
        return False
    return known.cancelled or (known.mask is not None and context.blobs.exists(known.mask))


def _shown(
    context: Context,
    labels: LabelConfig,
    tile: Tile,
    info: TaskInfo,
    raw: Mapping[str, Any],
    submitted: Any,
) -> tuple[str | None, float | None]:
    """Which prediction the person saw, and its Dice to what they submitted."""
    version = _version_seen(info.predictions, raw)
    if version is None:
        return None, None
    found = context.catalog.rounds.predictions(version, [tile.id]).get(tile.id)
    if found is None:
        return version, None
    regions = orjson.loads(zlib.decompress(found.result))
    try:
        shown = decode_results(regions, labels, tile.height, tile.width)
    except DataError:  # it shows labels that there are no more
        return version, None
    return version, mean_dice(shown.label_map, submitted)


def _version_seen(predictions: Sequence[Mapping[str, Any]], raw: Mapping[str, Any]) -> str | None:
    parent = _id_of(raw.get("parent_prediction"))
    earlier = [
        row for row in predictions if str(row.get("created_at", "")) <= str(raw["created_at"])
    ]
    chosen = [row for row in predictions if row.get("id") == parent] or earlier
    if not chosen:
        return None
    latest = max(chosen, key=lambda row: int(row.get("id") or 0))
    return str(latest.get("model_version") or "") or None


def _id_of(value: Any) -> int | None:
    """Label Studio gives a user or a prediction as its id or as an object with one."""
    if isinstance(value, Mapping):
        value = value.get("id")
    return int(value) if value is not None else None
