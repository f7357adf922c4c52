"""Label Studio as a project sees it: its address for people, and whether the project is there."""

from typing import Literal

from sqlalchemy import select

from ml_backend.store.database import Database, upsert, utc_now
from ml_backend.store.rows import Site
from ml_backend.store.schema import sites


class Sites:
    """One row a project, once there is something to know."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, project_id: int) -> Site:
        """What is known of the project's Label Studio; nothing, if nothing is."""
        with self._database.read() as connection:
            row = connection.execute(select(sites).where(sites.c.project_id == project_id)).first()
        return Site(row.browser_url, row.state, row.since) if row else Site()

    def set_browser_url(self, project_id: int, url: str | None) -> None:
        """Remember where people reach Label Studio; None: where we do."""
        self._save(project_id, browser_url=url)

    def set_state(self, project_id: int, state: Literal["missing", "leaving"] | None) -> None:
        """Note that the project is gone there, or goes here; None: it is there."""
        if self.get(project_id).state != state:
            self._save(project_id, state=state, since=utc_now() if state else None)

    def _save(self, project_id: int, **values: str | None) -> None:
        with self._database.write() as connection:
            upsert(connection, sites, [{"project_id": project_id} | values])
