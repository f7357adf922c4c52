"""Files and folders that appear whole or not at all: fsync, then rename."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ml_backend.errors import StoreError


def publish(fresh: Path, former: Path, folder: Path) -> None:
    """Move what is in `fresh` into `folder`, where it takes the place of what has its name.

    What it replaces goes to `former`. May be repeated after an interruption: it goes on with
    what is left in `fresh`. What the file system refuses leaves the earlier file or folder.
    """
    former.mkdir(exist_ok=True)
    for entry in sorted(fresh.iterdir()):
        target, old = folder / entry.name, former / entry.name
        if entry.is_file():
            entry.replace(target)
            continue
        if target.exists():
            remove(old)
            target.rename(old)
        try:
            entry.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    sync_folder(folder)


def remove(path: Path) -> None:
    """Remove a folder or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, its folders too, and wait until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        sync(file)


def sync(file: BinaryIO) -> None:
    """Wait until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only export into a folder. Raises `StoreError` where another is under way."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another export into {folder} is under way: wait for it, or choose another folder"
            ) from None
        except OSError:  # some file systems on a network have no locks: go on without
            pass
        yield
    finally:
        os.close(descriptor)


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Translate what the file system refuses into `StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot export to {folder}: {error.strerror or error}; what stands there is whole, "
            "and the same command carries on"
        ) from error
