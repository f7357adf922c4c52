"""Requests for steps and what became of them.

A request never piles up: for a step of a project at most one job waits and at most one
runs (`slots.py`). Jobs carry names and ids only, as JSON; nothing secret enters Redis.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend.errors import JobError
from ml_backend.jobs.connection import connect, reported
from ml_backend.jobs.slots import Claim, Order, Slots, new_id, split_pair
from ml_backend.settings import Settings

RUN_STEP = "ml_backend.jobs.run.run_step"

# A worker serves the queues in this order: short steps do not wait behind a training that has
# not begun. `brushloop-train` apart also lets a machine with a GPU serve only that one.
QUEUES = ("brushloop", "brushloop-train")
QUEUE_OF = {"train": "brushloop-train", "pretrain": "brushloop-train"}

# Seconds. RQ's default of 180 would kill a training. The steps that compute get no limit:
# they end by themselves and show their progress. The ones that wait for Label Studio get one,
# so that a connection that hangs cannot stop the loop for good.
NO_LIMIT = -1
TIMEOUT_OF = {"sync": 2 * 3600, "select": 2 * 3600}

RESULT_SECONDS = 24 * 3600
FAILURE_SECONDS = 7 * 24 * 3600

# Seconds before the next attempt where trying again may help.
BACKOFF = (10, 30, 90, 300, 900)

LONGEST_ERROR = 500

State = Literal["queued", "running", "finished", "failed"]


@dataclass(frozen=True)
class JobView:
    """What there is to know of a job.

    `done` of `total` units are finished (both 0 before the first report), `text` says which;
    of a finished job `text` is its result. `error` is one line. `not_before` is set while a
    job waits for another attempt.
    """

    id: str
    step: str
    project_id: int
    state: State
    done: int = 0
    total: int = 0
    text: str = ""
    error: str | None = None
    attempt: int = 0
    requested_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    not_before: float | None = None


class Jobs:
    """The queues of one Redis. Every method raises `JobError` when Redis does not answer."""

    def __init__(
        self,
        settings: Settings,
        *,
        patient: bool = False,
        connection: Redis | None = None,
        function: str = RUN_STEP,
    ) -> None:
        self.settings = settings
        self.function = function
        self.connection = connection or connect(settings, patient=patient)
        self.slots = Slots(self.connection)

    def ping(self) -> None:
        """Raise `JobError` unless Redis answers."""
        with reported(self.settings):
            self.connection.ping()

    def request(self, step: str, project_id: int) -> str:
        """Ask for a step of a project; return the id of the job that will do it.

        While one waits, its id is returned and nothing is added. While one runs, exactly one
        more is queued, however many requests arrive.
        """
        if not re.fullmatch(r"[a-z][a-z_]*", step):
            raise JobError(f"{step!r} cannot be the name of a step")
        with reported(self.settings):
            job_id = self.slots.request(
                self._order(step, project_id, {}),
            )
        if job_id is None:  # only a request that replaces a claim can come to nothing
            raise JobError(f"Redis did not take the request for {step} of project {project_id}")
        return job_id

    def try_again(self, job: Job, attempts: int = len(BACKOFF)) -> str | None:
        """Queue the pair of a failed job for later; None when its `attempts` are used up."""
        attempt = int(job.meta.get("attempt", 0))
        if attempt >= min(attempts, len(BACKOFF)):
            return None
        step, project_id = job.args
        with reported(self.settings):
            return self.slots.request(
                self._order(step, project_id, {"attempt": attempt + 1}),
                not_before=time.time() + BACKOFF[attempt],
                moved_from=job.id,
            )

    def replace(self, pair: str, claim: Claim, meta: Mapping[str, object]) -> str | None:
        """Queue a job in front for one whose worker is gone; None if somebody else has."""
        with reported(self.settings):
            return self.slots.request(
                self._order(*split_pair(pair), meta),
                front=True,
                instead_of=claim,
                moved_from=claim.job_id,
            )

    def fetch(self, job_id: str) -> JobView:
        """What became of a job, or of the one that took its place after a failure."""
        with reported(self.settings):
            current = self.slots.moved(job_id)
            job = self._job(current)
            if job is None:
                raise JobError(
                    f"no job {job_id}: finished jobs are forgotten after "
                    f"{RESULT_SECONDS // 3600} h, failed ones after {FAILURE_SECONDS // 86400} days"
                )
            running = {claim.job_id for claim in self.slots.running().values()}
            return _view(job, running, self.slots.later())

    def overview(self, project_id: int) -> list[JobView]:
        """The project's jobs: the running, the waiting, and of each step the last that ended."""
        with reported(self.settings):
            running = self.slots.running()
            ids = {
                **{claim.job_id: pair for pair, claim in running.items()},
                **{job_id: pair for pair, job_id in self.slots.queued().items()},
                **{job_id: pair for pair, job_id in self.slots.last().items()},
            }
            mine = [job_id for job_id, pair in ids.items() if split_pair(pair)[1] == project_id]
            later = self.slots.later()
            busy = {claim.job_id for claim in running.values()}
            jobs = [job for job_id in mine if (job := self._job(job_id)) is not None]
            return [_view(job, busy, later) for job in jobs]

    def counts(self) -> dict[State, int]:
        """How many jobs wait and run, over all projects."""
        with reported(self.settings):
            return {"queued": len(self.slots.queued()), "running": len(self.slots.running())}

    def workers(self) -> int:
        """How many workers are registered; one that was killed counts until its heartbeat ends."""
        from rq import Worker

        with reported(self.settings):
            return sum(
                bool(self.connection.exists(key)) for key in Worker.all_keys(self.connection)
            )

    def schedules(self) -> int:
        """How many schedules run; one that was killed counts until its heartbeat ends."""
        from rq.cron import CronScheduler

        with reported(self.settings):
            return len(CronScheduler.all(self.connection))

    def _job(self, job_id: str) -> Job | None:
        try:
            return Job.fetch(job_id, connection=self.connection, serializer=JSONSerializer)
        except NoSuchJobError:
            return None

    def _order(self, step: str, project_id: int, meta: Mapping[str, object]) -> Order:
        queue = Queue(
            QUEUE_OF.get(step, QUEUES[0]), connection=self.connection, serializer=JSONSerializer
        )
        job = Job.create(
            self.function,
            args=(step, project_id),
            id=new_id(step, project_id),
            connection=self.connection,
            serializer=JSONSerializer,
            origin=queue.name,
            status=JobStatus.QUEUED,
            timeout=TIMEOUT_OF.get(step, NO_LIMIT),
            result_ttl=RESULT_SECONDS,
            failure_ttl=FAILURE_SECONDS,
            description=f"{step} of project {project_id}",
            meta=dict(meta),
        )
        job.enqueued_at = job.created_at
        fields = {key: value for key, value in job.to_dict().items() if value is not None}
        return Order(job.id, queue.key, job.key, fields)


def last_line(traceback: str) -> str:
    """The line of a traceback that says what went wrong."""
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    return lines[-1][:LONGEST_ERROR] if lines else "no reason given"


def _view(job: Job, running: set[str], later: Mapping[str, float]) -> JobView:
    step, project_id = job.args
    status = job.get_status(refresh=False)
    state: State
    if job.id in running:
        state = "running"
    elif status == JobStatus.QUEUED:
        state = "queued"
    else:
        state = "finished" if status == JobStatus.FINISHED else "failed"
    error, text = None, str(job.meta.get("text", ""))
    if state in ("finished", "failed"):
        result = job.latest_result()
        if state == "failed":
            error = job.meta.get("error") or last_line((result and result.exc_string) or "")
        elif result and result.return_value:
            text = str(result.return_value)
    return JobView(
        id=job.id,
        step=step,
        project_id=project_id,
        state=state,
        done=int(job.meta.get("done", 0)),
        total=int(job.meta.get("total", 0)),
        text=text,
        error=error,
        attempt=int(job.meta.get("attempt", 0)),
        requested_at=job.enqueued_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        not_before=later.get(job.id),
    )
