"""Rounds, and what was computed for choosing them: scores and predictions of tiles."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, Row, func, insert, select, update

from ml_backend.store.database import Database, upsert, utc_now
from ml_backend.store.rows import Chosen, Numbers, Prediction, Round
from ml_backend.store.schema import predictions, round_tiles, rounds, scores, tiles


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

    def save_scores(self, model: str, passes: str, numbers: dict[int, Numbers]) -> None:
        """Keep one row of scores a tile."""
        rows = [
            {"tile_id": tile_id, "model": model, "passes": passes, "numbers": row}
            for tile_id, row in numbers.items()
        ]
        with self._database.write() as connection:
            upsert(connection, scores, rows)

    def scores(self, project_id: int, model: str, passes: str) -> dict[int, Numbers]:
        """Tile → its scores under this model."""
        query = (
            select(scores.c.tile_id, scores.c.numbers)
            .join(tiles, tiles.c.id == scores.c.tile_id)
            .where(
                tiles.c.project_id == project_id,
                scores.c.model == model,
                scores.c.passes == passes,
            )
        )
        with self._database.read() as connection:
            return {row.tile_id: row.numbers for row in connection.execute(query)}

    def save_predictions(self, rows: Sequence[Prediction]) -> None:
        """Keep what a model said, ready for Label Studio."""
        with self._database.write() as connection:
            upsert(connection, predictions, [asdict(row) for row in rows])

    def predictions(self, model: str, tile_ids: Iterable[int]) -> dict[int, Prediction]:
        """Tile → prediction of this model, for those there are."""
        wanted = sorted(set(tile_ids))
        found: dict[int, Prediction] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), 500):
                query = select(predictions).where(
                    predictions.c.model == model,
                    predictions.c.tile_id.in_(wanted[start : start + 500]),
                )
                for row in connection.execute(query):
                    found[row.tile_id] = Prediction(
                        row.tile_id, row.model, row.score, row.result, row.shown
                    )
        return found

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
