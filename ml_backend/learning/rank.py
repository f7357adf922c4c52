"""One process of a training over several: `ranks.py` starts it, nobody imports it.

Arguments are two descriptors that it inherits: the file with the arrays, and the pipe on which it
is heard. Its task is the first line of its standard input. When that closes, because the training
is over or whoever started it was killed, the process ends at once.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from ml_backend.errors import BrushloopError
from ml_backend.settings import decree

# How long one may wait for another, which validates or writes. The dead are noticed elsewhere.
_PATIENCE = timedelta(days=7)


def main() -> NoReturn:
    """Do this process' part, say how it ended, and wait to be ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent acts
    arrays, mouth = (int(argument) for argument in sys.argv[1:])
    task = json.loads(sys.stdin.buffer.readline())
    watch = threading.Thread(target=_end_with_input, daemon=True)
    watch.start()
    with os.fdopen(mouth, "w", buffering=1, encoding="utf-8") as pipe:

        def say(**message: object) -> None:
            pipe.write(json.dumps(message) + "\n")

        try:
            if last := _work(task, arrays, say):
                say(**last)
        except BrushloopError as error:
            say(error=type(error).__name__, text=str(error))
        except Exception as error:
            traceback.print_exc()
            say(error=type(error).__name__, text=str(error))
        watch.join()
    os._exit(0)


def _end_with_input() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


def _work(task: dict[str, Any], arrays: int, say: Callable[..., None]) -> dict[str, object]:
    """Train; returns the last word: how many `fewer` patches at once may fit, or the leader's."""
    size, rank = task["size"], task["rank"]
    # What Accelerate reads. Processes of one machine meet in a file and talk on its own network.
    for variable, value in {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "OMP_NUM_THREADS": task["threads"],
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }.items():
        decree(variable, str(value))
    import torch
    from accelerate import PartialState
    from torch import distributed

    from ml_backend.learning.gradient import MemoryShort
    from ml_backend.learning.handover import unpack
    from ml_backend.learning.team import Team
    from ml_backend.learning.training import train_as

    torch.set_num_threads(task["threads"])
    cuda = task["device"] == "cuda"
    if cuda:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        store=distributed.FileStore(  # type: ignore[attr-defined]
            task["meeting"], size
        ),
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    PartialState(cpu=not cuda)
    try:
        train_as(
            Team(size, rank),
            unpack(task["job"], arrays),
            device=f"cuda:{rank}" if cuda else "cpu",
            checkpoint=Path(task["checkpoint"]),
            on_epoch=lambda record: say(epoch=asdict(record)),
            clock=time.monotonic,
            at_once=task["at_once"],
        )
    except MemoryShort as short:
        return {"fewer": short.fewer}
    return {"done": True} if rank == 0 else {}  # what the leader wrote is whole by then


if __name__ == "__main__":
    main()
