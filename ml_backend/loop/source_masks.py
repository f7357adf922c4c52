"""The masks that come with images: read, checked against their image, and stored."""

from dataclasses import replace

import numpy as np

from ml_backend.errors import DataError
from ml_backend.loop.context import Context
from ml_backend.loop.masks import store_mask
from ml_backend.masks.instances import or_none
from ml_backend.masks.labels import parse_label_config
from ml_backend.store.mask_files import MaskFiles, read_masks
from ml_backend.store.mask_values import Values, read_mask, read_objects
from ml_backend.store.rows import Image, Project


def store_source_mask(
    context: Context,
    project: Project,
    image: Image,
    files: MaskFiles,
    values: Values | None,
) -> Image:
    """Store the mask of an image; the image with its key.

    Raises `DataError` with the mask's name where it cannot be read or does not fit.
    """
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
    return replace(image, mask=store_mask(context.blobs, project.id, label_map, names, objects))


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
