"""Trying the way of a task into Label Studio and back, with a task of our own that goes again.

A labeling config may look fine and yet refuse every task, and an image may load here but not in
people's browsers. The trial pushes one small task as a round would, reads it back, and fetches its
image at both addresses. The task carries a mark in its data and its file one in its name: whatever
cuts a trial off, the next one removes what it left. Pulls and predictions pass marked tasks by.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from ml_backend.errors import (
    DataError,
    ImageUnreadable,
    LabelConfigError,
    StudioError,
    StudioRefused,
    StudioUnreachable,
)
from ml_backend.loop.context import Context
from ml_backend.loop.existing import way_of
from ml_backend.loop.labels import labels_of
from ml_backend.loop.push import referenced, task_data
from ml_backend.loop.task_images import DOWNLOAD_LIMIT
from ml_backend.masks.labels import LabelConfig
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.masks.sets import from_planes
from ml_backend.store.rows import Image, Project, Tile
from ml_backend.studio.models import TaskInfo

MARK = "brushloop_trial"
FILE = "brushloop-trial.png"
VERSION = "brushloop-trial"
WIDTH = 16  # px of the image
LOOKED_AT = 10  # tasks of people's, until one has an image that can be read
STRIPE = 2  # px in height of each label's region

CORRECT = (
    "correct the labeling config in Label Studio (Settings, Labeling Interface), or name what its "
    "keys shall say in the recipe (`pool.data`)"
)
SET_ADDRESS = (
    "set BRUSHLOOP_LABEL_STUDIO_BROWSER_URL to the address at which people open Label Studio; "
    "below a sub-path it must have been started with LABEL_STUDIO_HOST set to that address, too"
)


@dataclass(frozen=True)
class _Shown:
    """What a trial's task shows: its data, the address of the image, and its file.

    `content` None: there is no file yet to compare. `note`: what else is to be said, or nothing.
    """

    data: Mapping[str, Any]
    address: str
    content: bytes | None
    note: str = ""


def is_trial(data: Mapping[str, Any]) -> bool:
    """Whether a task is one of ours that is about to go."""
    return MARK in data


def try_write_path(context: Context, project: Project) -> str:
    """Push a small task, read it back, fetch its image, remove it; say what was tried, in a line.

    Raises what is wrong and what to do: `LabelConfigError`, `StudioRefused`, `ImageUnreadable`, or
    `StudioUnreachable` where Label Studio does not answer.
    """
    try:
        said = _attempt(context, project, labels_of(project))
    except BaseException:
        with suppress(StudioError):  # what is wrong says more, and the next trial cleans up
            remove_trials(context, project.id)
        raise
    remove_trials(context, project.id)
    return said


def remove_trials(context: Context, project_id: int) -> None:
    """Remove the tasks and files of this trial, and of earlier ones that were cut off."""
    studio = context.studio
    for task in list(studio.tasks_where(project_id, MARK, 1)):
        studio.delete_task(task.id)
    files = [url for url in studio.uploads(project_id) if url.endswith(f"-{FILE}")]
    if files:
        studio.delete_uploads(project_id, files)


def _attempt(context: Context, project: Project, labels: LabelConfig) -> str:
    studio, label_map = context.studio, _label_map(labels)
    shown = _image(context, project, labels, label_map.shape[0])
    data = {**shown.data, MARK: 1}
    prediction = {
        "result": encode_results(label_map, labels),
        "score": 0.5,
        "model_version": VERSION,
    }
    try:
        (number,) = studio.import_tasks(project.id, [{"data": data, "predictions": [prediction]}])
    except StudioError as error:
        raise type(error)(
            f"Label Studio does not take a task as a round would push it: {error}; {CORRECT}"
        ) from error
    found = list(studio.read_tasks(project.id, [number], predictions=True))
    address = _compare(found, data, labels, label_map, shown.address)
    came = f"a task with its image and prediction came and went{shown.note}"
    if shown.content is None:
        return f"{came}; images below {project.recipe.pool.reference} wait for those of the pool"
    limit = len(shown.content)
    if studio.download(address, limit=limit, project_id=project.id) != shown.content:
        raise ImageUnreadable(
            f"the image at {address} is another one than the one that was uploaded: is "
            f"{studio.url} the Label Studio that has project {project.id}?"
        )
    return f"{came}; {_view(context, address, shown.content)}"


def _image(context: Context, project: Project, labels: LabelConfig, height: int) -> _Shown:
    """Upload a picture as a round would, or take the pool's first where the recipe refers to it."""
    studio, recipe = context.studio, project.recipe
    prefix = urlsplit(studio.browser_url).path.rstrip("/")
    ours = Tile(0, Image(FILE, FILE, "", WIDTH, height), 0, 0, WIDTH, height)

    def shown(tile: Tile, address: str, content: bytes | None) -> _Shown:
        return _Shown(task_data(labels, recipe, tile, 0, address), address, content)

    if recipe.pool.reference:
        for tile in context.catalog.pool.tiles(project.id):
            if address := referenced(recipe, tile, prefix):
                return shown(tile, address, _fetch(context, project, address))
        return shown(ours, referenced(recipe, ours, prefix) or "", None)
    try:  # refused before anything is uploaded
        shown(ours, f"{prefix}/data/upload/{project.id}/{FILE}", None)
    except LabelConfigError:
        copied = _copy(context, project, labels)
        if copied is None:
            raise
        return copied
    content = _png(height)
    (url,) = studio.upload_images(project.id, [(FILE, content)])
    return shown(ours, prefix + url, content)


def _copy(context: Context, project: Project, labels: LabelConfig) -> _Shown | None:
    """Take a task that people made, where uploads have no place and the pool asks for none."""
    if way_of(context, project).pool:
        return None
    page = next(iter(context.studio.changes(project.id)))
    first = list(page.moments)[:LOOKED_AT]
    for task in context.studio.read_tasks(project.id, first):
        address = labels.image.read(task.data)
        if is_trial(task.data) or not address:
            continue
        with suppress(ImageUnreadable):  # one image never stops the others
            content = context.studio.download(address, limit=DOWNLOAD_LIMIT, project_id=project.id)
            return _Shown(task.data, address, content, " (a copy of one that is there)")
    return None


def _fetch(context: Context, project: Project, address: str) -> bytes:
    try:
        return context.studio.download(address, limit=DOWNLOAD_LIMIT, project_id=project.id)
    except ImageUnreadable as error:
        raise ImageUnreadable(
            f"{error}; Label Studio does not find the pool's images where the recipe's "
            f"pool.reference says, below {project.recipe.pool.reference}: correct it, or connect "
            "a storage to the project in Label Studio (Settings, Cloud Storage)"
        ) from error


def _compare(
    found: list[TaskInfo],
    data: dict[str, Any],
    labels: LabelConfig,
    label_map: NDArray[np.uint8],
    sent: str,
) -> str:
    """Return the address at which the task that came back has its image, if all is as it was.

    Label Studio shows addresses in its storages, unlike `sent`, as others: those are fetched later.
    """
    if not found:
        raise StudioRefused("a task that Label Studio took was gone when it was read: try again")
    (task,) = found
    changed = sorted(
        key for key, value in data.items() if task.data.get(key) != value and sent not in str(value)
    )
    if changed:
        raise StudioRefused(
            f"Label Studio changed {', '.join(map(repr, changed))} in a task's data; {CORRECT}"
        )
    results = [row["result"] for row in task.predictions]
    height, width = label_map.shape
    try:
        (result,) = results
        same = np.array_equal(decode_results(result, labels, height, width).label_map, label_map)
    except (ValueError, DataError):
        same = False
    if not same:
        raise StudioRefused(
            "Label Studio does not give a prediction back as it was sent: its regions do not fit "
            f"the labeling config; {CORRECT}"
        )
    return labels.image.read(task.data)


def _view(context: Context, address: str, sent: bytes) -> str:
    """Fetch the image as a browser would, and say how far that went."""
    page = context.studio.browser_url
    if not address.startswith(("/", "http://", "https://")):
        return f"{address} came through Label Studio's storage"
    try:
        seen = context.studio.view(address)
    except ImageUnreadable as error:
        raise ImageUnreadable(
            f"people who open {page} would not see images: {error}; {SET_ADDRESS}"
        ) from error
    except (StudioUnreachable, StudioRefused) as error:
        return f"whether people see images at {page} was not tried: {error}"
    if seen is None:
        return f"images are at {page} for people who are logged in"
    if seen != sent:
        raise ImageUnreadable(
            f"people who open {page} would not see images: something else is at the address "
            f"{address} there; {SET_ADDRESS}"
        )
    return f"images load at {page}"


def _label_map(labels: LabelConfig) -> NDArray[np.uint8]:
    """A stripe of each label that a brush has, (H, W) uint8; a set map where labels may overlap."""
    count = len(labels.names)
    planes = np.zeros((count, max(WIDTH, STRIPE * count), WIDTH), bool)
    for index, name in enumerate(labels.names):
        if labels.written_by(name) is not None:
            planes[index, STRIPE * index : STRIPE * (index + 1), : WIDTH // 2] = True
    if labels.overlapping:
        return from_planes(planes)
    values = np.arange(1, count + 1, dtype=np.uint8)[:, None, None]
    label_map: NDArray[np.uint8] = (planes * values).sum(axis=0, dtype=np.uint8)
    return label_map


def _png(height: int) -> bytes:
    """A file that no other is like."""
    noise = np.random.default_rng().integers(0, 256, (height, WIDTH), dtype=np.uint8)
    buffer = BytesIO()
    Picture.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()
