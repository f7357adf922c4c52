"""COCO out, in as masks, and out again: a project of nothing else writes the same bytes."""

import numpy as np
import pytest
from PIL import Image as Picture
from support.house import open_house, save_picture

from ml_backend.loop.context import silent
from ml_backend.loop.export import export
from ml_backend.loop.pool import add_folder

LABELS = ("cell", "Kern, äußerer")
NAMES = ("a.png", "sub folder/a.png", "ü.png", "empty.png")


def exported(folder, form, images, masks, *, multiple=False, recipe=None):
    """Make a project of images and masks in `folder`; the file of its export, and the report."""
    house = open_house(folder, LABELS, multiple=multiple)
    house.recipe(recipe or {})
    report = add_folder(house.context, house.project_id, images, masks=masks)
    assert report.quarantined == ()
    assert report.summary.count("warnings") == 0
    out = folder / "out"
    export(house.context, house.project_id, out, formats=[form], source="people", progress=silent)
    house.catalog.close()
    return out / f"{form}.json", report


def save(path, mask):
    """Write a mask as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(mask).save(path)


@pytest.mark.parametrize(
    ("form", "recipe"),
    [("coco", {}), ("coco_instances", {"instances.enabled": True}), ("coco_polygons", {})],
)
def test_coco_comes_back_byte_for_byte(tmp_path, form, recipe):
    """Images in sub-folders, one of them empty, of several labels."""
    images, masks = tmp_path / "scans", tmp_path / "masks"
    rng = np.random.default_rng(5)
    for number, name in enumerate(NAMES):
        mask = save_picture(images / name, number)
        mask[rng.random(mask.shape) < 0.1] = 2
        save(masks / name, mask * np.uint8(name != "empty.png"))
    first, report = exported(tmp_path / "first", form, images, masks, recipe=recipe)
    assert report.shares.as_json()["cell"]["of"] == 4
    second, again = exported(tmp_path / "second", form, images, first, recipe=recipe)
    assert first.read_bytes() == second.read_bytes()
    assert again.shares.as_json() == report.shares.as_json()


@pytest.mark.parametrize("form", ["coco", "coco_instances"])
def test_labels_that_overlap_come_back_byte_for_byte(tmp_path, form):
    """Of a folder for each label, whose masks lie over each other."""
    images, masks = tmp_path / "scans", tmp_path / "masks"
    for number, name in enumerate(NAMES):
        mask = save_picture(images / name, number) * np.uint8(255)
        save(masks / "cell" / name, mask * np.uint8(name != "empty.png"))
        save(masks / LABELS[1] / name, np.roll(mask, 4) * np.uint8(name != "empty.png"))
    first, _ = exported(tmp_path / "first", form, images, masks, multiple=True)
    assert first.read_bytes().count(b"segmentation") == 6
    second, _ = exported(tmp_path / "second", form, images, first, multiple=True)
    assert first.read_bytes() == second.read_bytes()


def test_yolo_comes_back_byte_for_byte(tmp_path):
    """The export's folder is one of masks: classes by data.yaml, empty files for empty masks."""
    images, masks = tmp_path / "scans", tmp_path / "masks"
    for number, name in enumerate(NAMES):
        mask = save_picture(images / name, number)
        mask[20:30, 2:9] = 2
        save(masks / name, mask * np.uint8(name != "empty.png"))
    first, _ = exported(tmp_path / "first", "yolo", images, masks)
    first = first.with_suffix("")
    second, _ = exported(tmp_path / "second", "yolo", images, first)
    second = second.with_suffix("")
    labels = sorted(path.relative_to(first) for path in first.rglob("*.txt"))
    assert len(labels) >= len(NAMES)
    for name in labels:
        assert (first / name).read_bytes() == (second / name).read_bytes()
