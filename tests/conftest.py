"""Options and services that every room's tests may ask for; each starts on first use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backend import TinyBackend
from support.browser import find_chromium
from support.label_studio import (
    LabelStudio,
    find_label_studio,
    make_database,
    run_label_studio,
)

import ml_backend.learning  # noqa: F401  before torch: decides how its threads wait


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--label-studio PATH` and `--chromium PATH` name the executables to test with.

    `--screenshot PATH` keeps the picture that the browser test makes, for the README.
    """
    parser.addoption("--screenshot", type=Path, help="where to keep the browser test's picture")
    parser.addoption("--label-studio", help="path of the label-studio executable")
    parser.addoption("--chromium", help="path of the chromium executable")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a server or a module, for tests on several processor cores.

    Whatever needs a real Label Studio starts first: it takes longest, and mostly waits.
    """
    for item in items:
        studio = "studio_executable" in getattr(item, "fixturenames", ())
        group = "label-studio" if studio else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: "studio_executable" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def studio_executable(request: pytest.FixtureRequest) -> Path:
    """Label Studio's executable; the test is skipped where none is installed."""
    found = find_label_studio(request.config.getoption("--label-studio"))
    if found is None:
        pytest.skip("no Label Studio: scripts/test.sh installs one into .venv-label-studio")
    return found


@pytest.fixture(scope="session")
def studio_database(studio_executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of Label Studio, to copy; one test starts without."""
    return make_database(studio_executable, tmp_path_factory.mktemp("studio-database"))


@pytest.fixture(scope="session")
def label_studio(
    studio_executable: Path, studio_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudio]:
    """A real Label Studio, one a session; the test is skipped where none is installed."""
    folder = tmp_path_factory.mktemp("label-studio")
    with run_label_studio(studio_executable, folder, studio_database) as server:
        yield server


@pytest.fixture
def tiny_backend() -> Iterator[TinyBackend]:
    """A backend that answers Label Studio's calls and remembers them."""
    with TinyBackend() as backend:
        yield backend


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> Path:
    """The browser's executable; the test is skipped where none is installed."""
    executable = find_chromium(request.config.getoption("--chromium"))
    if executable is None:
        pytest.skip("no Chromium: scripts/test.sh installs Debian's")
    return executable
