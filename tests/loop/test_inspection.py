"""What `brushloop inspect` says of images and masks before anything is added."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from ml_backend.cli import app
from ml_backend.errors import DataError
from ml_backend.loop.inspection import inspect_folder
from ml_backend.recipe import Recipe


def save(path, pixels):
    """Write an image, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
    """Three images, two with masks: one of two touching numbered objects, one of half a picture."""
    scans, masks = tmp_path / "scans", tmp_path / "masks"
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    for name in "abc":
        save(scans / f"{name}.png", grey)
    numbers = np.zeros((48, 64), np.uint16)
    numbers[8:16, 8:16], numbers[8:16, 16:24] = 1, 2
    save(masks / "a_mask.png", numbers)
    save(masks / "b.png", np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None].repeat(48, 0))
    (scans / "notes.txt").write_text("no image")
    return scans, masks


def by_name(found):
    """Images by their names."""
    return {image.name: image for image in found.images}


def test_sizes_masks_shares_and_objects_are_told(folders):
    """Of each image what the pool would take, of its mask what it holds."""
    scans, masks = folders
    found = inspect_folder(scans, Recipe(), masks=masks)
    images = by_name(found)
    assert set(images) == {"a.png", "b.png", "c.png"}
    assert {image.size for image in found.images} == {(64, 48)}
    assert images["a.png"].mask == "a_mask.png"
    assert images["a.png"].objects == 2
    assert images["a.png"].shares == {"object": pytest.approx(128 / (48 * 64), abs=1e-6)}
    assert images["b.png"].shares == {"object": 0.5}
    assert (images["c.png"].mask, images["c.png"].shares, images["c.png"].objects) == (
        None,
        {},
        None,
    )
    summary = found.summary
    assert summary.count("paired") == 2
    assert [group.names for group in summary.groups("unpaired")] == [["c.png"]]
    assert summary.count("passed_over") == 1
    assert summary.count("taken") == 3


def test_what_cannot_be_read_costs_itself_alone(folders):
    """A broken image and a mask of codes that say nothing are told; the others are inspected."""
    scans, masks = folders
    (scans / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    save(masks / "b.png", np.array([[0, 70], [90, 200]], np.uint8).repeat(24, 0).repeat(32, 1))
    found = inspect_folder(scans, Recipe(), masks=masks)
    images = by_name(found)
    assert images["broken.png"].size is None
    assert images["broken.png"].problems
    assert images["b.png"].problems
    assert images["b.png"].shares == {}
    assert images["a.png"].objects == 2
    assert found.summary.count("set_aside") == 2


def test_pages_of_a_stack_are_images_with_their_own_masks(tmp_path):
    """Each page has the mask of the same page, and says how many its file holds."""
    (tmp_path / "scans").mkdir()
    (tmp_path / "masks").mkdir()
    pages = np.arange(3 * 32 * 32, dtype=np.uint16).reshape(3, 32, 32)
    tifffile.imwrite(tmp_path / "scans" / "s.tif", pages, photometric="minisblack")
    masks = np.zeros((3, 32, 32), np.uint8)
    masks[1, :16], masks[2] = 255, 0
    masks[0, :8] = 255
    tifffile.imwrite(tmp_path / "masks" / "s.tif", masks, photometric="minisblack")
    found = inspect_folder(tmp_path / "scans", Recipe(), masks=tmp_path / "masks")
    assert [image.name for image in found.images] == ["s_p1.tif", "s_p2.tif", "s_p3.tif"]
    assert [image.shares["object"] for image in found.images] == [0.25, 0.5, 0.0]
    assert {image.pages for image in found.images} == {3}


def test_several_labels_that_overlap_have_a_share_each(tmp_path):
    """A folder a label says that labels overlap: shares add up to more than one, objects too."""
    save(tmp_path / "scans" / "a.png", np.zeros((32, 32), np.uint8))
    for label in ("cell", "nucleus"):
        save(tmp_path / "masks" / label / "a.png", np.full((32, 32), 255, np.uint8))
    found = inspect_folder(
        tmp_path / "scans", Recipe(), labels=["cell", "nucleus"], masks=tmp_path / "masks"
    )
    (image,) = found.images
    assert image.shares == {"cell": 1.0, "nucleus": 1.0}
    assert image.objects == 2


def test_no_image_is_an_error_with_what_is_there(tmp_path):
    """An empty folder, or one of other files, is refused with what was passed over."""
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"docx"):
        inspect_folder(tmp_path, Recipe())


def test_the_command_prints_json_a_table_and_a_sheet(folders, tmp_path):
    """JSON alone on stdout, a sheet of all images, and 1 where something is unusable."""
    scans, masks = folders
    arguments = ["inspect", str(scans), "--masks", str(masks)]
    sheet = tmp_path / "sheet.png"
    run = CliRunner().invoke(app, [*arguments, "--json", "--sheet", str(sheet)])
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)
    assert set(said) >= {"images", "passed_over", "unpaired", "warnings"}
    keys = {"name", "size", "pages", "channels", "range", "mask", "shares", "objects", "problems"}
    assert set(said["images"][0]) == keys
    with Image.open(sheet) as picture:
        assert picture.width > 3 * 192
    plain = CliRunner().invoke(app, arguments)
    assert plain.exit_code == 0
    assert "a_mask.png" in plain.output
    (scans / "d.png").write_bytes(b"nothing")
    assert CliRunner().invoke(app, arguments).exit_code == 1


def test_grey_ranges_of_many_images_are_one_line(tmp_path):
    """Each image has other numbers; the summary counts them together and shows the first few."""
    steps = np.tile(np.arange(64, dtype=np.uint16), (64, 1))
    for number in range(8):
        save(tmp_path / f"{number}.png", steps * 20 + 300 * (number + 1))
    (group,) = inspect_folder(tmp_path, Recipe()).summary.groups("chosen")
    assert (group.detail, group.count) == ("grey range", 8)
    assert group.names[0] == "0.png (300 to 1560)"
