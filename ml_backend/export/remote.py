"""Exports to fsspec addresses: made here, then uploaded so that readers see the old or the new.

An object store replaces one object at a time. What makes an export whole there is its index,
`brushloop-export.json`: the files of the export with their digests, written when everything is
there. Before anything is changed it says `complete: false` and names what is `changing`; so an
upload that was cut off is seen, and carried on with by the next one. Files are uploaded first,
tables of them (`coco.json`, `manifest.csv`, …) after them, the index last; files of the earlier
export that the new one lacks are deleted before it. Nothing else is ever touched.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ml_backend.errors import StoreError
from ml_backend.export.stage import ROOM

INDEX = "brushloop-export.json"
_TABLES = {".json", ".csv", ".yaml", ".txt"}  # that name other files; those of yolo's labels do not

_BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"}  # have no folders
_AT_RISK = 10.0  # seconds of uploading that a kill may cost

Files = dict[str, str]
"""Path below the export → SHA-256 of its bytes."""


def upload(
    fs: Any,
    root: str,
    folder: Path,
    targets: Iterable[str],
    told: Callable[[int, int], None] | None = None,
) -> None:
    """Publish what an export wrote below `folder` at `root` of an fsspec file system.

    Args:
        fs: The file system.
        root: The address's path in it.
        folder: Where the export was written.
        targets: Files and folders of the export; what the address has of others stays.
        told: Hears of how many files are uploaded, and of how many.

    Raises:
        StoreError: The file system refuses; the same export carries on.

    """
    tops = tuple(targets)
    fresh = _files_below(folder, tops)
    try:
        index = _read_index(fs, root)
        same = {path: digest for path, digest in fresh.items() if index.files.get(path) == digest}
        kept = {path: digest for path, digest in index.files.items() if not _is_in(path, tops)}
        changed = sorted((path for path in fresh if path not in same), key=_order)
        before = [path for path in {*index.files, *index.changing} if _is_in(path, tops)]
        stale = [path for path in before if path not in fresh]
        elsewhere = [path for path in index.changing if not _is_in(path, tops)]
        index = _Index({**kept, **same}, {*changed, *stale, *elsewhere})
        if changed or stale:
            _write_index(fs, root, index)
        for done, path in enumerate(changed):
            if told is not None:
                told(done, len(changed))
            _make_folder(fs, f"{root}/{path}".rpartition("/")[0])
            fs.put_file(str(folder / path), f"{root}/{path}")
            index.finish(path, fresh[path])
            if index.is_due():
                _write_index(fs, root, index)
        for path in stale:
            _delete(fs, f"{root}/{path}")
        _write_index(fs, root, _Index(index.files, set(elsewhere)))
    except Exception as error:  # fsspec's back ends raise their vendors' own types
        raise StoreError(
            f"cannot export to {fs.unstrip_protocol(root)}: {type(error).__name__}: {error}; the "
            "same command carries on"
        ) from error


@dataclass
class _Index:
    """What an address has: files with their digests, and those that are or were being changed."""

    files: Files
    changing: set[str]
    written: float = field(default_factory=time.monotonic)

    def finish(self, path: str, digest: str) -> None:
        """Note that a file is what it shall be."""
        self.files[path] = digest
        self.changing.discard(path)

    def is_due(self) -> bool:
        """Whether it should be written down by now: what is not would be uploaded again."""
        return time.monotonic() - self.written > _AT_RISK


def _files_below(folder: Path, tops: tuple[str, ...]) -> Files:
    """Every file of the export and its digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(ROOM) and _is_in(name, tops):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _is_in(path: str, tops: tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def _order(path: str) -> tuple[bool, str]:
    """Tables of files after the files."""
    deep = path.count("/") > 1
    return not deep and Path(path).suffix in _TABLES, path


def _read_index(fs: Any, root: str) -> _Index:
    try:
        fs.invalidate_cache()
        found: dict[str, Any] = orjson.loads(fs.cat_file(f"{root}/{INDEX}"))
    except (FileNotFoundError, orjson.JSONDecodeError):
        return _Index({}, set())
    return _Index(found.get("files", {}), set(found.get("changing", ())))


def _write_index(fs: Any, root: str, index: _Index) -> None:
    index.written = time.monotonic()
    text = {
        "complete": not index.changing,
        "files": index.files,
        "changing": sorted(index.changing),
    }
    _make_folder(fs, root)
    fs.pipe_file(f"{root}/{INDEX}", orjson.dumps(text, option=orjson.OPT_SORT_KEYS))


def _make_folder(fs: Any, path: str) -> None:
    """Make a folder where there are any; a bucket that does not exist is a mistake."""
    kinds = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if not kinds & _BUCKETS:
        fs.makedirs(path, exist_ok=True)


def _delete(fs: Any, path: str) -> None:
    try:
        fs.rm_file(path)
    except FileNotFoundError:
        return
