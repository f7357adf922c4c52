"""Images as text, and addresses that can be none: each costs its own task at most."""

import base64
import itertools

import httpx
import orjson
import pytest
from support.house import open_house, picture, save_picture

from ml_backend.errors import ImageUnreadable
from ml_backend.loop.masks import load_mask
from ml_backend.loop.serve import Service
from ml_backend.loop.unused import unused
from ml_backend.masks.labels import make_label_config
from ml_backend.studio.client import Studio

_numbers = itertools.count(1)
ODD = [
    "http://[::1/x.png",
    "http://h.test:99999/x.png",
    "https://",
    "http://h.test/a\nb.png",
    "/data/upload/1/a\r\nb.png",
    f"http://{'a' * 74}.test/x.png",
    "http://a..b/x.png",
    f"/data/upload/{'x' * 100_000}.png",
    f"s3://none/{'x' * 100_000}",
    "data:image/png;base64," + "A" * 100_000,
    {"url": "nested"},
    ["http://[::1/x.png"],
    "x",
    7,
    None,
]


def inline(house, number):
    """A picture as a `data:` address."""
    path = house.folder / f"{number}.png"
    save_picture(path, number)
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def import_annotated(house, addresses):
    """A task for each (address, picture's number), annotated by the picture's mask; their ids."""
    new = [{"data": {"image": url}} for url, _ in addresses]
    tasks = house.studio.import_tasks(house.project_id, new)
    for task, (_, number) in zip(tasks, addresses, strict=True):
        house.studio.create_annotation(task, house.regions(picture(number)[1]))
    return tasks


@pytest.fixture
def real(tmp_path, label_studio):
    """Give a house whose project is in the real Label Studio."""
    house = open_house(tmp_path)
    with Studio(label_studio.url, label_studio.personal_token) as studio:
        house.context.__dict__["studio"] = house.studio = studio
        title, config = f"odd {next(_numbers)}", make_label_config(["cell"])
        house.project_id = studio.create_project(title, config).id
        house.catalog.projects.save(house.project_id, title=title, label_config=config)
        yield house
    house.catalog.close()


@pytest.fixture
def downloading(house, monkeypatch):
    """Give the house a Label Studio whose downloads go through our client."""
    transport = httpx.MockTransport(lambda _: httpx.Response(404))
    client = Studio("http://studio.test", "0" * 40, transport=transport)

    def download(url, *, limit, project_id=None):
        if url in house.studio.files:
            return house.studio.files[url]
        return client.download(url, limit=limit, project_id=project_id)

    monkeypatch.setattr(house.studio, "download", download)
    return house


def check_all_told(house, tasks):
    """Every task has its reason, short and on one line; so has the status, and the log."""
    for task in tasks:
        reason = house.catalog.work.task(task).reason
        assert reason
        assert "\n" not in reason
        assert len(reason) < 500
        assert len(house.catalog.work.task(task).uri) < 2100
    told = [row.reason for row in unused(house.context, house.project_id)]
    assert max(map(len, told)) < 500


@pytest.mark.parametrize("ways", ["one", "all"])
def test_odd_addresses_cost_their_tasks_alone(downloading, ways):
    """The pull ends well, the others are labelled, each odd one has its reason."""
    house = downloading
    url = "/data/upload/1/fine.png"
    save_picture(house.folder / "fine.png", 1)
    house.studio.files[url] = (house.folder / "fine.png").read_bytes()
    odd = ODD if ways == "all" else ODD[:1]
    tasks = import_annotated(house, [*((address, 1) for address in odd), (url, 1)])
    house.step("sync")
    house.step("sync")
    assert len(house.catalog.work.labelled(house.project_id)) == 1
    check_all_told(house, tasks[:-1])


def test_an_image_as_text_is_an_image(downloading):
    """It is read, labelled and kept once; the catalog has no more of it than its beginning."""
    house = downloading
    tasks = import_annotated(house, [(inline(house, 1), 1), (inline(house, 2), 2)])
    house.step("sync")
    assert len(house.catalog.work.labelled(house.project_id)) == 2
    for task, number in zip(tasks, (1, 2), strict=True):
        row = house.catalog.work.task(task)
        assert row.reason is None
        assert len(row.uri) < 250
        (annotation,) = house.catalog.work.annotations(house.project_id, task_id=task)
        mask = load_mask(house.context.blobs, annotation.mask)
        assert (mask == picture(number)[1]).all()
    assert house.step("sync").numbers["changed"] == 0
    names = [image.name for image in house.catalog.pool.images(house.project_id)]
    assert all(name.endswith("image.png") for name in names)


def test_an_image_as_text_heals(downloading, monkeypatch):
    """What could not be kept for a moment is read anew, as Label Studio has all of it."""
    house = downloading
    (task,) = import_annotated(house, [(inline(house, 1), 1)])
    with monkeypatch.context() as away:
        away.setattr(house.studio, "download", _fail)
        house.step("sync")
    assert house.catalog.work.task(task).reason
    house.step("sync")
    assert house.catalog.work.task(task).reason is None
    assert len(house.catalog.work.labelled(house.project_id)) == 1


def _fail(url, **_):
    raise ImageUnreadable(f"image {url[:10]}: not now")


def test_odd_addresses_leave_the_other_predictions(downloading):
    """`/predict` answers every task: those whose address is none get no region."""
    house = downloading
    house.fill(12)
    house.labelled_round()
    house.step("train")
    service = Service(house.context.settings)
    service._context.__dict__["studio"] = house.studio
    tasks = [
        {"id": 10_000 + number, "data": {"image": address}}
        for number, address in enumerate([*ODD, "\0", "a\r\nb", "\0" * 100_000])
    ]
    tasks.append({"id": 20_000, "data": {"image": inline(house, 3)}})
    answers = [
        orjson.loads(row)
        for row in service.predict(house.project_id, house.project.label_config, tasks)
    ]
    service.close()
    assert len(answers) == len(tasks)
    assert all(answer["result"] == [] for answer in answers[:-1])
    assert answers[-1]["result"]


@pytest.mark.studio
def test_odd_addresses_in_the_real_one(real):
    """The same with tasks that the real Label Studio has stored."""
    save_picture(real.folder / "fine.png", 1)
    files = [("fine.png", (real.folder / "fine.png").read_bytes())]
    (url,) = real.studio.upload_images(real.project_id, files)
    odd = [address for address in ODD if isinstance(address, str | list)]
    addresses = [*((address, 1) for address in odd), (url, 1), (inline(real, 2), 2)]
    tasks = import_annotated(real, addresses)
    real.step("sync")
    assert len(real.catalog.work.labelled(real.project_id)) == 2
    check_all_told(real, tasks[:-2])
