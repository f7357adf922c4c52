"""Removing all that the catalog has of a project, table by table, whatever tables there are."""

from sqlalchemy import ColumnElement, Table, false, func, select

from ml_backend.store.database import Database
from ml_backend.store.schema import epochs, images, metadata, models, projects


def count_rows(database: Database, project_id: int) -> dict[str, int]:
    """Table → how many rows of it belong to the project; tables without any are left out."""
    with database.read() as connection:
        counts = {
            table.name: connection.scalar(
                select(func.count()).select_from(table).where(_theirs(table, project_id))
            )
            for table in metadata.sorted_tables
        }
    return {name: int(count) for name, count in counts.items() if count}


def delete_rows(database: Database, project_id: int) -> None:
    """Delete the project and every row that belongs to it, or nothing."""
    with database.write() as connection:
        for table in (epochs, *reversed(metadata.sorted_tables)):  # epochs before their models
            connection.execute(table.delete().where(_theirs(table, project_id)))


def shared_images(database: Database, project_id: int) -> tuple[set[str], set[str]]:
    """Addresses of the project's images, and which of them other projects have as well."""
    mine = select(images.c.uri).where(images.c.project_id == project_id)
    theirs = select(images.c.uri).where(images.c.project_id != project_id, images.c.uri.in_(mine))
    with database.read() as connection:
        return set(connection.scalars(mine)), set(connection.scalars(theirs))


def _theirs(table: Table, project_id: int) -> ColumnElement[bool]:
    """Which rows of a table belong to a project: by its own column, or by what they are of."""
    if table is projects:
        return projects.c.id == project_id
    if "project_id" in table.c:
        return table.c.project_id == project_id
    if table is epochs:  # of a version, without a foreign key
        mine = select(models.c.version).where(models.c.project_id == project_id)
        return epochs.c.model.in_(mine)
    for key in table.foreign_keys:
        parent = key.column.table
        return key.parent.in_(select(key.column).where(_theirs(parent, project_id)))
    return false()
