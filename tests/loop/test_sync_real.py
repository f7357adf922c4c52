"""Annotations of the real Label Studio: lost events, deletions, edits, both kinds of token."""

import itertools
import random

import numpy as np
import pytest
from support.backend import TinyBackend
from support.house import SIDE, open_house, save_picture
from support.people import Person
from support.person import PersonsStudio

from ml_backend.errors import StudioRefused
from ml_backend.loop.context import silent
from ml_backend.loop.masks import load_mask
from ml_backend.loop.sync import sync
from ml_backend.masks.labels import make_label_config
from ml_backend.masks.regions import decode_results
from ml_backend.masks.sets import from_planes

pytestmark = pytest.mark.studio

_numbers = itertools.count(1)
TASKS, IMPORTED, POSTED = 50, 8, 2  # annotations a task of either way: 500 in all


class Forgetful(TinyBackend):
    """A backend of which half the events are lost; `heard` says whether one came through."""

    def __init__(self, seed):
        super().__init__()
        self.random = random.Random(seed)
        self.heard = False
        self.fates = {True: 0, False: 0}

    def _remember(self, request):
        super()._remember(request)
        if request.path == "/webhook":
            came = self.random.random() < 0.5
            self.fates[came] += 1
            self.heard |= came


@pytest.fixture
def house(tmp_path, label_studio):
    """Give a house whose project is in the real Label Studio, with annotated tasks."""
    house = open_house(tmp_path)
    with PersonsStudio(label_studio.url, label_studio.personal_token) as studio:
        house.context.__dict__["studio"] = house.studio = studio
        title, config = f"sync {next(_numbers)}", make_label_config(["cell"])
        house.project_id = studio.create_project(title, config).id
        house.catalog.projects.save(house.project_id, title=title, label_config=config)
        yield house
    house.catalog.close()


def mask_of(number):
    """The mask of the n-th annotation, unlike any other's."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask.flat[: number + 1] = 1
    return mask


def make_tasks(house, count, annotations):
    """Tasks with imported annotations; their ids."""
    files = []
    for number in range(count):
        path = house.folder / "pictures" / f"{number}.png"
        save_picture(path, number)
        files.append((path.name, path.read_bytes()))
    urls = house.studio.upload_images(house.project_id, files)
    numbers = itertools.count()
    new = [
        {
            "data": {"image": url},
            "annotations": [
                {"result": house.regions(mask_of(next(numbers)))} for _ in range(annotations)
            ],
        }
        for url in urls
    ]
    return house.studio.import_tasks(house.project_id, new)


def there(house):
    """Annotation → number of its pixels, as Label Studio has them now."""
    ids = [number for page in house.studio.changes(house.project_id) for number in page.moments]
    return {
        row["id"]: decode_results(row["result"], house.labels, SIDE, SIDE).label_map.sum()
        for task in house.studio.read_tasks(house.project_id, ids)
        for row in task.annotations
    }


def here(house):
    """Annotation → number of its pixels, as the catalog has them."""
    return {
        row.id: load_mask(house.context.blobs, row.mask).sum()
        for row in house.catalog.work.annotations(house.project_id)
        if not row.deleted
    }


def test_what_events_lost_one_poll_finds(house):
    """500 annotations, by import and by hand, half of their events lost: then all are there.

    Then deletions and edits arrive, whether an event tells of them or not.
    """
    with Forgetful(seed=7) as backend:
        hook = f"{backend.url}/webhook"
        house.studio.connect_webhook(house.project_id, hook, "X-Brushloop-Secret", "secret")
        tasks = make_tasks(house, TASKS, IMPORTED)
        made = []
        for number in range(TASKS * POSTED):
            mask = house.regions(mask_of(TASKS * IMPORTED + number))
            made.append(house.studio.create_annotation(tasks[number % TASKS], mask))
            if backend.heard and number % 10 == 0:
                backend.heard = False
                house.step("sync")
        assert min(backend.fates.values()) > 20
        house.step("sync")
        assert here(house) == there(house)
        assert len(here(house)) == 500
        assert sorted(here(house).values()) == list(range(1, 501))
        for annotation in made[::10]:
            house.studio.delete_annotation(annotation)
        for number, annotation in enumerate(made[1::10]):
            house.studio.edit_annotation(annotation, house.regions(mask_of(600 + number)))
        house.studio.delete_task(tasks[-1])
        house.step("sync")
        assert here(house) == there(house)
        assert len(here(house)) == 500 - 10 - IMPORTED - POSTED
        assert max(here(house).values()) == 610
        assert house.step("sync").numbers["tasks"] == 0


def test_an_access_token_that_expires_in_the_middle(house):
    """A personal token's access token is renewed, and nothing of the pull is lost."""
    tasks = make_tasks(house, 12, 1)

    def expire(done, *_):
        if done == 3:
            house.studio._http.auth._access = "expired"

    assert house.studio.token_kind == "personal"
    sync(house.context, house.project_id, expire)
    assert house.studio._http.auth._access != "expired"
    assert here(house) == there(house)
    assert len(here(house)) == len(tasks)


def test_a_legacy_token_that_is_revoked_in_the_middle(house, label_studio):
    """The error says where a new one comes from; with it the next sync carries on."""
    make_tasks(house, 12, 1)
    owner = Person(label_studio.url, label_studio.email, label_studio.password)
    person = Person.invited(owner, label_studio.url)
    token = person.ask("GET", "/api/current-user/token")["token"]

    def revoke(done, *_):
        if done == 3:
            person.ask("POST", "/api/current-user/reset-token")

    with PersonsStudio(label_studio.url, token) as legacy:
        assert legacy.token_kind == "legacy"
        house.context.__dict__["studio"] = legacy
        with pytest.raises(StudioRefused, match=r"401.*Account & Settings") as caught:
            sync(house.context, house.project_id, revoke)
        assert token not in str(caught.value)
    renewed = person.ask("GET", "/api/current-user/token")["token"]
    with PersonsStudio(label_studio.url, renewed) as legacy:
        house.context.__dict__["studio"] = legacy
        report = sync(house.context, house.project_id, silent)
        assert 0 < report.numbers["tasks"] < 12
        assert here(house) == there(house)
    owner.close()
    person.close()


def test_regions_that_overlap_arrive_as_they_were_painted(tmp_path, label_studio):
    """The server takes choice=multiple, and gives back regions over one another, one of two labels.

    What is predicted of labels that overlap is stored as well.
    """
    names = ("cell", "nucleus")
    house = open_house(tmp_path, names, multiple=True)
    planes = np.zeros((2, SIDE, SIDE), bool)
    planes[0, 2:20, 2:20], planes[1, 5:9, 5:30], planes[:, 25:, :4] = True, True, True
    painted = from_planes(planes)
    with PersonsStudio(label_studio.url, label_studio.personal_token) as studio:
        house.context.__dict__["studio"] = house.studio = studio
        title, config = f"overlap {next(_numbers)}", make_label_config(names, multiple=True)
        house.project_id = studio.create_project(title, config).id
        house.catalog.projects.save(house.project_id, title=title, label_config=config)
        (task_id,) = make_tasks(house, 1, 0)
        both = np.zeros_like(painted)
        both[25:, :4] = 2
        (two,) = house.regions(both)
        two["value"]["brushlabels"] = list(names)
        rest = painted.copy()
        rest[25:, :4] = 0
        studio.create_annotation(task_id, [*house.regions(rest), two])
        row = {"task": task_id, "result": house.regions(painted), "score": 0.5}
        studio.post_predictions(house.project_id, [row | {"model_version": "v1"}])
        assert house.step("sync").numbers["unusable"] == 0
        (answer,) = house.catalog.work.annotations(house.project_id)
        mask = load_mask(house.context.blobs, answer.mask, names, overlapping=True)
        np.testing.assert_array_equal(mask, painted)
        (shown,) = studio.get_task(task_id).predictions
        decoded = decode_results(shown["result"], house.labels, SIDE, SIDE)
        np.testing.assert_array_equal(decoded.label_map, painted)
    house.catalog.close()
