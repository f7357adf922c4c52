"""Rounds, and what was computed for choosing them: scores and predictions of tiles."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, Select, func, insert, select, update

from ml_backend.store.database import Database, upsert, utc_now
from ml_backend.store.rows import Chosen, Numbers, Prediction, Round
from ml_backend.store.schema import (
    embeddings,
    predictions,
    round_tiles,
    rounds,
    scores,
    tasks,
    tiles,
)

Vector = NDArray[np.floating[Any]]


class Rounds:
    """The record of every round: complete enough to repeat it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, project_id: int, record: Round) -> Round:
        """Write down a round before anything of it reaches Label Studio."""
        with self._database.write() as connection:
            values = {
                key: value
                for key, value in asdict(record).items()
                if key not in {"id", "chosen", "created_at"}
            }
            statement = insert(rounds).values(project_id=project_id, created_at=utc_now(), **values)
            round_id = int(connection.execute(statement).inserted_primary_key[0])  # type: ignore[index]
            if record.chosen:
                connection.execute(
                    insert(round_tiles),
                    [
                        {"round_id": round_id, "rank": rank} | asdict(chosen)
                        for rank, chosen in enumerate(record.chosen)
                    ],
                )
            row = connection.execute(select(rounds).where(rounds.c.id == round_id)).one()
            return _round(connection, row)

    def next_number(self, project_id: int) -> int:
        """1 for the first round of a project."""
        query = select(func.max(rounds.c.number)).where(rounds.c.project_id == project_id)
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0) + 1

    def all(self, project_id: int) -> list[Round]:
        """Every round, oldest first."""
        query = select(rounds).where(rounds.c.project_id == project_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(rounds.c.number)).all()
            return [_round(connection, row) for row in rows]

    def newest(self, project_id: int) -> str | None:
        """When the last round was chosen, or None."""
        query = select(func.max(rounds.c.created_at)).where(rounds.c.project_id == project_id)
        with self._database.read() as connection:
            moment: str | None = connection.scalar(query)
        return moment

    def any(self, project_id: int, *, state: str | None = None) -> bool:
        """Whether there is a round at all, or one in this state."""
        query = select(rounds.c.id).where(rounds.c.project_id == project_id)
        if state is not None:
            query = query.where(rounds.c.state == state)
        with self._database.read() as connection:
            return connection.scalar(query.limit(1)) is not None

    def find_chosen(self, project_id: int, tile_id: object) -> tuple[int, int] | None:
        """(round id, tile id) of the round that chose a tile, or None.

        `tile_id` comes from a task's data, which people can edit: anything may be in it.
        """
        if not isinstance(tile_id, int) or not 0 < tile_id < 2**31:
            return None
        query = (
            select(round_tiles.c.round_id, round_tiles.c.tile_id)
            .join(rounds, rounds.c.id == round_tiles.c.round_id)
            .where(rounds.c.project_id == project_id, round_tiles.c.tile_id == tile_id)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return (row.round_id, row.tile_id) if row else None

    def mark_pushed(self, round_id: int) -> None:
        """Every tile of the round is a task in Label Studio."""
        with self._database.write() as connection:
            connection.execute(update(rounds).where(rounds.c.id == round_id).values(state="pushed"))

    def take_back(self, round_id: int, kept: Collection[int]) -> None:
        """Let a round have these of its tiles only, as pushed; without any it never was."""
        with self._database.write() as connection:
            of_round = round_tiles.c.round_id == round_id
            gone = round_tiles.delete().where(of_round, round_tiles.c.tile_id.not_in(kept))
            connection.execute(gone)
            if kept:
                connection.execute(
                    update(rounds).where(rounds.c.id == round_id).values(state="pushed")
                )
                return
            mine = tasks.c.round_id == round_id  # such as tasks that were deleted meanwhile
            connection.execute(update(tasks).where(mine).values(round_id=None))
            connection.execute(rounds.delete().where(rounds.c.id == round_id))

    def save_scores(
        self,
        model: str,
        passes: str,
        numbers: dict[int, Numbers],
        embeddings: Mapping[int, Vector] | None = None,
    ) -> None:
        """Keep one row of scores a tile, and what the model made of it, all of it or nothing."""
        rows = [
            {"tile_id": tile_id, "model": model, "passes": passes, "numbers": row}
            for tile_id, row in numbers.items()
        ]
        with self._database.write() as connection:
            upsert(connection, scores, rows)
            _save_embeddings(connection, model, embeddings or {})

    def scores(
        self, project_id: int, model: str, passes: str, names: Collection[str] | None = None
    ) -> dict[int, Numbers]:
        """Tile → its scores under this model, or those of these `names`."""
        found = {}
        with self._database.read() as connection:
            query = _scored(project_id, model, passes, scores.c.tile_id, scores.c.numbers)
            for row in connection.execute(query.execution_options(yield_per=1000)):
                kept = row.numbers.keys() if names is None else row.numbers.keys() & set(names)
                found[row.tile_id] = {name: row.numbers[name] for name in kept}
        return found

    def scored(self, project_id: int, model: str, passes: str) -> set[int]:
        """Ids of the tiles that have scores under this model."""
        with self._database.read() as connection:
            query = _scored(project_id, model, passes, scores.c.tile_id)
            return set(connection.scalars(query))

    def save_embeddings(self, source: str, vectors: Mapping[int, Vector]) -> None:
        """Keep what tiles look like to a model, or to whatever else `source` is."""
        with self._database.write() as connection:
            _save_embeddings(connection, source, vectors)

    def embeddings(self, project_id: int, source: str) -> dict[int, Vector]:
        """Tile → what it looks like to `source`, read-only float16."""
        query = (
            select(embeddings.c.tile_id, embeddings.c.vector)
            .join(tiles, tiles.c.id == embeddings.c.tile_id)
            .where(tiles.c.project_id == project_id, embeddings.c.source == source)
        )
        with self._database.read() as connection:
            rows = connection.execute(query.execution_options(yield_per=1000))
            return {row.tile_id: np.frombuffer(row.vector, "<f2") for row in rows}

    def save_predictions(self, rows: Sequence[Prediction]) -> None:
        """Keep what a model said, ready for Label Studio."""
        with self._database.write() as connection:
            upsert(connection, predictions, [asdict(row) for row in rows])

    def predictions(
        self, model: str, tile_ids: Iterable[int], key: str | None = None
    ) -> dict[int, Prediction]:
        """Tile → prediction of this model, for those there are; made by the recipe `key` only."""
        wanted = sorted(set(tile_ids))
        found: dict[int, Prediction] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), 500):
                query = select(predictions).where(
                    predictions.c.model == model,
                    predictions.c.tile_id.in_(wanted[start : start + 500]),
                )
                if key is not None:
                    query = query.where(predictions.c.key == key)
                for row in connection.execute(query):
                    found[row.tile_id] = Prediction(
                        row.tile_id, row.model, row.score, row.result, row.shown, row.note, row.key
                    )
        return found

    def noted(self, model: str) -> dict[int, str]:
        """Tile → note of this model's prediction, for those that have one, by tile."""
        query = select(predictions.c.tile_id, predictions.c.note).where(
            predictions.c.model == model, predictions.c.note.is_not(None)
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(predictions.c.tile_id))
            return {row.tile_id: row.note for row in rows}

    def mark_shown(self, model: str, tile_ids: Iterable[int]) -> None:
        """Label Studio has these predictions."""
        with self._database.write() as connection:
            for tile_id in tile_ids:
                connection.execute(
                    update(predictions)
                    .where(predictions.c.model == model, predictions.c.tile_id == tile_id)
                    .values(shown=True)
                )

    def predicted(self, model: str) -> set[int]:
        """Ids of the tiles that this model has predicted."""
        query = select(predictions.c.tile_id).where(predictions.c.model == model)
        with self._database.read() as connection:
            return set(connection.scalars(query))


def _scored(
    project_id: int, model: str, passes: str, *columns: ColumnElement[Any]
) -> Select[tuple[Any, ...]]:
    return (
        select(*columns)
        .join(tiles, tiles.c.id == scores.c.tile_id)
        .where(
            tiles.c.project_id == project_id,
            scores.c.model == model,
            scores.c.passes == passes,
        )
    )


def _save_embeddings(connection: Connection, source: str, vectors: Mapping[int, Vector]) -> None:
    rows = [
        {"tile_id": tile_id, "source": source, "vector": np.asarray(vector, "<f2").tobytes()}
        for tile_id, vector in vectors.items()
    ]
    upsert(connection, embeddings, rows)


def _round(connection: Connection, row: Row[tuple[object, ...]]) -> Round:
    query = select(round_tiles).where(round_tiles.c.round_id == row.id)
    chosen = tuple(
        Chosen(item.tile_id, item.score, item.why)
        for item in connection.execute(query.order_by(round_tiles.c.rank))
    )
    return Round(
        row.number,
        row.strategy,
        row.seed,
        row.model,
        row.settings,
        row.pool_size,
        row.pool_mean,
        row.batch_mean,
        row.state,
        chosen,
        row.id,
        row.created_at,
    )
