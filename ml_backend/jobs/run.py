"""What a job does: one step of one project, with its progress written down."""

import time
from collections.abc import Callable
from typing import Protocol

import redis
from rq import get_current_job
from rq.job import Job

from ml_backend.errors import JobError, StudioUnreachable
from ml_backend.jobs.queues import LONGEST_ERROR, Jobs
from ml_backend.settings import load_settings

# Seconds between two writes of the progress.
EVERY = 0.5
# Failures that pass by themselves: the step is tried again later.
PASSING = (StudioUnreachable,)


class Report(Protocol):
    """What a step returns: its summary is kept as the job's result."""

    @property
    def summary(self) -> str:
        """One line for people."""
        ...

    @property
    def follow(self) -> tuple[str, ...]:
        """The steps to request next."""
        ...


class Progress:
    """`progress(done, total, text)` → the job's `meta`, at most every half second.

    The first and the last report (`done == total`) are always written. Redis being away
    loses a report, never the work.
    """

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = job
        self._clock = clock
        self._written: float | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        """Report that `done` of `total` units are finished; `text` says what they are."""
        now = self._clock()
        if self._written is not None and now - self._written < EVERY and done < total:
            return
        self._written = now
        self.note(done=done, total=total, text=text, at=time.time())

    def note(self, **facts: object) -> None:
        """Write `facts` (JSON) into the job's `meta`."""
        self._job.meta.update(facts)
        try:
            self._job.save_meta()  # type: ignore[no-untyped-call]
        except redis.RedisError:
            self._written = None  # the next report is written at once


def run_step(step: str, project_id: int) -> str:
    """The job function: run `step` for the project and request the steps that follow."""
    from ml_backend.loop.context import open_context
    from ml_backend.loop.steps import STEPS
    from ml_backend.masks import rle

    settings = load_settings()
    rle.warm_up(settings.machine_code)  # a forked process has it from its parent

    def work(progress: Progress) -> Report:
        with open_context(settings) as context:
            return STEPS[step](context, project_id, progress)

    return execute(Jobs(settings, patient=True), project_id, work)


def execute(jobs: Jobs, project_id: int, work: Callable[[Progress], Report]) -> str:
    """Do `work` as the current job: progress, the error's line, another attempt, what follows.

    A step that is killed after its work and before this function's end runs once more, so a
    step decides what follows from what there is, not from what it has just done.
    """
    job = get_current_job()
    if job is None:
        raise JobError("a job's work runs only in a worker: ask for it with Jobs.request")
    progress = Progress(job)
    try:
        report = work(progress)
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        progress.note(error=line[:LONGEST_ERROR])
        if isinstance(error, PASSING):
            jobs.try_again(job)
        raise
    for step in report.follow:
        jobs.request(step, project_id)
    return report.summary
