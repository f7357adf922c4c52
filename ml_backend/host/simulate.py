"""A simulation on this machine: in this process, or by workers over a Redis of its own."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_backend.errors import JobError
from ml_backend.host.allocator import ALLOCATOR
from ml_backend.host.processes import Child, Processes, one_instance
from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.redis_server import EmbeddedRedis
from ml_backend.jobs.simulate import HOME, STEP, jobs_of
from ml_backend.loop.context import Progress
from ml_backend.loop.simulate.fit import check, fetch_encoder
from ml_backend.loop.simulate.material import read_material
from ml_backend.loop.simulate.plan import Part, Plan, all_units, parts_of, settle, units_of
from ml_backend.loop.simulate.records import Records
from ml_backend.loop.simulate.report import Written, write_report
from ml_backend.loop.simulate.run import THREADS, Bench, run_part
from ml_backend.settings import Settings

MOST_JOBS = 8
_POLL = 0.5  # seconds

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Count:
    """How far all trainings are, whoever does them."""

    plan: Plan
    records: Records
    progress: Progress

    def tell(self, text: str) -> None:
        units = all_units(self.plan)
        self.progress(self.records.count(units), len(units), text)


def simulate(
    plan: Plan,
    out: Path,
    settings: Settings,
    *,
    batch: int | None = None,
    jobs: int | None = None,
    progress: Progress,
    say: Say,
) -> Written:
    """Play a plan and write its report; a folder that was begun is carried on.

    `batch` None is what suits the pool; `jobs`: processes, by default one a core up to 8. Raises
    as `check`, `fetch_encoder`, `read_material`, `settle` and `Records.begin` do, and `JobError`
    when a part fails.
    """
    with one_instance(out / HOME):
        check(plan)
        encoder = fetch_encoder(plan.recipe.network)
        material = read_material(plan.source, plan.recipe, progress)
        plan = settle(plan, len(material.tiles), batch=batch)
        records = Records(out)
        records.begin(plan, material, encoder)
        count = _Count(plan, records, progress)
        count.tell("looking at what is done")
        for line in material.summary.lines():
            say(line)
        stages = [_missing(plan, records, stage) for stage in parts_of(plan)]
        workers = min(jobs or min(MOST_JOBS, _cores()), max(map(len, stages)))
        if workers > 1:
            _by_workers(stages, workers, _settings_of(settings, out), count, say)
        else:
            _here(stages, Bench(plan, material, records, settings), count)
        count.tell("drawing")
        return write_report(plan, material, records)


def _missing(plan: Plan, records: Records, stage: Sequence[Part]) -> list[Part]:
    return [part for part in stage if not all(map(records.has, units_of(plan, part)))]


def _here(stages: Sequence[Sequence[Part]], bench: Bench, count: _Count) -> None:
    for stage in stages:
        for part in stage:
            run_part(bench, part, lambda _done, _total, text: count.tell(text))


def _settings_of(settings: Settings, out: Path) -> Settings:
    """The same process settings over the simulation's own home and Redis."""
    home = (out / HOME).absolute()
    return settings.model_copy(update={"home": home, "redis_url": None})


def _by_workers(
    stages: Sequence[Sequence[Part]], workers: int, settings: Settings, count: _Count, say: Say
) -> None:
    """Have workers do the parts, one stage after the other."""
    redis = EmbeddedRedis(settings.home)
    numbers = {
        part: number
        for number, part in enumerate(part for stage in parts_of(count.plan) for part in stage)
    }
    with Processes(settings.home, say=say) as processes:
        try:
            redis.start()
            for number in range(workers):
                processes.start(_worker(number, settings))
            jobs = jobs_of(settings)
            for stage in stages:
                asked = [jobs.request(STEP, numbers[part]) for part in stage]
                _wait(asked, jobs, processes, redis, count)
        finally:
            processes.stop()
            redis.stop(adopted=True)


def _wait(
    asked: Sequence[str], jobs: Jobs, processes: Processes, redis: EmbeddedRedis, count: _Count
) -> None:
    """Wait until all jobs have ended, telling what they do. Raises `JobError` if one fails."""
    waiting = set(asked)
    while waiting:
        texts = []
        for job_id in sorted(waiting):
            view = jobs.fetch(job_id)
            if view.state == "failed" and view.not_before is None:
                raise JobError(f"a part of the simulation failed: {view.error}")
            if view.state == "finished":
                waiting.remove(job_id)
            elif view.state == "running":
                texts.append(view.text)
        count.tell(" · ".join(texts) or "waiting for a worker")
        processes.tend()
        if not redis.alive():
            redis.start()
        time.sleep(_POLL)


def _worker(number: int, settings: Settings) -> Child:
    """A worker of this simulation; it takes everything else from the environment."""
    environment: dict[str, str | None] = {
        **ALLOCATOR,
        "BRUSHLOOP_HOME": str(settings.home),
        "BRUSHLOOP_REDIS_URL": None,
        "BRUSHLOOP_DEVICE": settings.device,
        "BRUSHLOOP_THREADS": str(settings.threads or THREADS),
        "OMP_NUM_THREADS": str(settings.threads or THREADS),
    }
    command = (sys.executable, "-m", "ml_backend.jobs.simulate")
    return Child(f"worker-{number + 1}", command, environment)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
