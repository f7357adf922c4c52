"""Whatever happens in Label Studio and on the way: one quiet poll, and the catalog equals it.

Stories drawn by a seed play people, polls, events and faults against the fake Label Studio over
HTTP; while a pull runs, people go on between its requests and within them.
"""

import hashlib
import os
import random
from datetime import timedelta

import numpy as np
import orjson
import pytest
from sqlalchemy import event
from support.house import open_house
from support.studio_server import LEGACY, Answer, Cut, StudioServer
from support.tasks import png

from ml_backend.errors import DataError, StudioRefused, StudioUnreachable
from ml_backend.loop import pull
from ml_backend.loop.context import silent
from ml_backend.loop.masks import load_mask
from ml_backend.loop.sync import sync
from ml_backend.masks.regions import decode_results
from ml_backend.studio import tasks as tasks_module
from ml_backend.studio.client import Studio
from ml_backend.web.contract import Event, read_payload

SIDES = (6, 6, 9, 6)  # of the images; the last one cannot be had until it is mended
OPEN = timedelta(seconds=8)  # the longest that a request takes to be written down

ACTIONS = {
    "make": 3, "import": 1, "annotate": 5, "skip": 1, "edit": 3, "star": 3, "unskip": 1,
    "delete": 2, "delete_task": 2, "data": 1, "predict": 1,
}  # fmt: skip
STEPS = {
    "act": 12, "begin": 3, "close": 3, "wait": 2, "mend": 0.2, "event": 3, "poll_quietly": 3,
    "poll": 4,
}  # fmt: skip


class People:
    """What people do in Label Studio, by numbers that choose among what there is."""

    def __init__(self, house):
        self.house = house
        self.fake = house.studio
        self.delay = timedelta(milliseconds=7)
        self.open = []
        self.longest = OPEN
        self.fake.tick = self.tick
        self.urls = [
            self.fake.upload_images(house.project_id, [(f"{n}.png", png(side, 20 * n))])[0]
            for n, side in enumerate(SIDES)
        ]
        self.lost = self.fake.files.pop(self.urls[-1])

    def tick(self):
        """Let a moment pass."""
        self.write_down(self.fake.now + self.delay)
        return self.fake.now + self.delay

    def write_down(self, moment):
        """Close what would have been open for too long at a moment."""
        while self.open and moment - self.open[0][0] > self.longest:
            self.close()

    def do(self, action, one, two):
        """Do something at once; the action that an event would tell, None if nothing was there."""
        task = self.pick(self.fake.rows(self.house.project_id), one)
        rows = [row for each in self.fake.tasks.values() for row in each["annotations"]]
        row = self.pick(rows, one)
        if action == "make":
            self.fake.import_tasks(self.house.project_id, [self.body(one)])
            return "TASKS_CREATED"
        if action == "import":  # many at the same moment, annotated
            self.bulk(one)
            return "TASKS_CREATED"
        if action in {"edit", "star", "unskip", "delete"} and row:
            return self.change(action, row, two)
        if action in {"annotate", "skip", "delete_task", "data", "predict"} and task:
            return self.touch(action, task, two)
        return None

    def body(self, number):
        """A task's body."""
        return {"data": {"image": self.urls[number % len(self.urls)]}}

    def bulk(self, number):
        """Import annotated tasks, all with one stamp."""
        ids = self.fake.import_tasks(
            self.house.project_id, [self.body(number + n) for n in range(number % 7)]
        )
        for task_id in ids:
            self.fake.create_annotation(task_id, self.painted(task_id, number))
        for task_id in ids:
            self.fake.tasks[task_id]["updated_at"] = self.fake.tasks[ids[-1]]["updated_at"]

    def touch(self, action, task, number):
        """Act on a task."""
        if action == "delete_task":
            self.fake.delete_task(task["id"])
            return "TASKS_DELETED"
        if action == "data":
            self.fake.edit_task(task["id"], self.body(number)["data"])
            return None
        if action == "predict":
            given = {"task": task["id"], "result": [], "score": 0.5, "model_version": "v"}
            self.fake.add_predictions([given], moves=True)
            return None
        result = [] if action == "skip" else self.painted(task["id"], number)
        self.fake.create_annotation(task["id"], result, was_cancelled=action == "skip")
        return "ANNOTATION_CREATED"

    def change(self, action, row, number):
        """Act on an annotation."""
        if action == "delete":
            self.fake.delete_annotation(row["id"])
            return "ANNOTATIONS_DELETED"
        task, _ = self.fake._annotation(row["id"])
        if action == "star":
            self.fake.set_ground_truth(row["id"], number % 4 > 0)
        elif action == "unskip":
            self.fake.take_back_skip(row["id"])
        else:
            self.fake.edit_annotation(row["id"], self.painted(task["id"], number))
        return "ANNOTATION_UPDATED"

    def painted(self, task_id, number):
        """Regions for the image of a task, sometimes for one of another size."""
        url = self.fake.tasks[task_id]["data"]["image"]
        side = SIDES[self.urls.index(url)] if number % 5 else 7
        mask = np.zeros((side, side), np.uint8)
        mask.flat[: 1 + number % (side * side)] = 1
        return orjson.loads(
            orjson.dumps(self.house.regions(mask), option=orjson.OPT_SERIALIZE_NUMPY)
        )

    def begin(self, action, one, two):
        """Take the stamp now, show the change later."""
        self.open.append((self.tick(), (action, one, two)))
        self.fake.now = self.open[-1][0]

    def close(self):
        """Show the oldest change that has been begun, under its stamp."""
        moment, action = self.open.pop(0)
        now, self.fake.tick = self.fake.now, lambda: moment
        self.do(*action)
        self.fake.now, self.fake.tick = now, self.tick

    def wait(self, seconds):
        """Let time pass."""
        self.write_down(self.fake.now + timedelta(seconds=seconds))
        self.fake.sleep(seconds)

    @staticmethod
    def pick(rows, number):
        """One of what there is."""
        return rows[number % len(rows)] if rows else None


class Story:
    """People, polls, events and faults in an order that a seed decides."""

    def __init__(self, folder, seed):
        self.random = random.Random(seed)
        self.house = open_house(folder)
        self.server = StudioServer(self.house.studio)
        self.personal = self.server.personal_token
        self.studio = Studio(self.server.url, self.personal if seed % 2 else LEGACY)
        self.house.context.__dict__["studio"] = self.studio
        engine = self.house.catalog.database.engine
        engine.dispose()
        event.listen(engine, "connect", _hasty)
        self.people = People(self.house)
        object.__setattr__(self.house.context, "sleep", self.people.wait)
        self.events = []
        self.told = []

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *_):
        self.studio.close()
        self.server.__exit__()
        self.house.catalog.close()

    def step(self):
        """Something happens."""
        name = self.random.choices(list(STEPS), list(STEPS.values()))[0]
        self.told.append(name)
        getattr(self, name)()

    def action(self):
        """Something that people may do."""
        few = len(self.people.fake.tasks) < 8
        name = self.random.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        if name in {"make", "import"} and not few and self.random.random() < 0.8:
            name = "annotate"
        return name, self.random.randrange(1000), self.random.randrange(1000)

    def act(self):
        """People work; an event is on its way."""
        self.tell(self.people.do(*self.action()))

    def begin(self):
        """A request of theirs takes its time."""
        self.people.begin(*self.action())

    def close(self):
        """It is written down."""
        if self.people.open:
            self.people.close()

    def wait(self):
        """Time passes."""
        self.people.wait(self.random.choice([0.5, 3, 11, 100]))

    def mend(self):
        """The image that could not be had is there."""
        self.people.fake.files[self.people.urls[-1]] = self.people.lost

    def event(self):
        """An event comes, in any order, once, more than once, or never."""
        if not self.events:
            return
        body = self.random.choice(self.events)
        fate = self.random.choice(["comes", "comes twice", "lost", "lost"])
        if fate != "comes twice":
            self.events.remove(body)
        if fate != "lost" and "sync" in read_payload(Event, body).steps:
            sync(self.house.context, self.house.project_id, silent)

    def poll_quietly(self):
        """A poll during which nothing happens leaves the catalog equal to Label Studio."""
        sync(self.house.context, self.house.project_id, silent)
        late = self.people.longest > OPEN
        assert late or seen(self.house) == expected(self.house), self.told

    def poll(self):
        """A poll during which people work and things break."""
        fault = self.random.choice(["none", "none", "cut", "away", "expired", "revoked"])
        plan = [(self.random.randrange(7), self.action()) for _ in range(self.random.randrange(5))]
        self.told.append((fault, plan))
        with Trouble(self, fault, self.random.randrange(6), plan):
            try:
                sync(self.house.context, self.house.project_id, silent)
            except StudioUnreachable:
                deletes = any(action[0] == "delete_task" for _, action in plan)
                assert fault in {"cut", "away"} or deletes
            except StudioRefused:
                assert fault == "revoked"
        self.server.legacy, self.server.refresh = {LEGACY}, {self.personal}

    def tell(self, action):
        """Have an event on its way."""
        if action is not None:
            project = {"id": self.house.project_id}
            self.events.append(orjson.dumps({"action": action, "project": project}))


class Trouble:
    """What happens at the requests of one pull, while entered."""

    def __init__(self, story, fault, at, plan):
        self.story, self.fault, self.at, self.plan = story, fault, at, plan
        self.count = 0
        self.refreshed = False

    def __enter__(self):
        self.story.server.trouble = self.trouble
        self.story.server.between = self.people

    def __exit__(self, *_):
        self.story.server.trouble = lambda method, path: None  # noqa: ARG005
        self.story.server.between = lambda: None

    def people(self):
        """Work between the choice of a page's tasks and their reading, or between requests."""
        for at, action in self.plan:
            if at == self.count:
                self.story.tell(self.story.people.do(*action))
        self.count += 1

    def trouble(self, _method, path):
        """Break at a request."""
        server = self.story.server
        self.people()
        refreshed, self.refreshed = self.refreshed, path == "/api/token/refresh/"
        if self.count < self.at or self.fault == "none" or self.refreshed:
            return
        if self.fault == "expired":
            if not refreshed:  # no access token expires at once
                server.access.clear()
                self.fault = "none"
        elif self.fault == "revoked":
            server.access.clear()
            server.legacy, server.refresh = set(), set()
        elif self.fault == "cut":
            raise Cut
        else:
            raise Answer(503, {"detail": "starting"})


def _hasty(connection, _record):
    connection.execute("PRAGMA synchronous=OFF")


def expected(house):
    """What the catalog should hold, by Label Studio's own state."""
    found = {}
    for row in house.studio.rows(house.project_id):
        file = house.studio.files.get(row["data"]["image"])
        side = SIDES[int(row["data"]["image"][-5])]
        digest = hashlib.sha256(file).hexdigest() if file else None
        answers = {
            item["id"]: (
                *(item[key] for key in ("was_cancelled", "ground_truth", "updated_at")),
                painted(house, item, side) if file and not item["was_cancelled"] else None,
            )
            for item in row["annotations"]
        }
        found[row["id"]] = (row["updated_at"], digest, answers)
    return found


def painted(house, item, side):
    """The mask of an annotation, as text; None where it cannot be read."""
    try:
        return decode_results(item["result"], house.labels, side, side).label_map.tolist()
    except DataError:
        return None


def seen(house):
    """What the catalog holds."""
    found = {}
    for task in house.catalog.work.tasks(house.project_id):
        tile = house.catalog.pool.tile(task.tile_id) if task.tile_id else None
        rows = house.catalog.work.annotations(house.project_id, task_id=task.id)
        answers = {}
        for row in rows:
            mask = load_mask(house.context.blobs, row.mask).tolist() if row.mask else None
            assert row.usable == (mask is not None)
            assert row.usable or row.cancelled or row.reason or row.deleted
            if not row.deleted:
                answers[row.id] = (row.cancelled, row.ground_truth, row.updated_at, mask)
        found[task.id] = (task.updated_at, content(house, task, tile, answers), answers)
    blobs = house.context.blobs.list("images")
    assert len(blobs) == len({image.sha256 for image in house.catalog.pool.images(1)})
    return found


def content(house, task, tile, answers):
    """The digest of a task's image; it is fetched once somebody has annotated the task."""
    if tile is not None:
        assert task.reason is None
        return tile.image.sha256
    if task.reason is None:
        assert not answers
        file = house.studio.files.get(task.uri)
        return hashlib.sha256(file).hexdigest() if file else None
    return None


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch):
    """A few tasks fill pages, call for a second pass, and are counted in halves."""
    monkeypatch.setattr(tasks_module, "_INDEX_PAGE", 3)
    monkeypatch.setattr(tasks_module, "_READ_FIRST", 2)
    monkeypatch.setattr(pull, "RECENT", 4)
    monkeypatch.setattr(pull, "RANGE", 2)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing here outlives the machine


@pytest.mark.parametrize("seed", range(12))
def test_one_quiet_poll_makes_the_catalog_equal(tmp_path, seed):
    """After any story of people, polls, events and faults, and in the middle of it."""
    with Story(tmp_path, seed) as story:
        for _ in range(150):
            story.step()
        story.people.wait(OPEN.total_seconds() + 1)
        story.poll_quietly()


@pytest.mark.parametrize("seed", range(4))
def test_polls_that_went_round_make_the_catalog_equal(tmp_path, seed):
    """Even after requests that took minutes to be written down, under the stamp they began with."""
    with Story(tmp_path, seed) as story:
        story.people.longest = timedelta(minutes=5)
        for _ in range(100):
            story.step()
        while story.people.open:
            story.people.close()
        for _ in range(2 + len(story.people.fake.tasks) // tasks_module._INDEX_PAGE):
            sync(story.house.context, story.house.project_id, silent)
        assert seen(story.house) == expected(story.house), story.told
