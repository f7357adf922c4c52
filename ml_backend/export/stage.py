"""An export under way: where its files wait, and how it carries on after an interruption.

Everything is written to a hidden room in the export's folder and moved out of it at the end:

    .brushloop-export/new/       what will be published
    .brushloop-export/scratch/   what formats need meanwhile
    .brushloop-export/journal    what is exported, then a line for each finished image
    .brushloop-export/complete   nothing is missing: from here on the room is only published

A journal's line holds the image's name and key, the files it has, how long the growing files
were after it, and all counts. An export that finds a room of the same head takes over the images
that it would begin with as well, cuts the growing files back to there, and goes on behind them.
A line is written when all that it names is on the disk; because that takes longer than a small
image, lines are written together, once a second.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from ml_backend.export.items import Planned, Tally
from ml_backend.export.names import FileNames
from ml_backend.export.publish import (
    alone_in,
    publish,
    remove,
    sync,
    sync_folder,
    write_synced,
)

ROOM = ".brushloop-export"
_NEW, _SCRATCH, _COMPLETE = "new", "scratch", "complete"


class Part:
    """A format's share of an export under way. Paths are relative to the export's folder.

    `counts` survive an interruption; `notes` are what its readers should be told.
    """

    def __init__(self, stage: "Stage", counts: Mapping[str, int]) -> None:
        self._stage = stage
        self.counts = Counter(counts)
        self.notes: list[str] = []

    def names(self, suffix: str) -> FileNames:
        """Names for the images' files; those of finished images are given out already."""
        names = FileNames(suffix, self.notes)
        for name in self._stage.tally.names:
            names.take(name)
        return names

    def write(self, path: str, data: bytes) -> None:
        """Write a file at once."""
        self._stage.write(path, data)

    def folder(self, path: str) -> None:
        """Make a folder that may stay empty."""
        (self._stage.room / _NEW / path).mkdir(parents=True, exist_ok=True)

    def has_grown(self, path: str) -> bool:
        """Whether the file had been begun when the last finished image was written down."""
        return self._stage.has_grown(f"{_NEW}/{path}")

    def growing(self, path: str, *, scratch: bool = False) -> BinaryIO:
        """Open a file that grows with every image; it ends where the last finished one ended.

        `scratch`: it is not published. It is closed for the format.
        """
        return self._stage.growing(f"{_SCRATCH if scratch else _NEW}/{path}")


class Stage:
    """The room of an export under way; `at_risk`: seconds of work that a kill may cost."""

    def __init__(self, room: Path, head: bytes, tally: Tally, at_risk: float) -> None:
        self.room = room
        self.tally = tally
        self.finished = 0
        self.problems: list[tuple[str, str]] = []
        self._at_risk = at_risk
        self._kept = time.monotonic()
        self._lines: list[bytes] = []  # of the journal, not written yet
        self._head = head
        self._last: dict[str, Any] = {"sizes": {}, "counts": {}}
        self._parts: dict[str, Part] = {}
        self._growing: dict[str, BinaryIO] = {}
        self._files: list[str] = []
        self._journal = self._open_journal()

    def remaining(self, planned: Iterable[Planned]) -> Iterator[Planned]:
        """Take over the images that are finished; what there is left to do of `planned`."""
        coming = iter(planned)
        following: list[Planned] = []
        kept: set[str] = set()
        end = self._journal.tell()
        for line in self._journal:
            entry = _parsed(line)
            one = next(coming, None) if entry is not None else None
            if entry is None or one is None or not _is_of(entry, one):
                following = [] if one is None else [one]
                break
            self.tally.name(one.name)
            self._last = entry
            kept.update(entry["files"])
            end += len(line)
            self.finished += 1
        if self.finished:
            self.tally.restore(self._last["tally"])
        self._journal.seek(end)
        self._journal.truncate()
        self._sweep(kept)
        return chain(following, coming)

    def part(self, name: str) -> Part:
        """Open a format's share; to be called after `remaining`."""
        self._parts[name] = Part(self, self._last["counts"].get(name, {}))
        return self._parts[name]

    def write(self, path: str, data: bytes) -> None:
        """Write a file that belongs to the image under way."""
        write_synced(self.room / _NEW / path, data)
        self._files.append(path)

    def has_grown(self, path: str) -> bool:
        """Whether a file of the room is one of the growing ones of before."""
        return path in self._last["sizes"]

    def growing(self, path: str) -> BinaryIO:
        """Open a file of the room at the length it had after the last finished image."""
        place = self.room / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        self._growing[path] = file = place.open("rb+")
        file.seek(self._last["sizes"].get(path, 0))
        file.truncate()
        return file

    def finish(self, one: Planned, problem: str | None = None) -> None:
        """Note that an image is finished in every format, or left out for a problem.

        It is written down in time.
        """
        if problem is not None:
            self.problems.append((one.name, problem))
        entry = {
            "name": one.name,
            "key": one.key,
            "files": self._files,
            "sizes": {path: file.tell() for path, file in self._growing.items()},
            "counts": {name: part.counts for name, part in self._parts.items()},
            "tally": self.tally.numbers(),
            "problem": problem,
        }
        self._lines.append(orjson.dumps(entry) + b"\n")
        self._files = []
        self.finished += 1
        if time.monotonic() - self._kept >= self._at_risk:
            self.keep()

    def keep(self) -> None:
        """Write down what is finished, once it is on the disk."""
        for file in self._growing.values():
            sync(file)
        self._journal.writelines(self._lines)
        sync(self._journal)
        self._lines, self._kept = [], time.monotonic()

    def complete(self) -> None:
        """Write down that nothing is missing."""
        self.keep()
        write_synced(self.room / _COMPLETE, b"")
        sync_folder(self.room)

    def close(self) -> None:
        """Close every file."""
        for file in (*self._growing.values(), self._journal):
            file.close()

    def _open_journal(self) -> BinaryIO:
        """Open the journal behind its head; a room of another export is emptied."""
        path = self.room / "journal"
        if path.is_file():
            journal = path.open("rb+")
            if journal.readline() == self._head:
                return journal
            journal.close()
        remove(self.room)
        for place in (_NEW, _SCRATCH):
            (self.room / place).mkdir(parents=True)
        journal = path.open("wb+")
        journal.write(self._head)
        sync(journal)
        return journal

    def _sweep(self, kept: set[str]) -> None:
        """Remove the files of images that are not finished, and folders left empty."""
        new = self.room / _NEW
        kept |= {path.removeprefix(f"{_NEW}/") for path in self._last["sizes"]}
        for path in sorted(new.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(new).as_posix() not in kept:
                path.unlink()


@contextmanager
def staged(
    folder: Path, head: Any, tally: Tally, *, resumable: bool, at_risk: float
) -> Iterator[Stage]:
    """Open the room of an export into `folder`; publish it when the block ends well.

    `head` (JSON): whatever all files depend on. If the block raises, what stands in `folder`
    stays, and so does what is finished, if `resumable`: the same export carries on with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    room = folder / ROOM
    with alone_in(folder):
        if (room / _COMPLETE).exists():  # interrupted while it was published
            _publish(room, folder)
        if not resumable:
            remove(room)
        line = orjson.dumps(head, option=orjson.OPT_SORT_KEYS) + b"\n"
        stage = Stage(room, line, tally, at_risk)
        try:
            yield stage
            stage.complete()
        except BaseException:
            if resumable and stage.finished:
                with suppress(OSError):  # the disk may be full
                    stage.keep()
            stage.close()
            if not (resumable and stage.finished):
                remove(room)
            raise
        stage.close()
        _publish(room, folder)


def _publish(room: Path, folder: Path) -> None:
    publish(room / _NEW, room / "former", folder)
    remove(room)


def _is_of(entry: dict[str, Any], one: Planned) -> bool:
    """Whether an image was finished; one that was left out is tried again."""
    return bool((one.name, one.key, None) == (entry["name"], entry["key"], entry.get("problem")))


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Read a line of the journal; None where it was cut off."""
    try:
        entry: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if line.endswith(b"\n") else None
