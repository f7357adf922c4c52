"""Progress: seldom written, never in the way."""

import pytest
import redis

from ml_backend.errors import JobError
from ml_backend.jobs.queues import last_line
from ml_backend.jobs.run import Progress, execute


class MemoryJob:
    """A job that keeps what is saved; it can be made to fail like a Redis that is away."""

    def __init__(self) -> None:
        self.meta: dict[str, object] = {}
        self.saved: list[dict[str, object]] = []
        self.away = False

    def save_meta(self) -> None:
        """Keep a copy of the meta, or fail."""
        if self.away:
            raise redis.ConnectionError
        self.saved.append(dict(self.meta))


def test_progress_is_written_at_most_twice_a_second():
    """1000 reports in 2 s: the first, one each half second, and the last."""
    job, now = MemoryJob(), 0.0
    progress = Progress(job, clock=lambda: now)
    for done in range(1001):
        now = done * 0.002
        progress(done, 1000, "tiles")
    assert [entry["done"] for entry in job.saved] == [0, 250, 500, 750, 1000]
    assert job.saved[-1]["text"] == "tiles"


def test_a_lost_report_does_not_stop_the_work():
    """Redis being away during a report is not an error; the next report is written at once."""
    job = MemoryJob()
    progress = Progress(job, clock=lambda: 0.0)
    job.away = True
    progress(1, 9, "a")
    job.away = False
    progress(2, 9, "b")
    assert [entry["done"] for entry in job.saved] == [2]


def test_work_needs_a_worker():
    """The job function called outside a worker says where it belongs."""
    with pytest.raises(JobError, match=r"Jobs\.request"):
        execute(None, 1, lambda _: None)


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "no reason given"), ("a\n b \n\n", "b"), ("x" * 600, "x" * 500)],
)
def test_one_line_of_a_traceback(text, line):
    """The last line that says anything, cut to a readable length."""
    assert last_line(text) == line
