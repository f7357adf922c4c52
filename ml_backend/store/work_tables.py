"""Tasks and annotations: what people were asked and what they answered."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, exists, func, select, update

from ml_backend.store.database import Database, upsert
from ml_backend.store.pool_tables import PoolTables
from ml_backend.store.rows import Annotation, Labelled, Task
from ml_backend.store.schema import annotations, merges, tasks, tiles
from ml_backend.store.schema import images as images_table


class Work:
    """Label Studio's tasks and annotations as we last saw them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pool = PoolTables(database)

    def save_tasks(self, project_id: int, rows: Sequence[Task]) -> None:
        """Add tasks or bring them up to date."""
        with self._database.write() as connection:
            upsert(connection, tasks, [{"project_id": project_id} | asdict(row) for row in rows])

    def tasks(self, project_id: int, *, open_only: bool = False) -> list[Task]:
        """Tasks that still exist, by id; `open_only`: those nobody has answered or skipped."""
        query = select(tasks).where(tasks.c.project_id == project_id, ~tasks.c.deleted)
        if open_only:
            query = query.where(~_answered())
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(tasks.c.id)).all()
        return [_task(row) for row in rows]

    def task(self, task_id: int) -> Task | None:
        """One task, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(tasks).where(tasks.c.id == task_id)).first()
        return _task(row) if row else None

    def any_task(self, task_ids: Iterable[int]) -> bool:
        """Whether any of these tasks is here, deleted or not."""
        wanted = sorted(set(task_ids))
        parts = (wanted[start : start + 500] for start in range(0, len(wanted), 500))
        return any(self._count(tasks.c.id.in_(part)) for part in parts)

    def task_ids(self, project_id: int) -> list[int]:
        """Ids of the tasks that still exist, in order."""
        query = select(tasks.c.id).where(tasks.c.project_id == project_id, ~tasks.c.deleted)
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(tasks.c.id)))

    def count(self, project_id: int) -> int:
        """How many tasks still exist."""
        return self._count(tasks.c.project_id == project_id, ~tasks.c.deleted)

    def waiting(self, project_id: int) -> int:
        """How many tasks that we pushed nobody has answered or skipped."""
        return self._count(
            tasks.c.project_id == project_id,
            ~tasks.c.deleted,
            tasks.c.round_id.is_not(None),
            ~_answered(),
        )

    def unfetched(self, project_id: int) -> list[Task]:
        """Open tasks whose image nobody has asked for yet, by id."""
        query = select(tasks).where(
            tasks.c.project_id == project_id, ~tasks.c.deleted, _unfetched(), ~_answered()
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(tasks.c.id)).all()
        return [_task(row) for row in rows]

    def existing(self, project_id: int, *, deleted: bool = False) -> dict[int, int | None]:
        """Tasks that no round chose → their tiles, if these are known; `deleted` ones as well."""
        query = select(tasks.c.id, tasks.c.tile_id).where(
            tasks.c.project_id == project_id, tasks.c.round_id.is_(None)
        )
        if not deleted:
            query = query.where(~tasks.c.deleted)
        with self._database.read() as connection:
            return {row.id: row.tile_id for row in connection.execute(query.order_by(tasks.c.id))}

    def assign_round(self, round_id: int, task_ids: Collection[int]) -> None:
        """Have tasks that were there before be those of a round."""
        with self._database.write() as connection:
            for task_id in task_ids:
                statement = update(tasks).where(tasks.c.id == task_id)
                connection.execute(statement.values(round_id=round_id))

    def first_answer(self, project_id: int) -> str | None:
        """When the first annotation was made that is still there, by Label Studio's clock."""
        query = select(func.min(annotations.c.created_at)).where(
            annotations.c.project_id == project_id, ~annotations.c.deleted
        )
        with self._database.read() as connection:
            moment: str | None = connection.scalar(query)
        return moment

    def moments(self, task_ids: Iterable[int]) -> dict[int, str]:
        """When tasks changed last, by Label Studio's clock, as of what is stored of them.

        Tasks that are not here, are deleted or have to be read again are left out.
        """
        wanted = sorted(task_ids)
        found: dict[int, str] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), 500):
                query = select(tasks.c.id, tasks.c.updated_at).where(
                    tasks.c.id.in_(wanted[start : start + 500]),
                    ~tasks.c.deleted,
                    tasks.c.updated_at.is_not(None),
                )
                found |= {row.id: row.updated_at for row in connection.execute(query)}
        return found

    def stamps(self, project_id: int, first: int, last: int) -> dict[int, str | None]:
        """`updated_at` of the tasks from `first` to `last` that still exist, by id."""
        query = select(tasks.c.id, tasks.c.updated_at).where(
            tasks.c.project_id == project_id, ~tasks.c.deleted, tasks.c.id.between(first, last)
        )
        with self._database.read() as connection:
            return {row.id: row.updated_at for row in connection.execute(query)}

    def newest(self, project_id: int) -> int:
        """Id of the last task that still exists; 0 without any."""
        query = select(func.max(tasks.c.id)).where(
            tasks.c.project_id == project_id, ~tasks.c.deleted
        )
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def unread(self, project_id: int, limit: int) -> list[Task]:
        """Tasks whose image could not be used, or of which it is not known when they changed.

        Of many, chance decides, so that none starves.
        """
        lacking = (tasks.c.tile_id.is_(None) & ~_unfetched()) | tasks.c.updated_at.is_(None)
        query = select(tasks).where(tasks.c.project_id == project_id, ~tasks.c.deleted, lacking)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(func.random()).limit(limit)).all()
        return [_task(row) for row in rows]

    def _count(self, *conditions: ColumnElement[bool]) -> int:
        with self._database.read() as connection:
            return int(connection.scalar(select(func.count()).where(*conditions)) or 0)

    def save_annotations(
        self, project_id: int, task_id: int, rows: Sequence[Annotation], task: Task | None = None
    ) -> tuple[int, int]:
        """Make `rows` the annotations of a task; those missing are marked deleted.

        `task`, if it is given, is saved with them or not at all. Returns how many are new and
        how many changed or went away.
        """
        before = {row.id: row for row in self.annotations(project_id, task_id=task_id)}
        now = {row.id: row for row in rows}
        gone = [row.id for row in before.values() if row.id not in now and not row.deleted]
        changed = [row for row in rows if before.get(row.id) != row]
        with self._database.write() as connection:
            if task is not None:
                upsert(connection, tasks, [{"project_id": project_id} | asdict(task)])
            upsert(
                connection,
                annotations,
                [{"project_id": project_id} | asdict(row) for row in changed],
            )
            if gone:
                statement = update(annotations).where(annotations.c.id.in_(gone))
                connection.execute(statement.values(deleted=True))
        fresh = sum(row.id not in before for row in changed)
        return fresh, len(changed) - fresh + len(gone)

    def mark_deleted(self, task_ids: Iterable[int]) -> int:
        """Tasks that Label Studio no longer has; their annotations go with them."""
        wanted = sorted(task_ids)
        with self._database.write() as connection:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                connection.execute(update(tasks).where(tasks.c.id.in_(part)).values(deleted=True))
                connection.execute(
                    update(annotations).where(annotations.c.task_id.in_(part)).values(deleted=True)
                )
        return len(wanted)

    def annotations(self, project_id: int, *, task_id: int | None = None) -> list[Annotation]:
        """Annotations by id, deleted ones included."""
        query = select(annotations).where(annotations.c.project_id == project_id)
        if task_id is not None:
            query = query.where(annotations.c.task_id == task_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(annotations.c.id)).all()
        return [_annotation(row) for row in rows]

    def labelled(self, project_id: int) -> list[Labelled]:
        """One mask for each tile that people finished: the latest of its `answers`."""
        return [rows[-1] for rows in self.answers(project_id)]

    def answers(
        self, project_id: int, images: Collection[int] | None = None
    ) -> list[list[Labelled]]:
        """For each tile that people finished its usable annotations, oldest change first.

        Where there is ground truth, the latest of it stands alone. `images`: only their tiles.
        """
        query = _usable(project_id)
        if images is not None:
            theirs = select(tiles.c.id).where(tiles.c.image_id.in_(images))
            query = query.where(tasks.c.tile_id.in_(theirs))
        with self._database.read() as connection:
            rows: Any = connection.execute(query).all()
        by_id = self._pool.among(query.with_only_columns(tasks.c.tile_id).order_by(None))
        found: dict[int, list[Labelled]] = {}
        for tile_id, mask, star, number, author, task_id in rows:
            tile = by_id.get(tile_id)  # None: it stopped counting between the two queries
            if tile is not None and tile.image.status == "ready":
                item = Labelled(tile, mask, number, author, task_id, star)
                found.setdefault(tile_id, []).append(item)
        return [
            [item for item in items if item.ground_truth][-1:] or items
            for _, items in sorted(found.items())
        ]

    def masks(self, project_id: int) -> dict[int, list[str]]:
        """The masks of the `answers` by their tiles, in the same order, in a fraction of the time.

        For what is asked after every pull: five thousand tiles make ten thousand objects.
        """
        query = _usable(project_id).join(tiles, tiles.c.id == tasks.c.tile_id)
        query = query.join(images_table, images_table.c.id == tiles.c.image_id)
        with self._database.read() as connection:
            rows: Any = connection.execute(query.where(images_table.c.status == "ready")).all()
        found: dict[int, list[str]] = {}
        stars: dict[int, str] = {}
        for tile_id, mask, star, *_ in rows:
            found.setdefault(tile_id, []).append(mask)
            if star:
                stars[tile_id] = mask
        return {
            tile_id: [stars[tile_id]] if tile_id in stars else masks
            for tile_id, masks in sorted(found.items())
        }

    def merged(self, project_id: int) -> dict[str, str]:
        """Masks that were made of several, by a digest of what they were made of."""
        query = select(merges.c.inputs, merges.c.mask).where(merges.c.project_id == project_id)
        with self._database.read() as connection:
            return {row.inputs: row.mask for row in connection.execute(query)}

    def save_merged(self, project_id: int, inputs: str, mask: str) -> None:
        """Remember what came of merging `inputs`."""
        row = {"inputs": inputs, "project_id": project_id, "mask": mask}
        with self._database.write() as connection:
            upsert(connection, merges, [row])


def _usable(project_id: int) -> Select[tuple[Any, ...]]:
    """Annotations that count: tile, mask, ground truth, id, author, task; oldest change first."""
    return (
        select(
            tasks.c.tile_id,
            annotations.c.mask,
            annotations.c.ground_truth,
            annotations.c.id,
            annotations.c.author,
            annotations.c.task_id,
        )
        .join(tasks, tasks.c.id == annotations.c.task_id)
        .where(
            annotations.c.project_id == project_id,
            annotations.c.usable,
            ~annotations.c.cancelled,
            ~annotations.c.deleted,
            ~tasks.c.deleted,
            tasks.c.tile_id.is_not(None),
        )
        .order_by(annotations.c.updated_at, annotations.c.id)
    )


def _unfetched() -> ColumnElement[bool]:
    """Whether nobody has asked for the image of a task: there is neither a tile nor a reason."""
    return tasks.c.tile_id.is_(None) & tasks.c.reason.is_(None)


def _answered() -> ColumnElement[bool]:
    """Whether somebody has answered or skipped a task."""
    return exists().where(annotations.c.task_id == tasks.c.id, ~annotations.c.deleted)


def _task(row: Row[tuple[object, ...]]) -> Task:
    return Task(row.id, row.tile_id, row.uri, row.round_id, row.updated_at, row.deleted, row.reason)


def _annotation(row: Row[tuple[object, ...]]) -> Annotation:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented access
    values.pop("project_id")
    return Annotation(**values)
