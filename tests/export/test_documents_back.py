"""What the exports write is read as masks again, pixel by pixel, and exported to the same bytes."""

import numpy as np
import pytest
from export_cases import CONFIG, item, known, label_maps, ring_with_dot, written
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_backend.masks.instances import numbered, told_apart
from ml_backend.masks.labels import Label, LabelConfig
from ml_backend.masks.sets import planes_of
from ml_backend.store.documents import SUFFIXES, open_documents
from ml_backend.store.listing import list_files

NAMES = CONFIG.names


def read_back(path, shape, labels=NAMES, **options):
    """The reading of the only image of an export."""
    folder = path if path.is_dir() else path.parent
    [entry] = open_documents(list_files(folder, suffixes=SUFFIXES)).values()
    reading = entry.read(shape, labels, **options)
    assert reading.notes == ()
    return reading


@pytest.mark.parametrize("form", ["coco", "coco_instances", "coco_polygons", "yolo"])
@settings(max_examples=40, deadline=None)
@given(label_map=label_maps)
@example(label_map=ring_with_dot())
def test_an_export_is_a_mask_again(form, label_map, tmp_path_factory):
    """Every format with regions gives the label map back, and what it says of objects."""
    folder = tmp_path_factory.mktemp("export")
    [name] = ["d/a.tif"]
    path = written(form, [item(name, label_map)], folder, CONFIG).path
    reading = read_back(path, label_map.shape)
    np.testing.assert_array_equal(reading.mask, known(label_map))
    if form != "coco" and reading.objects is not None:
        first, _ = item(name, label_map).instances()
        np.testing.assert_array_equal(told_apart(reading.mask, reading.objects)[0], first)


@settings(max_examples=20, deadline=None)
@given(label_map=label_maps)
def test_coco_is_the_same_bytes_again(label_map, tmp_path_factory):
    """COCO → masks → COCO: not a byte differs, an image without regions included."""
    folder = tmp_path_factory.mktemp("export")
    items = [item("a b/ü.tif", label_map), item("b.png", np.zeros((3, 4)))]
    first = written("coco", items, folder / "first", CONFIG).path
    entries = open_documents(list_files(first, suffixes=SUFFIXES))
    assert list(entries) == ["a b/ü.tif", "b.png"]
    masks = {one.name: entries[one.name].read(one.label_map.shape, NAMES).mask for one in items}
    again = [item(name, mask) for name, mask in masks.items()]
    second = written("coco", again, folder / "second", CONFIG).path
    assert first.read_bytes() == second.read_bytes()


@settings(max_examples=20, deadline=None)
@given(set_map=hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 7).map(lambda code: code * 2)))
def test_labels_that_overlap_come_back(set_map, tmp_path_factory):
    """Three labels that overlap are a set map again, from RLE and from instances."""
    labels = tuple(Label(name, "#000000") for name in "abc")
    config = LabelConfig("brush", "image", "image", labels, multiple=True)
    for form in ("coco", "coco_instances"):
        folder = tmp_path_factory.mktemp("export")
        path = written(form, [item("a.tif", set_map, overlapping=True)], folder, config).path
        reading = read_back(path, set_map.shape, config.names, overlapping=True)
        np.testing.assert_array_equal(planes_of(reading.mask, 3), planes_of(set_map, 3))
        assert reading.objects is None


def test_touching_objects_stay_apart(tmp_path):
    """Two objects of one label that touch are two annotations, and two objects again."""
    label_map = np.uint8([[1, 1, 1, 1, 0, 2]])
    numbers = np.int32([[1, 1, 2, 2, 0, 3]])
    source = item("a.tif", label_map, objects=lambda: numbered(label_map, numbers))
    reading = read_back(written("coco_instances", [source], tmp_path, CONFIG).path, (1, 6))
    assert numbered(reading.mask, reading.objects)[0].tolist() == numbers.tolist()
