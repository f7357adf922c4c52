"""Which tasks have changed in Label Studio: found by comparing an index with the catalog.

Label Studio stamps a task whenever its annotations or data change, after it has stored the
change. So a task whose stamp (`updated_at`) is the one in the catalog has nothing new, and one
that is read under a stamp is at least as new as that. The catalog's stamp is written with the
annotations in one transaction: a pull that was cut off anywhere is carried on by the next one.

The cursor says from which stamp on tasks are looked at. It only follows Label Studio's clock at
a distance, because a stamp can show later than it says, by as long as a request may take to be
written down. Deleted tasks leave no stamp behind; they are found by counting. Whatever escapes
both (a stamp that shows later still, a deletion that a late arrival makes up for) is found by
comparing the index with the catalog without regard to the cursor, one page of it at each pull.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ml_backend.loop.context import Context
from ml_backend.store.rows import Project
from ml_backend.studio.models import TaskInfo

OVERLAP = timedelta(seconds=10)  # how much later a stamp may show than it says
RECENT = 100  # so many tasks may be looked at again each time; of more, the overlap is waited out
RANGE = 100  # tasks among which a missing one is looked for by listing them, not by counting

Told = Callable[[int, int], None]
"""Told how many of how many tasks have been looked at."""


class Pull:
    """One pass over the tasks that changed after the project's cursor."""

    def __init__(self, context: Context, project: Project) -> None:
        self._context = context
        self._project = project
        self._asked = context.studio.clock
        self._newest = project.cursor or ""
        self._recent = 0

    def tasks(self, told: Told) -> Iterator[TaskInfo]:
        """Tasks that the catalog does not have as they are, with annotations and predictions.

        Those that are taken must be stored before the cursor is.
        """
        studio, done, total = self._context.studio, 0, 0
        for page in studio.changes(self._project.id, self._project.cursor):
            total = max(total, done + page.total)
            self._note(list(page.moments.values()))
            known = self._context.catalog.work.moments(page.moments)
            waiting = [key for key, moment in page.moments.items() if known.get(key) != moment]
            done += len(page.moments) - len(waiting)
            told(done, total)
            for info in studio.read_tasks(self._project.id, waiting, predictions=True):
                yield info
                done += 1
                told(done, total)

    def _note(self, moments: Sequence[str]) -> None:
        if self._asked is None and moments:  # a server that tells no time is not behind its stamps
            self._asked = datetime.fromisoformat(max(moments))
        self._newest = max(self._newest, *moments, "")
        self._recent += sum(moment > self._safe() for moment in moments)

    def _safe(self) -> str:
        """Stamps up to here were all to be seen when the pass began."""
        return "" if self._asked is None else _stamp(self._asked - OVERLAP)

    @property
    def cursor(self) -> str | None:
        """Where the next pass begins, once all tasks have been taken and stored."""
        return max(self._project.cursor or "", min(self._newest, self._safe())) or None

    @property
    def patience(self) -> timedelta:
        """How long to wait before another pass, if so much changed just now that it pays.

        After a large import every pass would look at all of it until the next change.
        """
        now = self._context.studio.clock
        if now is None or self._recent <= RECENT:
            return timedelta()
        longest = OVERLAP + timedelta(seconds=1)  # clocks in answers have no fractions
        wait = datetime.fromisoformat(self._newest) + longest - now
        return min(max(wait, timedelta(microseconds=1)), longest)


@dataclass(frozen=True)
class Compared:
    """What a page of the index says: tasks to be read, tasks that are gone, and where it ends.

    `end` is the last task looked at, or 0 when that was the last one there is.
    """

    changed: list[int]
    gone: list[int]
    end: int


def compare_page(context: Context, project: Project) -> Compared:
    """Compare the page of the index after `project.compared` with the catalog, whatever the stamps.

    Tasks that are made meanwhile have higher ids than the page, and are not taken for gone.
    """
    newest = context.catalog.work.newest(project.id)  # before the page: it can only grow
    first = project.compared + 1
    page = next(iter(context.studio.changes(project.id, first=first)))
    complete = page.total <= len(page.moments)
    end = max(page.moments, default=0)
    known = context.catalog.work.stamps(project.id, first, max(end, newest) if complete else end)
    return Compared(
        [number for number, moment in page.moments.items() if known.get(number) != moment],
        [number for number in known if number not in page.moments],
        0 if complete else end,
    )


def differing(context: Context, project_id: int) -> tuple[list[int], list[int]]:
    """Tasks that only the catalog has, and tasks that only Label Studio has.

    Counts halve the ids until few are left, so that one deleted task of thousands is found
    with a handful of small requests. What a range lost and gained at once is left to
    `compare_page`.
    """
    here = context.catalog.work.task_ids(project_id)
    there = context.studio.count_tasks(project_id)
    gone: list[int] = []
    missed: list[int] = []
    ranges: list[tuple[list[int], int, int | None, int]] = [(here, 1, None, there)]
    while ranges:
        ids, first, last, count = ranges.pop()
        if len(ids) == count:
            continue
        if max(len(ids), count) <= RANGE or len(ids) < 2:
            listed = {
                number
                for page in context.studio.changes(project_id, first=first, last=last)
                for number in page.moments
            }
            gone += [number for number in ids if number not in listed]
            missed += sorted(listed.difference(ids))
            continue
        half = len(ids) // 2
        cut = ids[half]
        lower = context.studio.count_tasks(project_id, first, cut - 1)
        ranges.append((ids[:half], first, cut - 1, lower))
        ranges.append((ids[half:], cut, last, count - lower))
    return gone, missed


def _stamp(moment: datetime) -> str:
    """Spell a moment as stamps are spelt, so that they compare as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
