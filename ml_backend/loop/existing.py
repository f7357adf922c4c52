"""Tasks that are in Label Studio already: chosen from like tiles of the pool, never pushed again.

Most people come with such a project. A pull writes its tasks down without their images; those are
fetched here, so many for each round, before a batch is chosen. What is chosen is listed in a tab.
"""

from dataclasses import dataclass, replace

import numpy as np

from ml_backend.errors import DataError
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.task_images import add_task_image
from ml_backend.store.rows import Project, Task

LOOK = 2000  # images that are fetched for each round: a minute or two
CHUNK = 16  # images between two looks at the catalog: what a crash may cost


@dataclass(frozen=True)
class Way:
    """How a project's batches come about.

    `existing` tasks of its own are in Label Studio and in no round, `pool` tiles are not pushed.
    """

    existing: int
    pool: int

    @property
    def summary(self) -> str:
        """A sentence for people."""
        listed = (
            f"{self.existing} tasks are in Label Studio already: `brushloop select` ranks the open "
            "ones and lists each batch in a tab of the data manager"
        )
        if self.existing and self.pool:
            return f"{listed}, together with what it pushes of {self.pool} tiles of the pool"
        if self.existing:
            return listed
        if self.pool:
            return f"batches are pushed as new tasks, of {self.pool} tiles of the pool"
        return (
            "there is nothing to choose from yet: add images with `brushloop pool add`, or import "
            "tasks in Label Studio"
        )


def way_of(context: Context, project: Project) -> Way:
    """Say how a project's batches will come about, before or after its first pull."""
    work = context.catalog.work
    chosen = work.count(project.id) - len(work.existing(project.id))
    shown = {*work.existing(project.id).values()}
    tiles = [tile for tile in context.catalog.pool.unasked(project.id) if tile.id not in shown]
    there = context.studio.get_project(project.id).task_count
    return Way(max(0, there - chosen), len(tiles))


def fetch_for_round(
    context: Context, project: Project, number: int, progress: Progress, *, has_model: bool
) -> None:
    """Fetch so many images that each round looks at `LOOK` tasks more than the one before.

    Where a batch is drawn at random, no more than it needs.
    """
    selection = project.recipe.selection
    wanted = LOOK * number
    if not has_model and selection.first == "random":
        wanted = 4 * selection.batch  # some of them are of the other side of the split
    shown = {*context.catalog.work.existing(project.id).values()}
    there = sum(tile.id in shown for tile in context.catalog.pool.unasked(project.id))
    fetch_images(context, project, progress, wanted - there)


def fetch_images(
    context: Context, project: Project, progress: Progress, limit: int | None = None
) -> int:
    """Fetch images of open tasks, at most `limit`, drawn by chance; returns how many came.

    A task whose image cannot be used keeps the reason, and costs nothing but itself.
    """
    work = context.catalog.work
    waiting = work.unfetched(project.id)
    rng = np.random.default_rng(project.recipe.selection.seed)
    count = len(waiting) if limit is None else max(0, min(limit, len(waiting)))
    drawn = sorted(rng.permutation(len(waiting))[:count])
    usable = 0
    for start in range(0, count, CHUNK):
        part = [waiting[index] for index in drawn[start : start + CHUNK]]
        fetched = [_with_image(context, project, task) for task in part]
        work.save_tasks(project.id, fetched)
        usable += sum(task.tile_id is not None for task in fetched)
        done = start + len(part)
        progress(done, count, f"{done} of {count} images fetched from Label Studio")
    return usable


def has_candidates(context: Context, project_id: int) -> bool:
    """Whether there is anything that may still be chosen."""
    catalog = context.catalog
    return catalog.pool.any_unasked(project_id) or bool(catalog.work.unfetched(project_id))


def _with_image(context: Context, project: Project, task: Task) -> Task:
    try:
        tile = add_task_image(context, project, task)
    except DataError as error:
        return replace(task, reason=str(error))
    return replace(task, tile_id=tile.id)
