"""Images of tasks that people made themselves: fetched once, checked, kept by their content."""

import itertools

import numpy as np
import pytest
from support.bucket import TinyBucket
from support.house import open_house, picture, save_picture

from ml_backend.loop.masks import load_mask
from ml_backend.masks.labels import make_label_config
from ml_backend.studio.client import Studio

_numbers = itertools.count(1)


def content(folder, number):
    """A picture's file."""
    path = folder / f"{number}.png"
    save_picture(path, number)
    return path.read_bytes()


def uploaded(house, *numbers):
    """A task for each picture, under an address of its own; their ids."""
    files = [(f"{number}.png", content(house.folder, number)) for number in numbers]
    urls = house.studio.upload_images(house.project_id, files)
    return house.studio.import_tasks(house.project_id, [{"data": {"image": url}} for url in urls])


def pixels(house, task_id):
    """What a task shows, as the catalog has it."""
    tile = house.catalog.pool.tile(house.catalog.work.task(task_id).tile_id)
    return house.context.pixels(tile)


def kept(house):
    """Keys of the images that are kept."""
    return house.context.blobs.list("images")


def test_an_image_is_fetched_once(house):
    """Neither another poll, nor annotations, nor reading everything again fetch it again."""
    (task,) = uploaded(house, 1)
    house.step("sync")
    assert house.studio.calls.count("download") == 0, "nobody has annotated it yet"
    house.studio.create_annotation(task, house.regions(picture(1)[1]))
    house.step("sync")
    house.catalog.projects.set_cursor(house.project_id, None)
    assert house.step("sync").numbers["tasks"] == 1
    assert house.studio.calls.count("download") == 1
    assert np.array_equal(pixels(house, task), picture(1)[0])


def test_one_content_is_one_image(house):
    """Two uploads of the same bytes are kept once, and stand on one side of the split."""
    first, second, other = uploaded(house, 1, 1, 2)
    for task in (first, second, other):
        house.studio.create_annotation(task, [])
    house.step("sync")
    tiles = {task: house.catalog.work.task(task).tile_id for task in (first, second, other)}
    assert tiles[first] == tiles[second] != tiles[other]
    assert len(kept(house)) == len(house.catalog.pool.images(house.project_id)) == 2


def test_other_data_are_another_image(house):
    """The annotation of the former image does not count for the new one, unless it fits."""
    (task, other) = uploaded(house, 1, 2)
    made = house.studio.create_annotation(task, house.regions(picture(1)[1]))
    house.step("sync")
    house.studio.edit_task(task, house.studio.tasks[other]["data"])
    house.step("sync")
    assert np.array_equal(pixels(house, task), picture(2)[0])
    save_picture(house.folder / "large.png", 3, side=48)
    (url,) = house.studio.upload_images(
        house.project_id, [("large.png", (house.folder / "large.png").read_bytes())]
    )
    house.studio.edit_task(task, {"image": url})
    house.step("sync")
    (row,) = house.catalog.work.annotations(house.project_id, task_id=task)
    assert (row.id, row.usable, row.mask) == (made, False, None)
    assert "48" in row.reason


@pytest.mark.parametrize(
    ("file", "reason"),
    [(b"", "empty"), (b"<html>", "not an image"), ("half", "truncated")],
)
def test_a_broken_image_costs_its_task_and_no_other(house, file, reason):
    """Its task says why, its annotation waits, the rest arrives; it heals when the file does."""
    tasks = uploaded(house, 1, 2, 3)
    url = house.studio.tasks[tasks[1]]["data"]["image"]
    whole = house.studio.files[url]
    house.studio.files[url] = whole[: len(whole) // 2] if file == "half" else file
    for task, number in zip(tasks, (1, 2, 3), strict=True):
        house.studio.create_annotation(task, house.regions(picture(number)[1]))
    assert house.step("sync").numbers["unusable"] == 1
    assert reason in house.catalog.work.task(tasks[1]).reason
    assert len(house.catalog.work.labelled(house.project_id)) == 2
    house.step("sync")
    house.studio.sleep(1000)
    house.step("sync")
    house.studio.files[url] = whole
    house.step("sync")
    assert house.catalog.work.task(tasks[1]).reason is None
    assert len(house.catalog.work.labelled(house.project_id)) == 3


@pytest.fixture
def real(tmp_path, label_studio):
    """Give a house whose project is in the real Label Studio."""
    house = open_house(tmp_path)
    with Studio(label_studio.url, label_studio.personal_token) as studio:
        house.context.__dict__["studio"] = house.studio = studio
        title, config = f"images {next(_numbers)}", make_label_config(["cell"])
        house.project_id = studio.create_project(title, config).id
        house.catalog.projects.save(house.project_id, title=title, label_config=config)
        yield house
    house.catalog.close()


def annotated(house, addresses):
    """Annotated tasks for addresses of pictures (address, number); their ids."""
    new = [
        {
            "data": {"image": url},
            "annotations": [{"result": house.regions(picture(number)[1])}],
        }
        for url, number in addresses
    ]
    return house.studio.import_tasks(house.project_id, new)


def check(house, task_id, number):
    """Pixels and mask are the picture's."""
    image, mask = picture(number)
    assert house.catalog.work.task(task_id).reason is None
    assert np.array_equal(pixels(house, task_id), image)
    (row,) = house.catalog.work.annotations(house.project_id, task_id=task_id)
    assert np.array_equal(load_mask(house.context.blobs, row.mask), mask)


@pytest.mark.studio
def test_uploads_and_local_files_of_the_real_one(real, label_studio):
    """Both kinds of address bring pixels that fit the regions; equal files are kept once."""
    folder = label_studio.files / f"images-{real.project_id}"
    folder.mkdir()
    (folder / "a b.png").write_bytes(content(real.folder, 1))
    body = {"project": real.project_id, "path": str(folder), "use_blob_urls": True}
    real.studio._http.json("POST", "/api/storages/localfiles", body=body)
    files = [("same.png", content(real.folder, 1)), ("other.png", content(real.folder, 2))]
    same, other = real.studio.upload_images(real.project_id, files)
    local = f"/data/local-files/?d={folder.name}/a%20b.png"
    missing = f"/data/local-files/?d={folder.name}/none.png"
    tasks = annotated(real, [(local, 1), (same, 1), (other, 2), (missing, 3)])
    assert real.step("sync").numbers["unusable"] == 1
    for task, number in zip(tasks, (1, 1, 2), strict=False):
        check(real, task, number)
    assert len(kept(real)) == 2
    assert "none.png: not there" in real.catalog.work.task(tasks[3]).reason
    (folder / "none.png").write_bytes(content(real.folder, 3))
    real.step("sync")
    check(real, tasks[3], 3)


@pytest.mark.studio
@pytest.mark.parametrize("presign", [True, False])
def test_a_bucket_behind_the_real_one(real, presign):
    """Label Studio redirects to presigned addresses or passes the bytes on: both are followed.

    What the bucket refuses costs its task only, and comes when the bucket opens.
    """
    with TinyBucket() as bucket:
        storage = {
            "project": real.project_id,
            "bucket": bucket.name,
            "s3_endpoint": bucket.url,
            "aws_access_key_id": "key",
            "aws_secret_access_key": "secret",
            "region_name": "nowhere",
            "presign": presign,
        }
        real.studio._http.json("POST", "/api/storages/s3", body=storage)
        first = bucket.put("folder/a b.png", content(real.folder, 1))
        second = bucket.put("2.png", content(real.folder, 2))
        tasks = annotated(real, [(first, 1), (second, 2), (f"s3://{bucket.name}/none.png", 3)])
        real.step("sync")
        check(real, tasks[0], 1)
        check(real, tasks[1], 2)
        assert real.catalog.pool.find_image(real.project_id, "a b.png")
        assert real.catalog.work.task(tasks[2]).reason
        assert sorted(set(bucket.reads)) == ["2.png", "folder/a b.png"]
        reads = len(bucket.reads)
        real.catalog.projects.set_cursor(real.project_id, None)
        bucket.open = False
        (late,) = annotated(real, [(bucket.put("4.png", content(real.folder, 4)), 4)])
        real.step("sync")
        assert len(bucket.reads) == reads
        assert "answered" in real.catalog.work.task(late).reason
        bucket.open = True
        bucket.put("none.png", content(real.folder, 3))
        real.step("sync")
        check(real, late, 4)
        check(real, tasks[2], 3)
