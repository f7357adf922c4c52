"""The catalog: the same suite over SQLite and, where one answers, PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import inspect, text
from support.databases import postgres_schema

from ml_backend.errors import NotFound, StoreError
from ml_backend.recipe import parse_recipe
from ml_backend.store.catalog import Catalog
from ml_backend.store.rows import Annotation, Chosen, Image, Prediction, Reading, Round, Task

BOXES = [(0, 0, 4, 4), (4, 0, 4, 4)]
IMAGE = Image("a.png", "/pool/a.png", "0" * 64, 8, 4)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database; PostgreSQL gets a schema of its own that is dropped afterwards."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
        return
    with postgres_schema() as url:
        if url is None:
            pytest.skip("no PostgreSQL answers on 127.0.0.1:5432")
        yield url


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    """A fresh catalog with project 7 in it."""
    catalog = Catalog(url)
    catalog.projects.save(7, title="Cells", label_config="<View/>")
    yield catalog
    catalog.close()


def annotation(number: int, task: int = 1, **changes: object) -> Annotation:
    """Make an annotation with sensible defaults."""
    stamp = f"2026-01-01T00:00:{number:02d}Z"
    given = {"mask": f"masks/{number}", "usable": True, "created_at": stamp, "updated_at": stamp}
    return Annotation(number, task, **(given | changes))


def test_reopening_keeps_everything(url: str) -> None:
    """A second process finds the project with its recipe as the first one left it."""
    first = Catalog(url)
    recipe = parse_recipe({"selection": {"batch": 3}})
    first.projects.save(1, title="T", label_config="<View/>", recipe=recipe)
    first.projects.set_cursor(1, "2026-01-01T00:00:00Z")
    first.close()
    second = Catalog(url)
    project = second.projects.get(1)
    second.close()
    assert (project.title, project.recipe, project.cursor) == (
        "T",
        recipe,
        "2026-01-01T00:00:00Z",
    )


def test_saving_a_part_of_a_project_leaves_the_rest(catalog: Catalog) -> None:
    """A new labeling config does not touch the title."""
    catalog.projects.save(7, label_config="<View>2</View>")
    project = catalog.projects.get(7)
    assert (project.title, project.label_config) == ("Cells", "<View>2</View>")


def test_unknown_project_says_how_to_connect_it(catalog: Catalog) -> None:
    """The error names the project and the command."""
    with pytest.raises(NotFound, match="brushloop connect --project 8"):
        catalog.projects.get(8)


def test_image_keeps_its_split_when_added_again(catalog: Catalog) -> None:
    """The split is decided once, whatever a later call says; the place may change."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    moved = Image("a.png", "/new/a.png", "0" * 64, 8, 4, split="val")
    again = catalog.pool.add_image(7, moved, [*BOXES, (0, 0, 8, 4)])
    assert (again.split, again.uri) == ("train", "/new/a.png")
    assert len(catalog.pool.tiles(7)) == 3


def test_a_tile_is_unasked_until_a_round_or_an_answer_has_it(catalog: Catalog) -> None:
    """What a round chose, somebody annotated or skipped, or deleted tasks showed, is done with."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    left, right = catalog.pool.unasked(7)
    catalog.work.save_tasks(7, [Task(1, left.id, "/data/upload/a.png"), Task(2, left.id, "b")])
    catalog.work.mark_deleted([2])
    assert [tile.id for tile in catalog.pool.unasked(7)] == [left.id, right.id]
    assert catalog.pool.asked(7) == []
    for answer in (annotation(1), annotation(1, cancelled=True, mask=None, usable=False)):
        catalog.work.save_annotations(7, 1, [answer])
        assert [tile.id for tile in catalog.pool.unasked(7)] == [right.id]
        assert [tile.id for tile in catalog.pool.asked(7)] == [left.id]
    catalog.work.save_annotations(7, 1, [])
    assert [tile.id for tile in catalog.pool.unasked(7)] == [left.id, right.id]
    catalog.work.mark_deleted([1])
    assert [tile.id for tile in catalog.pool.unasked(7)] == [right.id]
    record = Round(
        1, "random", 0, None, {}, 2, None, None, "chosen", (Chosen(right.id, None, "audit"),)
    )
    saved = catalog.rounds.add(7, record)
    assert catalog.pool.unasked(7) == []
    catalog.rounds.mark_pushed(saved.id)
    assert catalog.rounds.all(7)[0].state == "pushed"
    assert catalog.rounds.next_number(7) == 2


def test_quarantined_images_are_neither_asked_nor_learned(catalog: Catalog) -> None:
    """A broken image keeps its row and its reason, and its tiles disappear."""
    image = catalog.pool.add_image(7, IMAGE, BOXES)
    tile = catalog.pool.unasked(7)[0]
    catalog.work.save_tasks(7, [Task(1, tile.id, "u")])
    catalog.work.save_annotations(7, 1, [annotation(1)])
    catalog.pool.quarantine(image.id, "truncated")
    assert catalog.pool.unasked(7) == []
    assert catalog.work.labelled(7) == []
    assert catalog.pool.images(7)[0].reason == "truncated"


def test_the_latest_usable_annotation_counts(catalog: Catalog) -> None:
    """Cancelled, unusable and deleted annotations never become the mask of a tile."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    tile = catalog.pool.unasked(7)[0]
    catalog.work.save_tasks(7, [Task(1, tile.id, "u")])
    rows = [
        annotation(1),
        annotation(2),
        annotation(3, cancelled=True),
        annotation(4, usable=False, mask=None, reason="wrong size"),
    ]
    assert catalog.work.save_annotations(7, 1, rows) == (4, 0)
    assert [item.mask for item in catalog.work.labelled(7)] == ["masks/2"]
    assert catalog.work.save_annotations(7, 1, [rows[0]]) == (0, 3)
    assert [item.mask for item in catalog.work.labelled(7)] == ["masks/1"]
    assert catalog.work.save_annotations(7, 1, [rows[0]]) == (0, 0)


def test_answers_are_all_of_a_tile_or_its_ground_truth(catalog: Catalog) -> None:
    """Oldest change first, whatever the task; the latest ground truth alone where there is any."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    left, right = catalog.pool.unasked(7)
    catalog.work.save_tasks(
        7, [Task(1, left.id, "u"), Task(2, left.id, "u"), Task(3, right.id, "u")]
    )
    catalog.work.save_annotations(7, 1, [annotation(5, author=8), annotation(2, author=9)])
    catalog.work.save_annotations(7, 2, [annotation(3, task=2)])
    catalog.work.save_annotations(7, 3, [annotation(4, task=3)])
    answers = catalog.work.answers(7)
    assert [[item.annotation_id for item in items] for items in answers] == [[2, 3, 5], [4]]
    assert [(item.author, item.task_id) for item in answers[0]] == [(9, 1), (None, 2), (8, 1)]
    starred = annotation(3, task=2, ground_truth=True)
    catalog.work.save_annotations(7, 2, [starred])
    assert [item.annotation_id for item in catalog.work.labelled(7)] == [3, 4]
    catalog.work.save_annotations(7, 1, [annotation(2, ground_truth=True), annotation(5)])
    assert [[item.annotation_id for item in items] for items in catalog.work.answers(7)] == [
        [3],
        [4],
    ]
    unusable = annotation(3, task=2, ground_truth=True, usable=False, mask=None)
    catalog.work.save_annotations(7, 2, [unusable])
    assert [[item.annotation_id for item in items] for items in catalog.work.answers(7)] == [
        [2],
        [4],
    ]


def test_starting_over_forgets_what_was_read(catalog: Catalog) -> None:
    """The new reading, no cursor, no stamps of tasks and no merged masks, all at once."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    catalog.work.save_tasks(7, [Task(1, catalog.pool.unasked(7)[0].id, "u", updated_at="then")])
    catalog.projects.set_cursor(7, "then")
    catalog.work.save_merged(7, "inputs", "masks/1")
    catalog.work.save_merged(7, "inputs", "masks/2")
    assert catalog.work.merged(7) == {"inputs": "masks/2"}
    assert catalog.projects.get(7).reading is None
    reading = Reading("key", ("a", "b"), ("brush",), ("b",), ("c",), changed="much")
    catalog.projects.start_over(7, reading)
    project = catalog.projects.get(7)
    assert (project.reading, project.cursor) == (reading, None)
    assert catalog.work.task(1).updated_at is None
    assert catalog.work.merged(7) == {}
    catalog.projects.save(7, title="Other")
    assert catalog.projects.get(7).reading == reading


def test_deleted_tasks_take_their_annotations_along(catalog: Catalog) -> None:
    """A task that is gone from Label Studio is neither open nor labelled."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    tile = catalog.pool.unasked(7)[0]
    catalog.work.save_tasks(7, [Task(1, tile.id, "u"), Task(2, tile.id, "u")])
    catalog.work.save_annotations(7, 1, [annotation(1)])
    assert [task.id for task in catalog.work.tasks(7, open_only=True)] == [2]
    catalog.work.mark_deleted([1])
    assert catalog.work.labelled(7) == []
    assert [task.id for task in catalog.work.tasks(7)] == [2]


def test_exactly_one_model_is_current(catalog: Catalog) -> None:
    """Promotion archives the predecessor, rejection leaves it, rollback brings it back."""
    first = catalog.models.add(7, parent=None, fingerprint="f1")
    catalog.models.settle(7, first.version, decision="promoted", numbers={"iou": 0.5})
    second = catalog.models.add(7, parent=first.version, fingerprint="f2")
    catalog.models.settle(7, second.version, decision="rejected", numbers={"iou": 0.4})
    assert catalog.models.current(7).version == "p7-v1"
    third = catalog.models.add(7, parent=first.version, fingerprint="f3")
    catalog.models.settle(7, third.version, decision="promoted", numbers={}, card={"k": 1})
    assert [model.status for model in catalog.models.all(7)] == ["archived", "rejected", "current"]
    catalog.models.settle(7, first.version, decision="rollback", numbers={})
    assert catalog.models.current(7).version == first.version
    assert [gate.decision for gate in catalog.models.gates(7)] == [
        "promoted",
        "rejected",
        "promoted",
        "rollback",
    ]


def test_a_killed_training_keeps_its_version(catalog: Catalog) -> None:
    """The same data give the unfinished candidate again, other data a new one."""
    first = catalog.models.add(7, parent=None, fingerprint="f1")
    assert catalog.models.add(7, parent=None, fingerprint="f1").version == first.version
    assert catalog.models.add(7, parent=None, fingerprint="f2").version != first.version


def test_scores_and_predictions_are_per_model(catalog: Catalog) -> None:
    """One row a tile and model; writing it again replaces it."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    tile = catalog.pool.unasked(7)[0]
    for value in (0.1, 0.2):
        catalog.rounds.save_scores("m1", "tta", {tile.id: {"entropy:mean": value}})
    assert catalog.rounds.scores(7, "m1", "tta") == {tile.id: {"entropy:mean": 0.2}}
    assert catalog.rounds.scores(7, "m2", "tta") == {}
    assert catalog.rounds.scored(7, "m1", "tta") == {tile.id}
    assert (
        catalog.rounds.scored(7, "m1", "single") == catalog.rounds.scored(8, "m1", "tta") == set()
    )
    row = {"a": 1.0, "b": 2.0, "c": 3.0}
    catalog.rounds.save_scores("m1", "tta", {tile.id: row})
    assert catalog.rounds.scores(7, "m1", "tta", {"a", "c", "z"}) == {tile.id: {"a": 1, "c": 3}}
    catalog.rounds.save_predictions([Prediction(tile.id, "m1", 0.7, b"x")])
    catalog.rounds.mark_shown("m1", [tile.id])
    assert catalog.rounds.predictions("m1", [tile.id])[tile.id].shown
    assert catalog.rounds.predicted("m2") == set()


def test_embeddings_are_kept_beside_the_scores(catalog: Catalog) -> None:
    """Half precision comes back as it was, by whoever looked; a later look replaces it."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    left, right = catalog.pool.unasked(7)
    first = np.linspace(-1, 1, 5).astype(np.float16)
    catalog.rounds.save_scores("m1", "tta", {left.id: {"a": 1.0}}, {left.id: first})
    catalog.rounds.save_embeddings("looks", {left.id: first, right.id: -first})
    catalog.rounds.save_embeddings("looks", {right.id: 2 * first})
    found = catalog.rounds.embeddings(7, "looks")
    assert {tile_id: vector.tolist() for tile_id, vector in found.items()} == {
        left.id: first.tolist(),
        right.id: (2 * first).tolist(),
    }
    assert found[left.id].dtype == np.float16
    assert list(catalog.rounds.embeddings(7, "m1")) == [left.id]
    assert catalog.rounds.embeddings(8, "looks") == {}


def test_one_picture_is_offered_once(catalog: Catalog) -> None:
    """Of the same content under several names the first is offered, none once it was asked."""
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        catalog.pool.add_image(7, replace(IMAGE, name=name), BOXES)
    catalog.pool.add_image(7, replace(IMAGE, name="d.png", sha256="1" * 64), BOXES)
    offered = catalog.pool.unasked(7)
    assert [tile.image.name for tile in offered] == ["a.png", "a.png", "d.png", "d.png"]
    second = next(t for t in catalog.pool.tiles(7) if t.image.name == "b.png")
    catalog.work.save_tasks(7, [Task(1, second.id, "u")])
    catalog.work.save_annotations(7, 1, [annotation(1)])
    assert [tile.id for tile in catalog.pool.asked(7)] == [second.id]
    offered = catalog.pool.unasked(7)
    assert [tile.image.name for tile in offered] == ["a.png", "d.png", "d.png"]
    catalog.pool.quarantine(second.image.id, "gone")
    assert len(catalog.pool.unasked(7)) == 4


def test_an_older_catalog_is_brought_up_to_date(url: str) -> None:
    """A project and what is known of it stay; new columns and indexes are there."""
    catalog = Catalog(url)
    before = catalog.projects.save(7, title="Cells", label_config="<View/>")
    catalog.projects.set_cursor(7, "2026-01-01T00:00:00.000000Z")
    image = catalog.pool.add_image(7, IMAGE, BOXES)
    with catalog.database.write() as connection:
        for column in (
            *("projects.compared", "predictions.key", "annotations.corrected"),
            *("images.stack", "images.frame", "images.original"),
        ):
            table, _, name = column.partition(".")
            connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {name}"))
        connection.execute(text("DROP INDEX tasks_tile"))
        connection.execute(text("UPDATE meta SET version = 2"))
    catalog.close()
    for _ in range(2):
        catalog = Catalog(url)
        assert catalog.projects.get(7) == replace(before, cursor="2026-01-01T00:00:00.000000Z")
        assert catalog.pool.images(7) == [image]  # the first picture of its file, as it was read
        catalog.projects.set_compared(7, 3)
        assert catalog.projects.get(7).compared == 3
        catalog.projects.set_compared(7, 0)
        found = inspect(catalog.database.engine).get_indexes("tasks")
        assert "tasks_tile" in {index["name"] for index in found}
        catalog.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A catalog from a newer release is not touched."""
    url = f"sqlite:///{tmp_path / 'c.sqlite3'}"
    catalog = Catalog(url)
    with catalog.database.write() as connection:
        connection.execute(text("UPDATE meta SET version = 999"))
    catalog.close()
    with pytest.raises(StoreError, match="schema 999"):
        Catalog(url)


@pytest.mark.parametrize("bad", ["nonsense", "mysql+pymysql://u:secret@h/d"])
def test_bad_addresses_are_refused_without_secrets(bad: str) -> None:
    """The message names the way out and never a password."""
    with pytest.raises(StoreError) as caught:
        Catalog(bad)
    assert "secret" not in str(caught.value)


def test_what_a_pull_asks_of_many_tasks(catalog: Catalog) -> None:
    """Ids, counts and moments come without the rows; deleted tasks and other projects do not."""
    catalog.projects.save(8, title="Other", label_config="<View/>")
    catalog.pool.add_image(7, IMAGE, BOXES)
    left, right = catalog.pool.tiles(7)
    record = Round(1, "random", 0, None, {}, 2, None, None, "chosen", ())
    assert not catalog.rounds.any(7)
    round_id = catalog.rounds.add(7, record).id
    assert catalog.rounds.any(7)
    assert not catalog.rounds.any(7, state="pushed")
    catalog.work.save_tasks(
        7,
        [
            Task(5, left.id, "u", round_id, updated_at="2026-01-01T00:00:05Z"),
            Task(2, right.id, "u", updated_at="2026-01-01T00:00:02Z"),
            Task(3, None, "u", updated_at="2026-01-01T00:00:03Z", reason="missing"),
            Task(4, left.id, "u", updated_at="2026-01-01T00:00:04Z"),
        ],
    )
    catalog.work.save_tasks(8, [Task(9, None, "u")])
    assert catalog.work.mark_deleted([4]) == 1
    assert catalog.work.task_ids(7) == [2, 3, 5]
    assert catalog.work.count(7) == 3
    assert catalog.work.moments([2, 3, 4, 6, 9]) == {
        2: "2026-01-01T00:00:02Z",
        3: "2026-01-01T00:00:03Z",
    }
    assert catalog.work.moments([]) == {}
    assert catalog.work.waiting(7) == 1
    catalog.work.save_annotations(7, 5, [annotation(1, task=5, cancelled=True)])
    assert catalog.work.waiting(7) == 0
    assert [task.id for task in catalog.work.unread(7, 10)] == [3]
    catalog.projects.set_cursor(7, None)
    assert catalog.work.moments([2, 3, 5]) == {}
    assert {task.id for task in catalog.work.unread(7, 10)} == {2, 3, 5}
    assert len(catalog.work.unread(7, 2)) == 2


def test_a_task_is_saved_with_its_annotations_or_not_at_all(catalog: Catalog) -> None:
    """Its stamp never says more than its annotations do."""
    task = Task(1, None, "u", updated_at="2026-01-01T00:00:01Z")
    broken = replace(annotation(2), created_at=None)
    with pytest.raises(StoreError):
        catalog.work.save_annotations(7, 1, [annotation(1), broken], task)
    assert catalog.work.task(1) is None
    assert catalog.work.save_annotations(7, 1, [annotation(1)], task) == (1, 0)
    assert catalog.work.task(1) == task


def test_whether_anything_may_still_be_chosen(catalog: Catalog) -> None:
    """As `unasked` says, without the tiles."""
    assert not catalog.pool.any_unasked(7)
    catalog.pool.add_image(7, IMAGE, BOXES)
    assert catalog.pool.any_unasked(7)
    left, right = catalog.pool.unasked(7)
    catalog.work.save_tasks(7, [Task(1, left.id, "u"), Task(2, right.id, "u")])
    assert catalog.pool.any_unasked(7)
    for task in (1, 2):
        catalog.work.save_annotations(7, task, [annotation(task, task=task)])
    assert not catalog.pool.any_unasked(7)


def test_images_wait_until_somebody_asks_for_them(catalog: Catalog) -> None:
    """An open task without tile and reason waits; what no round chose was there before."""
    catalog.pool.add_image(7, IMAGE, BOXES)
    tile = catalog.pool.unasked(7)[0]
    rows = [
        Task(1, tile.id, "u", updated_at="then"),
        Task(2, None, "v", updated_at="then"),
        Task(3, None, "w", updated_at="then", reason="gone"),
        Task(4, None, "x", updated_at="then"),
    ]
    catalog.work.save_tasks(7, rows)
    catalog.work.save_annotations(7, 4, [annotation(1, task=4)])
    assert catalog.work.unfetched(7) == [rows[1]]
    assert [task.id for task in catalog.work.unread(7, 9)] == [3]
    assert catalog.work.existing(7) == {1: tile.id, 2: None, 3: None, 4: None}
    record = Round(
        1, "random", 0, None, {}, 2, None, None, "chosen", (Chosen(tile.id, None, "audit"),)
    )
    catalog.work.assign_round(catalog.rounds.add(7, record).id, [1])
    catalog.work.mark_deleted([2])
    assert catalog.work.existing(7) == {3: None, 4: None}
    assert catalog.work.existing(7, deleted=True) == {2: None, 3: None, 4: None}
    assert catalog.work.waiting(7) == 1


def test_what_trainings_learned(catalog: Catalog) -> None:
    """Fingerprints of all that ended, masks of the last; candidates have learned nothing yet."""
    assert catalog.models.learned(7) == (set(), set())
    for number, fingerprint in enumerate("abc"):
        model = catalog.models.add(7, parent=None, fingerprint=fingerprint)
        if fingerprint != "c":
            card = {"masks": [f"1:{number}", f"2:{number}"]}
            catalog.models.settle(7, model.version, decision="rejected", numbers={}, card=card)
    assert catalog.models.learned(7) == ({"a", "b"}, {"1:1", "2:1"})
