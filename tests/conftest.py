"""Options and services that every room's tests may ask for; each starts on first use."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from support.backend import TinyBackend
from support.browser import find_chromium
from support.label_studio import (
    LabelStudio,
    find_label_studio,
    run_label_studio,
)
from support.s3 import S3Server, run_s3_server
from xdist.scheduler import LoadScopeScheduling

import ml_backend.learning  # noqa: F401  before torch: decides how its threads wait

# A busy machine interrupts any example for longer than hypothesis allows it to take.
hypothesis.settings.register_profile("brushloop", deadline=None)
hypothesis.settings.load_profile("brushloop")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--label-studio PATH` and `--chromium PATH` name the executables to test with.

    `--screenshot PATH` keeps the picture that the browser test makes, for the README.
    """
    parser.addoption("--screenshot", type=Path, help="where to keep the browser test's picture")
    parser.addoption("--label-studio", help="path of the label-studio executable")
    parser.addoption("--chromium", help="path of the chromium executable")


@cache
def _needs_studio(module: Path) -> bool:
    """Whether a module's tests talk to a real Label Studio: they share one."""
    return "pytest.mark.studio" in module.read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what needs a real Label Studio: it takes longest, and mostly waits."""
    items.sort(key=lambda item: not _needs_studio(item.path))


class Together(LoadScopeScheduling):
    """Deals out whole modules, and those that share a Label Studio to one process."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "label-studio" if _needs_studio(self.config.rootpath / module) else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Share the tests out among the processes that scripts/test.sh asks for."""
    return Together(config, log)


@pytest.fixture(scope="session")
def studio_executable(request: pytest.FixtureRequest) -> Path:
    """Label Studio's executable; the test is skipped where none is installed."""
    found = find_label_studio(request.config.getoption("--label-studio"))
    if found is None:
        pytest.skip("no Label Studio: scripts/test.sh installs one into .venv-label-studio")
    return found


@pytest.fixture(scope="session")
def label_studio(
    studio_executable: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudio]:
    """A real Label Studio, one a session; the test is skipped where none is installed."""
    with run_label_studio(studio_executable, tmp_path_factory.mktemp("label-studio")) as server:
        yield server


@pytest.fixture
def tiny_backend() -> Iterator[TinyBackend]:
    """A backend that answers Label Studio's calls and remembers them."""
    with TinyBackend() as backend:
        yield backend


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    with run_s3_server() as server:
        yield server


@pytest.fixture
def s3(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A real S3 server that this process and those it starts reach by `s3://` addresses."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The address of an empty bucket of `s3`, such as `s3://scans-0123456789ab`."""
    return s3.new_bucket()


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> Path:
    """The browser's executable; the test is skipped where none is installed."""
    executable = find_chromium(request.config.getoption("--chromium"))
    if executable is None:
        pytest.skip("no Chromium: scripts/test.sh installs Debian's")
    return executable
