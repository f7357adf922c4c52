"""What happens by the clock: each project is synchronised now and then, and asked for a batch.

Events from Label Studio get lost; the poll finds what they left behind, and whether a training or
a batch is due. A batch at a certain hour (recipe: `loop.select_at`) is requested here. Redis holds

    brushloop:hours   project → since when its hours have been looked at, and which they are
"""

import json
import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from redis.exceptions import LockNotOwnedError
from rq.cron import CronJob, CronScheduler
from rq.job import Job

from ml_backend.errors import BrushloopError
from ml_backend.hours import next_time, quiet_until, utc_clock
from ml_backend.jobs.connection import reported
from ml_backend.jobs.queues import QUEUES, Jobs
from ml_backend.recipe import Loop
from ml_backend.settings import Settings, start_logging

log = logging.getLogger(__name__)

HOURS = "brushloop:hours"
LOCK = "brushloop:hours-lock"
LOCK_SECONDS = 60

# Projects and what their recipes say about the clock.
Projects = Callable[[], Iterable[tuple[int, Loop]]]
Clock = Callable[[], datetime]


class Poll(CronJob):
    """RQ's clock for one project.

    It requests instead of enqueuing, so nothing piles up behind a long training, and two
    schedulers do no more than one.
    """

    def __init__(self, jobs: Jobs, project_id: int, minutes: int) -> None:
        super().__init__(
            QUEUES[0],
            func_name="sync",
            args=(project_id,),
            interval=minutes * 60,
            name=f"sync-{project_id}",
        )
        self._jobs = jobs

    def enqueue(self, connection: object) -> Job | None:  # type: ignore[override]  # noqa: ARG002
        """Request `sync`; RQ's scheduler does not use the answer."""
        self._jobs.request("sync", *self.args)
        return None


class Schedule(CronScheduler):
    """RQ's scheduler over the projects there are; a new one is found within a minute."""

    def __init__(self, jobs: Jobs, projects: Projects, now: Clock = utc_clock) -> None:
        super().__init__(connection=jobs.connection, logging_level=logging.WARNING)
        self._jobs = jobs
        self._projects = projects
        self._now = now
        self._known: list[tuple[int, Loop]] = []
        self._polls: dict[tuple[int, int], Poll] = {}

    def enqueue_jobs(self) -> list[CronJob]:
        """Look at the projects again, then request what is due."""
        try:
            self._known = list(self._projects())
        except BrushloopError as error:
            log.error("the projects cannot be read, the known ones are polled: %s", error)  # noqa: TRY400
        keys = [(project_id, loop.poll_minutes) for project_id, loop in self._known]
        self._polls = {key: self._polls.get(key) or Poll(self._jobs, *key) for key in keys}
        self._cron_jobs = list(self._polls.values())
        request_batches(self._jobs, self._known, self._now())
        return super().enqueue_jobs()


def request_batches(jobs: Jobs, projects: Iterable[tuple[int, Loop]], now: datetime) -> list[int]:
    """Request `select` where `loop.select_at` has come since this was asked last; which projects.

    However often an hour came meanwhile, it is requested once. The first look at a project, and
    the first after its hour was changed, only notes the moment. What comes due in a quiet period
    waits for its end. Of several schedulers one looks at a time; the request is made before it is
    noted, so a crash repeats it at worst, and `select` pushes nothing while tasks are open.
    """
    lock = jobs.connection.lock(LOCK, timeout=LOCK_SECONDS, blocking=False)
    if not lock.acquire():
        return []
    try:
        return [project for project, loop in projects if _request_batch(jobs, project, loop, now)]
    finally:
        try:
            lock.release()
        except LockNotOwnedError:  # this process slept for a minute, and another took over
            log.warning("looking at the hours took more than %s s", LOCK_SECONDS)


def _request_batch(jobs: Jobs, project_id: int, loop: Loop, now: datetime) -> bool:
    if loop.select_at is None:
        jobs.connection.hdel(HOURS, str(project_id))
        return False
    rule = [loop.select_at, loop.timezone]
    since = _noted(jobs, project_id, rule)
    if since is not None:
        if next_time(loop.select_at, loop.timezone, since) > now:
            return False
        if quiet_until(loop.quiet, loop.timezone, now) is not None:
            return False
        jobs.request("select", project_id)
    note = json.dumps({"rule": rule, "since": now.isoformat()})
    jobs.connection.hset(HOURS, str(project_id), note)
    return since is not None


def _noted(jobs: Jobs, project_id: int, rule: list[str]) -> datetime | None:
    """Since when this rule has been looked at; None if another was, or none."""
    raw = jobs.connection.hget(HOURS, str(project_id))
    if not isinstance(raw, bytes):
        return None
    note = json.loads(raw)
    return datetime.fromisoformat(note["since"]) if note["rule"] == rule else None


def run_schedule(settings: Settings, projects: Projects) -> None:
    """Poll until SIGTERM or SIGINT. Raises `JobError` when Redis stays away for long."""
    start_logging(settings)
    Jobs(settings).ping()
    with reported(settings):
        Schedule(Jobs(settings, patient=True), projects).start()  # type: ignore[no-untyped-call]
