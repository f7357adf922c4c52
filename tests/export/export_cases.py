"""Masks that the tests of single formats share."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_backend.export import ExportItem, write_items
from ml_backend.masks.labels import Label, LabelConfig
from ml_backend.masks.task_image import TaskImage

LABELS = (Label("axon", "#ff0000"), Label("Myelin, äußere", "#0080ff"))
CONFIG = LabelConfig(control="brush", to_name="image", image=TaskImage(), labels=LABELS)

label_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=14),
    elements=st.sampled_from([0, 0, 1, 1, 2, 255]),
)


def item(name, pixels, source="annotation", **known):
    """One image's mask from anything that numpy takes."""
    return ExportItem(name, np.asarray(pixels, np.uint8), source, **known)


def written(name, items, folder, config):
    """Write items in one format; its report."""
    return write_items([name], items, folder, config)[name]


def ring_with_dot():
    """A ring of label 2 with a dot of label 1 in its hole, and another touching by a corner."""
    pixels = np.zeros((8, 9), np.uint8)
    pixels[1:6, 1:6] = 2
    pixels[2:5, 2:5] = 0
    pixels[3, 3] = 1
    pixels[6, 6] = 2
    return pixels


def known(pixels):
    """A label map with its unknown pixels as background."""
    return np.where(pixels == 255, 0, pixels)
