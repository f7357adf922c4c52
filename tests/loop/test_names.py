"""Every name that people have goes from the pool to all exports and back."""

import csv
import json
import os
from collections import Counter
from dataclasses import replace

import fsspec
import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import update
from support.house import save_picture

from ml_backend.errors import StoreError
from ml_backend.export import EXPORTERS
from ml_backend.loop.context import silent
from ml_backend.loop.export import export
from ml_backend.loop.masks import store_mask
from ml_backend.loop.pool import add_folder
from ml_backend.store.names import original_name
from ml_backend.store.schema import images

LETTERS = [chr(code) for code in (*range(1, 47), *range(58, 64), 92, 96, *range(123, 161))]
LETTERS += list("\u00ad\u0301\u061c\u115f\u180e\u200b\u200c\u200d\u200e\u2028\u2029\u202e\u202f")
LETTERS += [*"\u2060\u3000\ue000\ufe0f\ufeff\uffff😀細é", "e\u0301", "\U000e0041"]
WORDS = [
    "con",
    "NUL.x",
    "com1",
    "a.b.c",
    "images",
    "png",
    "-rf",
    "~",
    "%41",
    "{0}",
    "$HOME",
]
WORDS += [
    "x" * 240,
    "細" * 80,
    "é" * 120,
    "a\\..\\b",
    "C:",
    "file:x",
    "s3:",
    "a#b?c=d",
    "&amp;",
    "'\"`",
]
FOLDERS = ["images", "a/images/b", "x...", "x\\y", "C:", "細" * 60, "\u202f", "con"]


def nasty_names():
    """A few hundred names, as bytes: what a file system takes."""
    names = {f"{letter}{where}.png" for letter in LETTERS for where in ("a", "")}
    names |= {f"a{letter}.png" for letter in LETTERS}
    names |= {f"{word}.png" for word in WORDS} | {f"{folder}/1.png" for folder in FOLDERS}
    names |= {"z.jpg", "z.png", "z.bmp", "Z.png", "z.PNG", "a_b.png", "a b.png"}
    found = {os.fsencode(name) for name in names if not name.startswith(".")}
    found |= {b"caf\xe9.png", b"\xff\xfe.png", b"\xe9/\xe8.png", "café.png".encode()}
    return sorted(name for name in found if max(map(len, name.split(b"/"))) <= 255)


@pytest.fixture
def named(house):
    """Masks and images of all those names; the values of the masks tell them apart."""
    names = nasty_names()
    blank = save_picture(house.images / "x.png", 0, 8)
    data = (house.images / "x.png").read_bytes()
    (house.images / "x.png").unlink()
    for number, name in enumerate(names):
        path = os.fsencode(house.images) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120  (bytes)
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(data + number.to_bytes(4, "big"))  # no two are twins
    report = add_folder(house.context, house.project_id, house.images)
    assert report.images == len(names)
    for number, image in enumerate(house.catalog.pool.images(house.project_id)):
        mask = np.zeros(blank.shape, np.uint8)
        mask.flat[number % mask.size] = 1
        with_mask(house, image, mask)
    return house, names


def with_mask(house, image, mask):
    """Give an image of the pool a mask, as if it had come with it."""
    key = store_mask(house.context.blobs, house.project_id, mask, house.labels.names)
    house.catalog.pool.add_image(house.project_id, replace(image, role="source", mask=key), [])


def exported(house, address, formats=tuple(EXPORTERS)):
    """Export what came with images; what came of it."""
    return export(
        house.context, house.project_id, address, formats=formats, source="people", progress=silent
    )


def own_names(folder):
    """Image → its file's own name, as bytes, by the tables of an export."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row["file"] for row in csv.DictReader(file)}
    return {name: os.fsencode(original_name(own) if own else name) for name, own in rows.items()}


def label_file(line):
    """Where readers of YOLO's lists look for the labels of a line."""
    return "/labels/".join(f"/{line[2:]}".rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"


def test_every_name_goes_to_all_exports_and_back(named, tmp_path):
    """Nothing is left out, no two meet, masks are their images', tables lead back to own names."""
    house, names = named
    assert len(names) > 300
    folder = tmp_path / "exported"
    done = exported(house, folder)
    assert done.summary.count("set_aside") == 0
    assert {report.images for report in done.written.values()} == {len(names)}
    back = own_names(folder)
    assert Counter(back.values()) == Counter(names)
    for suffix, kind in ((".png", "png"), (".npz", "npz")):
        assert len(list((folder / kind).rglob(f"*{suffix}"))) == len(names)
    coco = json.loads((folder / "coco.json").read_text(encoding="utf-8"))
    assert {row["file_name"] for row in coco["images"]} == set(back)
    for row in coco["images"]:
        own = original_name(row["file"]) if "file" in row else row["file_name"]
        assert os.fsencode(own) == back[row["file_name"]]
    listed = [
        line
        for split in ("train", "val")
        for line in (folder / f"yolo/{split}.txt").read_text(encoding="utf-8").splitlines()
    ]
    assert len({label_file(line) for line in listed}) == len(names)
    assert all((folder / f"yolo{label_file(line)}").is_file() for line in listed)
    number_of = {
        image.name: number
        for number, image in enumerate(house.catalog.pool.images(house.project_id))
    }
    rows = json.loads((folder / "png_instances/instances.json").read_text(encoding="utf-8"))
    assert len(rows["images"]) == len(names)
    for row in rows["images"]:
        with Picture.open(folder / "png_instances" / row["mask"]) as mask:
            pixels = np.asarray(mask)
        assert np.flatnonzero(pixels).tolist() == [number_of[row["image"]] % pixels.size]


def test_names_of_before_are_made_safe_at_the_export(house, tmp_path):
    """A catalog of an earlier version has names as they were found: all are exported and told."""
    bad = ["a\nb.png", "a\\b.png", "C:/x.png", "é" * 120 + ".png", "x" * 230 + ".png"]
    house.fill(7)
    for image, name in zip(
        house.catalog.pool.images(house.project_id), [*bad, "ok.png"], strict=False
    ):
        with_mask(house, image, np.ones((image.height, image.width), np.uint8))
        rename(house, image, name)
    done = exported(house, tmp_path / "exported")
    assert done.summary.count("set_aside") == 0
    assert done.summary.count("warnings") == len(bad)
    assert {name.encode() for name in (*bad, "ok.png")} == set(
        own_names(tmp_path / "exported").values()
    )


def rename(house, image, name):
    """Give an image a name that no intake gives any more."""
    with house.catalog.database.write() as connection:
        values = {"name": name, "original": None}
        connection.execute(update(images).where(images.c.id == image.id).values(values))


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_bucket_gets_the_same_export(house, request, tmp_path, kind):
    """The same files as in a folder, below the address; the next export replaces them."""
    address = "memory://exported"
    if kind == "s3":
        address = request.getfixturevalue("s3").new_bucket("masks")
    house.fill(3)
    for image in house.catalog.pool.images(house.project_id):
        with_mask(house, image, np.ones((image.height, image.width), np.uint8))
    for last in (3, 2):
        if last == 2:
            house.catalog.pool.quarantine(image.id, "gone")
        exported(house, tmp_path / str(last))
        done = exported(house, f"{address}/masks")
        assert done.written["png"].path == f"{address}/masks/png"
        fs, root = fsspec.core.url_to_fs(f"{address}/masks")
        fs.invalidate_cache()
        there = {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}
        assert json.loads(there.pop("brushloop-export.json"))["complete"]
        here = {
            path.relative_to(tmp_path / str(last)).as_posix(): path.read_bytes()
            for path in (tmp_path / str(last)).rglob("*")
            if path.is_file()
        }
        assert there == here
        assert not list((house.context.settings.home / "outbox").iterdir())


def test_a_bucket_that_does_not_exist_is_said(house, s3):
    """And is not made."""
    house.fill(1)
    (image,) = house.catalog.pool.images(house.project_id)
    with_mask(house, image, np.ones((image.height, image.width), np.uint8))
    with pytest.raises(StoreError, match="no-such-bucket"):
        exported(house, "s3://no-such-bucket/masks", ["png"])
    names = [row["Name"] for row in s3.client().list_buckets()["Buckets"]]
    assert "no-such-bucket" not in names
