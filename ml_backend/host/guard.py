"""The guard of one child process: a program that `processes.py` starts, never imports.

The supervisor holds the other end of the guard's standard input. When it closes, because the
supervisor asks for the end or was killed, the guard ends the child: TERM, then KILL, for the
child and for everything the child started, process groups and sessions notwithstanding.
The guard leaves with the child's exit status (128 + n for signal n), 127 if it cannot start.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the guard works without (its own KILL then leaves orphans)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _spawn(spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    for name, value in spec["environment"].items():
        if value is None:
            os.unsetenv(name)
        else:
            os.putenv(name, value)
    return subprocess.Popen(
        spec["command"],
        cwd=spec["cwd"],
        stdin=subprocess.DEVNULL,
        # safe here: the guard has one thread. Ends the child if the guard is killed with -9.
        preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
    )


def _wait_for_end(child: subprocess.Popen[bytes], wake: int) -> None:
    """Return when the child is dead or the guard is asked to end it."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)
    while child.poll() is None and not asked:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
        if 0 in readable and not os.read(0, 4096):
            return


def _end_orphans(seconds: float) -> None:
    """TERM, then KILL, whatever the child started and left behind."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        _send(process, signal.SIGTERM)
    psutil.wait_procs(left, timeout=seconds)
    while left := psutil.Process().children(recursive=True):
        for process in left:
            _send(process, signal.SIGKILL)
        psutil.wait_procs(left, timeout=1)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def main() -> int:
    """Read the order (one line of JSON) from standard input, run it, outlive it by a moment."""
    wake, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    spec = json.loads(sys.stdin.buffer.readline())
    try:
        child = _spawn(spec)
    except OSError as error:
        print(f"cannot start {spec['command'][0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 127
    _wait_for_end(child, wake)
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(spec["grace"])
        except subprocess.TimeoutExpired:
            child.kill()
    status = child.wait()
    _end_orphans(1.0)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
