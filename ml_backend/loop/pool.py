"""Filling the pool: a folder of images, cut into tiles, each image's split decided once.

Files stay where they are; the catalog keeps their address and the hash of their
content. A broken file is quarantined with its reason and the rest goes on.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ml_backend.errors import DataError, ImageUnreadable
from ml_backend.loop.context import Context, Progress, silent
from ml_backend.loop.masks import store_mask
from ml_backend.masks.instances import or_none
from ml_backend.masks.labels import parse_label_config
from ml_backend.masks.tiles import cut_tiles
from ml_backend.recipe import Recipe
from ml_backend.store.images import decode_image, find_images
from ml_backend.store.mask_files import MaskFiles, find_masks, read_masks
from ml_backend.store.mask_values import Values, read_mask, read_objects
from ml_backend.store.rows import Image, Project, Tile
from ml_backend.studio.files import file_name

DOWNLOAD_LIMIT = 2 << 30  # bytes of one image
Split = Literal["train", "val"]


@dataclass(frozen=True)
class PoolReport:
    """What became of a folder."""

    images: int
    tiles: int
    sources: int
    quarantined: tuple[tuple[str, str], ...]


def split_of(ordinal: int, share: float, seed: int) -> Split:
    """Decide the side of the n-th source image.

    Of every block of 1/share images one is drawn for validation, so that the share holds
    from the first block on, whatever order the images come in.
    """
    block = max(2, round(1 / share))
    drawn = np.random.default_rng([seed, ordinal // block]).integers(block)
    return "val" if ordinal % block == drawn else "train"


def boxes_of(width: int, height: int, recipe: Recipe) -> list[tuple[int, int, int, int]]:
    """Cut an image as the recipe says: (x, y, width, height) of each tile."""
    side = recipe.pool.tile
    if side is None:
        return [(0, 0, width, height)]
    return [(w.x, w.y, w.width, w.height) for w in cut_tiles(height, width, side)]


def add_folder(
    context: Context,
    project_id: int,
    folder: Path,
    *,
    masks: Path | None = None,
    values: Values | None = None,
    progress: Progress = silent,
) -> PoolReport:
    """Add every image below `folder` to the pool of a project; may be repeated.

    With `masks`, images that have one join the training as they are and are not asked
    about; `values` maps the mask files' values to labels where the defaults do not fit. A folder
    for each label says that labels overlap (`store/mask_files.py`).
    """
    files = find_images(folder)
    if not files:
        raise DataError(f"no images in {folder}: PNG, JPEG, TIFF and BMP are read")
    names = parse_label_config(context.catalog.projects.get(project_id).label_config).names
    found = find_masks(files, masks, names) if masks is not None else {}
    if masks is not None and not found:
        raise DataError(f"no mask in {masks} has the name of an image in {folder}")
    known = {image.name: image for image in context.catalog.pool.images(project_id)}
    counters = {role: context.catalog.pool.count(project_id, role) for role in _ROLES}
    tiles = sources = 0
    broken: list[tuple[str, str]] = []
    for done, path in enumerate(files):
        name = path.relative_to(folder).as_posix()
        progress(done, len(files), name)
        before = known.get(name)
        has_mask = path in found or (before is not None and before.mask is not None)
        role: Literal["pool", "source"] = "source" if has_mask else "pool"
        image, cuts = _read(context, project_id, path, name, role, counters[role])
        if image.status == "ready" and path in found:
            try:
                image = _with_mask(context, project_id, image, found[path], values)
            except DataError as error:
                image, cuts = _broken(image, str(error)), []
        elif before is not None:
            image = replace(image, mask=before.mask)
        if before is None:
            counters[role] += 1
        elif before.width and before.sha256 != image.sha256:
            broken.append((name, _set_aside(context, before, image)))
            continue
        context.catalog.pool.add_image(project_id, image, cuts)
        if image.status == "quarantined":
            broken.append((name, image.reason or ""))
        tiles += len(cuts) if role == "pool" else 0
        sources += role == "source" and image.status == "ready"
    progress(len(files), len(files), "pool filled")
    return PoolReport(len(files) - len(broken), tiles, sources, tuple(broken))


_ROLES = ("pool", "source")


def _set_aside(context: Context, before: Image, image: Image) -> str:
    """Say why the file is not the image that was added before; one that broke is not used."""
    if image.status == "ready":
        return f"another image of this name was added before, from {before.uri}"
    reason = image.reason or "cannot be read any more"
    context.catalog.pool.quarantine(before.id, reason)
    return reason


def _read(
    context: Context,
    project_id: int,
    path: Path,
    name: str,
    role: Literal["pool", "source"],
    ordinal: int,
) -> tuple[Image, list[tuple[int, int, int, int]]]:
    recipe = context.catalog.projects.get(project_id).recipe
    split = split_of(ordinal, recipe.validation.share, recipe.selection.seed)
    uri = str(path.absolute())
    try:
        data = path.read_bytes()
    except OSError as error:
        return Image(
            name, uri, "", 0, 0, role, split, "quarantined", f"cannot be read: {error.strerror}"
        ), []
    digest = hashlib.sha256(data).hexdigest()
    twin = context.catalog.pool.find_content(project_id, digest)
    if twin is not None:
        split = twin.split  # one picture under two names must not stand on both sides
    try:
        height, width = decode_image(data, name).shape[:2]
    except ImageUnreadable as error:
        return Image(name, uri, digest, 0, 0, role, split, "quarantined", str(error)), []
    boxes = boxes_of(width, height, recipe) if role == "pool" else [(0, 0, width, height)]
    return Image(name, uri, digest, width, height, role, split), boxes


def _with_mask(
    context: Context,
    project_id: int,
    image: Image,
    files: MaskFiles,
    values: Values | None,
) -> Image:
    project = context.catalog.projects.get(project_id)
    if files.all is None:
        return _with_masks(context, project, image, files, values)
    names = parse_label_config(project.label_config).names  # what the masks' numbers count
    path = files.all
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"mask {path.name} cannot be read: {error.strerror}") from None
    label_map = read_mask(data, path.name, len(names), values=values)
    if label_map.shape != (image.height, image.width):
        raise DataError(
            f"mask {path.name} is {label_map.shape[1]}x{label_map.shape[0]}, "
            f"its image {image.name} is {image.width}x{image.height}"
        )
    background = [names.index(name) + 1 for name in context.labels(project).background]
    label_map[np.isin(label_map, background)] = 0
    objects = None
    if project.recipe.instances.enabled and len(names) == 1 and values is None:
        numbers = read_objects(data, path.name)
        objects = None if numbers is None else or_none(label_map, numbers)
    return replace(image, mask=store_mask(context.blobs, project_id, label_map, names, objects))


def _with_masks(
    context: Context, project: Project, image: Image, files: MaskFiles, values: Values | None
) -> Image:
    """Of a file a label: only those that are learned have a place, as they may overlap."""
    labels = context.labels(project)
    mask = read_masks(
        files, labels.names, overlapping=labels.overlapping, unknown=labels.unknown,
        values=values, shape=(image.height, image.width),
    )  # fmt: skip
    key = store_mask(context.blobs, project.id, mask, labels.names, overlapping=labels.overlapping)
    return replace(image, mask=key)


def _broken(image: Image, reason: str) -> Image:
    return replace(image, status="quarantined", reason=reason)


def add_studio_image(context: Context, project_id: int, url: str) -> Tile:
    """Register the image of a task that people made in Label Studio themselves.

    The file is fetched once and kept by its content; a picture that is in the pool already,
    under whatever name, stays the one it is. Raises `ImageUnreadable`.
    """
    if not url:
        raise DataError("the task's data name no image")
    name = file_name(url)
    data = context.studio.download(url, limit=DOWNLOAD_LIMIT, project_id=project_id)
    height, width = decode_image(data, name).shape[:2]
    digest = hashlib.sha256(data).hexdigest()
    pool = context.catalog.pool
    image = pool.find_content(project_id, digest)
    if image is None:
        image = _keep(context, project_id, name, data, (width, height))
    elif image.role == "pool":
        image = replace(image, status="ready", reason=None)
    image = pool.add_image(project_id, image, [(0, 0, width, height)])
    return next(tile for tile in pool.tiles_of(image.id) if tile.whole)


def _keep(
    context: Context, project_id: int, name: str, data: bytes, size: tuple[int, int]
) -> Image:
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
    return Image(name, key, digest, *size, "pool", split)
