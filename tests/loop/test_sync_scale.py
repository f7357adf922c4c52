"""What a pull costs: by what changed, not by what there is."""

from collections import Counter
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from sqlalchemy import event
from support.house import open_house
from support.person import PersonsStudio
from support.studio_server import StudioServer
from support.tasks import png

from ml_backend.loop import pull
from ml_backend.loop.context import silent
from ml_backend.loop.dataset import dataset_of
from ml_backend.loop.push import push
from ml_backend.store.rows import Chosen, Round
from ml_backend.studio import tasks as tasks_module

SMALL, LARGE, CHANGES = 20, 120, 4


@pytest.fixture
def grown(tmp_path, monkeypatch):
    """Give a function that makes a house of so many answered, pulled and learned tasks."""
    monkeypatch.setattr(pull, "RECENT", 6)
    monkeypatch.setattr(pull, "RANGE", 4)
    monkeypatch.setattr(tasks_module, "_INDEX_PAGE", 8)
    with ExitStack() as stack:
        yield lambda count: _grown(stack, tmp_path / str(count), count)


def _grown(stack, folder, count):
    house = open_house(folder)
    stack.callback(house.catalog.close)
    server = stack.enter_context(StudioServer(house.studio))
    client = stack.enter_context(PersonsStudio(server.url, server.personal_token))
    house.context.__dict__["studio"] = client
    house.server = server
    house.recipe({"loop.retrain_every": 1000})
    mask = np.zeros((8, 8), np.uint8)
    for number in range(count):
        (url,) = house.studio.upload_images(house.project_id, [("a.png", png(8, number))])
        (task,) = house.studio.import_tasks(house.project_id, [{"data": {"image": url}}])
        mask.flat[number % 64] ^= 1
        house.studio.create_annotation(task, house.regions(mask))
        if number % 10 == 0:
            settings = {"settings": {}, "pool_size": 0, "pool_mean": None, "batch_mean": None}
            house.catalog.rounds.add(
                house.project_id,
                Round(number + 1, "random", 0, None, state="pushed", chosen=(), **settings),
            )
    leave_one_open(house)
    house.studio.sleep(60)
    house.step("sync")
    learned_from_all(house)
    return house


def leave_one_open(house):
    """Push one more task, which nobody answers: no batch is finished, no training is due."""
    house.fill(1, side=8)
    (tile,) = house.catalog.pool.unasked(house.project_id)
    settings = {"settings": {}, "pool_size": 0, "pool_mean": None, "batch_mean": None}
    chosen = (Chosen(tile.id, None, "strategy"),)
    last = house.catalog.rounds.next_number(house.project_id)
    record = Round(last, "random", 0, None, state="chosen", chosen=chosen, **settings)
    push(house.context, house.project, house.catalog.rounds.add(house.project_id, record), silent)


@contextmanager
def counted(house):
    """Count requests to Label Studio and SQL statements."""
    house.server.requests.clear()
    found = Counter()

    def executed(*_):
        found["statements"] += 1

    engine = house.catalog.database.engine
    event.listen(engine, "after_cursor_execute", executed)
    yield found
    event.remove(engine, "after_cursor_execute", executed)
    found["requests"] = len(house.server.requests)


def learned_from_all(house):
    """Have a training end that learned from everything, so that only what is new counts."""
    dataset = dataset_of(house.context, house.project_id)
    model = house.catalog.models.add(house.project_id, parent=None, fingerprint=dataset.fingerprint)
    card = {"masks": list(dataset.masks)}
    house.catalog.models.settle(
        house.project_id, model.version, decision="promoted", numbers={}, card=card
    )


def pulled(house, change, follow=()):
    """What pulling four changes cost, and how many tasks were read for it."""
    ids = [row["id"] for row in house.studio.rows(house.project_id)]
    for task_id in ids[:: len(ids) // CHANGES][:CHANGES]:
        change(house, task_id)
    with counted(house) as found:
        report = house.step("sync")
    assert report.follow == follow
    return dict(found), report.numbers["tasks"]


def edit(house, task_id):
    """Update the annotation of a task."""
    (row,) = house.studio.tasks[task_id]["annotations"]
    house.studio.edit_annotation(row["id"], house.regions(np.ones((8, 8), np.uint8)))


def add(house, task_id):
    """Annotate a task once more."""
    house.studio.create_annotation(task_id, house.regions(np.ones((8, 8), np.uint8)))


def take_back(house, task_id):
    """Delete the annotation of a task."""
    (row,) = house.studio.tasks[task_id]["annotations"]
    house.studio.delete_annotation(row["id"])


@pytest.mark.parametrize("change", [edit, add, take_back])
def test_a_pull_costs_by_what_changed(grown, change):
    """As many requests and SQL statements, whatever the number of tasks that did not change."""
    (small, read), (large, read_of_many) = (pulled(grown(n), change) for n in (SMALL, LARGE))
    assert small == large
    assert small["requests"] == 4  # the project, the index, the changed tasks, a page of all
    assert read == read_of_many == CHANGES


def test_a_training_that_falls_due_costs_no_more(grown):
    """The data set is collected by the training, not by the pull that asks for it."""
    costs = []
    for count in (SMALL, LARGE):
        house = grown(count)
        house.recipe({"loop.retrain_every": CHANGES})
        costs.append(pulled(house, edit, follow=("train",)))
    assert costs[0] == costs[1]


def test_a_quiet_poll_reads_nothing(grown):
    """Three requests, and no task is read."""
    costs = []
    for count in (SMALL, LARGE):
        house = grown(count)
        with counted(house) as found:
            assert house.step("sync").numbers["tasks"] == 0
        costs.append(dict(found))
    assert costs[0] == costs[1]
    assert costs[0]["requests"] == 3  # the project, an empty index, a page of all


def test_a_deleted_task_is_found_by_halves(grown):
    """The requests grow with the logarithm of the number of tasks; none of them is large."""
    house = grown(LARGE)
    ids = [row["id"] for row in house.studio.rows(house.project_id)]
    house.studio.delete_task(ids[77])
    with counted(house) as found:
        assert house.step("sync").numbers["gone"] == 1
    assert found["requests"] <= 3 + 7 + 2  # 120 → 4 takes 5 halvings
    assert house.catalog.work.task(ids[77]).deleted
    assert house.catalog.work.count(house.project_id) == LARGE


def test_a_large_import_is_waited_for_once(grown):
    """The pull after it looks at it twice, so that later ones need not at all."""
    house = grown(SMALL)
    before = house.studio.now
    house.studio.tick = lambda: house.studio.now
    house.studio.import_tasks(house.project_id, [{"data": {"image": "/none.png"}}] * LARGE)
    house.step("sync")
    assert 0 < (house.studio.now - before).total_seconds() <= 12
    with counted(house) as found:
        house.step("sync")
    assert found["requests"] == 3 + pull_attempts(house)


def pull_attempts(house):
    """How many missing images the last pull asked for again."""
    return sum(request.startswith("GET /none") for request in house.server.requests)
