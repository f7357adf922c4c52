"""Pulling finished annotations: only what changed, as often as you like, none lost.

What has changed is said by `pull.py`; here it becomes masks and rows. Whatever cannot be used
keeps its row with the reason, and the rest goes on.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ml_backend.errors import DataError
from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.due import batch_due, training_due
from ml_backend.loop.masks import corrected, keep_mask, mean_dice
from ml_backend.loop.pull import Pull, compare_page, differing
from ml_backend.loop.push import shows
from ml_backend.loop.reading import notice
from ml_backend.loop.site import find_project
from ml_backend.loop.task_images import add_studio_image, add_task_image
from ml_backend.loop.trial import is_trial
from ml_backend.masks.labels import LabelConfig
from ml_backend.masks.regions import decode_results
from ml_backend.store.rows import Annotation, Project, Task, Tile
from ml_backend.studio.addresses import kept_address
from ml_backend.studio.models import ProjectInfo, TaskInfo

HEAL = 50  # tasks without a usable image that are tried again each time


@dataclass
class _Tally:
    tasks: int = 0
    fresh: int = 0
    changed: int = 0
    unusable: int = 0
    gone: int = 0


def sync(context: Context, project_id: int, progress: Progress) -> Report:
    """Bring the catalog up to date with Label Studio; may be repeated at any time."""
    before = context.catalog.projects.get(project_id).reading
    tally = _Tally()
    project = _pull(context, project_id, tally, progress)
    _heal(context, project, tally)
    follow = ("train",) if training_due(context, project_id) else batch_due(context, project)
    changed = project.reading.changed if project.reading and project.reading != before else None
    return Report(
        f"{tally.fresh} new annotations, {tally.changed} changed, {tally.gone} tasks gone, "
        f"{tally.unusable} unusable" + (f"; read all again: {changed}" if changed else ""),
        {**vars(tally), "labels": changed},
        follow,
    )


def refresh(context: Context, project_id: int, progress: Progress) -> Project:
    """Bring the catalog up to date and decide nothing; returns the project as it is then."""
    return _pull(context, project_id, _Tally(), progress)


def _pull(context: Context, project_id: int, tally: _Tally, progress: Progress) -> Project:
    """Store what changed, then look for tasks that were deleted."""
    for last in (False, True):
        info = find_project(context, project_id)
        project = _taken_over(context, info)
        labels, pull = context.labels(project), Pull(context, project)
        for task in pull.tasks(lambda done, all_: progress(done, all_, f"{done} of {all_} tasks")):
            _store(context, project, labels, task, tally)
        if pull.cursor != project.cursor:
            context.catalog.projects.set_cursor(project_id, pull.cursor)
        if last or not pull.patience:
            break
        progress(tally.tasks, tally.tasks, "waiting for what surfaces late of so many changes")
        context.sleep(pull.patience.total_seconds())
    if info.task_count != context.catalog.work.count(project_id):
        gone, missed = differing(context, project_id)
        tally.gone += context.catalog.work.mark_deleted(gone)
        for task in context.studio.read_tasks(project_id, missed, predictions=True):
            _store(context, project, labels, task, tally)
    _compare(context, project, tally)
    return project


def _compare(context: Context, project: Project, tally: _Tally) -> None:
    """Find what stamps and counts do not tell, a page of tasks at a time, round and round."""
    found, labels = compare_page(context, project), context.labels(project)
    for task in context.studio.read_tasks(project.id, found.changed, predictions=True):
        _store(context, project, labels, task, tally)
    tally.gone += context.catalog.work.mark_deleted(found.gone)
    context.catalog.projects.set_compared(project.id, found.end)


def _taken_over(context: Context, info: ProjectInfo) -> Project:
    """Take title and labeling config over from Label Studio, and notice what they change."""
    project = context.catalog.projects.save(
        info.id, title=info.title, label_config=info.label_config
    )
    return notice(context, project)


def _heal(context: Context, project: Project, tally: _Tally) -> None:
    """Read tasks that no change tells of: above all those whose image could not be used."""
    readable = []
    for task in context.catalog.work.unread(project.id, HEAL):
        if task.tile_id is None and task.reason is not None:
            try:
                tile = add_task_image(context, project, task)
            except DataError:
                continue
            placed = replace(task, tile_id=tile.id, updated_at=None, reason=None)
            context.catalog.work.save_tasks(project.id, [placed])
        readable.append(task.id)
    for info in context.studio.read_tasks(project.id, readable, predictions=True):
        _store(context, project, context.labels(project), info, tally)


def _store(
    context: Context, project: Project, labels: LabelConfig, info: TaskInfo, tally: _Tally
) -> None:
    if is_trial(info.data):
        return
    tally.tasks += 1
    before = context.catalog.work.task(info.id)
    task, tile = _place(context, project, labels, info, before)
    known = {row.id: row for row in context.catalog.work.annotations(project.id, task_id=info.id)}
    if before is not None and before.tile_id != task.tile_id:
        known = {}  # masks of another image
    rows = [
        _read(context, project, labels, tile, info, raw, known.get(int(raw["id"])))
        for raw in info.annotations
    ]
    fresh, changed = context.catalog.work.save_annotations(project.id, info.id, rows, task)
    tally.fresh += fresh
    tally.changed += changed
    tally.unusable += sum(not row.usable and not row.cancelled for row in rows)


def _place(
    context: Context, project: Project, labels: LabelConfig, info: TaskInfo, before: Task | None
) -> tuple[Task, Tile | None]:
    """Find the tile that a task shows; a task that we did not push brings its image along.

    It is fetched once somebody has annotated it, or once it may be chosen (`existing.py`).
    """
    address = labels.image.read(info.data)
    uri = kept_address(address)
    same = before is not None and before.uri == uri
    round_id = before.round_id if before and same else None
    tile_id = before.tile_id if before and same else None
    if tile_id is None and (same or before is None):
        round_id, tile_id = find_pushed(context, project.id, info.data) or (round_id, None)
    tile, reason = None, None
    try:
        if tile_id is not None:
            tile = context.catalog.pool.tile(tile_id)
        elif info.annotations:
            tile = add_studio_image(context, project.id, address)
        else:
            reason = before.reason if before and same else None
    except DataError as error:
        reason = str(error)
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
        apart = project.recipe.instances.enabled
        decoded = decode_results(results, labels, *size, objects=apart)
        label_map, objects = decoded.label_map, decoded.objects
        if unknown:
            label_map = decode_results(results, labels, *size, unpainted_unknown=True).label_map
    except DataError as error:
        return {"mask": None, "reason": str(error)}
    seen = _shown(context, labels, tile, info, raw, decoded.label_map)
    key = keep_mask(
        context.blobs, project.id, label_map, labels.names, former, objects,
        overlapping=labels.overlapping,
    )  # fmt: skip
    return {
        "mask": key,
        "reason": "; ".join(decoded.notes) or None,
        "asides": ", ".join(decoded.asides) or None,
        **seen,
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
) -> dict[str, Any]:
    """Which prediction the person saw, and what they left of it."""
    version = _version_seen(info.predictions, raw)
    if version is None:
        return {}
    found = context.catalog.rounds.predictions(version, [tile.id]).get(tile.id)
    if found is None:
        return {"shown_model": version}
    regions = orjson.loads(zlib.decompress(found.result))
    try:
        shown = decode_results(regions, labels, tile.height, tile.width)
    except DataError:  # it shows labels that there are no more
        return {"shown_model": version}
    return {
        "shown_model": version,
        "shown_dice": mean_dice(shown.label_map, submitted, overlapping=labels.overlapping),
        "corrected": corrected(shown.label_map, submitted),
    }


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
