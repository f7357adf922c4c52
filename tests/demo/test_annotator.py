"""The scripted annotator against a fake Label Studio."""

import numpy as np
import pytest

from ml_backend.demo.annotator import Annotator, shown_prediction
from ml_backend.errors import DataError
from ml_backend.masks.labels import parse_label_config
from ml_backend.masks.regions import decode_results, encode_results

from .fakes import LABELS, FakeStudio

CONFIG = parse_label_config(LABELS)
TRUTH = np.zeros((20, 30), np.uint8)
TRUTH[2:12, 3:23] = 1
TRUTH[12:18, 5:10] = 2


def near(missing):
    """Give the truth without `missing` pixels of its 230."""
    mask = TRUTH.copy()
    mask.flat[np.flatnonzero(TRUTH)[:missing]] = 0
    return encode_results(mask, CONFIG)


def annotator(studio, truth=TRUTH):
    """Give an annotator whose clock moves 1.5 s at each look."""
    times = iter(np.arange(0, 100, 1.5))
    return Annotator(studio, 1, lambda _: truth, clock=lambda: float(next(times)))


def decoded(result):
    """Decode what was submitted."""
    return decode_results(result, CONFIG, *TRUTH.shape).label_map


def test_a_good_prediction_is_submitted_unchanged():
    """Dice of at least 0.95 is accepted: the very same regions, and which prediction they were."""
    studio, good = FakeStudio("m1"), near(10)
    studio.push({}, ("m1", good))
    work = annotator(studio)
    (task,) = work.open_tasks()
    done = work.annotate(task)
    assert (done.task_id, done.accepted) == (1, True)
    assert done.dice == pytest.approx(2 * 220 / 450)
    assert studio.submitted == {1: (good, 10, 1.5)}
    assert work.open_tasks() == []


def test_labels_that_overlap_are_submitted_whole():
    """The truth is a set map: its regions overlap, and so does what a prediction is judged by."""
    xml = LABELS.replace("toName", 'choice="multiple" toName')
    config = parse_label_config(xml)
    truth = np.where(TRUTH > 0, 2, 0).astype(np.uint8)
    truth[4:8, 5:15] |= 4
    studio = FakeStudio("m1", xml)
    studio.push({}, ("m1", encode_results(np.where(truth > 0, 2, 0).astype(np.uint8), config)))
    work = annotator(studio, truth)
    done = work.annotate(work.open_tasks()[0])
    assert done.dice == pytest.approx(2 * 230 / (230 + 230 + 40))
    result, _, _ = studio.submitted[1]
    np.testing.assert_array_equal(decode_results(result, config, *truth.shape).label_map, truth)


def test_a_bad_prediction_is_corrected():
    """A worse one is replaced by the truth, pixel by pixel, and still named as the start."""
    studio = FakeStudio("m1")
    studio.push({}, ("m1", near(60)))
    work = annotator(studio)
    done = work.annotate(work.open_tasks()[0])
    assert not done.accepted
    assert done.dice == pytest.approx(2 * 170 / 400)
    result, parent, _ = studio.submitted[1]
    assert parent == 10
    assert np.array_equal(decoded(result), TRUTH)


def test_confused_labels_are_not_accepted():
    """Dice is pooled over the labels: the right shape under the wrong label is wrong."""
    studio = FakeStudio()
    studio.push({}, ("m1", encode_results(np.where(TRUTH > 0, 3 - TRUTH, 0), CONFIG)))
    work = annotator(studio)
    assert work.annotate(work.open_tasks()[0]).dice == 0


def test_without_a_prediction_the_truth_is_drawn():
    """In the first round there is nothing to compare with."""
    studio = FakeStudio()
    studio.push({})
    work = annotator(studio)
    done = work.annotate(work.open_tasks()[0])
    assert (done.accepted, done.dice) == (False, None)
    result, parent, _ = studio.submitted[1]
    assert parent is None
    assert np.array_equal(decoded(result), TRUTH)


def test_nothing_to_see_is_agreed_upon():
    """An empty prediction of an empty tile is accepted, a missing one answered with nothing."""
    studio, empty = FakeStudio(), np.zeros_like(TRUTH)
    studio.push({}, ("m1", []))
    studio.push({})
    work = annotator(studio, empty)
    assert [work.annotate(task).dice for task in work.open_tasks()] == [1.0, None]
    assert [result for result, *_ in studio.submitted.values()] == [[], []]


def test_the_shown_prediction():
    """The project's version is shown, and of several the newest; else the newest of all."""
    rows = [
        {"id": 4, "model_version": "m1"},
        {"id": 7, "model_version": "m2"},
        {"id": 5, "model_version": "m1"},
    ]
    assert shown_prediction(rows, "m1")["id"] == 5
    assert shown_prediction(rows, "m3")["id"] == 7
    assert shown_prediction(rows, "")["id"] == 7
    assert shown_prediction([], "m1") is None


def test_open_tasks_come_in_order():
    """Tasks with an annotation are done; the others come by id, whatever changed last."""
    studio = FakeStudio()
    for _ in range(4):
        studio.push({})
    work = annotator(studio)
    work.annotate(work.open_tasks()[1])
    assert [task.id for task in work.open_tasks()] == [1, 3, 4]


def test_no_truth_is_said():
    """A task whose truth is not known stays open, and the message names its image."""
    studio = FakeStudio()
    studio.push({"name": "stray.png"})
    work = annotator(studio, None)
    with pytest.raises(DataError, match=r"stray\.png"):
        work.annotate(work.open_tasks()[0])
    assert studio.submitted == {}
