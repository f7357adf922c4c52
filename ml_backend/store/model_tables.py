"""Models, the gate's decisions, the epochs they were trained for, and the runs of every step."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, func, insert, select, update

from ml_backend.errors import NotFound
from ml_backend.store.database import Database, upsert, utc_now
from ml_backend.store.rows import Gate, Model, Numbers, Run
from ml_backend.store.schema import epochs, gates, models, runs


class Models:
    """Versions: candidate → current → archived, or candidate → rejected."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, project_id: int, *, parent: str | None, fingerprint: str) -> Model:
        """A new candidate with the next number, or the unfinished one of the same data.

        A training that was killed carries on under the version it had.
        """
        with self._database.write() as connection:
            row = connection.execute(
                select(models).where(
                    models.c.project_id == project_id,
                    models.c.status == "candidate",
                    models.c.fingerprint == fingerprint,
                )
            ).first()
            if row is None:
                highest = select(func.max(models.c.number)).where(models.c.project_id == project_id)
                number = (connection.scalar(highest) or 0) + 1
                version = f"p{project_id}-v{number}"
                values: dict[str, object] = {
                    "version": version,
                    "project_id": project_id,
                    "number": number,
                    "status": "candidate",
                    "parent": parent,
                    "fingerprint": fingerprint,
                    "card": {},
                    "created_at": utc_now(),
                }
                connection.execute(insert(models).values(values))
                row = connection.execute(select(models).where(models.c.version == version)).one()
        return _model(row)

    def all(self, project_id: int | None = None) -> list[Model]:
        """Every version, oldest first."""
        query = select(models).order_by(models.c.project_id, models.c.number)
        if project_id is not None:
            query = query.where(models.c.project_id == project_id)
        with self._database.read() as connection:
            return [_model(row) for row in connection.execute(query)]

    def learned(self, project_id: int) -> tuple[set[str], set[str]]:
        """What trainings that ended learned from.

        The fingerprints of all of them, and the masks of the last as its card names them.
        """
        ended = cast(models.c.card, Text) != "{}"
        query = select(models.c.version, models.c.fingerprint).where(
            models.c.project_id == project_id, ended
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(models.c.number)).all()
            if not rows:
                return set(), set()
            last = select(models.c.card).where(models.c.version == rows[-1].version)
            card = connection.scalar(last) or {}
        return {row.fingerprint for row in rows}, set(card.get("masks", ()))

    def get(self, project_id: int, version: str) -> Model:
        """One version. Raises `NotFound` that lists those there are."""
        found = {model.version: model for model in self.all(project_id)}
        if version not in found:
            names = ", ".join(found) or "none yet"
            raise NotFound(f"project {project_id} has no model {version!r}; it has: {names}")
        return found[version]

    def current(self, project_id: int) -> Model | None:
        """The version that is served, or None before the first promotion."""
        with self._database.read() as connection:
            row = connection.execute(
                select(models).where(
                    models.c.project_id == project_id, models.c.status == "current"
                )
            ).first()
        return _model(row) if row else None

    def settle(
        self,
        project_id: int,
        version: str,
        *,
        decision: str,
        numbers: Numbers,
        card: Numbers | None = None,
    ) -> None:
        """Record a decision and carry it out, in one transaction.

        `rejected` leaves the current model where it is; every other decision makes
        `version` the current one and archives its predecessor.
        """
        with self._database.write() as connection:
            before = connection.scalar(
                select(models.c.version).where(
                    models.c.project_id == project_id, models.c.status == "current"
                )
            )
            if decision == "rejected":
                _set(connection, version, status="rejected")
            else:
                if before is not None:
                    _set(connection, before, status="archived")
                _set(connection, version, status="current")
            if card is not None:
                _set(connection, version, card=card)
            connection.execute(
                insert(gates).values(
                    project_id=project_id,
                    candidate=version,
                    current=before,
                    decision=decision,
                    numbers=numbers,
                    created_at=utc_now(),
                )
            )

    def gates(self, project_id: int) -> list[Gate]:
        """Every decision, oldest first."""
        query = select(gates).where(gates.c.project_id == project_id).order_by(gates.c.id)
        with self._database.read() as connection:
            return [
                Gate(row.candidate, row.current, row.decision, row.numbers, row.created_at)
                for row in connection.execute(query)
            ]

    def judged(self, project_id: int) -> str | None:
        """When the gate, or a person, decided last; None if never."""
        query = select(func.max(gates.c.created_at)).where(gates.c.project_id == project_id)
        with self._database.read() as connection:
            moment: str | None = connection.scalar(query)
        return moment

    def began(self, project_id: int, step: str) -> str | None:
        """When a step was run last, however it ended; None if never."""
        query = select(func.max(runs.c.started_at)).where(
            runs.c.project_id == project_id, runs.c.step == step
        )
        with self._database.read() as connection:
            moment: str | None = connection.scalar(query)
        return moment

    def save_epoch(self, version: str, epoch: int, numbers: Numbers) -> None:
        """Keep an epoch's numbers; an epoch that was trained again replaces the old one."""
        row = {"model": version, "epoch": epoch, "numbers": numbers}
        with self._database.write() as connection:
            upsert(connection, epochs, [row])

    def epochs(self, version: str) -> list[Numbers]:
        """The numbers of every epoch, in order."""
        query = select(epochs.c.numbers).where(epochs.c.model == version)
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(epochs.c.epoch)))

    def start_run(self, project_id: int, step: str) -> int:
        """Note that a step began; returns the run's id.

        A run of the same step that never ended was killed: steps of a project take turns.
        """
        values: dict[str, object] = {
            "project_id": project_id,
            "step": step,
            "state": "running",
            "report": {},
            "started_at": utc_now(),
        }
        with self._database.write() as connection:
            connection.execute(
                update(runs)
                .where(
                    runs.c.project_id == project_id,
                    runs.c.step == step,
                    runs.c.state == "running",
                )
                .values(state="failed", report={"error": "cut off"})
            )
            return int(connection.execute(insert(runs).values(values)).inserted_primary_key[0])  # type: ignore[index]

    def end_run(
        self, run_id: int, *, state: str, seconds: float, report: Mapping[str, Any]
    ) -> None:
        """Note how a step ended."""
        with self._database.write() as connection:
            connection.execute(
                update(runs)
                .where(runs.c.id == run_id)
                .values(state=state, seconds=seconds, report=dict(report))
            )

    def runs(self, project_id: int, *, step: str | None = None) -> list[Run]:
        """Runs, oldest first."""
        query = select(runs).where(runs.c.project_id == project_id)
        if step is not None:
            query = query.where(runs.c.step == step)
        with self._database.read() as connection:
            return [
                Run(row.id, row.step, row.state, row.seconds, row.report, row.started_at)
                for row in connection.execute(query.order_by(runs.c.id))
            ]


def _set(connection: Connection, version: str, **values: object) -> None:
    connection.execute(update(models).where(models.c.version == version).values(values))


def _model(row: Row[tuple[object, ...]]) -> Model:
    return Model(
        row.version, row.number, row.status, row.fingerprint, row.card, row.parent, row.created_at
    )
