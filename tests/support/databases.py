"""Databases that several processes share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/test"


@contextmanager
def postgres_schema() -> Iterator[str | None]:
    """The URL of an empty schema of the machine's PostgreSQL, dropped afterwards; None without."""
    schema = f"t{uuid4().hex}"
    engine = create_engine(POSTGRES, connect_args={"connect_timeout": 2})
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    except OperationalError:
        engine.dispose()
        yield None
        return
    try:
        yield f"{POSTGRES}?options=-csearch_path%3D{schema}"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


@contextmanager
def shared_database(folder: Path) -> Iterator[str]:
    """The URL of an empty database for several processes: SQLite's where no PostgreSQL answers."""
    with postgres_schema() as url:
        yield url or f"sqlite:///{folder / 'shared.sqlite3'}"
