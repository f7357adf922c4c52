"""A push that Label Studio refuses leaves nothing behind; one that is cut off is carried on."""

import pytest

from ml_backend.errors import StudioMissing, StudioRefused, StudioUnreachable


def refuse(call, error=StudioRefused):
    """Refuse the call of this number, counted from 1, and all later ones."""

    def fail(count):
        if count >= call:
            raise error('validation: "caption" key is expected in task data')

    return fail


def test_a_refused_push_leaves_neither_files_nor_a_round(house):
    """Uploads are deleted, no round is recorded, and the pool is as it was."""
    house.fill(8)
    house.studio.fail["import_tasks"] = refuse(1)
    before = house.catalog.pool.unasked(house.project_id)
    with pytest.raises(
        StudioRefused, match=r"round 1 was refused, nothing of it is left"
    ) as caught:
        house.step("select")
    assert '"caption" key is expected' in str(caught.value)
    assert f"brushloop doctor --project {house.project_id}" in str(caught.value)
    assert house.studio.files == {}
    assert house.studio.tasks == {}
    assert house.catalog.rounds.all(house.project_id) == []
    assert house.catalog.pool.unasked(house.project_id) == before
    house.studio.fail.clear()
    assert house.step("select").numbers["pushed"] == 4
    assert [record.number for record in house.catalog.rounds.all(house.project_id)] == [1]


def test_what_arrived_before_a_refusal_stays_a_round(house):
    """Tasks that people may be working on keep their round; the rest goes back to the pool."""
    house.recipe({"selection.batch": 24})
    house.fill(30)
    house.studio.fail["import_tasks"] = refuse(2, StudioMissing)
    with pytest.raises(StudioMissing, match="10 tasks of it arrived before"):
        house.step("select")
    (record,) = house.catalog.rounds.all(house.project_id)
    shown = {row["data"]["tile"] for row in house.studio.tasks.values()}
    assert record.state == "pushed"
    assert {item.tile_id for item in record.chosen} == shown
    assert len(house.studio.files) == len(shown) == 10
    unasked = {tile.id for tile in house.catalog.pool.unasked(house.project_id)}
    assert len(unasked) == 20
    house.studio.fail.clear()
    house.answer_open()
    house.step("sync")
    house.step("select")
    assert [one.number for one in house.catalog.rounds.all(house.project_id)] == [1, 2]


def test_a_cleaning_that_fails_hides_no_refusal(house):
    """Where the files cannot be deleted either, what is said is why the push was refused."""
    house.fill(4)
    house.studio.fail["import_tasks"] = refuse(1)
    house.studio.fail["delete_uploads"] = refuse(1, StudioUnreachable)
    with pytest.raises(StudioRefused, match="caption"):
        house.step("select")
    assert house.catalog.rounds.all(house.project_id) == []


def test_a_push_that_is_cut_off_keeps_its_round(house):
    """No answer is no refusal: files and round stay, and the next push carries on."""
    house.fill(8)
    house.studio.fail["import_tasks"] = refuse(1, StudioUnreachable)
    with pytest.raises(StudioUnreachable):
        house.step("select")
    assert [record.state for record in house.catalog.rounds.all(house.project_id)] == ["chosen"]
    assert len(house.studio.files) == 4
