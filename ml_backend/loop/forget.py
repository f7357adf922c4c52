"""Forgetting a project: everything that is kept of it here goes, nothing of others.

First it is noted that the project is leaving, so that it is not polled any more; then go files, and
with the rows at the end the note itself. Whatever cuts it off, the same call carries on.
"""

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from ml_backend.errors import ConfigError, NotFound, StudioError, StudioMissing
from ml_backend.loop.connect import SECRET_HEADER
from ml_backend.loop.context import Context
from ml_backend.loop.encoders import encoders_of
from ml_backend.store.removal import count_rows, delete_rows, shared_images

KEPT_IMAGES = "images/"  # keys of images that were fetched from Label Studio, by their content
SHOWN = ("images", "tiles", "rounds", "tasks", "annotations", "models", "predictions")


@dataclass(frozen=True)
class Remains:
    """What is kept of a project: rows by table, keys of blobs, files of this machine."""

    project_id: int
    title: str
    rows: dict[str, int]
    blobs: tuple[str, ...]
    files: tuple[Path, ...]

    def lines(self) -> list[str]:
        """Say what it is, for people."""
        rows = [f"{self.rows[name]} {name}" for name in SHOWN if self.rows.get(name)]
        groups = ("masks", "models", "encoders", "images")
        counts = {name: sum(key.startswith(f"{name}/") for key in self.blobs) for name in groups}
        files = [f"{count} files of {name}" for name, count in counts.items() if count]
        if self.files:
            files.append(f"{len(self.files)} files and folders of trainings on this machine")
        return [
            f"in the catalog: {', '.join(rows) or 'the project alone'}",
            f"in the storage: {', '.join(files) or 'nothing'}",
        ]


def remains(context: Context, project_id: int) -> Remains:
    """Look up what is kept of a project. Raises `NotFound` where that is nothing."""
    project = context.catalog.projects.find(project_id)
    blobs, files = _blobs(context, project_id), _files(context, project_id)
    if project is None and not blobs and not files:
        known = ", ".join(f"{one.id} ({one.title})" for one in context.catalog.projects.all())
        raise NotFound(f"nothing is kept of project {project_id}; there are: {known or 'none'}")
    title = project.title if project else "its rows are gone already"
    rows = count_rows(context.catalog.database, project_id)
    return Remains(project_id, title, rows, blobs, files)


def forget(context: Context, found: Remains) -> str | None:
    """Remove what is kept of a project; say what could not be done in Label Studio, if anything.

    There, backend and webhook are removed, so that no call of Label Studio's brings the project
    back; its tasks and annotations stay.
    """
    project_id = found.project_id
    if context.catalog.projects.find(project_id) is not None:
        context.catalog.sites.set_state(project_id, "leaving")
    trouble = _disconnect(context, project_id)
    for key in found.blobs:
        context.blobs.delete(key)
    for path in found.files:
        if path.is_dir():
            rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    delete_rows(context.catalog.database, project_id)
    return trouble


def _disconnect(context: Context, project_id: int) -> str | None:
    try:
        context.studio.disconnect(project_id, context.settings.public_url, SECRET_HEADER)
    except StudioMissing:
        return None
    except (ConfigError, StudioError) as error:
        return (
            f"backend and webhook could not be removed from Label Studio ({error}): if the project "
            "is still there, remove them in its settings (Model, Webhooks)"
        )
    return None


def _blobs(context: Context, project_id: int) -> tuple[str, ...]:
    """Keys of what belongs to the project alone."""
    folders = (f"masks/{project_id}", f"models/{project_id}", encoders_of(project_id))
    keys = [key for folder in folders for key in context.blobs.list(folder)]
    mine, shared = shared_images(context.catalog.database, project_id)
    kept = (key for key in mine - shared if key.startswith(KEPT_IMAGES))
    return (*keys, *sorted(key for key in kept if context.blobs.exists(key)))


def _files(context: Context, project_id: int) -> tuple[Path, ...]:
    """Unfinished trainings and TensorBoard's folders; both are named after the version."""
    home = context.settings.home.absolute()
    folders = (home / "runs", home / "tensorboard")
    return tuple(sorted(path for one in folders for path in one.glob(f"p{project_id}-*")))
