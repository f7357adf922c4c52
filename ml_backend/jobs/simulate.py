"""Parts of a simulation as jobs of a Redis of its own, whose home is the simulation's folder.

A job is the word `simulate` and a part's number; everything else stands in the folder's plan.
"""

import importlib
import sys
from pathlib import Path

from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.run import Progress, Report, execute
from ml_backend.jobs.worker import run_worker
from ml_backend.settings import Settings, load_settings

STEP = "simulate"
FUNCTION = "ml_backend.jobs.simulate.run_numbered"
HOME = ".work"
"""The folder within the simulation's where Redis and logs live."""

_PRELOAD = (
    "ml_backend.loop.simulate.run",
    "ml_backend.learning.passes",
    "ml_backend.learning.training",
)


def jobs_of(settings: Settings) -> Jobs:
    """The queue of a simulation. `settings.home` is its `HOME`."""
    return Jobs(settings, patient=True, function=FUNCTION)


def run_numbered(step: str, number: int) -> str:  # noqa: ARG001
    """The job function: do what is missing of the part of this number."""
    from ml_backend.loop.simulate.plan import parts_of
    from ml_backend.loop.simulate.records import Records
    from ml_backend.loop.simulate.run import open_bench, run_part

    settings = load_settings()

    def work(progress: Progress) -> Report:
        bench = open_bench(Records(Path(settings.home).parent), settings)
        parts = [part for stage in parts_of(bench.plan) for part in stage]
        return run_part(bench, parts[number], progress)

    return execute(jobs_of(settings), number, work)


def main() -> None:
    """Run one worker of a simulation until it is told to stop."""
    settings = load_settings()
    if sys.platform != "darwin":  # what is imported before the fork is there in every job
        for module in _PRELOAD:
            importlib.import_module(module)
    run_worker(settings, preload=(), function=FUNCTION)


if __name__ == "__main__":
    main()
