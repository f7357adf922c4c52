"""YOLO's polygons, drawn again as Ultralytics does, and by a stricter reader."""

from pathlib import Path

import cv2
import numpy as np
import yaml
from export_cases import CONFIG, item, label_maps, ring_with_dot, written
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import polygon2mask

from ml_backend.export.outlines import outlines
from ml_backend.masks.instances import components


def _lines(path):
    """(class, (N, 2) shares) of every line."""
    for line in path.read_text().splitlines():
        label, *shares = line.split(" ")
        yield int(label), np.array(shares, float).reshape(-1, 2)


def _filled(points, shape):
    """What Ultralytics draws: decimals cut off, then filled together with the outline."""
    height, width = shape
    drawn = np.zeros(shape, np.uint8)
    cv2.fillPoly(drawn, [(points * (width, height)).astype(np.int32)], 1)
    return drawn == 1


@settings(max_examples=80, deadline=None)
@given(label_map=label_maps)
@example(label_map=ring_with_dot())
def test_every_instance_is_drawn_exactly(label_map, tmp_path_factory):
    """A line an instance, in the order of classes; filled, it is the instance, holes open."""
    folder = tmp_path_factory.mktemp("export")
    path = written("yolo", [item("d/a.tif", label_map)], folder, CONFIG).path
    instances, labels_of = components(label_map)
    order = sorted(range(1, len(labels_of) + 1), key=lambda number: labels_of[number - 1])
    found = list(_lines(path / "labels/d/a.txt"))
    assert [label for label, _ in found] == [labels_of[number - 1] - 1 for number in order]
    for number, (_, points) in zip(order, found, strict=True):
        assert len(points) >= 3
        assert points.min() > 0
        assert points.max() < 1
        np.testing.assert_array_equal(_filled(points, label_map.shape), instances == number)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.5, 0.95), side=st.integers(3, 30))
def test_many_holes_are_cut_out_of_one_outline(seed, share, side):
    """Holes beside holes and islands in them: still exact, one outline a component."""
    mask = np.random.default_rng(seed).random((side, 24)) < share
    found = outlines(mask)
    _, parts = ndimage.label(mask, np.ones((3, 3)))
    assert len(found) == parts
    # Around the 4-connected background outside, every other part of it is a hole
    _, apart = ndimage.label(np.pad(~mask, 1, constant_values=True))
    assert sum(outline.holes for outline in found) == apart - 1
    drawn = np.zeros(mask.shape, np.uint8)
    for outline in found:
        one = np.zeros(mask.shape, np.uint8)
        cv2.fillPoly(one, [outline.points.astype(np.int32)], 1)
        drawn += one
    np.testing.assert_array_equal(drawn, mask)


def test_a_geometric_reader_is_half_a_pixel_off_at_most(tmp_path):
    """The documented tolerance: nothing is added, and only border pixels may be lost."""
    yy, xx = np.mgrid[:60, :80]
    distance = np.hypot(yy - 30, xx - 40)
    label_map = ((distance < 25) & (distance > 9)).astype(np.uint8)
    path = written("yolo", [item("a.tif", label_map)], tmp_path, CONFIG).path
    [(_, points)] = _lines(path / "labels/a.txt")
    corners = points[:, ::-1] * label_map.shape - 0.5
    drawn = polygon2mask(label_map.shape, corners)
    mask = label_map == 1
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)))
    assert not (drawn & ~mask).any()
    assert not (inner & ~drawn).any()


def test_data_yaml_names_classes_and_splits(tmp_path):
    """What a trainer needs to find classes, images and labels."""
    items = [
        item("d/ring.tif", ring_with_dot(), split="train"),
        item("ä b.tif", np.zeros((2, 2)), split="val"),
        item("c.tif", [[1]]),
    ]
    report = written("yolo", items, tmp_path, CONFIG)
    data = yaml.safe_load((report.path / "data.yaml").read_text(encoding="utf-8"))
    assert data == {
        "train": "train.txt",
        "val": "val.txt",
        "names": {0: "axon", 1: "Myelin, äußere"},
    }
    lists = {name: (report.path / name).read_text("utf-8") for name in ("train.txt", "val.txt")}
    assert lists == {
        "train.txt": "./images/d/ring.tif\n./images/c.tif\n",
        "val.txt": "./images/ä b.tif\n",
    }
    assert (report.path / "labels/ä b.txt").read_bytes() == b""
    assert (report.path / "labels/c.txt").read_text() == "0" + " 0.500000" * 6 + "\n"
    assert report.notes == ("holes, joined to the outline by cuts: 1",)


def test_no_validation_split_is_said(tmp_path):
    """data.yaml stays usable, and the report says what it validates on."""
    report = written("yolo", [item("a.tif", [[1]])], tmp_path, CONFIG)
    assert yaml.safe_load((report.path / "data.yaml").read_text())["val"] == "train.txt"
    assert "no image is of split val" in report.notes[0]


def _read_as_ultralytics(listed):
    """The label file of a listed image: its rule, `img2label_paths`."""
    return "/labels/".join(listed.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"


def test_readers_find_the_labels_of_every_image(tmp_path):
    """Folders named `images`, names that differ in their endings only: each has its own labels."""
    names = ["a/images/z.png", "images/z.png", "z.jpg", "z.png", "z.tif", "a.b/c.d.png"]
    items = [item(name, np.eye(4) * (1 + n % 2)) for n, name in enumerate(names)]
    report = written("yolo", items, tmp_path, CONFIG)
    listed = (report.path / "train.txt").read_text().splitlines()
    assert len(set(listed)) == len(names)
    found = [_read_as_ultralytics(str(report.path / line)) for line in listed]
    assert len(set(found)) == len(names)
    classes = [next(_lines(Path(path)))[0] for path in found]
    assert classes == [n % 2 for n in range(len(names))]
    assert listed[:3] == ["./images/a/images/z.png", "./images/images/z.png", "./images/z.jpg"]
    assert listed[3:5] == ["./images/z.png.png", "./images/z.tif.tif"]
    assert any("listed under another name" in note for note in report.notes)
