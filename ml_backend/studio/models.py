"""What Label Studio tells us, as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ml_backend.errors import StudioRefused


@dataclass(frozen=True)
class User:
    """Whose token we hold."""

    id: int
    email: str


def moment(text: str) -> str:
    """ISO 8601 → UTC with microseconds and Z: compares as text, and Label Studio's filters take it.

    Raises `StudioRefused` for anything else.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise StudioRefused(f"{text!r} is not an ISO 8601 moment") from None
    parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    return parsed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


PROJECT_FIELDS = "id,title,label_config,created_at,model_version,task_number"


@dataclass(frozen=True)
class ProjectInfo:
    """One project. `model_version` is the version whose predictions are shown."""

    id: int
    title: str
    label_config: str
    created_at: str
    model_version: str
    task_count: int

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "ProjectInfo":
        """Read a project of `/api/projects`."""
        return cls(
            id=raw["id"],
            title=raw["title"],
            label_config=raw.get("label_config") or "",
            created_at=raw["created_at"],
            model_version=raw.get("model_version") or "",
            task_count=raw.get("task_number") or 0,
        )


@dataclass(frozen=True)
class TaskInfo:
    """One task.

    `annotations` are complete and skipped ones are among them. Their keys: id, result,
    was_cancelled, ground_truth, completed_by (a user's id), lead_time (s), created_at,
    updated_at, parent_prediction, parent_annotation. `predictions`, where they were asked
    for, have id, result, score, model_version, created_at, updated_at.
    `updated_at` is ISO 8601 in UTC with microseconds and compares as a string.
    """

    id: int
    data: dict[str, Any]
    updated_at: str
    annotations: tuple[dict[str, Any], ...] = ()
    predictions: tuple[dict[str, Any], ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "TaskInfo":
        """Read a task of `/api/tasks`."""
        return cls(
            id=raw["id"],
            data=raw["data"],
            updated_at=moment(raw["updated_at"]),
            annotations=tuple(raw.get("annotations") or ()),
            predictions=tuple(raw.get("predictions") or ()),
            meta=raw.get("meta") or {},
        )


@dataclass(frozen=True)
class Changes:
    """A page of an index of tasks.

    `total` tasks were in the index, from the page's first one on. `moments`: task's id → its
    `updated_at`, by id.
    """

    total: int
    moments: dict[int, str]


@dataclass(frozen=True)
class BackendInfo:
    """A connected ML backend. `state` is Label Studio's word, such as Connected or Error."""

    id: int
    url: str
    title: str
    state: str
    error: str
    user: str
    model_version: str

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "BackendInfo":
        """Read a backend of `/api/ml`."""
        return cls(
            id=raw["id"],
            url=raw["url"],
            title=raw.get("title") or "",
            state=raw.get("readable_state") or "",
            error=raw.get("error_message") or "",
            user=raw.get("basic_auth_user") or "",
            model_version=raw.get("model_version") or "",
        )


@dataclass(frozen=True)
class WebhookInfo:
    """A webhook. The headers hold our secret, so they stay out of the repr."""

    id: int
    url: str
    is_active: bool
    actions: tuple[str, ...]
    all_actions: bool
    headers: dict[str, str] = field(repr=False, default_factory=dict)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "WebhookInfo":
        """Read a webhook of `/api/webhooks/`."""
        return cls(
            id=raw["id"],
            url=raw["url"],
            is_active=raw["is_active"],
            actions=tuple(sorted(raw.get("actions") or ())),
            all_actions=raw.get("send_for_all_actions", False),
            headers=dict(raw.get("headers") or {}),
        )
