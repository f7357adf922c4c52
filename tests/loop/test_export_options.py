"""What an export is asked for: whose masks, of which images, changed since when; and its table."""

import csv
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from PIL import Image as Picture
from support.house import picture, save_picture

from ml_backend.errors import ConfigError, NotFound, UnknownName
from ml_backend.loop import export as export_module
from ml_backend.loop import stitch as stitch_module
from ml_backend.loop.context import silent
from ml_backend.loop.drawings import Drawing
from ml_backend.loop.export import export
from ml_backend.loop.masks import store_mask
from ml_backend.loop.models import Models
from ml_backend.loop.stitch import Sources, stitched
from ml_backend.store.rows import Image, Labelled

SITE = "http://studio.test:8080"


@pytest.fixture
def house(house):
    """Give a house that knows the address of Label Studio."""
    settings = house.context.settings.model_copy(update={"label_studio_url": f"{SITE}/"})
    context = replace(house.context, settings=settings)
    context.__dict__["studio"] = house.studio
    return replace(house, context=context)


@pytest.fixture
def asked(house):
    """Give a house of ten images: four in tasks, of which the first three are answered."""
    house.fill(10)
    house.step("select")
    for task_id in sorted(house.studio.tasks)[:3]:
        house.answer(task_id)
    house.step("sync")
    return house


@pytest.fixture
def trained(asked):
    """Give the same with a model."""
    asked.step("train")
    return asked


def write(house, folder="out", **options):
    """Export a manifest and PNGs below `folder`; the manifest's rows by image."""
    out = house.folder / folder
    export(
        house.context,
        house.project_id,
        out,
        formats=("manifest", "png"),
        **({"progress": silent} | options),
    )
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def mask_of(house, name, folder="out"):
    """Label values of an exported PNG."""
    with Picture.open(house.folder / folder / "png" / name) as image:
        return np.array(image)


def shown(house, task_id):
    """The name of the image that a task shows."""
    return house.studio.tasks[task_id]["data"]["name"]


def task_of(house, name):
    """The task that shows an image."""
    return next(task_id for task_id in house.studio.tasks if shown(house, task_id) == name)


def whole(top, bottom):
    """A mask whose rows from `top` up to `bottom` are labelled."""
    mask = np.zeros((32, 32), np.uint8)
    mask[top:bottom] = 1
    return mask


def test_the_manifest_names_task_annotator_version_and_area(trained):
    """Annotated, asked but not answered, and never asked: each row says what is known."""
    rows = write(trained)
    *answered, waiting = sorted(trained.studio.tasks)
    version = f"p{trained.project_id}-v1"
    images = {image.name: image for image in trained.catalog.pool.images(trained.project_id)}
    for task_id in answered:
        row = rows.pop(shown(trained, task_id))
        link = f"{SITE}/projects/{trained.project_id}/data?task={task_id}"
        assert (row["task_url"], row["annotator"], row["version"]) == (link, "1", "")
        assert row["source"] == "annotation"
        assert row["split"] == images[row["image"]].split
        area = picture(int(row["image"].removesuffix(".png")))[1].sum()
        assert int(row["area:cell"]) == area == (mask_of(trained, row["image"]) == 1).sum()
    row = rows.pop(shown(trained, waiting))
    assert row["task_url"].endswith(f"/data?task={waiting}")
    assert (row["annotator"], row["version"], row["source"]) == ("", version, "model")
    assert len(rows) == 6
    assert {row["task_url"] for row in rows.values()} == {""}
    assert {(row["source"], row["version"]) for row in rows.values()} == {("model", version)}


def test_an_image_of_several_tiles_names_everyone(house):
    """Tiles of two people and the model: both links, both people, the version, `both`."""
    house.recipe({"pool.tile": 32, "selection.batch": 4})
    house.fill(2, side=64)
    house.step("select")
    for person, task_id in enumerate(sorted(house.studio.tasks), start=1):
        house.answer(task_id, author=person)
    house.step("sync")
    house.step("train")
    for name, row in write(house).items():
        tasks = [task_id for task_id in sorted(house.studio.tasks) if shown(house, task_id) == name]
        assert len(row["task_url"].split()) == len(tasks)
        assert [int(link.rsplit("=", 1)[1]) for link in row["task_url"].split()] == tasks
        people = sorted(house.studio.tasks)
        assert row["annotator"].split() == [str(people.index(task_id) + 1) for task_id in tasks]
        whole_image = len(tasks) == 4
        assert row["source"] == ("annotation" if whole_image else "both" if tasks else "model")
        assert bool(row["version"]) == (not whole_image)


def test_whose_masks_count_is_the_recipe_s_unless_said(asked):
    """Latest, all (painted over one another) and consensus; the recipe's where nothing is said."""
    task_id = min(asked.studio.tasks)
    name = shown(asked, task_id)
    first = asked.truth(asked.catalog.pool.tile(asked.studio.tasks[task_id]["data"]["tile"]))
    asked.answer(task_id, whole(0, 8), author=2)
    asked.answer(task_id, whole(4, 12), author=3)
    asked.step("sync")
    masks, people = {}, {}
    for policy in ("latest", "all", "consensus", None):
        people[policy] = write(asked, annotators=policy)[name]["annotator"]
        masks[policy] = mask_of(asked, name)
    assert np.array_equal(masks["latest"], whole(4, 12))
    assert np.array_equal(masks["all"], first | whole(0, 12))
    votes = first + whole(0, 8) + whole(4, 12)
    assert np.array_equal(masks["consensus"] == 1, votes >= 2)
    assert np.array_equal(masks[None], masks["latest"])
    assert people == {"latest": "3", "all": "1 2 3", "consensus": "consensus", None: "3"}
    asked.recipe({"loop.annotators": "all"})
    assert write(asked)[name]["annotator"] == "1 2 3"
    assert write(asked, annotators="latest")[name]["annotator"] == "3"


def test_unknown_pixels_of_one_are_known_to_another(asked):
    """With `all`, what somebody left unknown is what somebody else said, background too."""
    one, two = whole(0, 8), whole(4, 12)
    one[20:] = 255
    two[:2] = 255
    tile = asked.catalog.pool.tiles(asked.project_id)[0]
    keys = [store_mask(asked.context.blobs, 1, mask, ["cell"]) for mask in (one, two)]
    for order in (keys, keys[::-1]):
        people = tuple(Labelled(tile, key, number) for number, key in enumerate(order))
        drawing = Drawing(tile.image, None, people, None, ())
        drawn = stitched(Sources(asked.context, None, ["cell"]), drawing)
        assert np.array_equal(drawn, whole(0, 12))


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_side_of_the_split(trained, split):
    """Exactly the images of that side, whoever drew them."""
    images = trained.catalog.pool.images(trained.project_id)
    wanted = {image.name for image in images if image.split == split}
    rows = write(trained, split=split)
    assert set(rows) == wanted
    assert {row["split"] for row in rows.values()} == {split}


def test_masks_that_came_with_their_images_are_exported(house):
    """As given, unless people painted the image; the model is asked only when told to."""
    masks = house.folder / "masks"
    masks.mkdir()
    truths = {}
    for number in range(3):
        truths[f"{number}.png"] = save_picture(house.images / f"{number}.png", number)
        Picture.fromarray(truths[f"{number}.png"] * 255).save(masks / f"{number}.png")
    house.fill(3, masks=masks)
    house.step("train")
    rows = write(house)
    assert {(row["source"], row["version"], row["task_url"]) for row in rows.values()} == {
        ("given", "", "")
    }
    for name, truth in truths.items():
        assert np.array_equal(mask_of(house, name), truth)
    assert write(house, source="people") == rows
    serving = Models(house.context).current(house.project)
    assert {row["source"] for row in write(house, source="model").values()} == {"model"}
    assert np.array_equal(mask_of(house, "1.png"), serving.label_map(picture(1)[0], ["cell"]))


def test_changed_since_a_moment(asked):
    """Edited, new and deleted annotations after it; not those before, nor what nobody touched."""
    names = [shown(asked, task_id) for task_id in sorted(asked.studio.tasks)]
    rows = asked.catalog.work.annotations(asked.project_id)
    moment = max(row.updated_at for row in rows)
    assert write(asked, source="people", changed_since=moment) == {}
    assert not list((asked.folder / "out/png").glob("*.png"))
    asked.studio.edit_annotation(rows[0].id, asked.regions(whole(0, 3)))
    asked.answer(task_of(asked, names[3]))
    asked.step("sync")
    assert set(write(asked, source="people", changed_since=moment)) == {names[0], names[3]}
    before = rows[1].updated_at.replace("Z", "+00:00")
    assert set(write(asked, source="people", changed_since=before)) == {
        names[0],
        names[2],
        names[3],
    }
    later = max(row.updated_at for row in asked.catalog.work.annotations(asked.project_id))
    second = asked.answer(task_of(asked, names[1]), whole(0, 5), author=2)
    asked.step("sync")
    asked.studio.delete_annotation(second)
    asked.step("sync")
    assert set(write(asked, source="people", changed_since=later)) == {names[1]}


def test_changed_since_counts_a_new_version(trained):
    """Before its promotion everything that the model draws counts as changed, after it nothing."""
    (gate,) = trained.catalog.models.gates(trained.project_id)
    drawn = {name for name, row in write(trained).items() if row["source"] == "model"}
    before = datetime.fromisoformat(gate.created_at) - timedelta(seconds=1)
    assert drawn <= set(write(trained, changed_since=before.isoformat()))
    assert not drawn & set(write(trained, changed_since=gate.created_at))
    zone = timezone(timedelta(hours=5))
    assert drawn <= set(write(trained, changed_since=before.astimezone(zone).isoformat()))


def test_changed_since_the_last_export(asked):
    """Only what is not as it was exported last, whatever the clocks say and wherever it went."""
    names = [shown(asked, task_id) for task_id in sorted(asked.studio.tasks)]
    assert set(write(asked, changed_since="last")) == set(names[:3])
    assert write(asked, changed_since="last") == {}
    asked.answer(task_of(asked, names[3]))
    assert write(asked, changed_since="last") == {}, "not pulled yet"
    asked.step("sync")
    assert set(write(asked, "elsewhere", changed_since="last")) == {names[3]}
    asked.step("train")
    others = {f"{number}.png" for number in range(10)} - set(names)
    assert (
        set(write(asked, changed_since="last", split="train"))
        | set(write(asked, changed_since="last"))
        == others
    )
    annotation = asked.catalog.work.annotations(asked.project_id)[0]
    asked.studio.delete_annotation(annotation.id)
    asked.step("sync")
    save_picture(asked.images / "new.png", 50)
    asked.fill(10)
    rows = write(asked, changed_since="last")
    assert {name: row["source"] for name, row in rows.items()} == {
        names[0]: "model",
        "new.png": "model",
    }


def test_an_export_that_failed_was_no_export(asked, monkeypatch):
    """Nothing counts as exported before all of it is published."""

    def gone(*_, **_options):
        raise NotFound("the mask is gone")

    monkeypatch.setattr(stitch_module, "load_mask", gone)
    with pytest.raises(NotFound, match="is gone"):
        write(asked)
    monkeypatch.undo()
    assert len(write(asked, changed_since="last")) == 3


def test_an_interrupted_export_carries_on(trained, monkeypatch):
    """Finished images are neither read nor predicted again, and the bytes are the same."""
    write(trained, "afresh")
    for blob in trained.context.blobs.list("predicted"):
        trained.context.blobs.delete(blob)
    before = []

    def counted(sources, drawing):
        if len(before) == 6:
            raise KeyboardInterrupt
        before.append(drawing.image.name)
        return stitched(sources, drawing)

    monkeypatch.setattr(export_module, "stitched", counted)
    with pytest.raises(KeyboardInterrupt):
        write(trained, "interrupted")
    assert not (trained.folder / "interrupted/png").exists()
    monkeypatch.undo()
    done, told = [], []

    def noted(sources, drawing):
        done.append(drawing.image.name)
        return stitched(sources, drawing)

    monkeypatch.setattr(export_module, "stitched", noted)
    write(trained, "interrupted", progress=lambda *given: told.append(given[:2]))
    assert sorted(before + done) == sorted(f"{number}.png" for number in range(10))
    assert told[0] == (7, 10)
    folders = [trained.folder / name for name in ("afresh", "interrupted")]
    one, two = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in folders
    )
    assert one == two


def test_options_that_are_none_are_said(asked):
    """Each lists its choices or shows how to write it; nothing is written."""
    for option, value, error, words in (
        ("source", "nobody", UnknownName, "people, model, both"),
        ("split", "test", UnknownName, "train, val, all"),
        ("annotators", "loudest", UnknownName, "latest, all, consensus"),
        ("changed_since", "yesterday", ConfigError, "2026-03-01T08:00"),
        ("formats", ["gif"], UnknownName, "png_classes"),
    ):
        with pytest.raises(error, match=words):
            export(
                asked.context,
                asked.project_id,
                asked.folder / "out",
                progress=silent,
                **{option: value},
            )
    with pytest.raises(NotFound, match="nothing to export from 'model'"):
        write(asked, source="model")
    assert not (asked.folder / "out").exists()


def test_an_empty_side_of_the_split_is_said(house):
    """A split that holds nothing of what is asked for is named."""
    house.fill(4)
    house.step("select")
    house.answer(min(house.studio.tasks))
    house.step("sync")
    ((split, other),) = [
        (row["split"], {"train": "val", "val": "train"}[row["split"]])
        for row in write(house).values()
    ]
    assert len(write(house, split=split)) == 1
    with pytest.raises(NotFound, match=f"and split '{other}'"):
        write(house, split=other)


def test_memory_does_not_grow_with_the_images(house):
    """Five hundred masks of 256 kB and their rows pass through in the memory of a few."""
    side, count = 512, 500
    mask = np.zeros((side, side), np.uint8)
    mask[::7] = 1
    key = store_mask(house.context.blobs, house.project_id, mask, ["cell"])
    for number in range(count):
        image = Image(f"{number}.png", "gone", f"{number:064}", side, side, "source", mask=key)
        house.catalog.pool.add_image(house.project_id, image, [])
    tracemalloc.start()
    try:
        rows = write(house, source="people")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(rows) == count
    assert peak < 12 * mask.nbytes
