"""The clock: each project is polled at its own pace, and nothing piles up."""

import os
import signal
import threading

import pytest
from jobs_waiting import until

from ml_backend.errors import JobError, StoreError
from ml_backend.jobs import schedule
from ml_backend.jobs.schedule import Schedule, run_schedule
from ml_backend.settings import Settings

pytestmark = pytest.mark.integration


def queued(jobs) -> set[str]:
    """The pairs that wait."""
    return set(jobs.slots.queued())


def drain(jobs) -> None:
    """Forget what waits."""
    jobs.connection.delete("brushloop:queued", "rq:queue:brushloop")


def shift(clock: Schedule, seconds: int) -> None:
    """Let time pass for the clock."""
    from datetime import timedelta

    for poll in clock.get_jobs():
        poll.set_enqueue_time(poll.latest_enqueue_time - timedelta(seconds=seconds))


def test_projects_are_polled_at_their_pace(jobs):
    """At start all; later those that are due; new projects and new intervals are noticed."""
    projects = [(1, 5), (2, 60)]
    clock = Schedule(jobs, lambda: projects)
    clock.enqueue_jobs()
    assert queued(jobs) == {"sync-1", "sync-2"}
    drain(jobs)
    clock.enqueue_jobs()
    assert queued(jobs) == set()
    shift(clock, 301)
    clock.enqueue_jobs()
    assert queued(jobs) == {"sync-1"}
    projects.append((3, 5))
    clock.enqueue_jobs()
    assert queued(jobs) == {"sync-1", "sync-3"}
    assert 0 < clock.calculate_sleep_interval() <= 60


def test_polls_do_not_pile_up(jobs):
    """Ten polls without a worker leave one job."""
    clock = Schedule(jobs, lambda: [(1, 1)])
    for _ in range(10):
        clock.enqueue_jobs()
        shift(clock, 61)
    assert jobs.counts() == {"queued": 1, "running": 0}


def test_a_catalog_that_is_away_keeps_the_known_projects(jobs, caplog):
    """When the projects cannot be read, the ones known so far are polled on."""
    answers = iter([[(1, 1)]])

    def projects():
        try:
            return next(answers)
        except StopIteration:
            raise StoreError("the database is locked") from None

    clock = Schedule(jobs, projects)
    clock.enqueue_jobs()
    drain(jobs)
    shift(clock, 61)
    clock.enqueue_jobs()
    assert queued(jobs) == {"sync-1"}
    assert "the database is locked" in caplog.text


def test_the_command_runs_until_it_is_told_to_stop(jobs, settings):
    """`run_schedule` polls and ends quietly at SIGTERM."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def stop() -> None:
        until(lambda: queued(jobs))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        run_schedule(settings, lambda: [(1, 5)])
    finally:
        thread.join()
        signal.signal(signal.SIGINT, handlers[0])
        signal.signal(signal.SIGTERM, handlers[1])
    assert queued(jobs) == {"sync-1"}


def test_no_redis_is_a_job_error(tmp_path):
    """Without Redis the schedule says so instead of waiting for ever."""
    with pytest.raises(JobError, match="does not answer"):
        schedule.run_schedule(Settings(home=tmp_path), list)
