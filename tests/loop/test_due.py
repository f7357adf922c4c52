"""What begins by itself and when: a clock moved by hand, and everything else as it is."""

from datetime import UTC, datetime, timedelta

import pytest

from ml_backend.loop.due import next_batch, outlook, told, training_due

NOW = datetime.now(UTC)


def move(house, **hours):
    """Set the clock so far from the moment at which the tests began."""
    moment = NOW + timedelta(**hours)
    object.__setattr__(house.context, "now", lambda: moment)
    return moment


def period(begin, end):
    """A quiet period, in hours from the moment at which the tests began."""
    ends = (f"{NOW + timedelta(hours=hours):%H:%M}" for hours in (begin, end))
    return "-".join(ends)


def lines(house):
    """What the status says of the future."""
    now = house.context.now()
    return "\n".join(told(outlook(house.context, house.project), house.project.recipe, now))


@pytest.fixture
def trained(house):
    """Give a house with a model, a second batch of four, and one of it answered."""
    house.fill(20)
    house.labelled_round()
    house.step("train")
    house.step("select")
    waiting = [n for n, row in house.studio.tasks.items() if not row["annotations"]]
    house.answer(waiting[0])
    return house


def test_hours_after_the_last_training_the_next_begins(trained):
    """Only if something is new, and not a minute before."""
    trained.recipe({"loop.retrain_hours": 12})
    move(trained, hours=11)
    assert trained.step("sync").follow == ()
    coming = "training: 1 of 4 new annotations, or when the 3 open tasks are done, or "
    assert coming in lines(trained)
    trained.recipe({"loop.quiet": period(11.5, 13)})
    assert f"{NOW + timedelta(hours=13):%H:%M} UTC" in lines(trained)
    move(trained, hours=12.2)
    assert trained.step("sync").follow == ()
    move(trained, hours=13.1)
    assert trained.step("sync").follow == ("train",)
    assert "training: due, 1 new annotations" in lines(trained)
    trained.step("train")
    move(trained, hours=1000)
    assert trained.step("sync").follow == ()
    assert "training: nothing is new" in lines(trained)


def test_before_the_first_training_hours_count_from_the_first_annotation(house):
    """A few annotations need not wait for a whole batch."""
    house.recipe({"loop.retrain_hours": 2})
    house.fill(8)
    house.step("select")
    house.answer(min(house.studio.tasks))
    first = datetime.fromisoformat(house.studio.tasks[min(house.studio.tasks)]["updated_at"])
    object.__setattr__(house.context, "now", lambda: first + timedelta(hours=1.9))
    assert house.step("sync").follow == ()
    object.__setattr__(house.context, "now", lambda: first + timedelta(hours=2))
    assert house.step("sync").follow == ("train",)


def test_in_quiet_no_training_begins_and_afterwards_it_does(trained):
    """A batch that is finished in a quiet period is learned from when that ends."""
    trained.recipe({"loop.quiet": period(1, 5)})
    move(trained, hours=2)
    trained.answer_open()
    assert trained.step("sync").follow == ()
    assert "quiet until" in lines(trained)
    assert "training: due when the quiet period ends, 4 new annotations" in lines(trained)
    move(trained, hours=5.1)
    assert trained.step("sync").follow == ("train",)
    assert "quiet" not in lines(trained)


def test_a_training_that_ends_in_quiet_pushes_its_batch_afterwards(trained):
    """Its predictions are shown at once; the batch it would have asked for comes with a pull."""
    trained.recipe({"loop.quiet": period(1, 5), "selection.batch": 8})
    trained.step("sync")
    move(trained, hours=0)
    trained.recipe({"loop.retrain_every": 1})
    assert training_due(trained.context, trained.project_id)
    move(trained, hours=2)
    assert trained.step("train").follow == ("predict",)
    assert trained.step("score").follow == ()
    assert trained.step("sync").follow == ()
    move(trained, hours=5.1)
    assert trained.step("sync").follow == ("score",)
    assert trained.step("score").follow == ("select",)
    trained.step("select")
    assert trained.step("sync").follow == ()


def test_people_are_served_in_quiet(trained):
    """What is asked for by command is done."""
    trained.recipe({"loop.quiet": period(-1, 5)})
    move(trained, hours=0)
    trained.answer_open()
    trained.step("sync")
    assert (
        "promoted" in trained.step("train").summary or "rejected" in trained.step("train").summary
    )
    assert trained.step("select").numbers["pushed"] == 4


def test_few_open_tasks_call_for_a_batch(trained):
    """With three open tasks: below four the next is pushed without waiting for a training."""
    for below, follow in ((None, ()), (3, ()), (4, ("score",))):
        trained.recipe({"loop.select_below": below})
        assert trained.step("sync").follow == follow
        assert bool(trained.step("select").numbers) == bool(follow)


def test_a_batch_by_the_clock_alone(trained):
    """Without `auto_select` nothing but the hour asks for one, and the status says when."""
    trained.recipe({"loop.auto_select": False})
    assert "selection: by `brushloop select` alone" in lines(trained)
    at = f"{NOW + timedelta(hours=3):%H:%M}"
    trained.recipe({"loop.select_at": at, "loop.select_below": 7})
    move(trained, hours=0)
    assert next_batch(trained.context, trained.project) == ()
    said = lines(trained)
    assert f"{at} UTC, if fewer than 7 tasks are open then" in said
    trained.recipe({"loop.quiet": period(2, 6)})
    assert f"{NOW + timedelta(hours=6):%H:%M} UTC, if fewer" in lines(trained)


def test_the_status_counts_open_tasks_and_says_when_the_pool_is_empty(house):
    """With the numbers that decide."""
    house.fill(8)
    house.step("select")
    move(house, hours=0)
    assert "selection: 4 tasks open; below 3 the next batch is pushed, after a training" in lines(
        house
    )
    house.recipe({"loop.select_below": 2})
    assert "4 tasks open; below 2 the next batch is pushed" in lines(house)
    house.answer_open()
    house.step("sync")
    house.labelled_round()
    assert "selection: the pool is empty" in lines(house)
