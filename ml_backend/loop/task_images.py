"""Images that tasks bring along: registered once, whatever the address in the task is."""

import hashlib
from dataclasses import replace

from ml_backend.errors import DataError
from ml_backend.loop.context import Context
from ml_backend.loop.splits import split_of
from ml_backend.store.frames import FrameInfo, inspect_image
from ml_backend.store.names import original_text, safe_name
from ml_backend.store.rows import Image, Project, Task, Tile
from ml_backend.studio.addresses import file_name, is_cut

DOWNLOAD_LIMIT = 2 << 30  # bytes of one image


def add_studio_image(context: Context, project_id: int, url: str) -> Tile:
    """Register the image of a task that people made in Label Studio themselves.

    The file is fetched once and kept by its content; a picture that is in the pool already,
    under whatever name, stays the one it is. Raises `ImageUnreadable`.
    """
    if not url:
        raise DataError("the task's data name no image")
    name = file_name(url)
    data = context.studio.download(url, limit=DOWNLOAD_LIMIT, project_id=project_id)
    recipe = context.catalog.projects.get(project_id).recipe
    info = inspect_image(data, name, recipe.images, "first").frames[0]
    digest = hashlib.sha256(data).hexdigest()
    pool = context.catalog.pool
    image = pool.find_content(project_id, digest)
    if image is None:
        image = _keep(context, project_id, safe_name(name), data, info)
        image = replace(image, original=None if image.name == name else original_text(name))
    elif image.role == "pool":
        image = replace(image, status="ready", reason=None)
    image = pool.add_image(project_id, image, [(0, 0, info.width, info.height)])
    return next(tile for tile in pool.tiles_of(image.id) if tile.whole)


def add_task_image(context: Context, project: Project, task: Task) -> Tile:
    """Register the image of a task that the catalog has, as `add_studio_image` does.

    The catalog keeps the beginning of an address that is an image itself, or very long; Label
    Studio has all of it.
    """
    address = task.uri
    if is_cut(address):
        found = next(iter(context.studio.read_tasks(project.id, [task.id])), None)
        address = context.labels(project).image.read(found.data) if found else ""
    return add_studio_image(context, project.id, address)


def _keep(context: Context, project_id: int, name: str, data: bytes, info: FrameInfo) -> Image:
    pool = context.catalog.pool
    digest = hashlib.sha256(data).hexdigest()
    key = f"images/{digest}"
    if not context.blobs.exists(key):
        context.blobs.write(key, data)
    if pool.find_image(project_id, name) is not None:
        name = f"{digest[:8]}-{name}"  # two uploads of one name are two images
    recipe = context.catalog.projects.get(project_id).recipe
    ordinal = pool.count(project_id, "pool")
    split = split_of(ordinal, recipe.validation.share, recipe.selection.seed)
    return Image(name, key, digest, info.width, info.height, "pool", split, frame=info.frame)
