"""What an earlier supervisor recorded in the home folder and could not stop."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from ml_backend.errors import HostError
from ml_backend.host.files import read_json

_SAME_START = 2.0  # seconds by which two readings of one process's start may differ


def end_tree(process: psutil.Process) -> None:
    """KILL a process and everything below it."""
    with suppress(psutil.NoSuchProcess):
        tree = [*process.children(recursive=True), process]
        for member in tree:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(tree, timeout=5)


def end_leftovers(run: Path, say: Callable[[str], None], patience: float = 15.0) -> None:
    """End the guards that an earlier supervisor recorded in `run` and could not stop.

    Only a process whose id and start time both match its record is touched. A guard whose
    supervisor died is already ending its child; it gets `patience` seconds before KILL.
    """
    for record in sorted(run.glob("*.process.json")):
        guard = _recorded(record)
        if guard is not None:
            name = record.name.removesuffix(".process.json")
            say(f"waiting for {name} of an earlier start (process {guard.pid}) to end")
            with suppress(psutil.NoSuchProcess):
                guard.terminate()
            _, left = psutil.wait_procs([guard], timeout=patience)
            for process in left:
                end_tree(process)
        record.unlink(missing_ok=True)


def _recorded(record: Path) -> psutil.Process | None:
    try:
        data = read_json(record) or {}
        pid, started = data.get("pid"), data.get("started")
        if not isinstance(pid, int) or not isinstance(started, float):
            return None
        process = psutil.Process(pid)
        return process if abs(process.create_time() - started) < _SAME_START else None
    except (HostError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None
