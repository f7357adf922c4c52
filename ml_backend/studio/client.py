"""`Studio`: everything Brushloop asks of Label Studio, one method a question.

Every method raises `StudioUnreachable` (worth trying again) or `StudioRefused` (not), with
the method, the address and what Label Studio said; no token ever stands in a message.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx

from ml_backend.studio import downloads, files, pages, tasks, views, wiring
from ml_backend.studio.models import (
    PROJECT_FIELDS,
    BackendInfo,
    Changes,
    ProjectInfo,
    TaskInfo,
    User,
    WebhookInfo,
)
from ml_backend.studio.tokens import TokenKind
from ml_backend.studio.transport import Transport
from ml_backend.studio.views import ViewInfo

_PROJECT_PAGE = 100


class Studio:
    """The Label Studio at `url`, as the user whose token `api_key` is, personal or legacy.

    `ca`: a PEM file of certificates that are trusted besides the usual ones. `browser_url`: where
    people reach it; asked for once, if it is not given.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        transport: httpx.BaseTransport | None = None,
        ca: Path | None = None,
        browser_url: str | None = None,
    ) -> None:
        self._http = Transport(url, api_key, transport, ca, browser_url)

    def __repr__(self) -> str:
        return f"Studio({self.url!r}, {self.token_kind} token)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the open connections."""
        self._http.close()

    @property
    def url(self) -> str:
        """The address of Label Studio, without a trailing slash."""
        return self._http.url

    @property
    def browser_url(self) -> str:
        """The address at which people reach Label Studio, without a trailing slash."""
        return pages.browser_url(self._http)

    @property
    def token_kind(self) -> TokenKind:
        """`personal` for a personal access token, else `legacy`."""
        return self._http.auth.kind

    @property
    def clock(self) -> datetime | None:
        """Label Studio's clock at its last answer, never ahead of it; None where it tells none."""
        return self._http.clock

    def version(self) -> str:
        """Label Studio's version, such as 1.23.2."""
        return str(self._http.json("GET", "/api/version").get("release", ""))

    def whoami(self) -> User:
        """The token's user."""
        raw = self._http.json("GET", "/api/current-user/whoami")
        return User(id=raw["id"], email=raw["email"])

    def get_project(self, project_id: int) -> ProjectInfo:
        """One project."""
        params = {"include": PROJECT_FIELDS}  # counting all that there is takes twice as long
        return ProjectInfo.parse(
            self._http.json("GET", f"/api/projects/{project_id}", params=params)
        )

    def create_project(self, title: str, label_config: str) -> ProjectInfo:
        """A new project. Label Studio wants titles of 3 to 50 characters."""
        body = {"title": title, "label_config": label_config}
        return ProjectInfo.parse(self._http.json("POST", "/api/projects", body=body))

    def find_project(self, title: str) -> ProjectInfo | None:
        """The oldest project with exactly this title, if there is one."""
        found: list[ProjectInfo] = []
        number = 1
        while True:
            params: dict[str, str | int] = {
                "title": title,
                "page": number,
                "page_size": _PROJECT_PAGE,
            }
            answer = self._http.json("GET", "/api/projects", params=params)
            found += [ProjectInfo.parse(raw) for raw in answer["results"] if raw["title"] == title]
            if not answer.get("next"):
                return min(found, key=lambda project: project.id, default=None)
            number += 1

    def set_model_version(
        self, project_id: int, version: str, *, sampling: str | None = None
    ) -> None:
        """Show the predictions of `version`, which must have some or be a backend's title.

        `sampling="Uncertainty sampling"` serves the tasks with the lowest score first.
        """
        body = {"model_version": version} | ({"sampling": sampling} if sampling else {})
        self._http.json("PATCH", f"/api/projects/{project_id}", body=body)

    def set_label_config(self, project_id: int, label_config: str) -> None:
        """Give a project another labeling config, which Label Studio checks first."""
        body = {"label_config": label_config}
        self._http.json("PATCH", f"/api/projects/{project_id}", body=body)

    def upload_images(self, project_id: int, images: Sequence[tuple[str, bytes]]) -> list[str]:
        """Store images (name, file content) → their addresses `/data/upload/…`, in order."""
        return files.upload(self._http, project_id, images)

    def delete_uploads(self, project_id: int, urls: Collection[str]) -> int:
        """Delete files by the addresses that `upload_images` gave → how many were there."""
        return files.delete_uploads(self._http, project_id, urls)

    def uploads(self, project_id: int) -> list[str]:
        """Addresses of all files of a project that the token's user has uploaded."""
        return list(files.uploads(self._http, project_id))

    def download(self, url: str, *, limit: int, project_id: int | None = None) -> bytes:
        """The file behind a task's image address, whole, at most `limit` bytes.

        Cloud addresses need the `project_id` whose storages resolve them. Raises
        `ImageUnreadable` too: missing, too large, or broken off.
        """
        return downloads.download(self._http, url, limit=limit, project_id=project_id)

    def view(self, address: str) -> bytes | None:
        """Fetch a task's image at the address at which a browser looks for it.

        None: it is there, for people who are logged in. Raises `ImageUnreadable` where browsers
        find none, `StudioUnreachable` where that address cannot be reached from here.
        """
        return pages.view(self._http, address)

    def import_tasks(self, project_id: int, new: Sequence[Mapping[str, Any]]) -> list[int]:
        """Make tasks `{data, predictions?, meta?}` → their ids, in order."""
        return tasks.import_tasks(self._http, project_id, new)

    def changes(
        self,
        project_id: int,
        since: str | None = None,
        *,
        first: int = 1,
        last: int | None = None,
    ) -> Iterator[Changes]:
        """Index the tasks changed later than `since` (ISO 8601; None: ever), in pages by id.

        Only ids from `first` to `last` if these are given. There is one page at least.
        """
        return tasks.changes(self._http, project_id, since, first=first, last=last)

    def count_tasks(self, project_id: int, first: int = 1, last: int | None = None) -> int:
        """How many tasks have ids from `first` to `last`."""
        return tasks.count_tasks(self._http, project_id, first, last)

    def read_tasks(
        self, project_id: int, ids: Sequence[int], *, predictions: bool = False
    ) -> Iterator[TaskInfo]:
        """Read tasks by id, annotations complete; those that are gone are left out.

        Predictions come only when asked for, for they are most of the load.
        """
        return tasks.read_tasks(self._http, project_id, ids, predictions=predictions)

    def tasks_of_round(self, project_id: int, number: int) -> Iterator[TaskInfo]:
        """Tasks whose data say `round: number`, without annotations and predictions."""
        return tasks.tasks_where(self._http, project_id, "round", number)

    def tasks_where(self, project_id: int, key: str, number: int) -> Iterator[TaskInfo]:
        """Tasks whose data say `key: number`, without annotations and predictions."""
        return tasks.tasks_where(self._http, project_id, key, number)

    def delete_task(self, task_id: int) -> None:
        """Delete one task with its annotations and predictions."""
        tasks.delete_task(self._http, task_id)

    def get_task(self, task_id: int) -> TaskInfo:
        """One task with its annotations and predictions."""
        return tasks.get_task(self._http, task_id)

    def post_predictions(
        self, project_id: int, predictions: Sequence[Mapping[str, Any]]
    ) -> set[int]:
        """Add predictions `{task, result, score, model_version}`, by the cheaper way.

        Posting few moves the tasks' `updated_at`; see `tasks.post_predictions`. Returns the tasks
        that are gone; the others have theirs.
        """
        if not predictions:
            return set()
        count = self.get_project(project_id).task_count
        return tasks.post_predictions(self._http, project_id, predictions, count)

    def create_annotation(
        self,
        task_id: int,
        result: Sequence[Mapping[str, Any]],
        *,
        parent_prediction: int | None = None,
        lead_time: float | None = None,
    ) -> int:
        """Submit an annotation as the token's user → its id."""
        return tasks.create_annotation(
            self._http, task_id, result, parent_prediction=parent_prediction, lead_time=lead_time
        )

    def views(self, project_id: int) -> list[ViewInfo]:
        """The tabs of the project's data manager, from left to right."""
        return views.views(self._http, project_id)

    def save_view(self, project_id: int, title: str, task_ids: Sequence[int], *, order: str) -> int:
        """Have a tab list exactly these tasks, by the column `order` → its id. May be repeated."""
        return views.save_view(self._http, project_id, title, task_ids, order)

    def delete_view(self, view_id: int) -> None:
        """Remove a tab; its tasks stay."""
        views.delete_view(self._http, view_id)

    def backends(self, project_id: int) -> list[BackendInfo]:
        """The project's ML backends, after Label Studio has asked each for its health."""
        return wiring.backends(self._http, project_id)

    def connect_backend(
        self, project_id: int, url: str, title: str, user: str, password: str
    ) -> int:
        """Register our backend with basic authentication → its id. May be repeated."""
        return wiring.connect_backend(
            self._http, project_id, url=url, title=title, user=user, password=password
        )

    def webhooks(self, project_id: int) -> list[WebhookInfo]:
        """The project's webhooks."""
        return wiring.webhooks(self._http, project_id)

    def connect_webhook(self, project_id: int, url: str, header_name: str, secret: str) -> int:
        """Have events sent to `url` with a secret header → the webhook's id. May be repeated."""
        return wiring.connect_webhook(
            self._http, project_id, url=url, header_name=header_name, secret=secret
        )

    def disconnect(self, project_id: int, url: str, header_name: str) -> None:
        """Remove our backend and our webhooks from a project. May be repeated."""
        wiring.disconnect(self._http, project_id, url=url, header_name=header_name)
