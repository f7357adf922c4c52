"""Blobs: named bytes in the home folder or in a bucket, written whole or not at all.

A key is a relative path with forward slashes such as `models/7/v3/card.json`. It is
checked before it touches a file system, so no id can become a path that leaves the root.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from ml_backend.errors import NotFound, StoreError
from ml_backend.store.addresses import file_system

Keys = list[str]

_TEMPORARY = re.compile(r"^\..*\.[0-9a-f]{16}\.tmp$")
_ABANDONED_S = 24 * 3600
_PART_BYTES = 200  # leaves room for the temporary's prefix and suffix within 255 bytes


def check_key(key: str) -> str:
    """Return `key` if it is safe as a path below a root, else raise `StoreError`.

    Parts may hold spaces and any letters; they must not be empty, begin with a dot (which
    rules out `.`, `..` and hidden files), hold control characters or backslashes, or exceed
    200 bytes.
    """
    if not key:
        raise StoreError("the key of a blob is empty; give a name such as 'masks/7.png'")
    for part in key.split("/"):
        if (
            not part
            or part.startswith(".")
            or "\\" in part
            or not part.isprintable()
            or len(part.encode("utf-8", "surrogatepass")) > _PART_BYTES
        ):
            raise StoreError(
                f"{key[:300]!r} is not a key: each part between slashes must be 1 to "
                f"{_PART_BYTES} printable bytes, begin with no dot and hold no backslash"
            )
    return key


class _Place(Protocol):
    """What a root can do with keys that were checked."""

    def write(self, key: str, data: bytes) -> None: ...
    def read(self, key: str) -> bytes: ...
    def exists(self, key: str) -> bool: ...
    def delete(self, key: str) -> None: ...
    def list(self, prefix: str) -> Iterator[str]: ...
    def local_path(self, key: str) -> Path: ...


class Blobs:
    """Bytes by key below `url`: a folder, `file:///…`, or any fsspec URL (`s3://…`, `memory://…`).

    Every method raises `StoreError` when a key is not one or the place fails (disk full, no
    permission, no network), and `NotFound` when the key is not there.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        folder = local_folder(self.url)
        self._place: _Place = _Folder(folder) if folder is not None else _Bucket(self.url)

    def write(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, replacing what was there; a reader sees old or new, whole."""
        with self._door(key):
            self._place.write(check_key(key), data)

    def read(self, key: str) -> bytes:
        """Return the bytes under `key`."""
        with self._door(key):
            return self._place.read(check_key(key))

    def exists(self, key: str) -> bool:
        """Whether something is stored under `key` (a folder is nothing)."""
        with self._door(key):
            return self._place.exists(check_key(key))

    def delete(self, key: str) -> None:
        """Forget `key`; one that is not there is no error."""
        with self._door(key):
            self._place.delete(check_key(key))

    def list(self, prefix: str = "") -> Keys:
        """Return the sorted keys in the folder `prefix` and below it; "" means all."""
        prefix = prefix.rstrip("/")
        with self._door(prefix):
            return sorted(self._place.list(check_key(prefix) if prefix else ""))

    def local_path(self, key: str) -> Path:
        """Return a file with the bytes of `key`, to read only; downloads from a bucket once."""
        with self._door(key):
            return self._place.local_path(check_key(key))

    @contextmanager
    def _door(self, key: str) -> Iterator[None]:
        """Translate what file systems raise."""
        try:
            yield
        except StoreError:
            raise
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFound(f"there is no {key!r} in {self.url}") from None
        except Exception as error:  # fsspec's back ends raise their vendors' own types
            raise StoreError(f"{self.url}: {key!r} failed: {_explain(error)}") from error


def local_folder(url: str) -> Path | None:
    """Return the absolute path that a plain path or a `file:` URL means, None for other URLs."""
    scheme = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*):", url)
    if scheme is None:
        return Path(url).expanduser().absolute()
    if scheme[1].lower() != "file":
        return None
    # fsspec does not decode the percent signs that pathlib's as_uri() writes.
    path = unquote_to_bytes(url[scheme.end() :].removeprefix("//"))
    return Path(os.fsdecode(path)).absolute()


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key for names: numbers by value (2 before 10), letters without case."""
    parts = re.split(r"([0-9]+)", name)
    key = [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in parts]
    return [*key, (-2, name)]  # names that differ in case or zeros only keep one order


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return (
            f"no space is left ({error.strerror}); what was stored before is unchanged, "
            "free some space and try again"
        )
    if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{error.strerror}; give this user the right to write there"
    return f"{type(error).__name__}: {error}"


class _Folder:
    """A folder of this machine; temporary file, fsync, rename, fsync of the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, key: str, data: bytes) -> None:
        target = self.root / key
        if target.is_dir():
            raise StoreError(f"{key!r} is a folder in {self.root}; choose another key")
        _make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def exists(self, key: str) -> bool:
        return (self.root / key).is_file()

    def delete(self, key: str) -> None:
        path = self.root / key
        if path.is_dir():
            raise StoreError(f"{key!r} is a folder in {self.root}; delete its keys one by one")
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        _sync_folder(path.parent)

    def list(self, prefix: str) -> Iterator[str]:
        for folder, folders, names in os.walk(self.root / prefix):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(folder, name)
                if _TEMPORARY.match(name):
                    _clear_abandoned(path)
                elif not name.startswith("."):
                    yield path.relative_to(self.root).as_posix()

    def local_path(self, key: str) -> Path:
        path = self.root / key
        if not path.is_file():
            raise FileNotFoundError(path)
        return path


def _make_folder(folder: Path) -> None:
    """Create `folder` and its parents so that they outlive a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clear_abandoned(temporary: Path) -> None:
    """Remove what a killed process left behind, but nothing that may still be written."""
    try:
        if time.time() - temporary.stat().st_mtime > _ABANDONED_S:
            temporary.unlink()
    except FileNotFoundError:
        return  # its writer has just renamed it


def _no_bucket(root: str) -> str:
    return f"there is no bucket {root.partition('/')[0]!r}; create it, or correct its name"


class _Bucket:
    """Any fsspec file system. One put is one object: object stores publish it whole."""

    def __init__(self, url: str) -> None:
        self.fs: Any
        self.fs, root = file_system(url)
        self.root = root.rstrip("/")
        self._cache: _Folder | None = None

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if key else self.root

    def write(self, key: str, data: bytes) -> None:
        try:
            self.fs.pipe_file(self._path(key), data)
        except FileNotFoundError:  # folders come by themselves; a bucket has to be made
            raise StoreError(_no_bucket(self.root)) from None

    def read(self, key: str) -> bytes:
        data: bytes = self.fs.cat_file(self._path(key))
        return data

    def exists(self, key: str) -> bool:
        self.fs.invalidate_cache()  # other machines write to the same bucket
        return bool(self.fs.isfile(self._path(key)))

    def delete(self, key: str) -> None:
        try:
            self.fs.rm_file(self._path(key))
        except FileNotFoundError:
            return

    def list(self, prefix: str) -> Iterator[str]:
        self.fs.invalidate_cache()
        try:
            paths = self.fs.find(self._path(prefix))
        except FileNotFoundError:  # an empty folder of a bucket is none and no error
            raise StoreError(_no_bucket(self.root)) from None
        for path in paths:
            key = path.removeprefix(self.root).lstrip("/")
            if key.startswith(f"{prefix}/" if prefix else ""):
                yield key

    def local_path(self, key: str) -> Path:
        self.fs.invalidate_cache()
        if not self.fs.isfile(self._path(key)):
            raise FileNotFoundError(key)
        if self._cache is None:
            folder = tempfile.mkdtemp(prefix="brushloop-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._cache = _Folder(Path(folder))
        # The name holds the object's version, so an overwritten key is fetched again.
        version = hashlib.sha256(f"{key}\n{self.fs.ukey(self._path(key))}".encode()).hexdigest()
        name = f"{version}/{key.rsplit('/', 1)[-1]}"
        if not self._cache.exists(name):
            self._cache.write(name, self.read(key))
        return self._cache.local_path(name)
