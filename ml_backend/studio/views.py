"""Tabs of the data manager: the views that list the tasks of a round.

Of Label Studio's operators only `equal` can name tasks: a tab with `in_list` over ids, which the
API takes as well, keeps the whole data manager from opening, and one with `regex` loses its value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_backend.studio.transport import Transport

TAB_TASKS = 900
"""So many tasks a tab lists; SQLite, and Label Studio over it, gives up at 1,000 conditions."""
LEAST_SURE_FIRST = "tasks:predictions_score"
BY_ID = "tasks:id"
_ID = "filter:tasks:id"
_HIDDEN = (
    "inner_id", "annotations_results", "annotations_ids", "predictions_results", "file_upload",
    "storage_filename", "created_at", "updated_at", "updated_by", "avg_lead_time", "draft_exists",
)  # fmt: skip
_HIDDEN_BY_DEFAULT = (*_HIDDEN, "predictions_score", "predictions_model_versions")
_HIDDEN_WHILE_LABELING = (
    *_HIDDEN_BY_DEFAULT, "id", "completed_at", "cancelled_annotations", "total_predictions",
    "annotators",
)  # fmt: skip


@dataclass(frozen=True)
class ViewInfo:
    """A tab. `task_ids` are what it lists, None where it lists by anything else than by ids."""

    id: int
    title: str
    task_ids: tuple[int, ...] | None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "ViewInfo":
        """Read a view of `/api/dm/views/`."""
        data = raw.get("data") or {}
        items = (data.get("filters") or {}).get("items") or []
        named = [
            item["value"]
            for item in items
            if (item.get("filter"), item.get("operator")) == (_ID, "equal")
        ]
        numbers = [value for value in named if isinstance(value, int)]  # people leave them empty
        ids = tuple(numbers) if items and len(numbers) == len(items) else None
        return cls(raw["id"], str(data.get("title") or ""), ids)


def views(transport: Transport, project_id: int) -> list[ViewInfo]:
    """The project's tabs, from left to right."""
    rows = transport.json("GET", "/api/dm/views/", params={"project": project_id})
    return [ViewInfo.parse(row) for row in rows]


def save_view(
    transport: Transport, project_id: int, title: str, task_ids: Sequence[int], order: str
) -> int:
    """Have a tab `title` list exactly these tasks (at most `TAB_TASKS`) → its id.

    A tab of this title that lists tasks by their ids is used again. Where a project has no tab at
    all, as until somebody opens it, the one that Label Studio makes at first is made before: else
    all the other tasks would be nowhere to be seen.
    """
    there = views(transport, project_id)
    if not there:
        _create(transport, project_id, _data("Default", _HIDDEN_BY_DEFAULT))
    items = [
        {"filter": _ID, "operator": "equal", "type": "Number", "value": task_id}
        for task_id in task_ids[:TAB_TASKS]
    ]
    data = _data(title, _HIDDEN) | {
        "filters": {"conjunction": "or", "items": items},
        "ordering": [order],
    }
    for view in there:
        if view.title == title and view.task_ids is not None:
            body = {"project": project_id, "data": data}
            transport.json("PATCH", f"/api/dm/views/{view.id}/", body=body)
            return view.id
    return _create(transport, project_id, data)


def delete_view(transport: Transport, view_id: int) -> None:
    """Remove a tab; its tasks stay."""
    transport.json("DELETE", f"/api/dm/views/{view_id}/")


def _create(transport: Transport, project_id: int, data: Mapping[str, Any]) -> int:
    body = {"project": project_id, "data": data}
    view_id: int = transport.json("POST", "/api/dm/views/", body=body)["id"]
    return view_id


def _data(title: str, hidden: Sequence[str]) -> dict[str, Any]:
    return {
        "title": title,
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {
            "explore": [f"tasks:{name}" for name in hidden],
            "labeling": [f"tasks:{name}" for name in _HIDDEN_WHILE_LABELING],
        },
    }
