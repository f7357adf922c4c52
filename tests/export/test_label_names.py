"""Every label, whatever its name and number: config → regions → mask → exports → back."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from export_cases import item, written
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.label_names import NASTY, names

from ml_backend.errors import LabelConfigError
from ml_backend.export.coco_document import categories_of
from ml_backend.masks.labels import make_label_config, parse_label_config
from ml_backend.masks.regions import decode_results, encode_results


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _names_in(form, path):
    """The labels' names as an export has them."""
    if form.startswith("coco"):
        document = path / "panoptic.json" if path.is_dir() else path
        return [row["name"] for row in _json(document)["categories"]]
    if form == "yolo":
        table = yaml.safe_load((path / "data.yaml").read_text(encoding="utf-8"))
        return [table["names"][number] for number in sorted(table["names"])]
    if form == "manifest":
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file))
        return [cell.removeprefix("area:") for cell in header if cell.startswith("area:")]
    if form == "npz":
        return np.load(next(path.rglob("*.npz")))["classes"].tolist()[1:]
    classes = _json(path / ("classes.json" if (path / "classes.json").exists() else "x"))
    return [row["name"] for row in classes["classes"]]


FORMS = [
    "coco", "coco_instances", "coco_polygons", "coco_panoptic", "yolo", "manifest", "npz", "png",
    "png_classes",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_nasty_name_comes_back(form, tmp_path):
    """Names reach each export and come back as they were, and so do the pixels of all labels."""
    config = parse_label_config(make_label_config(NASTY))
    label_map = np.arange(1, len(NASTY) + 1, dtype=np.uint8).repeat(4).reshape(-1, 4)
    decoded = decode_results(encode_results(label_map, config), config, *label_map.shape)
    np.testing.assert_array_equal(decoded.label_map, label_map)
    path = written(form, [item("a.png", decoded.label_map)], tmp_path, config).path
    assert _names_in(form, path) == list(NASTY)
    if form == "png_classes":
        rows = _json(path / "classes.json")["classes"]
        for row in rows:
            with Image.open(path / row["folder"] / "a.png") as image:
                here = np.asarray(image) == 255
            np.testing.assert_array_equal(here, label_map == row["index"])


@settings(max_examples=40, deadline=None)
@given(wanted=st.lists(names, min_size=1, max_size=6, unique=True), form=st.sampled_from(FORMS))
def test_any_names_come_back(wanted, form, tmp_path_factory):
    """The same for whatever text can be a label."""
    config = parse_label_config(make_label_config(wanted))
    label_map = np.arange(1, len(wanted) + 1, dtype=np.uint8)[None]
    folder = tmp_path_factory.mktemp("export")
    path = written(form, [item("a.png", label_map)], folder, config).path
    assert _names_in(form, path) == wanted


def _with_categories(*categories):
    config = parse_label_config(make_label_config(["a", "b", "c"]))
    pairs = zip(config.labels, categories, strict=True)
    return replace(config, labels=tuple(replace(label, category=text) for label, text in pairs))


@pytest.mark.parametrize(
    ("categories", "ids"),
    [
        ((None, None, None), [1, 2, 3]),
        (("7", "3", "0"), [7, 3, 0]),
        (("2", None, None), [2, 1, 3]),
        ((None, " 1 ", None), [2, 1, 3]),
    ],
)
def test_categories_are_those_of_the_labeling_config(categories, ids):
    """`category` is COCO's id; labels without one get the lowest that are free."""
    assert [row["id"] for row in categories_of(_with_categories(*categories))] == ids


@pytest.mark.parametrize("form", ["coco", "coco_instances", "coco_polygons", "coco_panoptic"])
def test_annotations_have_the_categories_ids(form, tmp_path):
    """What is annotated has the id of its label's category."""
    config = _with_categories("30", None, "10")
    path = written(form, [item("a.png", [[1, 2, 3]])], tmp_path, config).path
    document = _json(path / "panoptic.json" if path.is_dir() else path)
    rows = document["annotations"]
    if form == "coco_panoptic":
        rows = rows[0]["segments_info"]
    assert [row["id"] for row in document["categories"]] == [30, 1, 10]
    assert [row["category_id"] for row in rows] == [30, 1, 10]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (("1", "1", None), "'a' and 'b'.*both have category=\"1\""),
        (("x", None, None), "'a'.*category=\"x\", which is no number"),
        (("-1", None, None), "no number"),
        (("1.5", None, None), "no number"),
        (("9" * 30, None, None), "no number"),
    ],
)
def test_categories_that_cannot_be_ids_are_refused(categories, message):
    """Two labels of one number, and what is none, are named."""
    with pytest.raises(LabelConfigError, match=message):
        categories_of(_with_categories(*categories))
