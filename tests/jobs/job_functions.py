"""Steps for the workers of these tests: what they do stands in files of the home folder."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ml_backend.errors import ConfigError, StudioUnreachable
from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.run import Progress, execute
from ml_backend.jobs.worker import run_worker
from ml_backend.settings import load_settings

FUNCTION = "job_functions.run_step"


@dataclass(frozen=True)
class Report:
    """What a step did and what follows."""

    summary: str
    follow: tuple[str, ...] = ()


def note(home: Path, line: str) -> None:
    """Append a line to the home's journal, in one write."""
    with (home / "journal").open("a") as file:
        file.write(f"{line}\n")


def wait_for(path: Path) -> None:
    """Return when `path` exists."""
    while not path.exists():
        time.sleep(0.02)


def _work(home: Path, step: str, project_id: int, progress: Progress) -> Report:
    if step in ("hold", "train"):
        note(home, f"begin {step} {project_id} {os.getpid()}")
        progress(1, 4, "holding")
        wait_for(home / f"go-{step}-{project_id}")
        note(home, f"end {step} {project_id} {os.getpid()}")
    elif step == "boom":
        raise ConfigError("the recipe\nhas a fault")
    elif step == "bug":
        raise ZeroDivisionError
    elif step == "away":
        note(home, f"away {project_id}")
        raise StudioUnreachable("Label Studio does not answer")
    elif step == "chain":
        return Report("chained", follow=("quick",))
    else:
        note(home, f"{step} {project_id}")
    return Report(f"{step} did it")


def run_step(step: str, project_id: int) -> str:
    """The job function of these tests, over the production one's core."""
    settings = load_settings()
    jobs = Jobs(settings, patient=True, function=FUNCTION)
    return execute(jobs, project_id, lambda p: _work(settings.home, step, project_id, p))


def main() -> None:
    """A worker process: `job_functions.py [burst]`."""
    run_worker(load_settings(), burst="burst" in sys.argv, preload=(), function=FUNCTION)


if __name__ == "__main__":
    main()
