"""What the terminal says of the jobs while `brushloop up` runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.house import open_house

from ml_backend.host.progress_log import AnnotationLogger, ProgressLogger, failed_since
from ml_backend.jobs.queues import JobView

BEGAN = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
SOON = BEGAN + timedelta(seconds=5)
TRAIN = JobView("train-1-a", "train", 1, "running", 3, 40, "p1-v1: epoch 3 of 40")
DONE = JobView("select-1-b", "select", 1, "finished", text="round 1: 6 tasks pushed", ended_at=SOON)
FAILED = JobView("predict-1-c", "predict", 1, "failed", error="no answer", ended_at=SOON)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self):
        """The time."""
        return self.now


@pytest.fixture
def lines():
    """What was said."""
    return []


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def logger(lines, clock):
    """A logger with a line each 20 seconds at most."""
    return ProgressLogger(lines.append, every=20, began=BEGAN, help_line="ask", clock=clock)


def test_progress_is_said_now_and_then(logger, lines, clock):
    """The first progress at once, a later one when 20 seconds have passed and it has changed."""
    assert logger.log([TRAIN])
    for seconds in range(1, 20):
        clock.now = seconds
        assert not logger.log([replace(TRAIN, text=f"epoch {seconds}")])
    clock.now = 21
    assert not logger.log([TRAIN])
    assert logger.log([replace(TRAIN, text="epoch 30")])
    assert lines == ["  p1-v1: epoch 3 of 40", "  epoch 30"]


def test_a_job_that_has_nothing_to_count_is_not_said(logger, lines):
    """A poll that finds nothing says nothing while it runs, and nothing when it has ended."""
    poll = JobView("sync-1-a", "sync", 1, "running", text="0 of 0 tasks")
    logger.log([poll])
    logger.log([replace(poll, state="finished", text="0 new", ended_at=SOON)])
    assert lines == []


def test_an_end_is_said_once_and_at_once(logger, lines):
    """What came of a job stands there as soon as it has ended, beside the progress of others."""
    for _ in range(3):
        logger.log([TRAIN, DONE])
    later = replace(DONE, id="select-1-d", text="round 2: 6 tasks pushed")
    logger.log([TRAIN, later])
    assert lines == ["round 1: 6 tasks pushed", "  p1-v1: epoch 3 of 40", "round 2: 6 tasks pushed"]


def test_what_ended_before_is_another_starts(logger, lines):
    """Ends and failures that an earlier start has told are not told again."""
    before = BEGAN - timedelta(seconds=1)
    logger.log([replace(DONE, ended_at=before), replace(FAILED, ended_at=before)])
    assert lines == []


def test_a_failure_says_what_to_do(logger, lines):
    """A failure comes with the way out; one that is tried again says so instead."""
    logger.log([FAILED])
    again = JobView("predict-1-e", "predict", 1, "queued")
    logger.log([replace(FAILED, id="predict-1-d"), again])
    assert lines == [
        "predict failed: no answer; ask",
        "predict failed: no answer; it is tried again by itself",
    ]


def test_a_failure_for_good():
    """A job failed for good when it is not tried again, and only in this start."""
    assert failed_since(BEGAN, [FAILED, TRAIN]) == [FAILED]
    assert failed_since(SOON + timedelta(seconds=1), [FAILED]) == []
    again = JobView("predict-1-e", "predict", 1, "queued", attempt=1)
    assert failed_since(BEGAN, [FAILED, again]) == []


def test_annotations_are_counted_after_a_sync(tmp_path, lines):
    """What people submitted is said when it has arrived, with what it leads to; else nothing is."""
    house = open_house(tmp_path)
    house.fill(8)
    house.step("select")
    logger = AnnotationLogger(house.context, house.project_id, lines.append)
    sync = JobView("sync-1-a", "sync", 1, "finished", text="0 new annotations")
    logger.log([sync])
    house.answer_open()
    logger.log([sync])
    assert lines == []
    house.step("sync")
    logger.log([replace(sync, id="sync-1-b")])
    logger.log([replace(sync, id="sync-1-b")])
    (line,) = lines
    assert line.startswith("4 tiles annotated; training: due, 4 new annotations")
    house.catalog.close()
