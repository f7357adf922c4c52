"""Choosing, pushing and predicting: resumed anywhere, nothing twice."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import SecretStr
from support.house import TINY

from ml_backend.errors import NotFound, StudioRefused, StudioUnreachable
from ml_backend.loop.connect import connect
from ml_backend.loop.context import silent
from ml_backend.loop.models import Models
from ml_backend.loop.round import run_round
from ml_backend.masks.regions import decode_results
from ml_backend.recipe import parse_recipe


def pushed_tiles(house):
    """The tile of every task in Label Studio."""
    return [row["data"]["tile"] for row in house.studio.tasks.values()]


def test_a_pushed_task_shows_its_tile(house):
    """The uploaded picture is the tile's pixels, its data say where it is from."""
    house.recipe({"pool.tile": 32})
    house.fill(4, side=64)
    house.step("select")
    (record,) = house.catalog.rounds.all(house.project_id)
    assert record.state == "pushed"
    assert sorted(pushed_tiles(house)) == sorted(item.tile_id for item in record.chosen)
    for row in house.studio.tasks.values():
        tile = house.catalog.pool.tile(row["data"]["tile"])
        data = house.studio.files[row["data"]["image"]]
        (house.folder / "shown.png").write_bytes(data)
        shown = house.context.images.pixels(str(house.folder / "shown.png"))
        house.context.images._cache.clear()
        assert np.array_equal(shown, house.context.pixels(tile))
        place = [row["data"][key] for key in ("x", "y", "width", "height")]
        assert place == [tile.x, tile.y, tile.width, tile.height]
        assert row["data"]["name"] == tile.image.name


def test_nothing_is_pushed_while_plenty_is_open(house):
    """More than half a batch open: no new one. Half or less: the next."""
    house.fill(12)
    house.step("select")
    assert "enough tasks" in house.step("select").summary
    one, two, *_ = sorted(house.studio.tasks)
    house.answer(one)
    house.step("sync")
    assert "enough tasks" in house.step("select").summary
    house.answer(two)
    house.step("sync")
    assert house.step("select").numbers["pushed"] == 4
    assert len(set(pushed_tiles(house))) == 8


def test_an_empty_pool_is_said(house):
    """When everything has been asked about, there is no next round."""
    house.fill(4)
    house.labelled_round()
    assert "pool is empty" in house.step("select").summary
    assert len(house.catalog.rounds.all(house.project_id)) == 1


@pytest.mark.parametrize("when", ["fail", "fail_after"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_push_that_was_cut_off_is_finished(house, when, call):
    """Whether Label Studio stored the tasks or not: every tile of the round once, no other."""
    house.recipe({"selection.batch": 24})
    house.fill(30)

    def cut(count):
        if count == call:
            raise StudioUnreachable("the answer got lost")

    getattr(house.studio, when)["import_tasks"] = cut
    with pytest.raises(StudioUnreachable):
        house.step("select")
    (record,) = house.catalog.rounds.all(house.project_id)
    assert record.state == "chosen"
    house.step("select")
    assert sorted(pushed_tiles(house)) == sorted(item.tile_id for item in record.chosen)
    assert [r.state for r in house.catalog.rounds.all(house.project_id)] == ["pushed"]
    tasks = house.catalog.work.tasks(house.project_id)
    assert {task.id for task in tasks} == set(house.studio.tasks)
    assert {task.round_id for task in tasks} == {record.id}
    assert "enough tasks" in house.step("select").summary


def test_a_sync_between_cut_and_finish_doubles_nothing(house):
    """Tasks that a pull finds before the push is finished are recognised as the round's."""
    house.fill(8)

    def cut(_count):
        house.studio.fail_after.clear()
        raise StudioUnreachable("the answer got lost")

    house.studio.fail_after["import_tasks"] = cut
    with pytest.raises(StudioUnreachable):
        house.step("select")
    house.answer_open()
    house.step("sync")
    house.step("select")
    assert len(pushed_tiles(house)) == len(set(pushed_tiles(house))) == 4
    assert len(house.catalog.pool.images(house.project_id)) == 8


def test_an_old_round_of_another_home_is_not_taken_for_ours(house):
    """Tasks of the same round and tile number, but of another picture, have not arrived."""
    stranger = {"image": "/data/x.png", "tile": 1, "round": 1, "name": "x.png", "x": 0, "y": 0}
    new = [{"data": stranger | {"tile": n, "width": 32, "height": 32}} for n in range(1, 9)]
    house.studio.import_tasks(house.project_id, new)
    house.fill(8)
    assert house.step("select").numbers["pushed"] == 4


def test_a_tile_that_broke_is_left_out_of_its_round(house):
    """A file that vanished is set aside; the rest of the batch is pushed and the round ends."""
    house.fill(4)
    (house.images / "2.png").unlink()
    assert house.step("select").numbers["pushed"] == 3
    broken = [i for i in house.catalog.pool.images(house.project_id) if i.status != "ready"]
    assert [image.name for image in broken] == ["2.png"]
    assert house.catalog.rounds.all(house.project_id)[0].state == "pushed"


@pytest.fixture
def trained(house):
    """Give a house with a model after its first round, and a second batch pushed."""
    house.fill(20)
    house.labelled_round()
    house.step("train")
    house.step("select")
    return house


def test_pushed_tasks_carry_the_current_models_predictions(trained):
    """Regions, score and version are what the model says; `predict` has nothing to add."""
    serving = Models(trained.context).current(trained.project)
    for task in trained.catalog.work.tasks(trained.project_id, open_only=True):
        (prediction,) = trained.studio.tasks[task.id]["predictions"]
        tile = trained.catalog.pool.tile(task.tile_id)
        said = decode_results(prediction["result"], trained.labels, tile.height, tile.width)
        expected = serving.label_map(trained.context.pixels(tile), ["cell"])
        assert np.array_equal(said.label_map, expected)
        assert prediction["model_version"] == serving.version
        assert 0 <= prediction["score"] <= 1
    assert trained.studio.get_project(trained.project_id).model_version == serving.version
    assert trained.step("predict").numbers["shown"] == 0


def test_label_studio_is_told_to_serve_the_least_sure_first(house):
    """With the version that it shows; a recipe may leave the project's order alone."""
    house.recipe({"loop.uncertain_first": False})
    house.fill(12)
    house.labelled_round()
    house.step("train")
    house.step("select")
    assert house.studio.samplings == {}
    house.recipe({"loop.uncertain_first": True})
    house.step("predict")
    assert house.studio.samplings == {house.project_id: "Uncertainty sampling"}


def test_predict_shows_only_what_is_missing(trained):
    """Open tasks get the new version's prediction once; answered ones do not."""
    version = trained.promote_copy()
    assert trained.step("predict").numbers["shown"] == 4
    assert trained.step("predict").numbers["shown"] == 0
    for row in trained.studio.tasks.values():
        versions = [prediction["model_version"] for prediction in row["predictions"]]
        assert versions.count(version) == (0 if row["annotations"] else 1)
    assert trained.studio.get_project(trained.project_id).model_version == version


def test_predict_passes_over_tasks_that_were_deleted(trained):
    """A task that went after the last pull costs nobody else, and the version is switched."""
    trained.step("sync")
    version = trained.promote_copy()
    number = trained.catalog.work.tasks(trained.project_id, open_only=True)[0].id
    del trained.studio.tasks[number]
    assert trained.step("predict").numbers["shown"] == 3
    assert trained.studio.get_project(trained.project_id).model_version == version
    assert trained.catalog.work.task(number).deleted
    assert trained.step("predict").numbers["shown"] == 0


def test_predict_carries_on_where_it_stopped(trained, monkeypatch):
    """What was posted before a crash is not posted again."""
    monkeypatch.setattr("ml_backend.loop.predict.CHUNK", 2)
    trained.promote_copy()
    trained.studio.calls.clear()

    def cut(count):
        if count == 2:
            raise StudioUnreachable("gone")

    trained.studio.fail["post_predictions"] = cut
    with pytest.raises(StudioUnreachable):
        trained.step("predict")
    assert trained.step("predict").numbers["shown"] == 2
    shown = [len(row["predictions"]) for row in trained.studio.tasks.values()]
    assert sorted(shown) == [0] * 4 + [2] * 4


def test_predictions_do_not_wake_the_poller(trained):
    """Posting moves tasks' clocks; the pull that follows finds nothing to do."""
    trained.step("sync")
    trained.promote_copy()
    for task in trained.catalog.work.tasks(trained.project_id, open_only=True):
        trained.studio.tasks[task.id]["updated_at"] = trained.studio._tick()
    trained.step("predict")
    report = trained.step("sync")
    assert (report.numbers["fresh"], report.numbers["changed"], report.follow) == (0, 0, ())


def test_without_a_model_there_is_nothing_to_show(house):
    """Predict and score before the first model say so, and the first batch is still drawn."""
    house.fill(4)
    assert "no model" in house.step("predict").summary
    report = house.step("score")
    assert "no model" in report.summary
    assert report.follow == ("select",)


def test_a_round_with_a_model_is_chosen_by_its_strategy(trained):
    """The record holds strategy, version and the scores it went by."""
    second = trained.catalog.rounds.all(trained.project_id)[1]
    assert second.strategy == "power"
    assert second.model == f"p{trained.project_id}-v1"
    why = [item.why for item in second.chosen]
    assert (why.count("strategy"), why.count("audit")) == (2, 2)
    assert all((item.score is not None) == (item.why == "strategy") for item in second.chosen)


def test_a_whole_round_runs_by_itself(house):
    """Pull, train, gate, predict, score, select: every step once, then two rounds more."""
    house.fill(16)
    house.step("select")
    for number in range(1, 4):
        house.answer_open()
        reports = run_round(house.context, house.project_id, silent)
        assert len(reports) == 5
        steps = [run.step for run in house.catalog.models.runs(house.project_id)][-5:]
        assert steps == ["sync", "train", "predict", "score", "select"]
        assert len(house.catalog.models.all(house.project_id)) == number
        assert len(house.catalog.work.labelled(house.project_id)) == 4 * number
    assert len(set(pushed_tiles(house))) == 16
    assert {run.state for run in house.catalog.models.runs(house.project_id)} == {"done"}
    again = run_round(house.context, house.project_id, silent)
    assert [report.follow for report in again] == [()]


def test_a_batch_that_was_skipped_whole_leads_to_the_next(house):
    """Nothing new to learn is no reason to stop asking; an empty pool is."""
    house.fill(8)
    house.step("select")
    for batch in range(2):
        for task_id in sorted(house.studio.tasks)[4 * batch :]:
            house.studio.create_annotation(task_id, [], was_cancelled=True)
        reports = run_round(house.context, house.project_id, silent)
        assert len(reports) == (3 if batch == 0 else 1)
    assert len(set(pushed_tiles(house))) == 8


def test_a_round_without_auto_select_pushes_nothing(house):
    """`loop.auto_select: false` leaves choosing to people."""
    house.recipe({"loop.auto_select": False})
    house.fill(8)
    house.step("select")
    house.answer_open()
    reports = run_round(house.context, house.project_id, silent)
    assert len(reports) == 3
    assert len(house.studio.tasks) == 4


def test_connecting_twice_is_connecting_once(trained):
    """One backend and one webhook; the shown version is the model's again, not the title."""
    settings = trained.context.settings.model_copy(
        update={"password": SecretStr("a"), "webhook_secret": SecretStr("b")}
    )
    context = replace(trained.context, settings=settings)
    context.__dict__["studio"] = trained.studio
    for _ in range(2):
        connect(context, trained.project_id, parse_recipe(TINY))
    assert len(trained.studio.backends(trained.project_id)) == 1
    assert len(trained.studio.webhooks(trained.project_id)) == 1
    version = trained.catalog.models.current(trained.project_id).version
    assert trained.studio.get_project(trained.project_id).model_version == version
    with pytest.raises(StudioRefused):
        connect(context, 10**6)


def test_a_step_of_an_unknown_project_says_how_to_connect_it(house):
    """No run is recorded for a project that is not there."""
    house.project_id += 1000
    with pytest.raises(NotFound, match="brushloop connect --project"):
        house.step("sync")
