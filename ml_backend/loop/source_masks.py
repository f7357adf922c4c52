"""The masks that come with images: read, checked against their image, and stored."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.context import Context
from ml_backend.loop.masks import store_mask
from ml_backend.masks.instances import or_none
from ml_backend.masks.labels import parse_label_config
from ml_backend.store.label_shares import LabelShares, numbers_of
from ml_backend.store.mask_files import LabelUse, MaskFiles
from ml_backend.store.mask_reading import MaskReading
from ml_backend.store.mask_values import Values
from ml_backend.store.rows import Image, Project


def store_source_mask(
    context: Context,
    project: Project,
    image: Image,
    files: MaskFiles,
    values: Values | None,
    shares: LabelShares,
) -> tuple[Image, tuple[str, ...]]:
    """Store the mask of an image; the image with its key, and what is to be told of the mask.

    What its labels cover is added to `shares`. Raises `DataError` with the mask's name where it
    cannot be read or does not fit.
    """
    labels, shape = context.labels(project), (image.height, image.width)
    instances = project.recipe.instances.enabled
    names = parse_label_config(project.label_config).names  # what the masks' numbers count
    if files.by_label is not None or (files.document is not None and labels.overlapping):
        use = LabelUse(
            names, labels.unknown, labels.background, 0, labels.overlapping, values, instances
        )  # of labels that may overlap only those that are learned have a place
        reading = files.read(shape, use)
        key = store_mask(
            context.blobs, project.id, reading.mask, use.learned, _objects(reading, instances),
            overlapping=use.overlapping,
        )  # fmt: skip
        shares.add(reading.mask, numbers_of(use.learned), overlapping=use.overlapping)
        return replace(image, mask=key), reading.notes
    reading = files.read(shape, LabelUse(names, values=values, instances=instances))
    label_map = reading.mask
    background = [names.index(name) + 1 for name in labels.background]
    label_map[np.isin(label_map, background)] = 0
    key = store_mask(context.blobs, project.id, label_map, names, _objects(reading, instances))
    numbers = numbers_of(names)
    shares.add(label_map, {name: numbers[name] for name in labels.names}, overlapping=False)
    return replace(image, mask=key), reading.notes


def _objects(reading: MaskReading, wanted: bool) -> NDArray[np.int32] | None:
    """The numbers of objects, where they tell more than the mask does."""
    if not wanted or reading.objects is None:
        return None
    return or_none(reading.mask, reading.objects)
