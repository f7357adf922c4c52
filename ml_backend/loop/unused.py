"""What cannot be used, and why: with the link to the task where a person can mend it."""

from dataclasses import dataclass

from ml_backend.loop.context import Context
from ml_backend.loop.site import page_address


@dataclass(frozen=True)
class Unused:
    """A thing (`image a.png`, `task 7`, `annotation 9`), the reason, and its tasks' addresses."""

    what: str
    reason: str
    links: tuple[str, ...] = ()


def unused(context: Context, project_id: int) -> list[Unused]:
    """Images that were set aside, tasks without an image, annotations not read, or not in full.

    And predictions of the current model that are too large to be shown.
    """
    site = page_address(context, project_id) or ""

    def link(task_id: int) -> str:
        return f"{site}/projects/{project_id}/data?task={task_id}"

    catalog = context.catalog
    tasks = catalog.work.tasks(project_id)
    current = catalog.models.current(project_id)
    notes = catalog.rounds.noted(current.version) if current else {}
    with_task = (task.tile_id for task in tasks if task.tile_id is not None)
    tiles = catalog.pool.by_ids([*with_task, *notes])
    shown: dict[int, list[str]] = {}
    of_tile: dict[int, list[str]] = {}
    for task in tasks:
        if task.tile_id is not None:
            shown.setdefault(tiles[task.tile_id].image.id, []).append(link(task.id))
            of_tile.setdefault(task.tile_id, []).append(link(task.id))
    found = [
        Unused(f"set aside: {image.name}", image.reason or "", tuple(shown.get(image.id, ())))
        for image in catalog.pool.images(project_id)
        if image.status == "quarantined"
    ]
    found += [
        Unused(f"task {task.id}", task.reason, (link(task.id),)) for task in tasks if task.reason
    ]
    found += [
        Unused(f"annotation {row.id}", row.reason, (link(row.task_id),))
        for row in catalog.work.annotations(project_id)
        if row.reason and not row.deleted
    ]
    found += [
        Unused(f"prediction of {tiles[tile_id].title}", note, tuple(of_tile.get(tile_id, ())))
        for tile_id, note in notes.items()
    ]
    return found


def asides(context: Context, project_id: int) -> str | None:
    """One line about results that are no regions, such as choices; None where there are none."""
    rows = [row for row in context.catalog.work.annotations(project_id) if not row.deleted]
    kinds = {kind for row in rows for kind in (row.asides or "").split(", ") if kind}
    if not kinds:
        return None
    count = sum(row.asides is not None for row in rows)
    return f"{count} annotations also hold what is no region and was left out: " + ", ".join(
        sorted(kinds)
    )
