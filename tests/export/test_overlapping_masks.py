"""Labels that overlap, in every format: whole where it has room for them, by a rule where not."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from export_cases import CONFIG as EXCLUSIVE
from export_cases import written
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools.coco import COCO

from ml_backend.errors import RegionError
from ml_backend.export import EXPORTERS, ExportItem
from ml_backend.masks.instances import components
from ml_backend.masks.sets import from_planes, on_top, planes_of

pytestmark = pytest.mark.filterwarnings(  # pycocotools' decoder against NumPy 2
    "ignore:__array__ implementation:DeprecationWarning"
)
CONFIG = replace(EXCLUSIVE, multiple=True)
HIDING = {"png", "coco_panoptic"}
set_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 0, 2, 4, 6, 6, 255]),
)


def _item(name, pixels):
    return ExportItem(name, np.asarray(pixels, np.uint8), "annotation", overlapping=True)


def _nested():
    """A myelin around and over an axon, which goes on beyond it."""
    planes = np.zeros((2, 9, 12), bool)
    planes[0, 3:6, 3:12] = True
    planes[1, 1:8, 1:9] = True
    planes[1, 4, 4:6] = False
    return from_planes(planes)


def _in_png(path):
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize("name", list(EXPORTERS))
def test_every_format_counts_them_and_says_what_it_hides(name, tmp_path):
    """Pairs of image and label; a format with one label a pixel says so, and repeats itself."""
    items = [_item("a.tif", _nested()), _item("b.tif", [[0, 2], [4, 0]]), _item("c.tif", [[6]])]
    report = written(name, items, tmp_path / "one", CONFIG)
    assert (report.images, report.regions) == (3, 6)
    hidden = [note for note in report.notes if "several labels" in note]
    assert hidden == ([hidden[0]] if name in HIDING else [])
    assert all(note.endswith(": 2") for note in hidden)
    again = written(name, items, tmp_path / "two", CONFIG)
    files = [
        {path.relative_to(made.path): path.read_bytes() for path in made.path.rglob("*.*")}
        for made in (report, again)
    ]
    assert files[0] == files[1]
    with pytest.raises(RegionError, match=r"'d\.tif' has pixels of label 8"):
        written(name, [_item("d.tif", [[8]])], tmp_path / "three", CONFIG)


@settings(max_examples=8, deadline=None)
@given(set_map=set_maps)
@example(set_map=_nested())
def test_planes_come_back_pixel_by_pixel(set_map, tmp_path_factory):
    """PNG per class, NPZ, COCO, instances of COCO and PNG, and YOLO draw each label whole."""
    folder = tmp_path_factory.mktemp("export")
    planes = planes_of(set_map, 2)

    def path_of(name):
        return written(name, [_item("d/a.tif", set_map)], folder, CONFIG).path

    classes = json.loads((path_of("png_classes") / "classes.json").read_text(encoding="utf-8"))
    places = [row["folder"] for row in classes["classes"]]
    for place, plane in zip(places, planes, strict=True):
        np.testing.assert_array_equal(_in_png(folder / f"png_classes/{place}/d/a.png") > 0, plane)
    with np.load(path_of("npz") / "d/a.npz") as archive:
        np.testing.assert_array_equal(archive["masks"], planes)
        np.testing.assert_array_equal(archive["unknown"], set_map == 255)
        assert archive["labels"].tolist() == list(CONFIG.names)
    for form in ("coco", "coco_instances", "coco_polygons"):
        np.testing.assert_array_equal(_coco_planes(path_of(form), planes.shape), planes)
    table = json.loads((path_of("png_instances") / "instances.json").read_bytes())
    for name, plane in zip(CONFIG.names, planes, strict=True):
        entry = table["images"][0]["labels"][name]
        numbers, labels_of = components(plane.astype(np.uint8))
        np.testing.assert_array_equal(_in_png(folder / "png_instances" / entry["mask"]), numbers)
        assert entry["instances"] == len(labels_of)
    drawn = np.zeros(planes.shape, np.uint8)
    for line in (path_of("yolo") / "labels/d/a.txt").read_text().splitlines():
        label, *shares = line.split(" ")
        points = np.array(shares, float).reshape(-1, 2) * set_map.shape[::-1]
        one = np.zeros(set_map.shape, np.uint8)
        cv2.fillPoly(one, [points.astype(np.int32)], 1)
        drawn[int(label)] |= one
    np.testing.assert_array_equal(drawn > 0, planes)


def _coco_planes(path, shape):
    dataset = COCO(str(path))
    planes = np.zeros(shape, bool)
    for annotation in dataset.loadAnns(dataset.getAnnIds()):
        mask = dataset.annToMask(annotation) == 1
        assert mask.sum() == annotation["area"]
        planes[annotation["category_id"] - 1] |= mask
    return planes


@settings(max_examples=15, deadline=None)
@given(set_map=set_maps)
def test_where_a_pixel_has_one_label_the_last_is_on_top(set_map, tmp_path_factory):
    """Indexed PNG and the panoptic format show the later label of the config's order."""
    folder = tmp_path_factory.mktemp("export")
    top, items = on_top(set_map), [_item("a.tif", set_map)]
    written("png", items, folder, CONFIG)
    np.testing.assert_array_equal(_in_png(folder / "png/a.png"), top)
    written("coco_panoptic", items, folder, CONFIG)
    ids = _in_png(folder / "coco_panoptic/panoptic/a.png").astype(int) @ [1, 256, 65536]
    document = json.loads((folder / "coco_panoptic/panoptic.json").read_bytes())
    label_of = {0: 0} | {
        row["id"]: row["category_id"] for row in document["annotations"][0]["segments_info"]
    }
    seen = np.vectorize(label_of.get, otypes=[int])(ids)
    np.testing.assert_array_equal(seen, np.where(top == 255, 0, top))


def test_areas_of_the_manifest_count_overlaps_twice(tmp_path):
    """The area of each label is its own."""
    set_map = _nested()
    set_map[0] = 255
    path = written("manifest", [_item("a.tif", set_map)], tmp_path, CONFIG).path
    (row,) = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    planes = planes_of(set_map, 2)
    assert int(row["area:axon"]) == planes[0].sum()
    assert int(row["area:Myelin, äußere"]) == planes[1].sum()
    assert int(row["unknown"]) == 12
