"""The files below a folder or any fsspec address, by their endings; the rest is told."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from urllib.parse import quote

from ml_backend.errors import DataError, NotFound, StoreError
from ml_backend.store.addresses import file_system
from ml_backend.store.blobs import local_folder, natural_order
from ml_backend.store.endings import SUFFIXES, way_out
from ml_backend.store.summary import Summary

Tell = Callable[[str, str], None]


@dataclass(frozen=True)
class ListedFile:
    """A file that was found.

    `name`: its path below the listed folder as it was found, `/` between folders; bytes that are
    not UTF-8 stand in it as surrogates. `uri`: its absolute path or fsspec address, which is plain
    text. `size` in bytes.
    """

    name: str
    uri: str
    size: int

    def read(self) -> bytes:
        """Return all its bytes. Raises `DataError` with the reason if that fails."""
        with self.open() as file:
            try:
                return file.read()
            except Exception as error:  # fsspec's back ends raise their vendors' own types
                raise DataError(f"{shown(self.name)} cannot be read: {_reason(error)}") from error

    def open(self) -> BinaryIO:
        """Open it for reading, seekable: of a remote file only what is read is fetched."""
        try:
            path = local_folder(self.uri)
            if path is not None:
                return path.open("rb")
            fs, place = file_system(self.uri)
            return cast("BinaryIO", fs.open(place, "rb"))
        except Exception as error:  # fsspec's back ends raise their vendors' own types
            raise DataError(f"{shown(self.name)} cannot be read: {_reason(error)}") from error


def list_files(
    address: Path | str,
    summary: Summary | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> list[ListedFile]:
    """Return the files at `address` and below with one of `suffixes`, in natural order.

    `address`: a folder, one file, or any fsspec address of either (`s3://bucket/scans`). Links to
    folders are followed, each folder is listed once. What is not returned is noted in `summary` as
    `passed_over`: hidden files and folders, other endings, dangling links, folders that cannot be
    opened. Raises `NotFound` if there is nothing at `address`, `StoreError` if it cannot be listed.
    """
    told = Summary() if summary is None else summary
    folder = local_folder(str(address))
    found = _remote(str(address)) if folder is None else _local(folder, _teller(told))
    kept = []
    for file in found:
        why = why_not_read(file.name, suffixes)
        if why is None:
            kept.append(file)
        else:
            told.add("passed_over", shown(file.name), why)
    kept.sort(key=lambda file: natural_order(file.name))
    return kept


def shown(name: str) -> str:
    """Give a name as it can be printed on a line: what cannot is written as an escape."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )


def file_uri(path: Path) -> str:
    """The address of a local file as plain text: its path, or a `file:` URL if it is not UTF-8."""
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(text))
    return text


def absolute(address: Path | str) -> str:
    """The address as it holds in every working folder: local paths become absolute."""
    path = local_folder(str(address))
    return str(address) if path is None else file_uri(path)


def _teller(summary: Summary) -> Tell:
    return lambda name, why: summary.add("passed_over", shown(name), why)


def why_not_read(name: str, suffixes: Collection[str]) -> str | None:
    """Why a file is passed over, or None."""
    if any(part.startswith(".") for part in name.split("/")):
        return "hidden"
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in suffixes:
        return None
    told = way_out(name)
    if told is not None:
        return told
    return f"{shown(suffix)} files are not read" if suffix else "no ending"


def _local(root: Path, tell: Tell) -> Iterator[ListedFile]:
    if root.is_file():
        yield ListedFile(root.name, file_uri(root), root.stat().st_size)
        return
    if not root.is_dir():
        raise NotFound(f"{root} is not a folder; give one that holds images")
    seen: set[tuple[int, int]] = set()
    linked = [root]
    while linked:  # folders before links to folders, so that links give no second name
        folders = [linked.pop(0)]
        while folders:
            folder = folders.pop()
            inside = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
            try:
                state = folder.stat()
                if (state.st_dev, state.st_ino) in seen:
                    tell(inside, "a link to a folder that is listed already")
                    continue
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                if folder == root:
                    raise StoreError(f"{root} cannot be listed: {error.strerror}") from None
                tell(inside, f"a folder that cannot be opened ({error.strerror})")
                continue
            seen.add((state.st_dev, state.st_ino))
            yield from _entries(entries, inside, folders, linked, tell)


def _entries(
    entries: Iterable[os.DirEntry[str]],
    inside: str,
    folders: list[Path],
    linked: list[Path],
    tell: Tell,
) -> Iterator[ListedFile]:
    """Give the files of a folder; its sub-folders are added to `folders` or `linked`."""
    for entry in entries:
        name = inside + entry.name
        try:
            if entry.is_dir():
                if entry.name.startswith("."):
                    tell(f"{name}/", "hidden")
                else:
                    (linked if entry.is_symlink() else folders).append(Path(entry.path))
            elif entry.is_file():
                yield ListedFile(name, file_uri(Path(entry.path)), entry.stat().st_size)
            elif entry.is_symlink():
                tell(name, "a link to nothing")
            else:
                tell(name, "neither a file nor a folder")
        except OSError as error:
            tell(name, f"cannot be read ({error.strerror})")


def _remote(address: str) -> Iterator[ListedFile]:
    fs, root = file_system(address)
    root = root.rstrip("/")
    try:
        fs.invalidate_cache()  # others write to the same bucket
        found = fs.find(root, detail=True)  # one listing, which object stores give in pages
        there = found or fs.exists(root)
    except FileNotFoundError:
        there = False
    except Exception as error:  # fsspec's back ends raise their vendors' own types
        raise StoreError(f"{address} cannot be listed: {_reason(error)}") from error
    if not there:
        raise NotFound(f"there is nothing at {address}; give one that holds images")
    for path, facts in found.items():
        name = path.removeprefix(root).lstrip("/") or path.rsplit("/", 1)[-1]
        if not name.endswith("/"):  # what stands for a folder in some buckets
            yield ListedFile(name, fs.unstrip_protocol(path), int(facts.get("size") or 0))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
