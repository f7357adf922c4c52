"""What an export asks of the catalog, some images at a time, and what it remembers of them."""

from collections.abc import Collection, Mapping
from itertools import islice

from sqlalchemy import case, func, select

from ml_backend.store.database import Database, upsert
from ml_backend.store.pool_tables import as_image
from ml_backend.store.rows import Image
from ml_backend.store.schema import annotations, exports, images, tasks, tiles

_AT_ONCE = 500  # rows a transaction


class Exports:
    """Images by name, their tasks, and the state in which each was exported last."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, project_id: int, after: str, limit: int) -> list[Image]:
        """The next images behind the name `after`, at most `limit`, quarantined ones left out.

        By name, code point by code point, whatever the database's own order of letters is.
        """
        is_sqlite = self._database.engine.dialect.name == "sqlite"
        name = images.c.name.collate("BINARY" if is_sqlite else "C")
        query = select(images).where(
            images.c.project_id == project_id, images.c.status == "ready", name > after
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(name).limit(limit)).all()
        return [as_image(row) for row in rows]

    def count(self, project_id: int) -> int:
        """How many images `page` gives in all."""
        query = select(func.count()).where(
            images.c.project_id == project_id, images.c.status == "ready"
        )
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def changes(self, project_id: int, image_ids: Collection[int]) -> dict[int, str]:
        """When an annotation of each image changed last, by Label Studio's clock.

        One that was deleted changed when its task did last; of deleted tasks it is not known.
        """
        changed = func.max(
            case((annotations.c.deleted, tasks.c.updated_at), else_=annotations.c.updated_at)
        )
        query = (
            select(tiles.c.image_id, changed.label("changed"))
            .join(tasks, tasks.c.tile_id == tiles.c.id)
            .join(annotations, annotations.c.task_id == tasks.c.id)
            .where(annotations.c.project_id == project_id, tiles.c.image_id.in_(image_ids))
            .group_by(tiles.c.image_id)
        )
        with self._database.read() as connection:
            return {row.image_id: row.changed or "" for row in connection.execute(query)}

    def showing(self, project_id: int, image_ids: Collection[int]) -> dict[int, list[int]]:
        """Ids of the tasks that show each image or a tile of it, in order."""
        query = (
            select(tiles.c.image_id, tasks.c.id)
            .join(tasks, tasks.c.tile_id == tiles.c.id)
            .where(
                tasks.c.project_id == project_id,
                ~tasks.c.deleted,
                tiles.c.image_id.in_(image_ids),
            )
            .order_by(tasks.c.id)
        )
        found: dict[int, list[int]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found.setdefault(row.image_id, []).append(row.id)
        return found

    def states(self, image_ids: Collection[int]) -> dict[int, str]:
        """The state in which each image was exported last, for those that were."""
        query = select(exports).where(exports.c.image_id.in_(image_ids))
        with self._database.read() as connection:
            return {row.image_id: row.state for row in connection.execute(query)}

    def save(self, project_id: int, states: Mapping[int, str]) -> None:
        """Remember in which state images were exported."""
        rows = (
            {"image_id": image_id, "project_id": project_id, "state": state}
            for image_id, state in states.items()
        )
        while part := list(islice(rows, _AT_ONCE)):
            with self._database.write() as connection:
                upsert(connection, exports, part)
