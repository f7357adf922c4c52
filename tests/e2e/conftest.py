"""One house for all end-to-end tests: `brushloop up` over samples, with a quick recipe."""

import contextlib
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from ml_backend.host.up import Running, Wishes, up
from ml_backend.jobs.queues import Jobs
from ml_backend.loop.context import Context, open_context
from ml_backend.recipe import Recipe, parse_recipe

LABEL = "plankton"

# Small enough for two cores, large enough that the first model sees something. Later ones only have
# to be there: what they learn is for other tests.
QUICK = {
    "network": {"depth": 4, "decoder_width": 8},
    "training": {"steps": 80, "epochs": 4, "batch_size": 4, "patch": 128},
    "schedule": {"training.steps": {"from": 1, "step": -60, "least": 20}},
    "prediction": {"window": 320, "overlap": 32},
    "scoring": {"passes": "single"},
    "selection": {"batch": 6},
    "loop": {"retrain_every": 2, "auto_select": False},
}


def quick_recipe(**changes: object) -> Recipe:
    """Give the quick recipe with some keys replaced (`selection__batch=3`)."""
    recipe = parse_recipe(QUICK)
    return recipe.changed({key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="session")
def house(studio_executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Everything `brushloop up` starts, over the package's samples, until the session ends."""
    home = tmp_path_factory.mktemp("house")
    # more tasks than all the tests answer: a version is shown by its predictions of open ones
    recipe = quick_recipe(selection__batch=12)
    wishes = Wishes(home=home, recipe=recipe, studio=studio_executable)
    with up(wishes, print) as running:
        wait_until_idle(running)
        yield running


def wait_until_idle(running: Running, seconds: float = 600) -> None:
    """Wait for the end of every job that was asked for, and of what they led to."""
    jobs, deadline = Jobs(running.settings, patient=True), time.monotonic() + seconds
    while any(view.state in ("queued", "running") for view in jobs.overview(running.project.id)):
        assert time.monotonic() < deadline, f"jobs have not ended within {seconds} s"
        running.tend()
        time.sleep(0.3)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the processes of the house said last stands below the failure of a test of it."""
    report = yield
    house = getattr(item, "funcargs", {}).get("house")
    if report.failed and isinstance(house, Running):
        for log in sorted((house.settings.home / "logs").glob("*.log")):
            report.sections.append((log.name, log.read_text(errors="replace")[-4000:]))
    return report


@pytest.fixture
def context(house: Running) -> Iterator[Context]:
    """The house's catalog, storage and Label Studio, opened for one test."""
    with open_context(house.settings) as context:
        yield context


def children_of(process: int) -> list[int]:
    """Ids of the processes that `process` started and that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == process and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
    return found
