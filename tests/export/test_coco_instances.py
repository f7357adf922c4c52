"""One COCO annotation an instance, as RLE or polygons, drawn again by pycocotools."""

import json

import numpy as np
import pytest
from export_cases import CONFIG, item, known, label_maps, ring_with_dot, written
from hypothesis import example, given, settings
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from ml_backend.export.coco import region
from ml_backend.export.coco_instances import instance_regions
from ml_backend.export.rings import rings
from ml_backend.masks.instances import components

pytestmark = pytest.mark.filterwarnings(  # pycocotools' decoder against NumPy 2
    "ignore:__array__ implementation:DeprecationWarning"
)


def _drawn(path):
    """(name, category, mask, annotation) of every annotation, as the reference reader draws it."""
    dataset = COCO(str(path))
    for annotation in dataset.loadAnns(dataset.getAnnIds()):
        name = dataset.imgs[annotation["image_id"]]["file_name"]
        yield name, annotation["category_id"], dataset.annToMask(annotation) == 1, annotation


@pytest.mark.parametrize("form", ["coco_instances", "coco_polygons"])
@settings(max_examples=60, deadline=None)
@given(label_map=label_maps)
@example(label_map=ring_with_dot())
def test_every_instance_comes_back(form, label_map, tmp_path_factory):
    """Each annotation is one component, pixel for pixel, with its area and its box."""
    folder = tmp_path_factory.mktemp("export")
    path = written(form, [item("d/a.tif", label_map)], folder, CONFIG).path
    instances, labels_of = components(label_map)
    found = list(_drawn(path))
    assert [category for _, category, _, _ in found] == labels_of
    for number, (name, _, mask, annotation) in enumerate(found, start=1):
        expected = instances == number
        assert name == "d/a.tif"
        np.testing.assert_array_equal(mask, expected)
        rows, columns = np.nonzero(expected)
        left, top = columns.min(), rows.min()
        box = [left, top, columns.max() - left + 1, rows.max() - top + 1]
        assert annotation["bbox"] == box
        assert annotation["area"] == expected.sum()
        assert annotation["id"] == number


@settings(max_examples=60, deadline=None)
@given(label_map=label_maps)
def test_runs_are_those_of_pycocotools(label_map):
    """All instances in one pass give the bytes that encoding each on its own gives."""
    instances, labels_of = components(label_map)
    for number, fields in enumerate(instance_regions(instances, len(labels_of)), start=1):
        assert fields == region(instances == number)


def test_wide_maps_keep_runs_whole():
    """A run that crosses the columns looked through at once is one run."""
    instances = np.ones((3, 200), np.int32)
    instances[1, 130:] = 2
    for number, fields in enumerate(instance_regions(instances, 2), start=1):
        assert fields == region(instances == number)


def test_polygons_are_lists_unless_there_are_holes(tmp_path):
    """What polygons can say is said by polygons; the rest is RLE, and the report counts it."""
    square = np.zeros((20, 20), np.uint8)
    square[5:15, 5:15] = 1
    items = [item("square.tif", square), item("ring.tif", ring_with_dot())]
    report = written("coco_polygons", items, tmp_path, CONFIG)
    first, ring, dot = json.loads(report.path.read_bytes())["annotations"]
    assert first["segmentation"] == [[5, 5, 15, 5, 15, 15, 5, 15]]
    assert first["area"] == 100
    assert isinstance(ring["segmentation"], dict)
    assert isinstance(dot["segmentation"], list)
    assert report.notes == (
        "instances with holes, which no COCO polygon can leave out: 1 kept as RLE",
    )


@settings(max_examples=60, deadline=None)
@given(label_map=label_maps)
@example(label_map=np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.uint8))
def test_rings_enclose_the_mask(label_map):
    """Signed areas add up to the mask's, edges are straight, and outer rings draw to a filling."""
    mask = label_map == 1
    found = rings(mask)
    area = 0.0
    filled = np.zeros(mask.shape, bool)
    for ring in found:
        x, y = ring.points.T
        assert ((np.roll(x, -1) == x) != (np.roll(y, -1) == y)).all()
        shoelace = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        area += -shoelace if ring.is_hole else shoelace
        [rle] = coco_mask.frPyObjects([ring.points.ravel().tolist()], *mask.shape)
        filled ^= coco_mask.decode(rle) == 1
    assert area == mask.sum()
    np.testing.assert_array_equal(filled, mask)
    firsts = [tuple(ring.points[0][::-1]) for ring in found]
    assert firsts == sorted(firsts)


def test_unknown_pixels_belong_to_no_instance(tmp_path):
    """255 is neither an instance nor a bridge between two."""
    label_map = np.array([[1, 255, 1]], np.uint8)
    path = written("coco_instances", [item("a.tif", label_map)], tmp_path, CONFIG).path
    assert [category for _, category, _, _ in _drawn(path)] == [1, 1]
    assert known(label_map).tolist() == [[1, 0, 1]]
