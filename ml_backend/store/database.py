"""The engine: SQLite by default, PostgreSQL by URL, and the few idioms both share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ml_backend.errors import StoreError
from ml_backend.store.schema import SCHEMA_VERSION, UPGRADES, meta, metadata

BUSY_SECONDS = 30  # how long a SQLite writer waits for another process


def utc_now() -> str:
    """The time in UTC in Label Studio's spelling, which sorts as text."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Database:
    """A connection pool and its schema. Raises `StoreError` for whatever the database refuses."""

    def __init__(self, url: str) -> None:
        self.engine = _open(url)
        with self.write() as connection:
            metadata.create_all(connection)
            version = connection.scalar(select(meta.c.version).with_for_update())
            if version is None:
                connection.execute(insert(meta).values(version=SCHEMA_VERSION))
            elif version != SCHEMA_VERSION:
                _upgrade(connection, version)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading."""
        with _translated(self.engine), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: all of it or nothing."""
        engine = self.engine.execution_options(immediate=True)
        with _translated(engine), engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _upgrade(connection: Connection, version: int) -> None:
    """Bring an older catalog up to `SCHEMA_VERSION`; all of it or nothing."""
    steps = range(version, SCHEMA_VERSION)
    if version > SCHEMA_VERSION or any(step not in UPGRADES for step in steps):
        raise StoreError(
            f"the catalog has schema {version}, this Brushloop writes {SCHEMA_VERSION}: "
            "install the release that wrote it, or start with another home folder"
        )
    for statement in (statement for step in steps for statement in UPGRADES[step]):
        connection.execute(text(statement))
    for index in (index for table in metadata.tables.values() for index in table.indexes):
        index.create(connection, checkfirst=True)
    connection.execute(meta.update().values(version=SCHEMA_VERSION))


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        place = engine.url.render_as_string(hide_password=True)
        raise StoreError(f"the catalog {place}: {str(cause).splitlines()[0]}") from error


def _open(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("the catalog's address is not an SQLAlchemy URL") from None
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() != "postgresql":
        raise StoreError(
            f"the catalog cannot live in {parsed.get_backend_name()}: use sqlite or postgresql"
        )
    return create_engine(parsed, pool_pre_ping=True)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see below
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # a deferred transaction that turns into a writer fails at once instead of waiting
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert `rows`, or update those whose primary key is there (all rows have the same keys)."""
    if not rows:
        return
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    keys = [column.name for column in inspect(table).primary_key]
    statement = make(table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    if changed:
        statement = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, list(rows))
