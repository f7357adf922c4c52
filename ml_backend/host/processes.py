"""Child processes of one home folder: start, watch, restart, stop; nothing is left behind.

Each child runs under a guard (guard.py) in a session of its own, so Ctrl-C reaches only the
supervisor, and a supervisor killed with -9 takes its children along. Logs are appended to
`home/logs/<name>.log`; `home/run/<name>.json` records the guard for the next start.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import BinaryIO, Self

import psutil

from ml_backend.errors import HostError
from ml_backend.host.files import write_json
from ml_backend.host.leftovers import end_leftovers, end_tree

_GUARD = Path(__file__).with_name("guard.py")
_LOG_LIMIT = 16 << 20  # bytes after which a start begins a new log and keeps the old as .1
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0  # seconds before a dead child is started again
_STEADY = 60.0  # seconds of life after which a death counts as the first again


@dataclass(frozen=True)
class Child:
    """What to run. `environment` is added to the supervisor's own; None removes a variable."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    grace: float = 10.0  # seconds between TERM and KILL
    cwd: Path | None = None


@dataclass
class _Running:
    child: Child
    guard: subprocess.Popen[bytes]
    since: float
    deaths: int = 0
    restart_at: float | None = None


class Processes:
    """A supervisor; a context manager that stops all children at its end.

    `say` receives one line for each thing a person should know.
    """

    def __init__(
        self,
        home: Path,
        *,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._logs = home / "run", home / "logs"
        self._say, self._clock = say, clock
        self._running: dict[str, _Running] = {}

    def __enter__(self) -> Self:
        end_leftovers(self._run, self._say)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def log(self, name: str) -> Path:
        """The file to which the child `name` writes."""
        return self._logs / f"{name}.log"

    def start(self, child: Child) -> None:
        """Start `child`; it will be restarted by `tend` until `stop`."""
        if child.name in self._running:
            raise HostError(f"process {child.name} is already started")
        self._running[child.name] = _Running(child, self._spawn(child), self._clock())

    def alive(self, name: str) -> bool:
        """Tell whether the child is running now."""
        return name in self._running and self._running[name].guard.poll() is None

    def wait_ready(
        self,
        name: str,
        ready: Callable[[], bool],
        *,
        timeout: float = 120.0,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Wait until `ready()`; `progress` is told the seconds waited, about once a second.

        Raises `HostError` with the end of the log if the child dies or `timeout` seconds pass.
        """
        began = self._clock()
        told = 0.0
        while not ready():
            status = self._running[name].guard.poll()
            waited = self._clock() - began
            if status is not None:
                raise HostError(f"{name} ended with status {status}.{self._last_words(name)}")
            if waited - told >= 1:
                told = waited
                progress(waited)
            if waited > timeout:
                raise HostError(
                    f"{name} is not ready after {timeout:.0f} s.{self._last_words(name)}"
                )
            time.sleep(0.3)  # each question costs the child some of its start

    def tend(self) -> None:
        """Start dead children again: after 1 s, then 2, 4, … 60 s while they keep dying."""
        now = self._clock()
        for name, running in self._running.items():
            status = running.guard.poll()
            if status is None:
                continue
            if running.restart_at is None:
                running.deaths = 1 if now - running.since > _STEADY else running.deaths + 1
                delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (running.deaths - 1))
                running.restart_at = now + delay
                self._say(
                    f"{name} ended with status {status}; starting it again in {delay:.0f} s"
                    f" (log: {self.log(name)})"
                )
            elif now >= running.restart_at:
                _close(running.guard)
                running.guard = self._spawn(running.child)
                running.since, running.restart_at = self._clock(), None

    def watch(self, until: threading.Event | None = None) -> None:
        """Tend the children until `until` is set or an exception (Ctrl-C) comes."""
        until = until or threading.Event()
        while not until.wait(0.2):
            self.tend()

    def stop(self) -> None:
        """Stop all children, the last started first: TERM, then KILL after their grace.

        Signals wait until it is done, so an impatient second Ctrl-C leaves nothing behind.
        """
        with _signals_ignored():
            while self._running:
                name, running = self._running.popitem()
                _close(running.guard)
                try:
                    running.guard.wait(running.child.grace + 5)
                except subprocess.TimeoutExpired:
                    end_tree(psutil.Process(running.guard.pid))
                    running.guard.wait()
                self._record(name).unlink(missing_ok=True)

    def _record(self, name: str) -> Path:
        return self._run / f"{name}.process.json"

    def _last_words(self, name: str, count: int = 15) -> str:
        try:
            lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(["", f"The end of {self.log(name)}:", *lines[-count:]])

    def _open_log(self, name: str) -> BinaryIO:
        path = self.log(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > _LOG_LIMIT:
                path.replace(path.with_suffix(".log.1"))
            return path.open("ab")
        except OSError as error:
            raise HostError(f"cannot write the log {path}: {error.strerror}") from error

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        order = {
            "command": child.command,
            "environment": dict(child.environment),
            "grace": child.grace,
            "cwd": str(child.cwd) if child.cwd else None,
        }
        with self._open_log(child.name) as log:
            guard = subprocess.Popen(
                [sys.executable, "-I", str(_GUARD)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            write_json(
                self._record(child.name),
                {"pid": guard.pid, "started": psutil.Process(guard.pid).create_time()},
            )
            # through the pipe, not the command line: the environment holds secrets
            if guard.stdin is not None:
                guard.stdin.write(json.dumps(order).encode() + b"\n")
                guard.stdin.flush()
        except BaseException:
            _close(guard)
            guard.wait()
            raise
        return guard


def _close(guard: subprocess.Popen[bytes]) -> None:
    """Close the pipe: the guard ends its child and leaves."""
    if guard.stdin is not None:
        with suppress(BrokenPipeError):
            guard.stdin.close()


@contextmanager
def one_instance(home: Path) -> Iterator[None]:
    """Hold the home folder's lock. Raises `HostError` naming the process that holds it.

    The system frees the lock when the process dies, however it dies.
    """
    path = home / "run" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise HostError(f"cannot use the home folder {home}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise HostError(
                f"{home} is in use by process {file.read().strip() or '?'}; stop that one with "
                "Ctrl-C, or choose another folder with --home"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let TERM and HUP end the block like Ctrl-C, by `KeyboardInterrupt`. Main thread only."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
