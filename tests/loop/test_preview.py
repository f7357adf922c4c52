"""A batch that is only looked at: the same as the real one, and no trace of it."""

import pytest
from PIL import Image as Picture

from ml_backend.errors import NotFound, StudioUnreachable
from ml_backend.loop.context import silent
from ml_backend.loop.preview import draw_preview, preview


@pytest.fixture
def trained(house):
    """Give a house with a model after its first round, and everything answered."""
    house.fill(20)
    house.labelled_round()
    house.step("train")
    house.studio.calls.clear()
    return house


def look(house):
    """What would be pushed."""
    return preview(house.context, house.project_id, silent)


@pytest.mark.parametrize("strategy", ["stochastic_batch", "core_set", "diverse_batch"])
def test_the_preview_is_what_select_pushes(trained, strategy):
    """The same tiles in the same order for the same reasons, and Label Studio hears nothing."""
    trained.recipe({"selection.strategy": strategy})
    shown = look(trained)
    assert trained.studio.calls == []
    assert len(trained.catalog.rounds.all(trained.project_id)) == 1
    trained.step("select")
    record = trained.catalog.rounds.all(trained.project_id)[-1]
    assert shown.record.chosen == record.chosen
    assert [pick.tile.id for pick in shown.picks] == [item.tile_id for item in record.chosen]
    assert shown.note is None


def test_the_work_is_told_where_it_was_weighed(trained):
    """`per_object` says how many objects it expects, before the round is recorded and after."""
    trained.recipe({"selection.strategy": "per_object", "selection.look_cost": 0.5})
    shown = look(trained)
    chosen = [pick for pick in shown.picks if pick.by == "per_object"]
    version = shown.record.model
    rows = trained.catalog.rounds.scores(
        trained.project_id, version, trained.project.recipe.scoring.key
    )
    assert [pick.objects for pick in chosen] == [rows[pick.tile.id]["objects"] for pick in chosen]
    assert chosen[0].reason.endswith(f", about {chosen[0].objects:.1f} objects to outline")
    assert all(pick.objects is None for pick in shown.picks if pick.by == "audit")
    trained.catalog.rounds.add(trained.project_id, shown.record)
    again = look(trained)
    assert again.note is not None
    assert [pick.reason for pick in again.picks] == [pick.reason for pick in shown.picks]
    trained.recipe({"selection.strategy": "top"})
    assert all("objects" not in pick.reason for pick in look(trained).picks if pick.by == "top")


def test_ranks_and_shares_are_those_of_the_pool(trained):
    """`top` picks ranks 1, 2, …; audit tiles have neither score nor rank."""
    trained.recipe({"selection.strategy": "top"})
    chosen = [pick for pick in look(trained).picks if pick.by == "top"]
    audit = [pick for pick in look(trained).picks if pick.by == "audit"]
    waiting = trained.catalog.pool.unasked(trained.project_id)
    pool = [tile for tile in waiting if tile.image.split == "train"]
    assert [pick.rank for pick in chosen] == [1, 2]
    assert [pick.of for pick in chosen] == [len(pool)] * 2
    assert [pick.above for pick in chosen] == [1 - (k + 1) / len(pool) for k in range(2)]
    assert f"rank 1 of {len(pool)}" in chosen[0].reason
    assert [(pick.score, pick.rank) for pick in audit] == [(None, None)] * 2
    assert "at random" in audit[0].reason


def test_the_sheet_has_a_row_for_each_tile(trained, tmp_path):
    """Image, prediction and heat map side by side; before a model the image alone."""
    shown = look(trained)
    path = tmp_path / "sheet.png"
    draw_preview(trained.context, trained.project, shown, path, silent)
    with Picture.open(path) as sheet:
        assert sheet.size[0] >= 3 * 256
        assert sheet.size[1] >= 4 * 256
        left = (sheet.size[0] - 4) // 3 * 2
        heat = sheet.convert("RGB").crop((left, 30, sheet.size[0], sheet.size[1]))
        assert max(sum(colour) for _, colour in heat.getcolors(1 << 24)) > 600
    assert sorted(p.name for p in tmp_path.glob("*sheet*")) == ["sheet.png"]


def test_the_first_batch_is_shown_without_a_model(house, tmp_path):
    """No prediction and no score, but the batch and what chose it."""
    house.fill(8)
    shown = look(house)
    assert all(pick.rank is None for pick in shown.picks)
    assert {pick.by for pick in shown.picks} == {"clusters", "audit"}
    draw_preview(house.context, house.project, shown, tmp_path / "first.png", silent)
    with Picture.open(tmp_path / "first.png") as sheet:
        assert sheet.size[0] < 2 * 256
    house.step("select")
    (record,) = house.catalog.rounds.all(house.project_id)
    assert record.chosen == shown.record.chosen


def test_a_round_that_was_cut_off_is_what_comes_next(trained):
    """It is pushed to its end before anything else is chosen, and the preview says so."""

    def cut(_count):
        raise StudioUnreachable("gone")

    trained.studio.fail["import_tasks"] = cut
    with pytest.raises(StudioUnreachable):
        trained.step("select")
    record = trained.catalog.rounds.all(trained.project_id)[-1]
    shown = look(trained)
    assert shown.record == record
    assert "chosen already" in shown.note
    assert all(pick.rank for pick in shown.picks if pick.by != "audit")


def test_open_tasks_and_an_empty_pool_are_said(house):
    """While enough is open the note says so; with nothing left to ask it is an error."""
    house.fill(8)
    house.step("select")
    assert "enough tasks are open" in look(house).note
    house.answer_open()
    house.step("sync")
    house.labelled_round()
    with pytest.raises(NotFound, match="pool is empty"):
        look(house)
