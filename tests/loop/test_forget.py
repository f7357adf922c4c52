"""Projects that are gone in Label Studio, and forgetting them here: all of theirs, nothing else."""

import pytest
from sqlalchemy import func, select
from support.house import picture, save_picture

from ml_backend.errors import NotFound, StoreError, StudioMissing, StudioUnreachable
from ml_backend.loop.connect import SECRET_HEADER
from ml_backend.loop.context import silent
from ml_backend.loop.forget import forget, remains
from ml_backend.loop.site import missing_line
from ml_backend.loop.steps import STEPS
from ml_backend.recipe import parse_recipe
from ml_backend.store.schema import metadata


@pytest.fixture
def two(house):
    """Give a house with a trained project, and a second one that shares an image of its own."""
    house.fill(8)
    house.labelled_round()
    house.step("train")
    house.step("select")
    house.step("predict")
    other = house.studio.create_project("Others", house.project.label_config)
    house.catalog.projects.save(
        other.id, title="Others", label_config=other.label_config, recipe=parse_recipe({})
    )
    for project_id in (house.project_id, other.id):
        for name in ("shared.png", f"own-{project_id}.png"):
            url = f"/data/upload/{project_id}/{name}"
            number = 90 if name == "shared.png" else project_id + 91
            house.studio.files[url] = png_of(house, number)
            (task,) = house.studio.import_tasks(project_id, [{"data": {"image": url}}])
            # an image is fetched when somebody has answered its task
            house.studio.create_annotation(task, house.regions(picture(number)[1]))
        STEPS["sync"](house.context, project_id, silent)
    return house, other.id


def png_of(house, number):
    """A picture's file."""
    path = house.folder / f"extra-{number}.png"
    save_picture(path, number)
    return path.read_bytes()


def counts(house):
    """Rows by table."""
    with house.catalog.database.read() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in metadata.sorted_tables
        }


def test_nothing_is_left_of_a_forgotten_project(two):
    """Rows of every table, masks, models and own images go; the other project's stay."""
    house, other = two
    runs = house.context.settings.home / "runs"
    runs.mkdir(exist_ok=True)
    for name in (f"p{house.project_id}-v9.safetensors", f"p{house.project_id}7-v1.safetensors"):
        (runs / name).write_bytes(b"")
    house.studio.connect_backend(house.project_id, house.context.settings.public_url, "t", "u", "p")
    house.studio.connect_webhook(house.project_id, "http://w", SECRET_HEADER, "s")
    before, blobs = counts(house), house.context.blobs.list()
    found = remains(house.context, house.project_id)
    assert found.rows["projects"] == 1
    assert "10 images" in found.lines()[0]
    assert forget(house.context, found) is None
    after = counts(house)
    gone = {name: before[name] - after[name] for name in before if before[name] != after[name]}
    assert gone == found.rows
    assert after["projects"] == 1
    gone = set(blobs) - set(house.context.blobs.list())
    assert {key for key in gone if not key.startswith("runs/")} == set(found.blobs)
    kept = [image.uri for image in house.catalog.pool.images(other)]
    assert len(kept) == 2
    assert all(house.context.blobs.exists(uri) for uri in kept)
    assert [path.name for path in runs.iterdir()] == [f"p{house.project_id}7-v1.safetensors"]
    assert house.studio.backend_rows == house.studio.webhook_rows == []
    assert STEPS["sync"](house.context, other, silent).numbers["tasks"] == 0
    with pytest.raises(NotFound, match=r"nothing is kept of project .*Others"):
        remains(house.context, house.project_id)


def test_every_table_is_thought_of(two):
    """Where a project has rows of a table, they are counted as its own."""
    house, other = two
    forget(house.context, remains(house.context, house.project_id))
    forget(house.context, remains(house.context, other))
    assert {name for name, count in counts(house).items() if count} == {"meta"}
    assert house.context.blobs.list("masks") == house.context.blobs.list("images") == []


@pytest.mark.parametrize("cut", [0, 3])
def test_forgetting_that_was_cut_off_is_carried_on(two, monkeypatch, cut):
    """It is said in the status, polled no more, refused by a pull, and may be repeated."""
    house, other = two
    calls, delete = [], house.context.blobs.delete

    def fail(key):
        calls.append(key)
        if len(calls) > cut:
            raise StoreError("no right to delete")
        delete(key)

    monkeypatch.setattr(house.context.blobs, "delete", fail)
    with pytest.raises(StoreError):
        forget(house.context, remains(house.context, house.project_id))
    assert "`brushloop forget --project" in (missing_line(house.context, house.project_id) or "")
    assert [row.id for row in house.catalog.projects.polled()] == [other]
    with pytest.raises(NotFound, match="being forgotten"):
        house.step("sync")
    monkeypatch.undo()
    forget(house.context, remains(house.context, house.project_id))
    assert house.catalog.projects.find(house.project_id) is None
    assert house.context.blobs.list(f"masks/{house.project_id}") == []


def test_a_label_studio_that_is_away_stops_no_forgetting(two):
    """What could not be removed there is said."""
    house, _ = two

    def away(_count):
        raise StudioUnreachable("no answer in time")

    house.studio.fail["disconnect"] = away
    trouble = forget(house.context, remains(house.context, house.project_id))
    assert "no answer in time" in trouble
    assert house.catalog.projects.find(house.project_id) is None


def test_a_project_that_was_deleted_is_polled_no_more(house):
    """The pull that finds it missing says the way out; once it is back, all is as before."""
    house.fill(4)
    gone = house.studio.projects.pop(house.project_id)
    with pytest.raises(StudioMissing, match=f"brushloop forget --project {house.project_id}"):
        house.step("sync")
    assert house.catalog.projects.polled() == []
    since = house.catalog.sites.get(house.project_id).since
    with pytest.raises(StudioMissing):
        house.step("sync")
    assert house.catalog.sites.get(house.project_id).since == since
    house.studio.projects[house.project_id] = gone
    house.step("sync")
    assert missing_line(house.context, house.project_id) is None
    assert [row.id for row in house.catalog.projects.polled()] == [house.project_id]


def test_an_address_that_is_not_label_studios_marks_nothing(house):
    """A server that knows neither the project nor the token's user is another server."""
    house.studio.projects.clear()

    def stranger():
        raise StudioMissing("GET /api/current-user/whoami: 404")

    house.studio.whoami = stranger
    with pytest.raises(StudioMissing, match="whoami"):
        house.step("sync")
    assert len(house.catalog.projects.polled()) == 1
