"""PNG per class, PNG of instances, panoptic COCO, NumPy and the manifest, read independently."""

import csv
import json

import numpy as np
import pytest
from export_cases import CONFIG, item, known, label_maps, ring_with_dot, written
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ml_backend.errors import RegionError
from ml_backend.export import png_instances as png_instances_format
from ml_backend.export.png_classes import label_folders
from ml_backend.masks.instances import components
from ml_backend.masks.labels import Label, LabelConfig
from ml_backend.masks.task_image import TaskImage


def _pixels(path):
    with Image.open(path) as image:
        return image.mode, np.asarray(image)


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@settings(max_examples=40, deadline=None)
@given(label_map=label_maps)
@example(label_map=ring_with_dot())
def test_every_folder_holds_the_same_pixels(label_map, tmp_path_factory):
    """Each format, read by Pillow or NumPy alone, gives the label map back, pixel for pixel."""
    folder = tmp_path_factory.mktemp("export")
    items = [item("d/a.tif", label_map)]
    instances, labels_of = components(label_map)

    binaries = written("png_classes", items, folder, CONFIG).path
    for number, name in enumerate(["axon", "Myelin, äußere"], start=1):
        mode, pixels = _pixels(binaries / name / "d/a.png")
        assert mode == "L"
        np.testing.assert_array_equal(pixels, np.where(label_map == number, 255, 0))

    numbered = written("png_instances", items, folder, CONFIG).path
    mode, pixels = _pixels(numbered / "d/a.png")
    assert mode == "I;16"
    np.testing.assert_array_equal(pixels, instances)
    [entry] = _json(numbered / "instances.json")["images"]
    assert (entry["image"], entry["mask"]) == ("d/a.tif", "d/a.png")
    named = {str(n): CONFIG.names[label - 1] for n, label in enumerate(labels_of, start=1)}
    assert entry["instances"] == named

    panoptic = written("coco_panoptic", items, folder, CONFIG).path
    document = _json(panoptic / "panoptic.json")
    [annotation] = document["annotations"]
    mode, colours = _pixels(panoptic / "panoptic" / annotation["file_name"])
    assert mode == "RGB"
    ids = colours.astype(int) @ [1, 256, 256**2]
    drawn = np.zeros(label_map.shape, np.uint8)
    for segment in annotation["segments_info"]:
        here = ids == segment["id"]
        drawn[here] = segment["category_id"]
        rows, columns = np.nonzero(here)
        assert segment["area"] == here.sum()
        assert segment["bbox"] == [
            columns.min(),
            rows.min(),
            np.ptp(columns) + 1,
            np.ptp(rows) + 1,
        ]
    assert set(np.unique(ids)) - {0} == {entry["id"] for entry in annotation["segments_info"]}
    np.testing.assert_array_equal(drawn, known(label_map))

    with np.load(written("npz", items, folder, CONFIG).path / "d/a.npz") as archive:
        np.testing.assert_array_equal(archive["label_map"], label_map)
        assert archive["label_map"].dtype == np.uint8
        assert archive["classes"].tolist() == ["background", *CONFIG.names]

    with written("manifest", items, folder, CONFIG).path.open(encoding="utf-8") as file:
        [line] = csv.DictReader(file)
    sizes = {"height": label_map.shape[0], "width": label_map.shape[1]}
    areas = {"unknown": 255, "area:axon": 1, "area:Myelin, äußere": 2}
    expected = sizes | {column: int((label_map == n).sum()) for column, n in areas.items()}
    assert {column: int(line[column]) for column in expected} == expected


def test_panoptic_ids_need_more_than_one_byte(tmp_path):
    """Instances beyond 255 spill into green, and every id is found again."""
    dots = np.zeros((40, 40), np.uint8)
    dots[::2, ::2] = 1
    path = written("coco_panoptic", [item("a.tif", dots)], tmp_path, CONFIG).path
    _, colours = _pixels(path / "panoptic/a.png")
    assert colours[0, 2].tolist() == [2, 0, 0]
    assert colours[-2, -2].tolist() == [400 - 256, 1, 0]
    document = _json(path / "panoptic.json")
    assert document["categories"][0] == {
        "id": 1,
        "name": "axon",
        "supercategory": "",
        "isthing": 1,
        "color": [255, 0, 0],
    }
    assert document["images"][0]["id"] == document["annotations"][0]["image_id"] == 1


def test_empty_masks_are_kept(tmp_path):
    """An image in which nothing was found has its files, and they are empty."""
    items = [item("a.tif", np.zeros((3, 4)))]
    for place in ("axon/a.png", "Myelin, äußere/a.png"):
        path = written("png_classes", items, tmp_path, CONFIG).path / place
        assert not _pixels(path)[1].any()
    numbered = written("png_instances", items, tmp_path, CONFIG).path
    assert _json(numbered / "instances.json")["images"][0]["instances"] == {}
    panoptic = written("coco_panoptic", items, tmp_path, CONFIG).path
    [annotation] = _json(panoptic / "panoptic.json")["annotations"]
    assert annotation["segments_info"] == []


def test_more_instances_than_16_bits_are_refused(tmp_path, monkeypatch):
    """Numbers never wrap around: the image is named, and the way out."""
    monkeypatch.setattr(png_instances_format, "_MOST", 1)
    with pytest.raises(RegionError, match=r"'a\.tif' has 2 instances.*coco_instances"):
        written("png_instances", [item("a.tif", [[1, 0, 1]])], tmp_path, CONFIG)


@pytest.mark.parametrize("form", ["png_classes", "png_instances", "coco_panoptic", "yolo"])
def test_what_becomes_of_unknown_pixels_is_said(form, tmp_path):
    """Formats that cannot tell unknown from background say so, and in how many images."""
    items = [item("a.tif", [[255, 1]]), item("b.tif", [[1, 1]])]
    notes = written(form, items, tmp_path, CONFIG).notes
    assert [note for note in notes if note.startswith("images with unknown") and note[-2:] == " 1"]


@pytest.mark.parametrize("form", ["png_classes", "png_instances", "coco_panoptic", "npz"])
def test_names_that_meet_are_kept_apart(form, tmp_path):
    """a.tif and a.png have two files, and the report names the second's."""
    items = [item("a.tif", [[1]]), item("a.png", [[2]])]
    report = written(form, items, tmp_path, CONFIG)
    assert len([path for path in report.path.rglob("a.*") if path.is_file()]) in {2, 4}
    assert report.notes[0].startswith("a.png: mask written as a.png.")


def test_manifest_says_what_is_known(tmp_path):
    """Link, annotator, version and split where there are, nothing where not."""
    items = [
        item("a,1.tif", [[1]], task_url="https://studio/projects/1/data?task=7", annotator="a@b.c"),
        item("b.tif", [[2]], "model", version="v3", split="val"),
    ]
    path = written("manifest", items, tmp_path, CONFIG).path
    known_columns = "image,source,task_url,annotator,version,split,file,page"
    assert path.read_text(encoding="utf-8").splitlines() == [
        f'{known_columns},width,height,unknown,area:axon,"area:Myelin, äußere"',
        '"a,1.tif",annotation,https://studio/projects/1/data?task=7,a@b.c,,,,,1,1,0,1,0',
        "b.tif,model,,,v3,val,,,1,1,0,0,1",
    ]


def test_class_folders_are_safe_names(tmp_path):
    """Labels name folders unless a file system would refuse or mix them up."""
    names = ["a/b", "..", "A_B", "classes.json", "con", "v1.5", "x.", 'q"?']
    labels = tuple(Label(name, "#ffffff") for name in names)
    config = LabelConfig(control="brush", to_name="image", image=TaskImage(), labels=labels)
    path = written("png_classes", [item("a.tif", [[8]])], tmp_path, config).path
    table = _json(path / "classes.json")["classes"]
    folders = ["a_b", "_", "A_B~2", "classes.json~2", "_con", "v1.5", "x_", "q__"]
    assert [entry["folder"] for entry in table] == folders
    assert [entry["name"] for entry in table] == names
    assert sorted(entry.name for entry in path.iterdir()) == sorted([*folders, "classes.json"])
    assert _pixels(path / "q__/a.png")[1].tolist() == [[255]]


@given(names=st.lists(st.text("aA./\\:~ 2", min_size=1, max_size=5), unique=True, max_size=8))
def test_class_folders_never_meet(names):
    """Whatever labels are called, their folders differ and stay inside."""
    folders = label_folders(names)
    assert len({name.casefold() for name in folders}) == len(names)
    assert not any(set(name) & set('/\\:*?"<>|') or name in {"", ".", ".."} for name in folders)
