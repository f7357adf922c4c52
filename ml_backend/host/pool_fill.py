"""The pool of a project that `brushloop up` fills: enough for a first batch at once, then all."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml_backend.host.progress_log import Say
from ml_backend.loop.context import Context
from ml_backend.loop.pool import PoolReport, add_folder
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_values import Values

FIRST = 200  # files: seconds of reading, and more kinds of images than a batch has tasks
EVERY = 10.0  # seconds between two lines


@dataclass(frozen=True)
class Pictures:
    """What to fill the pool from: folders, or addresses of any kind that `pool add` takes.

    `truths` are masks that only the scripted annotator knows.
    """

    images: Path | str
    truths: Path | str | None
    sources: Path | str | None
    source_masks: Path | str | None
    labels: tuple[str, ...]
    values: Values | None = None
    match: Match = "name"


class PoolFill:
    """Adds pictures to a project and says how far it is.

    `look` is called about once a second meanwhile.
    """

    def __init__(
        self,
        context: Context,
        project_id: int,
        pictures: Pictures,
        say: Say,
        look: Callable[[], None],
    ) -> None:
        self._context, self._project_id, self._pictures = context, project_id, pictures
        self._say, self._look = say, look
        self._said = self._looked = time.monotonic()
        self._begun = self._has_sources = False
        self._done, self._doing = 0, "looked at"

    def begin(self) -> bool:
        """Add a part of a large pool, spread over all; returns whether anything is left."""
        self._begun = True
        self._say(f"filling the pool from {self._pictures.images}")
        report = self._add(FIRST)
        if report.rest:
            self._say(f"  {report.images} images from all over it first, {report.rest} are left")
        else:
            self._tell(report)
        return report.rest > 0

    def finish(self) -> None:
        """Add everything that is not there yet."""
        part = "the rest of " if self._begun else ""
        self._say(f"filling {part}the pool from {self._pictures.images}")
        self._tell(self._add(None))

    def _add(self, first: int | None) -> PoolReport:
        self._done, self._doing = 0, "looked at"
        pictures, masks = self._pictures, self._pictures.source_masks
        if pictures.sources is not None:
            if not self._has_sources:
                add_folder(self._context, self._project_id, pictures.sources, masks=masks,
                           progress=self._progress)  # fmt: skip
                self._has_sources = True
            masks = None
        return add_folder(
            self._context, self._project_id, pictures.images, masks=masks,
            values=pictures.values, match=pictures.match, first=first, progress=self._progress,
        )  # fmt: skip

    def _progress(self, done: int, total: int, _name: str) -> None:
        now = time.monotonic()
        if done < self._done:  # `add_folder` goes over all of them twice
            self._doing = "added"
        self._done = done
        if now - self._looked >= 1:
            self._looked = now
            self._look()
        if now - self._said >= EVERY:
            self._said = now
            self._say(f"  {done} of {total} files {self._doing}")

    def _tell(self, report: PoolReport) -> None:
        self._say(f"  {report.images} images, {report.tiles} tiles to ask about")
        for line in report.summary.lines():
            self._say(f"  {line}")
