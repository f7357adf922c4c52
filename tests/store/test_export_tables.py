"""What an export asks of the catalog, over SQLite and PostgreSQL."""

from dataclasses import replace

import pytest

from ml_backend.store.catalog import Catalog
from ml_backend.store.rows import Task

from .test_catalog import BOXES, IMAGE, annotation, catalog, url  # noqa: F401  (fixtures)

NAMES = ["Z.png", "a/1.png", "a/10.png", "a/2.png", "a.png", "É.png", "é.png", "日.png", "😀.png"]


@pytest.fixture
def named(catalog: Catalog) -> Catalog:  # noqa: F811
    """A catalog with images of these names, and one that is quarantined."""
    for name in NAMES[::-1]:
        catalog.pool.add_image(7, replace(IMAGE, name=name), BOXES)
    broken = replace(IMAGE, name="b.png", status="quarantined", reason="broken")
    catalog.pool.add_image(7, broken, [])
    return catalog


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_pages_are_in_the_order_of_code_points(named: Catalog, limit: int) -> None:
    """Whatever the database's own order of letters is; every ready image once."""
    found: list[str] = []
    while page := named.exports.page(7, found[-1] if found else "", limit):
        assert len(page) <= limit
        found += [image.name for image in page]
    assert found == sorted(NAMES)
    assert named.exports.count(7) == len(NAMES)
    assert named.exports.page(8, "", limit) == []


def test_the_last_change_of_an_image_s_annotations(named: Catalog) -> None:
    """Edits by the annotation's clock, deletions by the task's; nothing where there was none."""
    images = {image.name: image for image in named.pool.images(7)}
    first, second, third = (images[name] for name in NAMES[:3])
    tiles = {image.id: named.pool.tiles_of(image.id) for image in (first, second, third)}
    stamp = "2026-01-01T00:00:{}Z".format
    named.work.save_tasks(
        7,
        [
            Task(1, tiles[first.id][0].id, "u", updated_at=stamp("50")),
            Task(2, tiles[first.id][1].id, "u", updated_at=stamp("51")),
            Task(3, tiles[second.id][0].id, "u", updated_at=stamp("52")),
            Task(4, tiles[third.id][0].id, "u", updated_at=stamp("53")),
            Task(5, tiles[third.id][0].id, "u", updated_at=stamp("53"), deleted=True),
        ],
    )
    named.work.save_annotations(7, 1, [annotation(10)])
    named.work.save_annotations(7, 2, [annotation(11, 2), annotation(12, 2, cancelled=True)])
    named.work.save_annotations(7, 3, [annotation(13, 3)])
    named.work.save_annotations(7, 3, [])
    ids = [image.id for image in images.values()]
    assert named.exports.changes(7, ids) == {first.id: stamp("12"), second.id: stamp("52")}
    assert named.exports.changes(7, [second.id]) == {second.id: stamp("52")}
    assert named.exports.showing(7, ids) == {first.id: [1, 2], second.id: [3], third.id: [4]}
    answers = named.work.answers(7, [first.id])
    assert [[row.annotation_id for row in rows] for rows in answers] == [[10], [11]]
    assert named.work.answers(7, []) == []


def test_states_are_those_of_the_last_export(named: Catalog) -> None:
    """Saved again they are replaced, others stay, and a reopened catalog has them."""
    ids = [image.id for image in named.pool.images(7)]
    named.exports.save(7, dict.fromkeys(ids[:3], "one"))
    named.exports.save(7, {ids[1]: "two"})
    named.exports.save(7, {})
    assert named.exports.states(ids) == {ids[0]: "one", ids[1]: "two", ids[2]: "one"}
    assert named.exports.states([]) == {}
