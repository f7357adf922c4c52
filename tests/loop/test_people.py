"""What people do in a real Label Studio, and which masks come of it under each policy."""

import itertools

import numpy as np
import pytest
from support.house import SIDE, open_house, save_picture
from support.people import Person

from ml_backend.loop.annotators import labelled
from ml_backend.loop.masks import load_mask
from ml_backend.loop.unused import asides, unused
from ml_backend.masks.labels import make_label_config
from ml_backend.studio.client import Studio

pytestmark = pytest.mark.studio

_numbers = itertools.count(1)
LABELS = ("cell", "nucleus")


def rows(first, last, value=1):
    """A mask whose rows from `first` up to `last` are labelled."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[first:last] = value
    return mask


A, B, C, EMPTY = rows(0, 8), rows(4, 12), rows(4, 8), rows(0, 0)


@pytest.fixture(scope="module")
def anna(label_studio):
    """The owner."""
    person = Person(label_studio.url, label_studio.email, label_studio.password)
    yield person
    person.close()


@pytest.fixture(scope="module")
def ben(label_studio, anna):
    """A second person in the organisation."""
    person = Person.invited(anna, label_studio.url)
    yield person
    person.close()


@pytest.fixture
def house(tmp_path, label_studio):
    """Give a house whose project and three tasks are in the real Label Studio."""
    house = open_house(tmp_path, LABELS)
    with Studio(label_studio.url, label_studio.personal_token) as studio:
        house.context.__dict__["studio"] = house.studio = studio
        title, config = f"people {next(_numbers)}", make_label_config(LABELS)
        recipe = house.project.recipe
        house.project_id = studio.create_project(title, config).id
        house.catalog.projects.save(
            house.project_id, title=title, label_config=config, recipe=recipe
        )
        files = []
        for number in range(3):
            save_picture(house.images / f"{number}.png", number)
            files.append((f"{number}.png", (house.images / f"{number}.png").read_bytes()))
        urls = studio.upload_images(house.project_id, files)
        house.tasks = studio.import_tasks(
            house.project_id, [{"data": {"image": url}} for url in urls]
        )
        yield house
    house.catalog.close()


def masks(house, task, policy="latest"):
    """What counts for a task."""
    tile_id = house.catalog.work.task(task).tile_id
    return [
        load_mask(house.context.blobs, item.mask, house.labels.names)
        for item in labelled(house.context, house.project_id, policy)
        if item.tile.id == tile_id
    ]


def equal(found, *expected):
    """Whether masks are what they should be."""
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def test_skipped_empty_and_drafts(house, anna, ben):
    """A skip says nothing, an empty annotation says "nothing here", a draft is not yet said."""
    skipped, empty, drafted = house.tasks
    anna.skip(skipped)
    late = anna.skip(skipped, house.regions(A))
    anna.submit(empty, [])
    anna.draw(drafted, house.regions(A))
    report = house.step("sync")
    assert (report.numbers["fresh"], report.numbers["unusable"]) == (3, 0)
    assert masks(house, skipped) == []
    assert equal(masks(house, empty), EMPTY)
    assert masks(house, drafted) == []
    open_tasks = house.catalog.work.tasks(house.project_id, open_only=True)
    assert [task.id for task in open_tasks] == [drafted]
    anna.change(late, was_cancelled=False)
    made = ben.submit(drafted, house.regions(B))
    house.step("sync")
    assert equal(masks(house, skipped), A)
    assert equal(masks(house, drafted, "all"), B)
    ben.draw(drafted, house.regions(C), made)  # changed his mind, but did not press Update
    anna.skip(drafted)
    house.step("sync")
    assert equal(masks(house, drafted, "all"), B)


def test_several_annotations_of_one_and_of_two(house, anna, ben):
    """Policies over what two people really submitted, one of them twice."""
    task, alone, _ = house.tasks
    made = [
        anna.submit(task, house.regions(C)),
        ben.submit(task, house.regions(B)),
        anna.submit(task, house.regions(A)),
    ]
    anna.submit(alone, house.regions(B))
    anna.submit(alone, house.regions(A))
    house.step("sync")
    assert equal(masks(house, task), A)
    assert equal(masks(house, task, "all"), C, B, A)
    assert equal(masks(house, task, "consensus"), np.where(A == B, A, 255))
    assert masks(house, alone, "consensus") == []
    found = labelled(house.context, house.project_id, "all")[:3]
    assert [item.annotation_id for item in found] == made
    assert [item.author for item in found] == [anna.id, ben.id, anna.id]
    assert anna.id != ben.id
    ben.change(made[1], result=house.regions(A))
    house.step("sync")
    assert equal(masks(house, task, "all"), C, A, A)
    assert equal(masks(house, task, "consensus"), A)


def test_ground_truth(house, anna, ben):
    """The star counts alone; Label Studio takes it from the first without touching that one."""
    task = house.tasks[0]
    first = anna.submit(task, house.regions(A))
    second = ben.submit(task, house.regions(B))
    anna.submit(task, house.regions(C))
    house.step("sync")
    for starred, mask in ((first, A), (second, B)):
        anna.change(starred, ground_truth=True)
        house.step("sync")
        for policy in ("latest", "all", "consensus"):
            assert equal(masks(house, task, policy), mask)
    anna.change(second, ground_truth=False)
    house.step("sync")
    assert len(masks(house, task, "all")) == 3


def test_labels_and_controls_that_change(house, anna):
    """Label Studio lets labels go that annotations have, but no controls; we notice and say it."""
    task, other, _ = house.tasks
    both = A + rows(8, 12, 2)
    made = anna.submit(task, house.regions(both))
    house.step("sync")
    path = f"/api/projects/{house.project_id}"
    anna.ask("PATCH", path, {"label_config": make_label_config(["cell", "core"])})
    summary = house.step("sync").summary
    assert "labels that came: core; labels that went or were renamed: nucleus" in summary
    assert equal(masks(house, task), A + rows(8, 12, 255))
    (item,) = unused(house.context, house.project_id)
    assert item.what == f"annotation {made}"
    assert item.links[0].endswith(f"/projects/{house.project_id}/data?task={task}")
    more = (
        '<PolygonLabels name="poly" toName="image"><Label value="cell"/></PolygonLabels>'
        '<Choices name="q" toName="image"><Choice value="good"/></Choices></View>'
    )
    config = make_label_config(LABELS).replace("</View>", more)
    anna.ask("PATCH", path, {"label_config": config})
    points = [[0, 0], [100, 0], [100, 50], [0, 50]]
    size = {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
    polygon = {"points": points, "closed": True, "polygonlabels": ["cell"]}
    results = [
        {"id": "a", "type": "polygonlabels", "from_name": "poly", "to_name": "image"}
        | {"value": polygon}
        | size,
        {"id": "b", "type": "choices", "from_name": "q", "to_name": "image"}
        | {"value": {"choices": ["good"]}},
    ]
    anna.submit(other, results)
    assert "controls that came: poly" in house.step("sync").summary
    assert equal(masks(house, task), both)
    assert equal(masks(house, other), rows(0, SIDE // 2))
    assert unused(house.context, house.project_id) == []
    assert asides(house.context, house.project_id).endswith(": choices")
    with pytest.raises(AssertionError, match="incompatible"):
        anna.ask("PATCH", path, {"label_config": make_label_config(LABELS)})
