"""Real Redis for the tests of the jobs room, and real workers over it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from job_functions import FUNCTION

from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.redis_server import EmbeddedRedis
from ml_backend.settings import Settings

HERE = Path(__file__).parent
MACHINE = "redis://127.0.0.1:6379"
LOCK = "brushloop-test-lock"


@pytest.fixture(scope="session")
def embedded(tmp_path_factory) -> Iterator[EmbeddedRedis]:
    """One embedded server for the session."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis-home"))
    server.start()
    yield server
    server.stop()


def _empty_database() -> str | None:
    """The URL of an empty database of the machine's Redis, locked for us; None without one."""
    for number in range(15, 0, -1):
        with redis.Redis.from_url(f"{MACHINE}/{number}", socket_timeout=1) as client:
            try:
                if client.dbsize() == 0 and client.set(LOCK, "1", nx=True, ex=600):
                    return f"{MACHINE}/{number}"
            except redis.RedisError:
                return None
    return None


def _forget(url: str) -> None:
    """Delete what we wrote into a database that was empty when we took it."""
    with redis.Redis.from_url(url) as client:
        for pattern in ("rq:*", "brushloop*"):
            for key in client.scan_iter(pattern):
                client.delete(key)


@pytest.fixture
def settings(embedded, tmp_path) -> Settings:
    """A fresh home whose jobs live in the session's embedded server."""
    with redis.Redis.from_url(embedded.url) as client:
        client.flushdb()
    return Settings(home=tmp_path, redis_url=embedded.url)


@pytest.fixture(params=["embedded", "machine"])
def any_settings(request, tmp_path) -> Iterator[Settings]:
    """The same over the machine's own Redis, if it answers and has an empty database."""
    if request.param == "embedded":
        yield request.getfixturevalue("settings")
        return
    url = _empty_database()
    if url is None:
        pytest.skip("no Redis with an empty database at 127.0.0.1:6379")
    yield Settings(home=tmp_path, redis_url=url)
    _forget(url)


@pytest.fixture
def jobs(settings) -> Jobs:
    """The queues, with the tests' own job function."""
    return Jobs(settings, function=FUNCTION)


@pytest.fixture
def start_worker() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start worker processes; whatever is left of them is killed at the end."""
    started: list[subprocess.Popen] = []

    def start(settings: Settings, *, burst: bool = False) -> subprocess.Popen:
        with (settings.home / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "job_functions.py"), *(["burst"] if burst else [])],
                env={
                    **os.environ,
                    "BRUSHLOOP_HOME": str(settings.home),
                    "BRUSHLOOP_REDIS_URL": settings.redis_url or "",
                    "PYTHONPATH": str(HERE),
                },
                stderr=log,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.wait()


@pytest.fixture
def journal(tmp_path) -> Callable[[], list[str]]:
    """The lines the steps have written so far."""

    def read() -> list[str]:
        path = tmp_path / "journal"
        return path.read_text().splitlines() if path.exists() else []

    return read
