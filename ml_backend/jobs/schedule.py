"""What happens by the clock: each project is synchronised now and then.

Events from Label Studio get lost; the poll finds what they left behind.
"""

import logging
from collections.abc import Callable, Iterable

from rq.cron import CronJob, CronScheduler
from rq.job import Job

from ml_backend.errors import BrushloopError
from ml_backend.jobs.connection import reported
from ml_backend.jobs.queues import QUEUES, Jobs
from ml_backend.settings import Settings, start_logging

log = logging.getLogger(__name__)

# Projects and how many minutes lie between two polls of each (recipe: loop.poll_minutes).
Projects = Callable[[], Iterable[tuple[int, int]]]


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

    def __init__(self, jobs: Jobs, projects: Projects) -> None:
        super().__init__(connection=jobs.connection, logging_level=logging.WARNING)
        self._jobs = jobs
        self._projects = projects
        self._polls: dict[tuple[int, int], Poll] = {}

    def enqueue_jobs(self) -> list[CronJob]:
        """Look at the projects again, then request what is due."""
        try:
            wanted = list(self._projects())
        except BrushloopError as error:
            log.error("the projects cannot be read, the known ones are polled: %s", error)  # noqa: TRY400
        else:
            self._polls = {key: self._polls.get(key) or Poll(self._jobs, *key) for key in wanted}
        self._cron_jobs = list(self._polls.values())
        return super().enqueue_jobs()


def run_schedule(settings: Settings, projects: Projects) -> None:
    """Poll until SIGTERM or SIGINT. Raises `JobError` when Redis stays away for long."""
    start_logging(settings)
    Jobs(settings).ping()
    with reported(settings):
        Schedule(Jobs(settings, patient=True), projects).start()  # type: ignore[no-untyped-call]
