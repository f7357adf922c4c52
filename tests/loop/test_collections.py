"""Commands that read folders of people read stacks and buckets as the pool does."""

import fsspec
import numpy as np
import tifffile
from PIL import Image as Picture
from support.house import picture

from ml_backend.loop.augment_sheet import augment_sheet
from ml_backend.loop.material import material_in
from ml_backend.loop.simulate.material import read_material
from ml_backend.loop.simulate.plan import Source
from ml_backend.recipe import Recipe

SIDE = 64


def write_stacks(folder, count, first=0):
    """A stack of images and one of their masks, 255 where the object is."""
    pairs = [picture(first + number, SIDE) for number in range(count)]
    for name, pages in (("images", 0), ("masks", 1)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        planes = np.stack([pair[pages] for pair in pairs])
        planes = planes if pages == 0 else planes * np.uint8(255)
        kind = "rgb" if pages == 0 else "minisblack"
        tifffile.imwrite(folder / name / f"s{first}.tif", planes, photometric=kind)
    return folder


def names_of(samples):
    """Names without tiles, each once."""
    return list(dict.fromkeys(sample.name.split(" ")[0] for sample in samples))


def test_a_simulation_on_a_stack_judges_by_its_end(tmp_path):
    """One stack of twelve sections and its masks as a stack: the last sections judge."""
    write_stacks(tmp_path, 12)
    source = Source(images=tmp_path / "images", masks=tmp_path / "masks")
    material = read_material(source, Recipe())
    assert names_of(material.test) == ["s0_p10.tif", "s0_p11.tif", "s0_p12.tif"]
    assert names_of(material.samples) == [f"s0_p{number:02}.tif" for number in range(1, 10)]
    image, mask = material.samples[4].load()
    assert np.array_equal(image, picture(4, SIDE)[0])
    assert np.array_equal(mask, picture(4, SIDE)[1])
    assert material.summary.count("taken") == 12
    assert {tile.image.stack for tile in material.tiles} == {"s0.tif"}


def test_a_simulation_on_several_stacks_keeps_each_whole(tmp_path):
    """No stack stands on both sides."""
    for first in (0, 20, 40):
        write_stacks(tmp_path, 5, first)
    source = Source(images=tmp_path / "images", masks=tmp_path / "masks")
    material = read_material(source, Recipe())
    judged = {name.split("_")[0] for name in names_of(material.test)}
    played = {name.split("_")[0] for name in names_of(material.samples)}
    assert len(judged) == 1
    assert len(played) == 2
    assert not judged & played


def test_tuning_reads_a_bucket_of_stacks(tmp_path):
    """An fsspec address gives the same samples and the same fingerprint as the folder."""
    write_stacks(tmp_path, 10)
    memory = fsspec.filesystem("memory")
    for path in tmp_path.rglob("*.tif"):
        memory.pipe(f"/tuned/{path.relative_to(tmp_path)}", path.read_bytes())
    here = material_in(tmp_path / "images", tmp_path / "masks", Recipe())
    there = material_in("memory://tuned/images", "memory://tuned/masks", Recipe())
    assert here.fingerprint == there.fingerprint
    assert names_of(here.val) == names_of(there.val) == ["s0_p08.tif", "s0_p09.tif", "s0_p10.tif"]
    assert np.array_equal(there.val[0].load()[1], picture(7, SIDE)[1])


def test_a_sheet_shows_pages(tmp_path):
    """Each row of the sheet is a page, and what was passed over is in the summary."""
    write_stacks(tmp_path, 3)
    (tmp_path / "images/notes.txt").touch()
    report = augment_sheet(
        tmp_path / "images", tmp_path / "masks", tmp_path / "sheet.png", recipe=Recipe()
    )
    assert sorted(report.shown) == ["s0_p1.tif", "s0_p2.tif", "s0_p3.tif"]
    assert report.summary.count("passed_over") == 1
    with Picture.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > SIDE


def test_a_broken_mask_does_not_end_the_tuning(tmp_path):
    """It is set aside with its image; the others are learned from and judged by."""
    for number in range(8):
        image, mask = picture(number, SIDE)
        for name, pixels in (("images", image), ("masks", mask * np.uint8(255))):
            (tmp_path / name).mkdir(exist_ok=True)
            Picture.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    (tmp_path / "masks/3.png").write_bytes(b"nothing")
    (tmp_path / "images/4.png").write_bytes(b"nothing")
    material = material_in(tmp_path / "images", tmp_path / "masks", Recipe())
    assert len(material.train) + len(material.val) == 6
    assert material.summary.count("set_aside") == 2
