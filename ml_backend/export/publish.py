"""Files and folders that appear whole or not at all: temporary name, fsync, rename."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ml_backend.errors import StoreError


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `target` when the block ends well.

    The earlier `target` goes only after the new one is complete; if the block raises,
    it stays and the new files go. Raises `StoreError` for what the file system refuses.
    """
    with _translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            fresh, former = room / "new", room / "old"
            fresh.mkdir()
            yield fresh
            if target.exists():
                target.rename(former)
            try:
                fresh.rename(target)
            except OSError:
                if former.exists():
                    former.rename(target)
                raise
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(room, ignore_errors=True)


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """A temporary folder for parts; its file `target.name` takes `target`'s place at the end.

    If the block raises, `target` stays as it was. Raises `StoreError` for what the file
    system refuses.
    """
    with _translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            yield room
            fresh = room / target.name
            with fresh.open("rb+") as file:
                sync(file)
            fresh.replace(target)
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(room, ignore_errors=True)


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot export to {target}: {error.strerror or error}; what stood there is unchanged"
        ) from error
