"""Masks by thresholding: what is written, what is left alone, and that it can be learned from."""

import os
import shutil

import fsspec
import numpy as np
import pytest
from PIL import Image
from support.house import picture, save_picture

from ml_backend.errors import ConfigError, DataError, UnknownName
from ml_backend.loop.bootstrap import Thresholding, bootstrap
from ml_backend.samples import make_samples


@pytest.fixture
def folders(tmp_path):
    """Give images in a subfolder, where masks go, and where the sheet goes."""
    for number in range(5):
        save_picture(tmp_path / "images" / "sub" / f"{number}.png", number)
    return tmp_path / "images", tmp_path / "masks", tmp_path / "sheet.png"


def read(path):
    """A file's pixels."""
    with Image.open(path) as image:
        return np.array(image)


def test_masks_are_written_beside_their_names(folders):
    """As PNG of 0 and 255 in the same subfolder, and they are the objects."""
    images, masks, sheet = folders
    report = bootstrap(images, masks, sheet=sheet)
    assert report.written == tuple(f"sub/{number}.png" for number in range(5))
    assert (report.kept, report.empty, report.set_aside) == ((), (), ())
    for number in range(5):
        assert np.array_equal(read(masks / "sub" / f"{number}.png"), 255 * picture(number)[1])
    assert read(sheet).shape[1] > 6 * 256
    assert len(list(masks.rglob("*"))) == 6


def test_what_is_there_is_never_touched(folders):
    """A corrected mask stays, whatever its name's ending; the others are added."""
    images, masks, sheet = folders
    (masks / "sub").mkdir(parents=True)
    own = Image.new("L", (32, 32), 255)
    own.save(masks / "sub" / "1.png")
    own.save(masks / "sub" / "2_seg.png")
    report = bootstrap(images, masks, sheet=sheet)
    assert report.kept == ("sub/1.png", "sub/2.png")
    assert len(report.written) == 3
    assert (read(masks / "sub" / "1.png") == 255).all()
    assert not (masks / "sub" / "2.png").exists()
    again = bootstrap(images, masks, how=Thresholding("otsu"), sheet=sheet)
    assert (len(again.kept), again.written) == (5, ())


def test_what_cannot_be_masked_is_said(folders):
    """Even images get no mask rather than an empty one; broken ones are named."""
    images, masks, _ = folders
    Image.new("L", (40, 40), 200).save(images / "even.jpg")
    (images / "bad.png").write_bytes(b"nothing")
    report = bootstrap(images, masks)
    assert report.empty == ("even.jpg",)
    assert [name for name, _ in report.set_aside] == ["bad.png"]
    assert not (masks / "even.png").exists()
    assert len(report.written) == 5


def test_the_settings_arrive(folders):
    """Specks, joints and the number of objects follow what is asked for."""
    images, masks, _ = folders
    pixels = np.full((40, 60), 220, np.uint8)
    pixels[5:25, 5:25] = 30
    pixels[30:34, 40:44] = 30
    Image.fromarray(pixels).save(images / "two.png")
    areas = []
    for name, how in [
        ("all", Thresholding("otsu")),
        ("one", Thresholding("otsu", largest=1)),
        ("big", Thresholding("otsu", min_area=17)),
        ("open", Thresholding("otsu", opening=4)),
    ]:
        bootstrap(images, masks.with_name(name), how=how)
        areas.append(int((read(masks.with_name(name) / "two.png") > 0).sum()))
    assert areas[:3] == [416, 400, 400]
    assert 370 < areas[3] < 400


def test_mistakes_are_said_before_anything_is_written(folders, tmp_path):
    """An unknown method, a folder in the other, no images."""
    images, masks, _ = folders
    with pytest.raises(UnknownName, match="hysteresis, local, otsu"):
        bootstrap(images, masks, how=Thresholding("watershed"))
    for inside in (images, images / "masks"):
        with pytest.raises(ConfigError, match="a folder of their own"):
            bootstrap(images, inside)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no images"):
        bootstrap(tmp_path / "none", masks)
    assert not masks.exists()


def test_the_masks_of_clean_samples_can_be_learned_from(house):
    """The package's own silhouettes: nearly the drawn masks, and then a source of the project."""
    samples = make_samples(house.folder / "samples", count_clean=4, count_noisy=0)
    masks = house.folder / "found"
    report = bootstrap(samples.clean_images, masks)
    assert len(report.written) == 4
    for path in samples.clean_masks.iterdir():
        found, truth = read(masks / path.name) > 0, read(path) > 0
        assert (found & truth).sum() / (found | truth).sum() > 0.8
    house.images = samples.clean_images
    assert house.fill(0, masks=masks).sources == 4
    assert "promoted" in house.step("train").summary


def test_images_that_would_share_a_mask_have_each_their_own(folders):
    """Names that differ in their endings only: masks by the whole name, found again by it."""
    images, masks, _ = folders
    shutil.copy(images / "sub" / "0.png", images / "sub" / "0.bmp")
    report = bootstrap(images, masks)
    assert len(report.written) == 6
    assert {path.name for path in (masks / "sub").glob("0*")} == {"0.bmp.png", "0.png.png"}
    assert bootstrap(images, masks).written == ()


def test_odd_names_stop_nobody(folders):
    """U+202F, a backslash, a Latin-1 byte, 200 bytes: each image gets its mask, and keeps it."""
    images, masks, _ = folders
    odd = ["a\u202fb.png", "a\\c.png", os.fsdecode(b"caf\xe9.png"), "x" * 240 + ".png"]
    for name in odd:
        shutil.copy(images / "sub" / "0.png", images / name)
    report = bootstrap(images, masks)
    assert len(report.written) == 9
    assert {"a b.png", "a_c.png", "café.png"} < {path.name for path in masks.iterdir()}
    again = bootstrap(images, masks)
    assert (len(again.kept), again.written) == (9, ())


def test_a_bucket_has_its_masks_in_a_bucket(folders):
    """Images are read from an fsspec address and masks written to one."""
    images, _, _ = folders
    memory = fsspec.filesystem("memory")
    memory.pipe("/clean/sub/0.png", (images / "sub" / "0.png").read_bytes())
    report = bootstrap("memory://clean", "memory://clean-masks")
    assert report.written == ("sub/0.png",)
    assert memory.exists("/clean-masks/sub/0.png")
    assert bootstrap("memory://clean", "memory://clean-masks").written == ()
