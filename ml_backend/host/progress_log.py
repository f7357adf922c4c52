"""What the jobs of a project do, in lines for the terminal that a person can leave open."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ml_backend.jobs.queues import JobView
from ml_backend.loop.context import Context
from ml_backend.loop.due import outlook, told

Say = Callable[[str], None]

# Their ends are told by what they lead to: a training, a batch.
UNTOLD = frozenset({"sync", "score"})


def failed_since(began: datetime, views: Sequence[JobView]) -> list[JobView]:
    """Jobs that failed for good after `began`: older failures are another start's."""
    again = {view.step for view in views if view.state in ("queued", "running")}
    return [
        view
        for view in views
        if view.state == "failed" and view.step not in again and _ended_since(began, view)
    ]


class ProgressLogger:
    """Says what is new in the jobs of a project: how far they are, what came of them, what failed.

    A running job is told not more often than every `every` seconds; an end and a failure at once,
    each a single time, if it came after `began`. `help_line`: what to do about a failure.
    """

    def __init__(
        self,
        say: Say,
        *,
        every: float,
        began: datetime | None = None,
        help_line: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._every, self._clock = say, every, clock
        self._began = began or datetime.now(UTC)
        self._help = help_line
        self._ended: dict[str, str] = {}
        self._text, self._at = "", -every

    def log(self, views: Sequence[JobView]) -> bool:
        """Say what is new; returns whether anything was."""
        ends = [view for view in views if self._is_new_end(view)]
        for view in sorted(ends, key=lambda view: view.ended_at or self._began):
            self._ended[view.step] = view.id
            self._log_end(view, views)
        return self._log_running(views) or bool(ends)

    def _is_new_end(self, view: JobView) -> bool:
        over = view.state in ("finished", "failed") and _ended_since(self._began, view)
        return over and self._ended.get(view.step) != view.id

    def _log_end(self, view: JobView, views: Sequence[JobView]) -> None:
        if view.state == "finished":
            if view.step not in UNTOLD and view.text:
                self._say(view.text)
            return
        waits = any(other.step == view.step and other.state == "queued" for other in views)
        rest = "it is tried again by itself" if waits else self._help
        self._say(f"{view.step} failed: {view.error}" + (f"; {rest}" if rest else ""))

    def _log_running(self, views: Sequence[JobView]) -> bool:
        running = [view.text for view in views if view.state == "running" and view.total]
        text = next((text for text in running if text), "")
        if not text or text == self._text or self._clock() - self._at < self._every:
            return False
        self._text, self._at = text, self._clock()
        self._say(f"  {text}")
        return True


class AnnotationLogger:
    """Says how many tiles are annotated after a sync that changed it, and what comes next."""

    def __init__(self, context: Context, project_id: int, say: Say) -> None:
        self._context, self._project_id, self._say = context, project_id, say
        self._sync = ""
        self._count = self._annotated()

    def log(self, views: Sequence[JobView]) -> None:
        """Look whether a sync has ended since the last call."""
        last = next((v.id for v in views if v.step == "sync" and v.state == "finished"), "")
        if last == self._sync:
            return
        self._sync = last
        if (count := self._annotated()) != self._count:
            self._count = count
            project = self._context.catalog.projects.get(self._project_id)
            lines = told(outlook(self._context, project), project.recipe, self._context.now())
            self._say("; ".join([f"{count} tiles annotated", *lines]))

    def _annotated(self) -> int:
        items = self._context.catalog.work.labelled(self._project_id)
        return sum(item.annotation_id is not None for item in items)


def _ended_since(began: datetime, view: JobView) -> bool:
    return view.ended_at is None or view.ended_at.astimezone(UTC) >= began
