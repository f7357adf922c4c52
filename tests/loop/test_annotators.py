"""Several people's annotations of one tile: which count, as the recipe says."""

import numpy as np
import pytest
from PIL import Image as Picture
from support.house import SIDE

from ml_backend.loop.annotators import counting, labelled, names_of, waiting
from ml_backend.loop.context import silent
from ml_backend.loop.dataset import dataset_of
from ml_backend.loop.export import export
from ml_backend.loop.masks import load_mask


def rows(first, last):
    """A mask whose rows from `first` up to `last` are labelled."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[first:last] = 1
    return mask


A, B, C = rows(0, 8), rows(4, 12), rows(4, 8)


@pytest.fixture
def task(house):
    """Give a task of a pushed batch, its tile being the first one labelled."""
    house.fill(8)
    house.step("select")
    return min(house.studio.tasks)


def masks(house, policy=None):
    """The masks that count, as arrays."""
    return [
        load_mask(house.context.blobs, item.mask, house.labels.names)
        for item in labelled(house.context, house.project_id, policy)
    ]


def equal(found, expected):
    """Whether two lists of masks are the same."""
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def test_each_policy_takes_its_annotations(house, task):
    """Latest: the last. All: each. Consensus: what at least two of those who know agree about."""
    made = [
        house.answer(task, mask, author=person) for person, mask in enumerate((A, B, C), start=1)
    ]
    house.step("sync")
    assert equal(masks(house), [C])
    assert equal(masks(house, "all"), [A, B, C])
    merged = np.where(C == 1, 1, 0)
    assert equal(masks(house, "consensus"), [merged])
    everyone = labelled(house.context, house.project_id, "all")
    assert [item.annotation_id for item in everyone] == made
    assert [item.author for item in everyone] == [1, 2, 3]
    assert {item.task_id for item in everyone} == {task}
    (item,) = labelled(house.context, house.project_id, "consensus")
    assert (item.author, item.annotation_id, item.task_id) == (None, None, task)


def test_an_annotation_counts_as_changed_when_it_was_changed(house, task):
    """An edit makes the older annotation the latest."""
    first = house.answer(task, A)
    house.answer(task, B, author=2)
    house.step("sync")
    assert equal(masks(house), [B])
    house.studio.edit_annotation(first, house.regions(C))
    house.step("sync")
    assert equal(masks(house), [C])
    assert equal(masks(house, "all"), [B, C])


def test_without_a_majority_pixels_are_unknown(house, task):
    """Two people who disagree leave unknown what they disagree about."""
    house.answer(task, A)
    house.answer(task, B, author=2)
    house.step("sync")
    assert equal(masks(house, "consensus"), [np.where(A == B, A, 255)])


def test_a_consensus_waits_for_enough_people(house, task):
    """One person twice is one voice, the later one; two are needed, or as many as one says."""
    house.recipe({"loop.annotators": "consensus"})
    house.answer(task, B)
    house.answer(task, A)
    house.step("sync")
    assert masks(house) == []
    assert waiting(house.context, house.project_id) == 1
    assert dataset_of(house.context, house.project_id).masks == ()
    house.recipe({"loop.consensus_minimum": 1})
    assert equal(masks(house), [A])
    house.recipe({"loop.consensus_minimum": 2})
    house.answer(task, A, author=2)
    house.step("sync")
    assert equal(masks(house), [A])
    assert waiting(house.context, house.project_id) == 0


@pytest.mark.parametrize("policy", ["latest", "all", "consensus"])
def test_ground_truth_counts_alone(house, task, policy):
    """The star decides against later annotations, until another has it, or none."""
    first, second, _ = (
        house.answer(task, mask, author=person) for person, mask in enumerate((A, B, C), start=1)
    )
    house.step("sync")
    before = masks(house, policy)
    house.studio.set_ground_truth(first)
    house.step("sync")
    assert equal(masks(house, policy), [A])
    house.studio.set_ground_truth(second)  # the first loses its star without being changed
    house.step("sync")
    assert equal(masks(house, policy), [B])
    house.studio.set_ground_truth(second, value=False)
    house.step("sync")
    after = [C, A, B] if policy == "all" else [B] if policy == "latest" else before
    assert equal(masks(house, policy), after)


def test_skipped_annotations_have_no_voice(house, task):
    """Not even with something drawn, until the skip is taken back; empty ones have one."""
    skipped = house.answer(task, A, was_cancelled=True)
    house.studio.create_annotation(task, [], author=2)
    house.step("sync")
    empty = rows(0, 0)
    assert equal(masks(house), [empty])
    assert equal(masks(house, "all"), [empty])
    assert equal(masks(house, "consensus"), [])
    house.studio.take_back_skip(skipped)
    house.step("sync")
    assert equal(masks(house), [A])
    assert equal(masks(house, "consensus"), [np.where(A, 255, 0)])


def test_unusable_ground_truth_does_not_silence_the_others(house, task):
    """A star on what cannot be read is listed, and the others count."""
    (region,) = house.regions(A)
    starred = house.studio.create_annotation(task, [region | {"original_width": 7}])
    house.answer(task, B, author=2)
    house.studio.set_ground_truth(starred)
    house.step("sync")
    assert equal(masks(house, "all"), [B])


def test_a_merged_mask_is_made_once(house, task, monkeypatch):
    """Asking again costs no vote; a full pull makes it anew, in case its file was lost."""
    house.recipe({"loop.annotators": "consensus"})
    house.answer(task, A)
    house.answer(task, B, author=2)
    house.step("sync")
    (item,) = labelled(house.context, house.project_id)
    with monkeypatch.context() as patch:
        patch.setattr("ml_backend.loop.annotators.vote", None)
        assert labelled(house.context, house.project_id) == [item]
    house.context.blobs.delete(item.mask)
    house.catalog.projects.set_cursor(house.project_id, None)  # `brushloop sync --all`
    house.step("sync")
    assert labelled(house.context, house.project_id) == [item]
    assert equal(masks(house), [np.where(A == B, A, 255)])


def test_every_annotation_of_all_is_a_sample(house, task):
    """The data set holds a tile as often as it was annotated, and counts it once."""
    house.recipe({"loop.annotators": "all"})
    for person, mask in enumerate((A, B, C), start=1):
        house.answer(task, mask, author=person)
    house.step("sync")
    dataset = dataset_of(house.context, house.project_id)
    assert len(dataset.train + dataset.val) == len(dataset.masks) == 3
    assert dataset.annotated == 1
    house.recipe({"loop.annotators": "latest"})
    other = dataset_of(house.context, house.project_id)
    assert len(other.masks) == 1
    assert other.fingerprint != dataset.fingerprint


def test_an_export_takes_the_policy(house, task):
    """Its own when it is given, else the recipe's."""
    house.answer(task, A)
    house.answer(task, B, author=2)
    house.step("sync")
    name = house.catalog.pool.tile(house.catalog.work.task(task).tile_id).image.name
    for policy, expected in ((None, B), ("consensus", np.where(A == B, A, 255))):
        folder = house.folder / str(policy)
        options = {"formats": ["png"], "source": "people", "annotators": policy}
        export(house.context, house.project_id, folder, progress=silent, **options)
        with Picture.open(folder / "png" / name) as written:
            assert np.array_equal(written, expected)


@pytest.mark.parametrize("policy", ["latest", "all", "consensus"])
def test_masks_that_count_are_named_without_their_tiles(house, task, policy):
    """The same masks in the same order: of several people, of starred and of unusable images."""
    house.recipe({"loop.annotators": policy})
    others = sorted(house.studio.tasks)[1:]
    made = [house.answer(n, m, author=a) for n in (task, *others) for a, m in ((1, A), (2, B))]
    house.studio.create_annotation(others[0], [], was_cancelled=True)
    house.step("sync")
    house.studio.set_ground_truth(made[0])
    house.step("sync")
    expected = names_of(labelled(house.context, house.project_id))
    assert counting(house.context, house.project_id) == expected
    assert len(expected) == (7 if policy == "all" else 4)
    image = house.catalog.pool.tile(house.catalog.work.task(others[1]).tile_id).image
    house.catalog.pool.quarantine(image.id, "broken")
    expected = names_of(labelled(house.context, house.project_id))
    assert counting(house.context, house.project_id) == expected
    assert len(expected) == (5 if policy == "all" else 3)
