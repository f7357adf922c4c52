"""The clock: each project is polled at its own pace, and nothing piles up."""

import os
import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest
from job_functions import FUNCTION
from jobs_waiting import until

from ml_backend.errors import JobError, StoreError
from ml_backend.jobs import schedule
from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.schedule import Schedule, request_batches, run_schedule
from ml_backend.recipe import Loop
from ml_backend.settings import Settings

pytestmark = pytest.mark.integration


def queued(jobs) -> set[str]:
    """The pairs that wait."""
    return set(jobs.slots.queued())


def every(minutes: int) -> Loop:
    """A recipe's word on the clock: nothing but polls."""
    return Loop(poll_minutes=minutes)


def drain(jobs) -> None:
    """Forget what waits."""
    jobs.connection.delete("brushloop:queued", "rq:queue:brushloop")


def shift(clock: Schedule, seconds: int) -> None:
    """Let time pass for the clock."""
    for poll in clock.get_jobs():
        poll.set_enqueue_time(poll.latest_enqueue_time - timedelta(seconds=seconds))


def test_projects_are_polled_at_their_pace(jobs):
    """At start all; later those that are due; new projects and new intervals are noticed."""
    projects = [(1, every(5)), (2, every(60))]
    clock = Schedule(jobs, lambda: projects)
    clock.enqueue_jobs()
    assert queued(jobs) == {"sync-1", "sync-2"}
    drain(jobs)
    clock.enqueue_jobs()
    assert queued(jobs) == set()
    shift(clock, 301)
    clock.enqueue_jobs()
    assert queued(jobs) == {"sync-1"}
    projects.append((3, every(5)))
    clock.enqueue_jobs()
    assert queued(jobs) == {"sync-1", "sync-3"}
    assert 0 < clock.calculate_sleep_interval() <= 60


def test_polls_do_not_pile_up(jobs):
    """Ten polls without a worker leave one job."""
    clock = Schedule(jobs, lambda: [(1, every(1))])
    for _ in range(10):
        clock.enqueue_jobs()
        shift(clock, 61)
    assert jobs.counts() == {"queued": 1, "running": 0}


def test_a_catalog_that_is_away_keeps_the_known_projects(jobs, caplog):
    """When the projects cannot be read, the ones known so far are polled on."""
    answers = iter([[(1, every(1))]])

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
        run_schedule(settings, lambda: [(1, every(5))])
    finally:
        thread.join()
        signal.signal(signal.SIGINT, handlers[0])
        signal.signal(signal.SIGTERM, handlers[1])
    assert queued(jobs) == {"sync-1"}


def test_no_redis_is_a_job_error(tmp_path):
    """Without Redis the schedule says so instead of waiting for ever."""
    with pytest.raises(JobError, match="does not answer"):
        schedule.run_schedule(Settings(home=tmp_path), list)


NIGHTLY = Loop(select_at="02:00")
EVENING = datetime(2026, 3, 2, 20, tzinfo=UTC)


def at(hours: float) -> datetime:
    """So many hours after the evening on which the clock was looked at first."""
    return EVENING + timedelta(hours=hours)


def asked(jobs, loop: Loop, hours: float) -> bool:
    """Whether a schedule asks for a batch at this moment; the worker takes what it asked."""
    projects = request_batches(jobs, [(1, loop)], at(hours))
    assert ("select-1" in queued(jobs)) == bool(projects)
    drain(jobs)
    return bool(projects)


def test_a_batch_is_asked_for_at_its_hour_once(jobs):
    """Not when the schedule begins, once when the hour has come, again the next night."""
    asks = [hours for hours in range(60) if asked(jobs, NIGHTLY, hours)]
    assert asks == [6, 30, 54]
    assert not asked(jobs, NIGHTLY, 54.5)


def test_a_schedule_that_was_down_catches_up_once(jobs):
    """Three nights without a schedule are one batch in the morning."""
    assert not asked(jobs, NIGHTLY, 0)
    assert asked(jobs, NIGHTLY, 3 * 24 + 12)
    assert not asked(jobs, NIGHTLY, 3 * 24 + 13)
    assert asked(jobs, NIGHTLY, 4 * 24 + 6)


def test_an_hour_that_is_changed_begins_with_its_next_occurrence(jobs):
    """Neither a new hour, another zone nor one that is switched on again asks for the past."""
    assert not asked(jobs, NIGHTLY, 0)
    assert not asked(jobs, Loop(select_at="19:00"), 23.5)
    assert not asked(jobs, Loop(select_at="19:00", timezone="Europe/Berlin"), 23.6)
    assert not asked(jobs, Loop(), 30)
    assert not asked(jobs, NIGHTLY, 31)
    assert asked(jobs, NIGHTLY, 54)


def test_what_comes_due_in_quiet_waits_for_its_end(jobs):
    """From 01:30 to 06:00 nothing is asked; what was due at 02:00 is asked at six, once."""
    loop = Loop(select_at="02:00", quiet="01:30-06:00")
    asks = [half / 2 for half in range(60) if asked(jobs, loop, half / 2)]
    assert asks == [10]


def test_two_schedules_ask_once(any_settings):
    """Each occurrence is asked for once, whichever of them looks first, however often both do."""
    jobs = [Jobs(any_settings, function=FUNCTION) for _ in range(2)]
    asks = 0
    for minute in range(0, 12 * 60, 20):
        for one in jobs:
            asks += len(request_batches(one, [(1, NIGHTLY)], at(minute / 60)))
            drain(one)
    assert asks == 1


def test_a_schedule_beside_another_that_is_looking_leaves_it_alone(jobs):
    """While one holds the lock the other asks for nothing, and finds nothing left to ask later."""
    assert not asked(jobs, NIGHTLY, 0)
    with jobs.connection.lock(schedule.LOCK, timeout=60):
        assert not asked(jobs, NIGHTLY, 7)
    assert asked(jobs, NIGHTLY, 7)


def test_a_request_that_was_not_noted_is_repeated(jobs, monkeypatch):
    """A schedule killed between asking and noting asks again; one job waits all the same."""
    assert not asked(jobs, NIGHTLY, 0)
    with monkeypatch.context() as patch:
        patch.setattr(jobs.connection, "hset", lambda *_note: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            request_batches(jobs, [(1, NIGHTLY)], at(7))
    assert queued(jobs) == {"select-1"}
    assert request_batches(jobs, [(1, NIGHTLY)], at(7)) == [1]
    assert jobs.counts()["queued"] == 1


def test_the_schedule_moves_by_its_clock(jobs):
    """Polls and hours are looked at together, with the clock that the schedule was given."""
    moments = iter([at(0), at(1), at(6)])
    clock = Schedule(jobs, lambda: [(1, NIGHTLY)], lambda: next(moments))
    for expected in ({"sync-1"}, set(), {"select-1"}):
        clock.enqueue_jobs()
        assert queued(jobs) == expected
        drain(jobs)


def test_status_knows_whether_a_schedule_runs(jobs):
    """It is counted from its birth to its death."""
    clock = Schedule(jobs, list)
    assert jobs.schedules() == 0
    clock.register_birth()
    assert jobs.schedules() == 1
    clock.register_death()
    assert jobs.schedules() == 0
