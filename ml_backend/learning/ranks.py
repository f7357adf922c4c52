"""One training over several processes of this machine: starting them, hearing them, ending them.

Each is `python -m ml_backend.learning.rank`, started afresh: forks inherit threads and cannot use
CUDA. They live as long as this process holds their standard input; when it is killed they end
themselves. The training's state is its checkpoint alone, so when one process dies or is short of
memory all are ended, and begin again where the checkpoint left off.
"""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ml_backend import errors
from ml_backend.errors import ConfigError, LearningError, StoreError
from ml_backend.learning.checkpoint import load_checkpoint
from ml_backend.learning.device import resolve_device
from ml_backend.learning.gradient import say_short
from ml_backend.learning.handover import pack
from ml_backend.learning.job import Job
from ml_backend.learning.run import EpochRecord, Trained, trained_of

log = logging.getLogger(__name__)

_GRACE = 0.5  # seconds for the system to report a death


def how_many(device: str, asked: int | None, batch_size: int) -> int:
    """Over how many processes to train; None: one for each CUDA device where no one is named.

    At most `asked`, so that all have equal shares of a batch. Raises `ConfigError` for more than
    there are devices.
    """
    place = resolve_device(device)
    there = torch.cuda.device_count() if place.type == "cuda" and place.index is None else 1
    if place.type != "cpu" and asked is not None and asked > there:
        raise ConfigError(
            f"BRUSHLOOP_PROCESSES is {asked}, but BRUSHLOOP_DEVICE {device} is {there} device(s): "
            "each process needs one of its own"
        )
    wanted = asked or there
    found = max(count for count in range(1, wanted + 1) if batch_size % count == 0)
    if found < wanted:
        log.info(
            "training over %d processes, not %d: a batch of %d has equal shares for so many",
            found,
            wanted,
            batch_size,
        )
    return found


def train_in_ranks(
    job: Job,
    processes: int,
    *,
    device: str,
    checkpoint: Path | None,
    on_epoch: Callable[[EpochRecord], None],
) -> Trained:
    """Train as `train` does, each of the processes computing its share of every batch.

    Patches are those of a single process, and so is the result up to rounding, dropout, and
    BatchNorm on a processor, which sees a share at a time. Raises what `train` raises, and
    `LearningError` when a process was killed.
    """
    with ExitStack() as stack:
        if checkpoint is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="brushloop-"))
            checkpoint = Path(folder) / "state.safetensors"
        try:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(tempfile.TemporaryFile(dir=checkpoint.parent))
            packed = pack(job, file)
        except OSError as error:
            raise StoreError(
                f"what the training's processes need cannot be written beside {checkpoint}: {error}"
            ) from error
        threads = max(1, torch.get_num_threads() // processes)
        spec: dict[str, Any] = {
            "job": packed,
            "size": processes,
            "device": resolve_device(device).type,
            "threads": threads,
            "checkpoint": str(checkpoint.absolute()),
            "at_once": job.recipe.training.batch_size // processes,
        }
        while True:
            with _team(spec, file.fileno()) as members:
                ending = _heard(members, on_epoch)
            if "done" in ending:
                return trained_of(*load_checkpoint(checkpoint, None))
            say_short(spec["at_once"], ending["fewer"])
            spec["at_once"] = ending["fewer"]


@dataclass(frozen=True)
class _Member:
    """One process of the team, and the end of the pipe on which it is heard."""

    rank: int
    process: subprocess.Popen[bytes]
    ear: int


@contextmanager
def _team(spec: dict[str, Any], descriptor: int) -> Iterator[list[_Member]]:
    """Start all processes of a team; they are killed in the end, for their work is in files."""
    members: list[_Member] = []
    with tempfile.TemporaryDirectory(prefix="brushloop-") as folder:
        try:
            for rank in range(spec["size"]):
                member = _started(rank, descriptor)
                members.append(member)
                told = spec | {"rank": rank, "meeting": str(Path(folder) / "meeting")}
                _tell(member, json.dumps(told).encode() + b"\n")
            yield members
        finally:
            for member in members:
                member.process.kill()
            for member in members:
                member.process.communicate()
                os.close(member.ear)


def _started(rank: int, descriptor: int) -> _Member:
    ear, mouth = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "ml_backend.learning.rank", str(descriptor), str(mouth)],
            stdin=subprocess.PIPE,
            pass_fds=(descriptor, mouth),
        )
    finally:
        os.close(mouth)
    return _Member(rank, process, ear)


def _tell(member: _Member, line: bytes) -> None:
    """Hand over what to do; the pipe stays open, for the process lives no longer than it."""
    pipe = member.process.stdin
    if pipe is not None:
        with suppress(BrokenPipeError):  # it is dead, which is noticed below
            pipe.write(line)
            pipe.flush()


def _heard(members: list[_Member], on_epoch: Callable[[EpochRecord], None]) -> dict[str, Any]:
    """Pass epochs on until the training is done, or one process is short of memory.

    Returns that last message. Raises the error that a process met.
    """
    for member, message in _messages(members):
        if message is None:
            raise LearningError(_obituary(member, len(members)))
        if "epoch" in message:
            on_epoch(EpochRecord(**message["epoch"]))
        elif "error" in message:
            raise _error(member, message, members)
        else:
            return message
    raise LearningError("the training has no processes")


def _messages(members: list[_Member]) -> Iterator[tuple[_Member, dict[str, Any] | None]]:
    """What the processes say, line by line as it comes; None from one that is dead."""
    with selectors.DefaultSelector() as selector:
        for member in members:
            selector.register(member.ear, selectors.EVENT_READ, (member, bytearray()))
        while selector.get_map():
            for key, _ in selector.select():
                member, begun = key.data
                data = os.read(member.ear, 1 << 16)
                begun += data
                *lines, rest = bytes(begun).split(b"\n")
                begun[:] = rest
                for line in lines:
                    yield member, json.loads(line)
                if not data:
                    selector.unregister(member.ear)
                    yield member, None


def _error(member: _Member, message: dict[str, Any], members: Sequence[_Member]) -> Exception:
    """What a process raised on purpose, as its own kind; of anything else the cause."""
    kind = getattr(errors, message["error"], None)
    if isinstance(kind, type) and issubclass(kind, errors.BrushloopError):
        return kind(message["text"])
    for other in members:  # who waits for a process that was killed fails in its turn
        with suppress(subprocess.TimeoutExpired):
            other.process.wait(_GRACE)
            return LearningError(_obituary(other, len(members)))
    return RuntimeError(
        f"process {member.rank + 1} of {len(members)} of the training raised {message['error']}: "
        f"{message['text']}"
    )


def _obituary(member: _Member, size: int) -> str:
    status = member.process.wait()
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    return (
        f"process {member.rank + 1} of {size} of the training ended ({how}), most likely killed "
        "for want of memory: the next training carries on from the last epoch, and needs less with "
        "BRUSHLOOP_PROCESSES 1 or a smaller training.patch"
    )
