"""Small private files of the home folder: published whole, readable by the owner only."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from ml_backend.errors import HostError


def write_json(path: Path, data: object) -> None:
    """Publish `data` as JSON under `path`, as `write_text` does."""
    write_text(path, json.dumps(data, indent=1))


def write_text(path: Path, text: str) -> None:
    """Publish `text` under `path` with mode 0600: temporary file, fsync, rename."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error


def read_json(path: Path) -> dict[str, object] | None:
    """Read the mapping under `path`; None if there is no such file.

    Raises `HostError` if the file cannot be read or is not a JSON mapping.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise HostError(f"{path} is damaged (not a JSON mapping); move it away and start again")
    return data
