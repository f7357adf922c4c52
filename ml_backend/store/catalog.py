"""The catalog: the truth about every project, in groups of one table family each."""

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, select

from ml_backend.errors import NotFound
from ml_backend.recipe import Recipe, parse_recipe
from ml_backend.store.database import Database, upsert, utc_now
from ml_backend.store.export_tables import Exports
from ml_backend.store.model_tables import Models
from ml_backend.store.pool_tables import PoolTables
from ml_backend.store.round_tables import Rounds
from ml_backend.store.rows import Project, Reading
from ml_backend.store.schema import merges, projects, sites, tasks
from ml_backend.store.site_tables import Sites
from ml_backend.store.work_tables import Work


class Catalog:
    """`catalog.projects`, `.sites`, `.pool`, `.work`, `.models`, `.rounds`, `.exports`."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.projects = Projects(self.database)
        self.sites = Sites(self.database)
        self.pool = PoolTables(self.database)
        self.work = Work(self.database)
        self.models = Models(self.database)
        self.rounds = Rounds(self.database)
        self.exports = Exports(self.database)

    def close(self) -> None:
        """Close every connection."""
        self.database.close()


class Projects:
    """Label Studio's projects that we know."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, project_id: int) -> Project | None:
        """The project, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(projects).where(projects.c.id == project_id)).first()
        return _project(row) if row else None

    def get(self, project_id: int) -> Project:
        """The project. Raises `NotFound` with the way to connect it."""
        project = self.find(project_id)
        if project is None:
            raise NotFound(
                f"project {project_id} is not known here: "
                f"connect it with `brushloop connect --project {project_id}`"
            )
        return project

    def all(self) -> list[Project]:
        """Every project, by id."""
        with self._database.read() as connection:
            rows = connection.execute(select(projects).order_by(projects.c.id)).all()
        return [_project(row) for row in rows]

    def polled(self) -> list[Project]:
        """Those that Label Studio has, as far as is known, and that are not being forgotten."""
        gone = select(sites.c.project_id).where(sites.c.state.is_not(None))
        query = select(projects).where(projects.c.id.not_in(gone))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(projects.c.id)).all()
        return [_project(row) for row in rows]

    def save(
        self,
        project_id: int,
        *,
        title: str | None = None,
        label_config: str | None = None,
        recipe: Recipe | None = None,
    ) -> Project:
        """Add the project or change what is given of it; the rest stays as it was."""
        found = self.find(project_id)
        base = found or Project(project_id, f"Project {project_id}", "", Recipe())
        project = replace(
            base,
            title=base.title if title is None else title,
            label_config=base.label_config if label_config is None else label_config,
            recipe=base.recipe if recipe is None else recipe,
        )
        if project == found:
            return project
        row = {
            "id": project.id,
            "title": project.title,
            "label_config": project.label_config,
            "recipe": project.recipe.model_dump(mode="json", exclude_defaults=True),
        }
        if found is None:
            row["created_at"] = utc_now()
        with self._database.write() as connection:
            if found is None:
                upsert(connection, projects, [row])
            else:
                connection.execute(projects.update().where(projects.c.id == project_id), row)
        return project

    def set_cursor(self, project_id: int, cursor: str | None) -> None:
        """Remember that everything up to `cursor` (Label Studio's clock) has been pulled.

        None forgets it: the next pull takes everything, and masks are merged anew.
        """
        with self._database.write() as connection:
            statement = projects.update().where(projects.c.id == project_id)
            connection.execute(statement.values(cursor=cursor))
            if cursor is None:
                _forget(connection, project_id)

    def set_compared(self, project_id: int, task_id: int) -> None:
        """Remember up to which task the whole index has been compared; 0 begins anew."""
        with self._database.write() as connection:
            statement = projects.update().where(projects.c.id == project_id)
            connection.execute(statement.values(compared=task_id))

    def start_over(self, project_id: int, reading: Reading) -> None:
        """Remember how annotations are read from now on, and that all of them have to be."""
        with self._database.write() as connection:
            statement = projects.update().where(projects.c.id == project_id)
            connection.execute(statement.values(reading=asdict(reading), cursor=None))
            _forget(connection, project_id)


def _forget(connection: Connection, project_id: int) -> None:
    """Forget what would keep a pull from reading everything, and what was made of it."""
    connection.execute(
        tasks.update().where(tasks.c.project_id == project_id).values(updated_at=None)
    )
    connection.execute(merges.delete().where(merges.c.project_id == project_id))


def _project(row: Row[tuple[object, ...]]) -> Project:
    recipe = parse_recipe(row.recipe, where=f"the recipe of project {row.id}")
    reading = _reading(row.reading) if row.reading else None
    return Project(row.id, row.title, row.label_config, recipe, row.cursor, reading, row.compared)


def _reading(stored: dict[str, Any]) -> Reading:
    lists = {key: tuple(value) for key, value in stored.items() if isinstance(value, list)}
    return Reading(**stored | lists)
