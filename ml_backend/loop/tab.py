"""The tab of the data manager that lists a round, and tasks of it that were there before."""

import re
from contextlib import suppress

from ml_backend.errors import StudioRefused
from ml_backend.loop.context import Context
from ml_backend.loop.site import page_address
from ml_backend.store.rows import Project, Round, Task
from ml_backend.studio.views import BY_ID, LEAST_SURE_FIRST, TAB_TASKS

TITLE = re.compile(r"Round (\d+)")


def find_existing(context: Context, project: Project, record: Round) -> list[Task]:
    """Open tasks of a round's tiles that no round has yet, one a tile, in the round's order."""
    found: dict[int, Task] = {}
    for task in context.catalog.work.tasks(project.id, open_only=True):
        if task.round_id is None and task.tile_id is not None:
            found.setdefault(task.tile_id, task)
    return [found[item.tile_id] for item in record.chosen if item.tile_id in found]


def list_round(
    context: Context, project: Project, record: Round, existing: list[Task], *, by_score: bool
) -> tuple[str, str | None]:
    """Have a tab list the tasks of a round, the least sure first, and drop the tabs of done ones.

    Returns a line for people, and the tab's address if it could be made: the round does without.
    """
    pushed = [
        task.id for task in context.catalog.work.tasks(project.id) if task.round_id == record.id
    ]
    ids = [*(task.id for task in existing), *pushed]
    title, order = f"Round {record.number}", LEAST_SURE_FIRST if by_score else BY_ID
    try:
        view = context.studio.save_view(project.id, title, ids, order=order)
    except StudioRefused as error:
        return f"the tab {title!r} could not be made: {error}", None
    with suppress(StudioRefused):  # somebody was faster
        _drop_done(context, project, record)
    url = f"{page_address(context, project.id) or ''}/projects/{project.id}/data?tab={view}"
    rest = f", the first {TAB_TASKS} of {len(ids)} tasks" if len(ids) > TAB_TASKS else ""
    return f"tab {title!r}{rest}: {url}{_way_through(project, by_score=by_score)}", url


def _way_through(project: Project, *, by_score: bool) -> str:
    """Say how to go through a tab where *Label All Tasks* would not."""
    if by_score and project.recipe.loop.uncertain_first:
        return ""
    return " (by its menu's 'Label Tasks As Displayed': 'Label All Tasks' does not look at tabs)"


def _drop_done(context: Context, project: Project, record: Round) -> None:
    """Remove the tabs of earlier rounds of which nothing is open; only those that are ours."""
    work = context.catalog.work
    rounds = {one.number: one.id for one in context.catalog.rounds.all(project.id)}
    going_on = {task.round_id for task in work.tasks(project.id, open_only=True)}
    for view in context.studio.views(project.id):
        matched = TITLE.fullmatch(view.title)
        number = int(matched[1]) if matched else 0
        if view.task_ids is None or number not in rounds or number >= record.number:
            continue
        listed = [work.task(task_id) for task_id in view.task_ids]
        is_ours = all(task is None or task.round_id == rounds[number] for task in listed)
        if is_ours and rounds[number] not in going_on:
            context.studio.delete_view(view.id)
