"""The worker: takes one job after the other and does each in a process of its own.

Linux forks that process, on purpose: the parent imports torch once, so a job starts in
milliseconds where a spawned interpreter imports for seconds. This is safe as long as the
parent only imports (no CUDA context, no thread pool before the fork; a test counts the
threads). macOS spawns, as its system libraries do not survive a fork.

The parent keeps the heartbeat while the child computes, however long. A worker that is told
to stop kills the child at once and hands its job back: every step carries on where it was.
"""

import importlib
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from types import FrameType
from typing import Any

from redis import Redis
from rq import Queue
from rq.exceptions import DequeueTimeout, NoSuchJobError, StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from ml_backend.errors import BrushloopError, JobError
from ml_backend.jobs.connection import connect, reported
from ml_backend.jobs.queues import QUEUES, RUN_STEP, Jobs, last_line
from ml_backend.jobs.recovery import process_mark, recover
from ml_backend.jobs.slots import Claim, Slots
from ml_backend.masks import rle
from ml_backend.settings import Settings, start_logging

log = logging.getLogger(__name__)

# What every job needs and what takes long to import.
PRELOAD = (
    "ml_backend.loop.steps",
    "ml_backend.learning.training",
    "ml_backend.learning.inference",
    "ml_backend.learning.networks",
)
# Seconds between two looks into the queues. Looking is one script of Redis; blocking pops
# cannot claim a job of several queues in one step, and a worker killed between would lose it.
POLL = 0.2
# Seconds after which a worker without a heartbeat counts as dead on other hosts, less 60.
WORKER_TTL = 60
MAINTENANCE_SECONDS = 60
# Attempts at a job whose process was killed, most often for want of memory.
KILLED_ATTEMPTS = 2

if sys.platform == "darwin":
    from rq import SpawnWorker as _Worker
else:
    from rq import Worker as _Worker


class StepQueue(Queue):
    """A queue whose jobs are taken through the slots: claimed in the same breath."""

    taker: str = ""

    @classmethod
    def dequeue_any(
        cls,
        queues: Iterable[Queue],
        timeout: int | None,
        connection: Redis,
        job_class: type[Job] | None = None,
        serializer: Any = None,
        death_penalty_class: Any = None,  # noqa: ARG003
    ) -> tuple[Job, Queue] | None:
        """The first job that may run; None without `timeout`, else `DequeueTimeout` after it."""
        by_key = {queue.key: queue for queue in queues}
        taker = next(queue.taker for queue in by_key.values() if isinstance(queue, StepQueue))
        slots, deadline = Slots(connection), time.monotonic() + (timeout or 0)
        while True:
            taken = slots.take(list(by_key), taker)
            if taken is not None:
                queue_key, job_id = taken
                try:
                    job = (job_class or Job).fetch(job_id, connection, serializer)
                except NoSuchJobError:
                    slots.release(Claim(job_id, taker))
                    continue
                return job, by_key[queue_key]
            if timeout is None:
                return None
            if time.monotonic() >= deadline:
                raise DequeueTimeout(timeout, list(by_key))
            time.sleep(POLL)


class StepWorker(_Worker):
    """RQ's worker over claimed jobs: recovers, hands back, and logs one line a job."""

    queue_class = StepQueue
    max_connection_wait_time = 5.0
    jobs: Jobs
    stopping = False

    @cached_property
    def slots(self) -> Slots:
        """The slots over this process' connection."""
        return Slots(self.connection)

    def run_maintenance_tasks(self) -> None:
        """Recover the jobs of dead workers, at start and every minute, before RQ tidies up."""
        for job_id in recover(self.jobs, self.name):
            log.warning("%s: its worker was killed; it runs again", job_id)
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Do the job in a child process and give up the claim when it has ended."""
        started = time.monotonic()
        super().execute_job(job, queue)
        self.slots.release(Claim(job.id, self.name))
        self._log_end(job, time.monotonic() - started)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """In the child: begin only under a valid claim, and never outlive the parent."""
        try:
            begun = self.slots.begin(Claim(job.id, self.name), process_mark(os.getpid()))
            if not begun or os.getppid() != self.pid:
                os._exit(0)
            threading.Thread(target=_end_with_parent, args=[self.pid], daemon=True).start()
        except Exception:
            log.exception("%s cannot begin", job.id)
            os._exit(1)
        super().main_work_horse(job, queue)

    def handle_work_horse_killed(
        self, job: Job, retpid: int | None, ret_val: int | None, rusage: Any
    ) -> None:
        """The child was killed while the parent lives: try again a few times."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call]
        self.jobs.try_again(job, KILLED_ATTEMPTS)

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Only what was not raised on purpose is worth a traceback in the log."""
        if not isinstance(exc_info[1], BrushloopError):
            log.error("%s raised what nobody foresaw", job.id, exc_info=exc_info[1])

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """SIGTERM, SIGINT: stop now. The job is handed back and carries on elsewhere or later."""
        if os.getpid() != self.pid:  # the child, in the instant before it has handlers of its own
            os._exit(1)
        self.stopping = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self.get_state() != WorkerStatus.BUSY:
            raise StopRequested
        self._kill_child()
        raise SystemExit

    def _kill_child(self) -> None:
        """Kill the child with all it started; its group is its own as soon as it has made one."""
        pid = self.horse_pid
        if pid:
            with suppress(ProcessLookupError):
                kill = os.killpg if os.getpgid(pid) == pid else os.kill
                kill(pid, signal.SIGKILL)
            self.wait_for_horse()

    def _log_end(self, job: Job, seconds: float) -> None:
        step, project_id = job.args
        with suppress(NoSuchJobError):
            job.refresh()  # type: ignore[no-untyped-call]
        if job.is_finished:
            log.info("%s of project %d: done in %.1f s", step, project_id, seconds)
            return
        result = job.latest_result()
        reason = job.meta.get("error") or last_line((result and result.exc_string) or "")
        log.error("%s of project %d: failed after %.1f s: %s", step, project_id, seconds, reason)


def get_ready(settings: Settings, preload: Sequence[str] = PRELOAD) -> None:
    """Import what jobs need and load the codec's machine code, before the first job is forked."""
    for module in preload:
        importlib.import_module(module)
    rle.warm_up(settings.machine_code)


def run_worker(
    settings: Settings,
    *,
    burst: bool = False,
    queues: Sequence[str] = QUEUES,
    preload: Sequence[str] = PRELOAD,
    function: str = RUN_STEP,
) -> None:
    """Work until SIGTERM or SIGINT; with `burst` until no job may be taken any more.

    `queues`: the most urgent first; a machine for trainings serves only `brushloop-train`.
    Raises `JobError` when Redis does not answer at the start or stays away for long.
    """
    start_logging(settings)
    Jobs(settings).ping()
    if unknown := set(queues) - set(QUEUES):
        raise JobError(f"no queue {', '.join(sorted(unknown))}; choose of: {', '.join(QUEUES)}")
    if preload and sys.platform != "darwin":
        get_ready(settings, preload)
    connection = connect(settings, patient=True)
    with reported(settings):
        worker = _make_worker(settings, connection, queues, function)
        try:
            with suppress(SystemExit):
                worker.work(burst=burst, logging_level="WARNING")
        finally:
            recover(worker.jobs, worker.name)
    if not (burst or worker.stopping):
        raise JobError("the worker ended by itself: its log says why; start it again")


def _make_worker(
    settings: Settings, connection: Redis, names: Sequence[str], function: str
) -> StepWorker:
    name = f"{process_mark(os.getpid())}:{uuid.uuid4().hex[:8]}"
    queues = [StepQueue(item, connection=connection, serializer=JSONSerializer) for item in names]
    for queue in queues:
        queue.taker = name
    worker = StepWorker(
        queues,
        name=name,
        connection=connection,
        serializer=JSONSerializer,
        worker_ttl=WORKER_TTL,
        maintenance_interval=MAINTENANCE_SECONDS,
        log_job_description=False,
    )
    worker.jobs = Jobs(settings, connection=connection, function=function)
    return worker


def _end_with_parent(parent: int | None) -> None:
    """End this process group when the worker that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(os.getpgrp(), signal.SIGKILL)
