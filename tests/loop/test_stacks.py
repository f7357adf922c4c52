"""Stacks in the pool: each page an image of its own, the file one source; addresses; odd names."""

import os
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from support.house import picture, save_picture

from ml_backend.errors import ImageUnreadable, PoolMoved
from ml_backend.loop.context import silent
from ml_backend.loop.export import export
from ml_backend.loop.pool import add_folder, last_intake
from ml_backend.loop.push import referenced
from ml_backend.store.names import original_name


def pages_of(count, first=0, side=32):
    """(count, side, side, 3): different pictures."""
    return np.stack([picture(first + number, side)[0] for number in range(count)])


def write_stack(path, pages):
    """Write pages into one TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pages, photometric="rgb")


def images(house):
    """The pool's images by name."""
    return {image.name: image for image in house.catalog.pool.images(house.project_id)}


def details(summary, kind):
    """What a summary says of a kind: detail → how many."""
    return {group.detail: group.count for group in summary.groups(kind)}


def test_each_page_is_an_image_of_its_own(house):
    """Twenty sections are twenty images with their pixels, named by page; the last validate."""
    house.recipe({"validation.share": 0.2})
    pages = pages_of(20)
    write_stack(house.images / "em/stack.tif", pages)
    report = add_folder(house.context, house.project_id, house.images)
    assert (report.images, report.tiles) == (20, 20)
    found = images(house)
    assert list(found) == [f"em/stack_p{number:02}.tif" for number in range(1, 21)]
    assert {image.stack for image in found.values()} == {"em/stack.tif"}
    assert len({image.sha256 for image in found.values()}) == 20
    assert [image.split for image in found.values()] == ["train"] * 16 + ["val"] * 4
    for page, image in zip(pages, found.values(), strict=True):
        assert np.array_equal(house.context.whole(image), page)
    assert details(report.summary, "chosen") == {"20 of 20 pages": 1}
    assert details(report.summary, "taken") == {"to be asked about": 20}


def test_adding_a_stack_twice_changes_nothing(house):
    """Rows, names and splits stay, and nothing is told a second time."""
    write_stack(house.images / "stack.tif", pages_of(6))
    add_folder(house.context, house.project_id, house.images)
    before = house.catalog.pool.images(house.project_id)
    report = add_folder(house.context, house.project_id, house.images)
    assert house.catalog.pool.images(house.project_id) == before
    assert report.quarantined == ()
    assert report.summary.count("warnings") == 0


def test_a_stack_is_read_once(house, monkeypatch):
    """Its bytes are hashed once, not once a page."""
    write_stack(house.images / "stack.tif", pages_of(6))
    hashed = []
    from ml_backend.store import collection

    digest = collection._digest
    monkeypatch.setattr(
        collection, "_digest", lambda source: hashed.append(source) or digest(source)
    )
    add_folder(house.context, house.project_id, house.images)
    assert len(hashed) == 1


def test_whole_stacks_stand_on_one_side(house):
    """Of three stacks one validates, as a whole."""
    house.recipe({"validation.share": 0.2})
    for number, name in enumerate("abc"):
        write_stack(house.images / f"{name}.tif", pages_of(5, 10 * number))
    add_folder(house.context, house.project_id, house.images)
    sides = {}
    for image in images(house).values():
        sides.setdefault(image.stack, set()).add(image.split)
    assert all(len(split) == 1 for split in sides.values())
    assert sorted(split for (split,) in sides.values()) == ["train", "train", "val"]


def test_a_choice_of_pages_is_kept_and_a_change_of_it_told(house):
    """`pool.pages` chooses; pages that a later rule leaves out stay, and it is said."""
    write_stack(house.images / "stack.tif", pages_of(9))
    house.recipe({"pool.pages": "3-5"})
    add_folder(house.context, house.project_id, house.images)
    assert list(images(house)) == [f"stack_p{number}.tif" for number in (3, 4, 5)]
    house.recipe({"pool.pages": "5-6"})
    report = add_folder(house.context, house.project_id, house.images)
    assert list(images(house)) == [f"stack_p{number}.tif" for number in (3, 4, 5, 6)]
    (told,) = report.summary.groups("warnings")
    assert told.names == ["stack_p3.tif", "stack_p4.tif"]
    assert "pool.pages leaves it out" in told.detail


def test_a_stack_of_which_one_page_was_added_before_gets_the_others(house):
    """A catalog of an earlier version has its first page under the file's name; it keeps that."""
    pages = pages_of(4)
    write_stack(house.images / "stack.tif", pages)
    house.recipe({"pool.pages": "first"})
    add_folder(house.context, house.project_id, house.images)
    (first,) = images(house).values()
    assert (first.name, first.stack) == ("stack.tif", None)
    house.recipe({"pool.pages": "each"})
    add_folder(house.context, house.project_id, house.images)
    found = images(house)
    assert list(found) == ["stack.tif", "stack_p2.tif", "stack_p3.tif", "stack_p4.tif"]
    assert found["stack.tif"] == replace(first, stack="stack.tif")
    assert {image.split for image in found.values()} == {first.split}
    assert np.array_equal(house.context.whole(found["stack_p4.tif"]), pages[3])


def test_a_page_and_a_file_of_its_name_are_two_images(house):
    """Neither takes the other's place."""
    write_stack(house.images / "s.tif", pages_of(2))
    write_stack(house.images / "s_p1.tif", pages_of(1, 7)[0])
    report = add_folder(house.context, house.project_id, house.images)
    assert report.images == 3
    assert np.array_equal(house.context.whole(images(house)["s_p1.tif"]), pages_of(1, 7)[0])


def test_a_broken_stack_sets_its_pages_aside(house):
    """A known stack that cannot be read any more is named once; its pages are not used."""
    path = house.images / "stack.tif"
    write_stack(path, pages_of(3))
    save_picture(house.images / "0.png", 30)
    add_folder(house.context, house.project_id, house.images)
    path.write_bytes(path.read_bytes()[:100])
    report = add_folder(house.context, house.project_id, house.images)
    assert [name for name, _ in report.quarantined] == ["stack.tif"]
    ready = [image.name for image in images(house).values() if image.status == "ready"]
    assert ready == ["0.png"]


def test_a_bucket_is_a_pool(house):
    """An fsspec address is added as a folder is, and its pixels are read from there."""
    memory = fsspec.filesystem("memory")
    write_stack(house.images / "em/stack.tif", pages_of(3))
    save_picture(house.images / "0.png", 30)
    for path in house.images.rglob("*.*"):
        memory.pipe(f"/scans/{path.relative_to(house.images)}", path.read_bytes())
    report = add_folder(house.context, house.project_id, "memory://scans")
    assert report.images == 4
    found = images(house)
    assert found["0.png"].uri == "memory:///scans/0.png"
    assert np.array_equal(house.context.whole(found["0.png"]), picture(30)[0])
    assert np.array_equal(house.context.whole(found["em/stack_p3.tif"]), pages_of(3)[2])
    before = list(found.values())
    add_folder(house.context, house.project_id, "memory://scans")
    assert list(images(house).values()) == before
    add_folder(house.context, house.project_id, house.images)  # the same files, moved to a folder
    assert {name: image.uri for name, image in images(house).items()}["0.png"].startswith("/")


def test_odd_names_are_made_safe_once_and_stop_nobody(house):
    """Latin-1, backslashes, long names: all are taken, their own names kept beside."""
    odd = ["a\\b.png", "line\nfeed.png", os.fsdecode(b"caf\xe9.png"), "细" * 80 + ".png", "a_b.png"]
    for number, name in enumerate(odd):
        save_picture(house.images / "x.png", number)
        (house.images / "x.png").rename(house.images / name)
    report = add_folder(house.context, house.project_id, house.images)
    assert report.images == 5
    found = images(house)
    own = {image.original and original_name(image.original) for image in found.values()}
    assert own == {*odd[:4], None}
    assert found["café.png"].uri.startswith("file:///")
    for image in found.values():
        house.context.whole(image)
    before = list(found.values())
    add_folder(house.context, house.project_id, house.images)
    assert list(images(house).values()) == before


def test_the_last_intake_is_kept(house):
    """What became of the files can be asked for later."""
    assert last_intake(house.context, house.project_id) is None
    save_picture(house.images / "0.png", 0)
    (house.images / "notes.txt").write_text("no image")
    report = add_folder(house.context, house.project_id, house.images)
    assert last_intake(house.context, house.project_id) == report.summary
    assert details(report.summary, "passed_over") == {".txt files are not read": 1}


def test_an_intake_that_failed_is_recorded(house):
    """The run says why; what was known before stays the last intake."""
    with pytest.raises(Exception, match="not a folder"):
        add_folder(house.context, house.project_id, Path("/nothing/here"))
    (run,) = house.catalog.models.runs(house.project_id, step="pool")
    assert (run.state, "not a folder" in run.report["error"]) == ("failed", True)


def test_a_pool_of_one_range_keeps_it(house):
    """`images.range: pool`: all files share a range, and those that come later take it over."""
    house.recipe({"images.range": "pool"})
    rng = np.random.default_rng(0)
    for number, scale in enumerate((100, 5000, 20000)):
        save_deep(house.images / f"{number}.tif", rng.integers(0, scale, (32, 32)))
    add_folder(house.context, house.project_id, house.images)
    frames = {image.frame for image in images(house).values()}
    assert len(frames) == 1
    save_deep(house.images / "3.tif", rng.integers(0, 60000, (32, 32)))
    add_folder(house.context, house.project_id, house.images)
    assert {image.frame for image in images(house).values()} == frames
    dark, bright = (house.context.whole(images(house)[f"{number}.tif"]).mean() for number in (0, 2))
    assert dark < 10
    assert bright > 100


def save_deep(path, values):
    """Write a 16-bit grey TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values.astype(np.uint16), photometric="minisblack")


def test_names_that_look_like_chains_of_file_systems_are_read(house, s3):
    """Two colons, question marks and spaces in the names of a bucket's objects."""
    bucket = s3.new_bucket()
    for number, name in enumerate(("a::1.png", "b c#2.png", "50%/ü.png")):
        save_picture(house.images / "x.png", number)
        s3.put(f"{bucket}/{name}", (house.images / "x.png").read_bytes())
    report = add_folder(house.context, house.project_id, bucket)
    assert report.images == 3, report.summary
    for image in images(house).values():
        assert house.context.whole(image).shape == (32, 32, 3)


def test_a_bucket_that_cannot_be_reached_sets_no_image_aside(house, s3, monkeypatch):
    """A missing object is the image's fault; a missing bucket or server is nobody's."""
    bucket = s3.new_bucket()
    for number in range(2):
        save_picture(house.images / "x.png", number)
        s3.put(f"{bucket}/{number}.png", (house.images / "x.png").read_bytes())
    add_folder(house.context, house.project_id, bucket)
    first, second = images(house).values()
    name = bucket.removeprefix("s3://")
    s3.client().delete_object(Bucket=name, Key="0.png")
    with pytest.raises(ImageUnreadable, match="does not exist"):
        house.context.whole(first)
    s3.client().delete_object(Bucket=name, Key="1.png")
    s3.client().delete_bucket(Bucket=name)
    with pytest.raises(PoolMoved, match="no image of it is to blame"):
        house.context.whole(second)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PoolMoved, match="cannot be reached"):
        house.context.whole(second)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # it would lead other tests astray
    assert {image.status for image in images(house).values()} == {"ready"}


@pytest.mark.parametrize(
    ("base", "addresses"),
    [
        ("/data/local-files/?d=scans", ["sub/a%20b.png", "a%5Cb.png", "caf%E9.png"]),
        ("s3://bucket/scans/", ["sub/a b.png", "a\\b.png"]),
    ],
)
def test_label_studio_reads_files_of_the_pool_by_their_own_names(house, base, addresses):
    """By the file's own name below `pool.reference`; pages and deep greys are uploaded as PNG."""
    own = ["sub/a b.png", "a\\b.png", os.fsdecode(b"caf\xe9.png")]
    for number, name in enumerate(own):
        save_picture(house.images / "x.png", number)
        (house.images / name).parent.mkdir(exist_ok=True)
        (house.images / "x.png").rename(house.images / name)
    write_stack(house.images / "stack.tif", pages_of(2))
    save_deep(house.images / "deep.tif", np.arange(1024).reshape(32, 32) * 60)
    Picture.fromarray((np.arange(1024).reshape(32, 32) * 60).astype(np.uint16)).save(
        house.images / "deep.png"
    )
    add_folder(house.context, house.project_id, house.images)
    house.recipe({"pool.reference": base})
    tiles = house.catalog.pool.unasked(house.project_id)
    found = {referenced(house.project.recipe, tile, "") for tile in tiles}
    assert found == {None, *(f"{base.rstrip('/')}/{name}" for name in addresses)}
    assert len(tiles) == 7


def test_another_reading_of_known_images_is_told(house):
    """The recipe's grey range changed: images stay as they were added, and it is said."""
    save_deep(house.images / "deep.tif", np.arange(1024).reshape(32, 32) * 60)
    add_folder(house.context, house.project_id, house.images)
    before = images(house)
    house.recipe({"images.range": (0, 100)})
    report = add_folder(house.context, house.project_id, house.images)
    assert images(house) == before
    (told,) = [one for one in report.summary.groups("warnings") if "stays as it was" in one.detail]
    assert told.names == ["deep.tif"]


def test_pages_are_exported_under_their_names(house):
    """Each page has its mask, and the tables say of which file and page it is."""
    masks = house.folder / "masks"
    write_stack(house.images / "em/stack.tif", pages_of(12))
    masks.mkdir()
    planes = np.stack([picture(number)[1] for number in range(12)])
    tifffile.imwrite(masks / "stack.tif", planes * np.uint8(255), photometric="minisblack")
    add_folder(house.context, house.project_id, house.images, masks=masks)
    out = house.folder / "out"
    export(house.context, house.project_id, out, formats=["png"], source="people", progress=silent)
    for number in range(12):
        with Picture.open(out / f"png/em/stack_p{number + 1:02}.png") as mask:
            assert np.array_equal(np.asarray(mask) > 0, picture(number)[1] > 0)
    lines = (out / "names.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["image,file,page", "em/stack_p01.tif,em/stack.tif,1"]
    assert len(lines) == 13
