"""In which number format this machine computes: measured once, and kept in the home folder.

A training that is taken up again, or repeated, must not depend on how busy the machine happens to
be, so no measurement is made twice.
"""

import fcntl
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.errors import StoreError
from ml_backend.recipe import Network
from ml_backend.settings import Settings

if TYPE_CHECKING:
    from ml_backend.learning.precision import Precisions

log = logging.getLogger(__name__)
FILE = "precision.json"


def precisions_of(settings: Settings, network: Network) -> "Precisions":
    """What `BRUSHLOOP_PRECISION` says, else the measurement of this network on this device.

    Made where there is none yet, which takes about a second. Raises `StoreError` where the home
    folder cannot be written.
    """
    from ml_backend.learning.device import describe_hardware, resolve_device
    from ml_backend.learning.precision import Precisions, measure
    from ml_backend.learning.state import use_threads

    if settings.precision != "auto":
        training = "float32" if settings.precision == "float16" else settings.precision
        return Precisions(settings.precision, training, {}, {})
    use_threads(settings.threads)
    device = resolve_device(settings.device)
    shape = network.model_dump(mode="json", exclude={"encoder_weights", "dropout"})
    key = f"{describe_hardware(device)}, {json.dumps(shape, sort_keys=True)}"
    path = settings.home.absolute() / FILE
    found = _read(path).get(key)
    if found is None:
        with _alone(path):
            found = _read(path).get(key)  # another process may have been quicker
            if found is None:
                measured = measure(network, device, clock=time.perf_counter)
                found = asdict(measured)
                _write(path, _read(path) | {key: found})
                log.info("measured on %s: %s", key, found)
    return Precisions(**found)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Every measurement; a file that cannot be read is as good as none."""
    try:
        kept: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept


def _write(path: Path, kept: dict[str, dict[str, Any]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    partial.replace(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Measure one at a time: two at once would slow each other down, and might disagree."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
