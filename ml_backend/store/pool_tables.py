"""Images and tiles: what there is to ask about."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, exists, func, insert, or_, select, update

from ml_backend.errors import NotFound
from ml_backend.store.database import Database
from ml_backend.store.frames import Frame
from ml_backend.store.rows import Image, Labelled, Tile
from ml_backend.store.schema import annotations, images, round_tiles, tasks, tiles

Box = tuple[int, int, int, int]  # x, y, width, height


class PoolTables:
    """The images of a project and the tiles cut from them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_image(self, project_id: int, image: Image, boxes: Sequence[Box]) -> Image:
        """Add an image and its tiles in one transaction; returns it with its id.

        An image whose name is there keeps its id and its split: only its place, status and
        mask are brought up to date, and tiles that are missing are added.
        """
        self.add_images(project_id, [(image, boxes)])
        with self._database.read() as connection:
            query = select(images).where(images.c.project_id == project_id)
            row = connection.execute(query.where(images.c.name == image.name)).one()
        return as_image(row)

    def add_images(self, project_id: int, rows: Iterable[tuple[Image, Sequence[Box]]]) -> None:
        """Add images and their tiles as `add_image` does, all of them in one transaction."""
        given = {image.name: (image, boxes) for image, boxes in rows}
        with self._database.write() as connection:
            ids, present = _present(connection, project_id, list(given))
            fresh = []
            for name, (image, _) in given.items():
                if name not in ids:
                    fresh.append({"project_id": project_id, **_values(image)})
                    continue
                known = ids[name]
                if replace(image, split=known.split, id=known.id) != known:
                    values = _values(image) | {"split": known.split}
                    connection.execute(update(images).where(images.c.id == known.id).values(values))
            numbers = {name: known.id for name, known in ids.items()}
            if fresh:
                insertion = insert(images).returning(
                    images.c.name, images.c.id, sort_by_parameter_order=True
                )
                numbers |= dict(tuple(row) for row in connection.execute(insertion, fresh))
            missing = [
                {"project_id": project_id, "image_id": numbers[name]}
                | dict(zip(("x", "y", "width", "height"), box, strict=True))
                for name, (_, boxes) in given.items()
                for box in boxes
                if (numbers[name], *box) not in present
            ]
            if missing:
                connection.execute(insert(tiles), missing)

    def images(self, project_id: int) -> list[Image]:
        """Every image of the project, by id, quarantined ones included."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(images).where(images.c.project_id == project_id).order_by(images.c.id)
            ).all()
        return [as_image(row) for row in rows]

    def find_image(self, project_id: int, name: str) -> Image | None:
        """The image of this name, or None."""
        with self._database.read() as connection:
            row = connection.execute(
                select(images).where(images.c.project_id == project_id, images.c.name == name)
            ).first()
        return as_image(row) if row else None

    def find_content(self, project_id: int, sha256: str) -> Image | None:
        """The oldest readable image with this content, whatever its name, or None."""
        query = select(images).where(
            images.c.project_id == project_id, images.c.sha256 == sha256, images.c.width > 0
        )
        with self._database.read() as connection:
            row = connection.execute(query.order_by(images.c.id)).first()
        return as_image(row) if row else None

    def count(self, project_id: int, role: str) -> int:
        """Count the images of a role, quarantined ones included, pages of stacks not."""
        query = select(func.count()).where(
            images.c.project_id == project_id, images.c.role == role, images.c.stack.is_(None)
        )
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def tiles_of(self, image_id: int) -> list[Tile]:
        """Every tile of one image, by id."""
        return self._tiles(_TILE.where(tiles.c.image_id == image_id))

    def quarantine(self, image_id: int, reason: str) -> None:
        """Set an image aside; it is neither asked about nor learned from."""
        with self._database.write() as connection:
            statement = update(images).where(images.c.id == image_id)
            connection.execute(statement.values(status="quarantined", reason=reason))

    def tiles(self, project_id: int) -> list[Tile]:
        """Every tile of a ready pool image, by id."""
        return self._tiles(_READY.where(tiles.c.project_id == project_id))

    def tile(self, tile_id: int) -> Tile:
        """One tile. Raises `NotFound`."""
        found = self._tiles(_TILE.where(tiles.c.id == tile_id))
        if not found:
            raise NotFound(f"tile {tile_id} is not in the catalog")
        return found[0]

    def by_ids(self, tile_ids: Iterable[int]) -> dict[int, Tile]:
        """Tiles by id; ids that are not there are left out."""
        wanted = sorted(set(tile_ids))
        found: dict[int, Tile] = {}
        for start in range(0, len(wanted), 500):  # SQLite bounds the number of parameters
            part = wanted[start : start + 500]
            found |= {tile.id: tile for tile in self._tiles(_TILE.where(tiles.c.id.in_(part)))}
        return found

    def among(self, tile_ids: Select[tuple[int | None]]) -> dict[int, Tile]:
        """Tiles by id, of those ids that a query finds: one statement, however many they are."""
        return {tile.id: tile for tile in self._tiles(_TILE.where(tiles.c.id.in_(tile_ids)))}

    def unasked(self, project_id: int) -> list[Tile]:
        """Tiles that may still be chosen, by id: no round chose them, nobody annotated them.

        A tile that tasks show is one of them while a task of it is open. A picture that is there
        under several names is one: the first of them stands for all.
        """
        seen = {tile.content for tile in self.asked(project_id)}
        found = []
        for tile in self._tiles(_UNASKED.where(tiles.c.project_id == project_id)):
            if tile.content not in seen:
                seen.add(tile.content)
                found.append(tile)
        return found

    def any_unasked(self, project_id: int) -> bool:
        """Whether there is anything that may still be chosen."""
        with self._database.read() as connection:
            query = _UNASKED.where(tiles.c.project_id == project_id).limit(1)
            if connection.execute(query).first() is None:
                return False
        return bool(self.unasked(project_id))  # what is left may be twins of what was asked

    def asked(self, project_id: int) -> list[Tile]:
        """Tiles of ready images that may not be chosen any more, by id."""
        ready = images.c.status == "ready"
        return self._tiles(_TILE.where(tiles.c.project_id == project_id, ready, _ASKED))

    def sources(self, project_id: int) -> list[Labelled]:
        """Images that came with their masks, as labelled tiles."""
        query = _TILE.where(
            tiles.c.project_id == project_id,
            images.c.role == "source",
            images.c.status == "ready",
        )
        return [
            Labelled(tile, tile.image.mask)
            for tile in self._tiles(query)
            if tile.image.mask and tile.whole  # parts were cut before the mask came
        ]

    def _tiles(self, query: Select[tuple[object, ...]]) -> list[Tile]:
        with self._database.read() as connection:
            rows: Any = connection.execute(query.order_by(tiles.c.id)).all()
        by_image: dict[int, Image] = {}
        found = []
        # by position: asking thousands of rows for their columns by name takes most of the time
        for tile_id, _, image_id, x, y, width, height, *values in rows:
            if image_id not in by_image:
                by_image[image_id] = _image(values)
            found.append(Tile(tile_id, by_image[image_id], x, y, width, height))
        return found


_IMAGE_COLUMNS = (  # in the order of `Image`
    "name", "uri", "sha256", "width", "height", "role", "split", "status", "reason", "mask",
    "stack", "frame", "original",
)  # fmt: skip
_TILE: Select[tuple[object, ...]] = select(
    tiles, *(images.c[name].label(f"image_{name}") for name in (*_IMAGE_COLUMNS, "id"))
).join(images, images.c.id == tiles.c.image_id)
_READY = _TILE.where(images.c.role == "pool", images.c.status == "ready")
_TASK = tasks.c.tile_id == tiles.c.id
_ANSWER = exists().where(annotations.c.task_id == tasks.c.id, ~annotations.c.deleted)
_ASKED = or_(
    exists().where(round_tiles.c.tile_id == tiles.c.id),
    exists().where(_TASK, ~tasks.c.deleted, _ANSWER),
    and_(  # a tile of nothing but deleted tasks is one that people did not want
        exists().where(_TASK),
        ~exists().where(_TASK, ~tasks.c.deleted),
    ),
)
_UNASKED = _READY.where(~_ASKED)


_FRAME = _IMAGE_COLUMNS.index("frame")


def _present(
    connection: Connection, project_id: int, names: Sequence[str]
) -> tuple[dict[str, Image], set[tuple[int, int, int, int, int]]]:
    """Of these images those that are there, and their tiles: image, x, y, width, height."""
    known: dict[str, Image] = {}
    present: set[tuple[int, int, int, int, int]] = set()
    for start in range(0, len(names), 500):  # SQLite bounds the number of parameters
        part = names[start : start + 500]
        query = select(images).where(images.c.project_id == project_id, images.c.name.in_(part))
        found = {row.name: as_image(row) for row in connection.execute(query)}
        ids = [image.id for image in found.values()]
        box = (tiles.c.image_id, tiles.c.x, tiles.c.y, tiles.c.width, tiles.c.height)
        rows = connection.execute(select(*box).where(tiles.c.image_id.in_(ids)))
        present.update(tuple(row) for row in rows)
        known |= found
    return known, present


def _values(image: Image) -> dict[str, Any]:
    values = {key: getattr(image, key) for key in _IMAGE_COLUMNS}
    return values | {"frame": image.frame.as_json() or None}


def as_image(row: Row[tuple[object, ...]]) -> Image:
    """An image from a row of its table."""
    return _image([getattr(row, name) for name in (*_IMAGE_COLUMNS, "id")])


def _image(values: Sequence[Any]) -> Image:
    """An image from the values of its columns, in their order."""
    image = Image(*values)
    return replace(image, frame=Frame.parse(values[_FRAME]))
