"""Pulling before a batch is chosen: tasks that were there before may be annotated or gone."""

from contextlib import suppress

from ml_backend.errors import ConfigError, StudioUnreachable
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.site import find_project
from ml_backend.loop.sync import refresh
from ml_backend.store.rows import Project


def pull_existing(context: Context, project: Project, progress: Progress) -> Project:
    """Pull before a batch is chosen, where tasks are there that we did not push."""
    work = context.catalog.work
    there = find_project(context, project.id).task_count
    if there == work.count(project.id) and not work.existing(project.id):
        return project
    return refresh(context, project.id, progress)


def pull_if_possible(context: Context, project: Project, progress: Progress) -> Project:
    """Pull as before a selection, unless Label Studio does not answer or is not set."""
    with suppress(StudioUnreachable, ConfigError):
        return pull_existing(context, project, progress)
    return project
