"""Pulling annotations: whatever people do arrives once, and a crash loses nothing."""

import zlib

import numpy as np
import orjson
import pytest
from support.house import picture, save_picture
from support.tasks import png

from ml_backend.errors import LabelConfigError, NotFound, StudioUnreachable
from ml_backend.loop.connect import create_project
from ml_backend.loop.masks import load_mask
from ml_backend.loop.sync import sync
from ml_backend.masks.labels import make_label_config
from ml_backend.store.rows import Prediction


@pytest.fixture
def pushed(house):
    """Give a house with one pushed batch of four tasks, nothing answered; their ids."""
    house.fill(8)
    house.step("select")
    return sorted(house.studio.tasks)


def annotations(house):
    """What the catalog knows, by id."""
    return {row.id: row for row in house.catalog.work.annotations(house.project_id)}


def labelled(house):
    """Tile id → mask of what counts."""
    return {
        item.tile.id: load_mask(house.context.blobs, item.mask, house.labels.names)
        for item in house.catalog.work.labelled(house.project_id)
    }


def everything(house):
    """All rows that a pull writes."""
    return (
        house.catalog.work.tasks(house.project_id),
        house.catalog.work.annotations(house.project_id),
        house.project.cursor,
    )


def tile_of(house, task_id):
    """The tile a pushed task shows."""
    return house.catalog.pool.tile(house.studio.tasks[task_id]["data"]["tile"])


def test_new_annotations_become_masks(house, pushed):
    """The mask equals what was painted, with who, how long, and what they saw."""
    made = house.answer(pushed[0], lead_time=3.5)
    report = house.step("sync")
    assert (report.numbers["fresh"], report.numbers["unusable"]) == (1, 0)
    row = annotations(house)[made]
    assert (row.usable, row.lead_time, row.author) == (True, 3.5, 1)
    tile = tile_of(house, pushed[0])
    assert np.array_equal(labelled(house)[tile.id], house.truth(tile))


def test_edited_and_deleted_annotations_follow(house, pushed):
    """An edit replaces the mask, a deletion takes the tile back to unlabelled."""
    made = house.answer(pushed[0])
    house.step("sync")
    other = np.zeros((32, 32), np.uint8)
    other[:3, :5] = 1
    house.studio.edit_annotation(made, house.regions(other))
    report = house.step("sync")
    assert report.numbers["changed"] == 1
    assert np.array_equal(labelled(house)[tile_of(house, pushed[0]).id], other)
    house.studio.delete_annotation(made)
    house.step("sync")
    assert labelled(house) == {}
    assert annotations(house)[made].deleted


def test_the_latest_annotation_counts(house, pushed):
    """Of several the one changed last counts; when it goes, the one before does again."""
    house.answer(pushed[0])
    later = house.answer(pushed[0], np.ones((32, 32), np.uint8))
    house.step("sync")
    tile = tile_of(house, pushed[0])
    assert labelled(house)[tile.id].all()
    house.studio.delete_annotation(later)
    house.step("sync")
    assert np.array_equal(labelled(house)[tile.id], house.truth(tile))


def test_skipped_is_no_mask_and_empty_is_a_true_negative(house, pushed):
    """Cancelled annotations are kept but not learned from; an empty one says: nothing here."""
    house.studio.create_annotation(pushed[0], [], was_cancelled=True)
    house.studio.create_annotation(pushed[1], [])
    report = house.step("sync")
    assert report.numbers["unusable"] == 0
    found = labelled(house)
    assert list(found) == [tile_of(house, pushed[1]).id]
    assert not found[tile_of(house, pushed[1]).id].any()
    open_tasks = house.catalog.work.tasks(house.project_id, open_only=True)
    assert [task.id for task in open_tasks] == pushed[2:]


def strange(house, **changes):
    """A good region with something changed."""
    (region,) = house.regions(np.ones((32, 32), np.uint8))
    return region | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": {"format": "rle", "rle": [1, 2, 3], "brushlabels": ["cell"]}}, "region"),
        ({"original_width": 64}, "64 x 32"),
        ({"value": {"format": "rle", "rle": [0], "brushlabels": ["ghost"]}}, "ghost"),
    ],
)
def test_unusable_regions_are_kept_with_their_reason(house, pushed, changes, reason):
    """A broken stream, another size or an unknown label costs that annotation and no other."""
    bad = house.studio.create_annotation(pushed[0], [strange(house, **changes)])
    good = house.answer(pushed[1])
    report = house.step("sync")
    assert report.numbers["unusable"] == 1
    row = annotations(house)[bad]
    assert (row.usable, row.mask) == (False, None)
    assert reason in row.reason
    assert annotations(house)[good].usable
    assert len(labelled(house)) == 1


def test_other_regions_are_noted(house, pushed):
    """A rectangle of a control that is not there is unknown and said; the brush counts."""
    box = strange(house, id="box", type="rectanglelabels", from_name="boxes")
    made = house.studio.create_annotation(
        pushed[0], [*house.regions(house.truth(tile_of(house, pushed[0]))), box]
    )
    house.step("sync")
    row = annotations(house)[made]
    assert row.usable
    assert "region box of the control 'boxes'" in row.reason


def test_a_label_that_was_added_later_is_read(house, pushed):
    """What could not be read for want of a label is read when the config has it."""
    config = make_label_config(["nucleus", "cell"])
    region = strange(house)
    region["value"]["brushlabels"] = ["nucleus"]
    made = house.studio.create_annotation(pushed[0], [region])
    house.answer(pushed[1])
    house.step("sync")
    assert not annotations(house)[made].usable
    house.studio.projects[house.project_id]["label_config"] = config
    house.step("sync")
    found = labelled(house)
    assert (found[tile_of(house, pushed[0]).id] == 1).all()
    # the order of the labels changed: what was painted as "cell" still is
    assert np.array_equal(
        found[tile_of(house, pushed[1]).id], 2 * house.truth(tile_of(house, pushed[1]))
    )


@pytest.mark.usefixtures("pushed")
def test_tasks_of_other_people_bring_their_image_along(house):
    """A task that we did not push is labelled too, on a side of the frozen split."""
    image, mask = picture(50)
    save_picture(house.folder / "own.png", 50)
    (url,) = house.studio.upload_images(
        house.project_id, [("own.png", (house.folder / "own.png").read_bytes())]
    )
    (task_id,) = house.studio.import_tasks(house.project_id, [{"data": {"image": url}}])
    house.studio.create_annotation(task_id, house.regions(mask))
    house.step("sync")
    task = house.catalog.work.task(task_id)
    tile = house.catalog.pool.tile(task.tile_id)
    assert np.array_equal(labelled(house)[tile.id], mask)
    assert np.array_equal(house.context.pixels(tile), image)
    assert tile.id not in {t.id for t in house.catalog.pool.unasked(house.project_id)}
    house.step("sync")
    assert len(house.catalog.pool.images(house.project_id)) == 9


def test_a_task_without_a_usable_image_says_so_and_heals(house):
    """Its annotation is unusable with a reason, until the image is there."""
    (task_id,) = house.studio.import_tasks(house.project_id, [{"data": {"image": "/data/x.png"}}])
    made = house.studio.create_annotation(task_id, house.regions(picture(3)[1]))
    house.step("sync")
    assert "/data/x.png" in house.catalog.work.task(task_id).reason
    assert "image" in annotations(house)[made].reason
    save_picture(house.folder / "x.png", 3)
    house.studio.files["/data/x.png"] = (house.folder / "x.png").read_bytes()
    house.step("sync")
    assert house.catalog.work.task(task_id).reason is None
    assert annotations(house)[made].usable


def test_data_of_another_catalog_mislead_nobody(house, pushed):
    """A task whose data name a tile number of ours, but another place, is not that tile."""
    image, mask = picture(60)
    save_picture(house.folder / "other.png", 60)
    (url,) = house.studio.upload_images(
        house.project_id, [("other.png", (house.folder / "other.png").read_bytes())]
    )
    data = house.studio.tasks[pushed[0]]["data"] | {"image": url, "name": "elsewhere.png"}
    (task_id,) = house.studio.import_tasks(house.project_id, [{"data": data}])
    house.studio.create_annotation(task_id, house.regions(mask))
    house.step("sync")
    tile = house.catalog.pool.tile(house.catalog.work.task(task_id).tile_id)
    assert tile.id != data["tile"]
    assert np.array_equal(house.context.pixels(tile), image)


@pytest.mark.parametrize("broken_at", [1, 2, 4])
def test_a_crash_in_the_middle_loses_nothing(house, pushed, broken_at):
    """The cursor waits for the end of the pull; the next one carries on where it broke off."""
    house.answer_open()

    def crash(call):
        if call == broken_at:
            raise StudioUnreachable("gone")

    house.studio.fail["read_tasks"] = crash
    with pytest.raises(StudioUnreachable):
        house.step("sync")
    assert house.project.cursor is None
    assert house.catalog.models.runs(house.project_id)[-1].state == "failed"
    house.studio.calls.clear()
    house.studio.fail.clear()
    report = house.step("sync")
    assert set(labelled(house)) == {tile_of(house, task).id for task in pushed}
    assert report.numbers["fresh"] == 4 - (broken_at - 1)
    assert house.studio.calls.count("read_tasks") == 4 - (broken_at - 1)


def test_pulling_again_changes_nothing(house, pushed):
    """Two more pulls write no row anew and ask for no training that is not due."""
    house.answer(pushed[0])
    house.step("sync")
    before = everything(house)
    for _ in range(2):
        report = house.step("sync")
        assert (report.numbers["fresh"], report.numbers["changed"]) == (0, 0)
    assert everything(house) == before


def test_only_what_changed_is_pulled(house):
    """The cursor goes on; tasks long before it are not asked for again."""
    house.recipe({"selection.batch": 30})
    house.fill(30)
    house.step("select")
    house.step("sync")
    newest = max(house.studio.tasks)
    house.answer(newest)
    report = house.step("sync")
    assert (report.numbers["tasks"], report.numbers["fresh"]) == (1, 1)


def test_a_change_that_surfaced_late_is_still_found(house, pushed):
    """A transaction stamped before the cursor, visible only after the pull, is not lost."""
    house.answer(pushed[1])
    stamp = house.studio.tasks[pushed[1]]["updated_at"]
    late = house.studio.tasks[pushed[0]]
    house.answer(pushed[2])
    house.step("sync")
    made = house.answer(pushed[0])
    late["updated_at"] = stamp  # before the cursor
    house.step("sync")
    assert annotations(house)[made].usable


def test_what_stamps_and_counts_hide_is_found_by_going_round(house, pushed):
    """A page of the whole index is compared at each pull: a stamp of long ago, one lost for one."""
    house.studio.index_page = 2
    house.studio.sleep(3600)
    house.answer(pushed[1])
    house.step("sync")
    made = house.answer(pushed[-1])
    house.studio.delete_task(pushed[0])
    (other,) = house.studio.import_tasks(house.project_id, [{"data": {"image": "nowhere.png"}}])
    for number in (pushed[-1], other):
        house.studio.tasks[number]["updated_at"] = "2020-01-01T00:00:00.000000Z"
    for _ in range(len(pushed) // 2 + 1):
        house.step("sync")
    assert annotations(house)[made].usable
    assert {task.id for task in house.catalog.work.tasks(house.project_id)} == {*pushed[1:], other}


def test_another_image_makes_another_task_of_one_that_was_pushed(house, pushed):
    """What was painted on it belongs to the image that it shows, and the round's tile has none."""
    tile = tile_of(house, pushed[0])
    (url,) = house.studio.upload_images(house.project_id, [("other.png", png(20, 1))])
    data = house.studio.tasks[pushed[0]]["data"]
    house.studio.edit_task(pushed[0], {**data, "image": url})
    made = house.answer(pushed[0], np.ones((20, 20), np.uint8))
    house.step("sync")
    shown = house.catalog.pool.tile(house.catalog.work.task(pushed[0]).tile_id)
    assert (shown.width, shown.height) == (20, 20)
    assert shown.id != tile.id
    assert annotations(house)[made].usable
    assert labelled(house).keys() == {shown.id}


def test_deleted_tasks_take_their_annotations_along(house, pushed):
    """A task that Label Studio no longer has is not open, and its mask does not count."""
    house.answer(pushed[0])
    house.step("sync")
    house.studio.delete_task(pushed[0])
    house.studio.delete_task(pushed[1])
    report = house.step("sync")
    assert report.numbers["gone"] == 2
    assert labelled(house) == {}
    assert {task.id for task in house.catalog.work.tasks(house.project_id)} == set(pushed[2:])
    house.studio.calls.clear()
    house.step("sync")
    assert "count_tasks" not in house.studio.calls


def test_what_people_saw_is_measured(house, pushed):
    """Dice of the shown prediction to the submission; 1.0 where it was accepted unchanged."""
    tile = tile_of(house, pushed[0])
    regions = house.regions(house.truth(tile))
    house.studio.post_predictions(
        house.project_id,
        [{"task": n, "result": regions, "score": 0.5, "model_version": "p1-v1"} for n in pushed],
    )
    body = zlib.compress(orjson.dumps(regions))
    house.catalog.rounds.save_predictions(
        [Prediction(tile_of(house, n).id, "p1-v1", 0.5, body, shown=True) for n in pushed]
    )
    parent = house.studio.tasks[pushed[0]]["predictions"][0]["id"]
    same = house.answer(pushed[0], parent_prediction=parent)
    half = house.truth(tile).copy()
    rows = np.flatnonzero(half.any(axis=1))
    half[rows[: len(rows) // 2]] = 0
    changed = house.answer(pushed[1], half)
    house.step("sync")
    found = annotations(house)
    assert (found[same].shown_model, found[same].shown_dice) == ("p1-v1", 1.0)
    assert found[changed].shown_model == "p1-v1"
    assert found[changed].shown_dice == pytest.approx(2 / 3)
    assert (found[same].corrected, found[changed].corrected) == (0, 50)


def test_a_lost_mask_file_is_pulled_again(house, pushed):
    """Deleted mask files come back with `sync --all`, as the error message promises."""
    house.answer(pushed[0])
    house.step("sync")
    (item,) = house.catalog.work.labelled(house.project_id)
    house.context.blobs.delete(item.mask)
    with pytest.raises(NotFound, match="sync --all"):
        load_mask(house.context.blobs, item.mask)
    house.catalog.projects.set_cursor(house.project_id, None)
    house.step("sync")
    assert np.array_equal(
        load_mask(house.context.blobs, item.mask), house.truth(tile_of(house, pushed[0]))
    )


def test_title_and_config_are_taken_over(house):
    """A project renamed in Label Studio is renamed here; the recipe stays ours."""
    recipe = house.project.recipe
    house.studio.projects[house.project_id]["title"] = "New name"
    house.step("sync")
    assert (house.project.title, house.project.recipe) == ("New name", recipe)


def test_a_project_with_other_labels_is_not_taken(house):
    """`create_project` uses the one there is, and refuses one whose labels differ."""
    same = create_project(house.context, "Cells", ["cell"])
    assert same.id == house.project_id
    with pytest.raises(LabelConfigError, match="not nucleus"):
        create_project(house.context, "Cells", ["nucleus"])


def test_progress_is_told(house, pushed):
    """How many of how many tasks, from none to all."""
    told = []
    sync(house.context, house.project_id, lambda *parts: told.append(parts))
    count = len(pushed)
    assert told == [(n, count, f"{n} of {count} tasks") for n in range(count + 1)]
