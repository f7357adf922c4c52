"""Tasks, annotations and predictions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from ml_backend.errors import StudioRefused
from ml_backend.studio.models import TaskInfo
from ml_backend.studio.transport import SLOW_SECONDS, Transport

# Measured: 250 tasks a request is where importing stops getting faster.
_BATCH_TASKS = 250
_BATCH_BYTES = 32 * 2**20
_ID_PAGE = 10_000
# Label Studio applies `include` to nested annotations and predictions as well, so their
# fields must be named too.
_FIELDS = (
    "id,data,meta,updated_at,annotations,result,was_cancelled,ground_truth,completed_by,"
    "lead_time,created_at,parent_prediction,parent_annotation"
)
_PREDICTION_FIELDS = ",predictions,score,model_version"
_ROUND_PAGE = 500
_Condition = tuple[str, str, str, str | int]  # column, operator, type, value
# `import/predictions` recounts the project, 0.5 s per 1,000 tasks; a single post is 0.025 s.
_BREAK_EVEN = 0.5 / 1000 / 0.025


def import_tasks(
    transport: Transport, project_id: int, tasks: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Make tasks `{data, predictions?, meta?}` → their ids, in order.

    A batch is made whole or not at all, the whole sequence is not: after a failure, what
    arrived is found by what the caller wrote into `data`.
    """
    ids: list[int] = []
    for content, count in _json_batches(tasks):
        answer = transport.json(
            "POST",
            f"/api/projects/{project_id}/import",
            params={"return_task_ids": "true"},
            content=content,
            seconds=SLOW_SECONDS,
        )
        made = answer.get("task_ids", [])
        if len(made) != count:
            raise StudioRefused(f"project {project_id}: of {count} tasks sent, {len(made)} came")
        ids.extend(made)
    return ids


def _json_batches(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, int]]:
    """JSON arrays of at most `_BATCH_TASKS` rows and about `_BATCH_BYTES`, with their counts."""
    batch: list[bytes] = []
    size = 0
    for row in rows:
        coded = orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)
        if batch and (len(batch) == _BATCH_TASKS or size + len(coded) > _BATCH_BYTES):
            yield b"[" + b",".join(batch) + b"]", len(batch)
            batch, size = [], 0
        batch.append(coded)
        size += len(coded)
    if batch:
        yield b"[" + b",".join(batch) + b"]", len(batch)


def get_task(transport: Transport, task_id: int) -> TaskInfo:
    """One task with its annotations and predictions."""
    return TaskInfo.parse(transport.json("GET", f"/api/tasks/{task_id}"))


def task_ids(transport: Transport, project_id: int) -> set[int]:
    """The ids of all tasks: what is missing from it has been deleted."""
    ids: set[int] = set()
    last = 0
    while True:
        page = _page(
            transport,
            project_id,
            size=_ID_PAGE,
            include="id",
            order="tasks:id",
            only=("tasks:id", "greater", "Number", last),
        )
        ids.update(task["id"] for task in page)
        if len(page) < _ID_PAGE:
            return ids
        last = page[-1]["id"]


def changed_tasks(
    transport: Transport,
    project_id: int,
    since: str | None,
    page: int,
    *,
    predictions: bool,
) -> Iterator[TaskInfo]:
    """Tasks whose `updated_at` is later than `since`, earliest change first, each once.

    A task that changes while we read comes again at the end, so the `updated_at` of the
    last task taken is always a true watermark: nothing before it was missed. That is why
    pages are not numbered but begin at the last change seen.
    """
    mark = None if since is None else _timestamp(since)
    operator = "greater"
    include = _FIELDS + (_PREDICTION_FIELDS if predictions else "")
    seen: set[tuple[int, str]] = set()
    size = page
    while True:
        rows = _page(
            transport,
            project_id,
            size=size,
            include=include,
            order="tasks:updated_at",
            only=None if mark is None else ("tasks:updated_at", operator, "Datetime", mark),
        )
        for row in rows:
            key = (row["id"], row["updated_at"])
            if key not in seen:
                yield TaskInfo.parse(row)
        if len(rows) < size:
            return
        last = _timestamp(rows[-1]["updated_at"])
        # Changes of one instant may fill a page: then only a larger page gets past them.
        size = size * 2 if last == mark and operator == "greater_or_equal" else page
        mark, operator = last, "greater_or_equal"
        seen = {
            (row["id"], row["updated_at"]) for row in rows if _timestamp(row["updated_at"]) == last
        }


def tasks_of_round(transport: Transport, project_id: int, number: int) -> Iterator[TaskInfo]:
    """Tasks whose data say `round: number`, without annotations and predictions."""
    last = 0
    while True:
        rows = _page(
            transport,
            project_id,
            size=_ROUND_PAGE,
            include="id,data,meta,updated_at",
            order="tasks:id",
            only=("tasks:id", "greater", "Number", last),
            also=("tasks:data.round", "equal", "Number", number),
        )
        yield from map(TaskInfo.parse, rows)
        if len(rows) < _ROUND_PAGE:
            return
        last = rows[-1]["id"]


def _page(
    transport: Transport,
    project_id: int,
    *,
    size: int,
    include: str,
    order: str,
    only: _Condition | None,
    also: _Condition | None = None,
) -> list[dict[str, Any]]:
    query: dict[str, Any] = {"ordering": [order]}
    items = [
        {"filter": f"filter:{column}", "operator": operator, "type": kind, "value": value}
        for column, operator, kind, value in filter(None, (only, also))
    ]
    if items:
        query["filters"] = {"conjunction": "and", "items": items}
    answer = transport.json(
        "GET",
        "/api/tasks",
        params={
            "project": project_id,
            "fields": "all",
            "include": include,
            "page_size": size,
            "query": orjson.dumps(query).decode(),
        },
        seconds=SLOW_SECONDS,
    )
    tasks: list[dict[str, Any]] = answer["tasks"]
    return tasks


def _timestamp(moment: str) -> str:
    """ISO 8601 → the one spelling Label Studio's filter takes: UTC, microseconds, Z."""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        raise StudioRefused(f"{moment!r} is not an ISO 8601 moment") from None
    parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    return parsed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def post_predictions(
    transport: Transport, project_id: int, predictions: Sequence[Mapping[str, Any]], tasks: int
) -> None:
    """Add predictions `{task, result, score, model_version}` to a project of `tasks` tasks.

    Few go one by one, many in bulk: one bulk call costs as much as 20 single posts for
    each 1,000 tasks of the project. A single post moves the task's `updated_at`, a bulk
    call does not.
    """
    if len(predictions) <= tasks * _BREAK_EVEN:
        for prediction in predictions:
            content = orjson.dumps(prediction, option=orjson.OPT_SERIALIZE_NUMPY)
            transport.json("POST", "/api/predictions", content=content)
        return
    for content, _ in _json_batches(predictions):
        transport.json(
            "POST",
            f"/api/projects/{project_id}/import/predictions",
            content=content,
            seconds=SLOW_SECONDS,
        )


def create_annotation(
    transport: Transport,
    task_id: int,
    result: Sequence[Mapping[str, Any]],
    *,
    parent_prediction: int | None,
    lead_time: float | None,
) -> int:
    """Submit an annotation as the token's user → its id. `lead_time` in seconds."""
    body = {"result": result, "parent_prediction": parent_prediction, "lead_time": lead_time}
    answer = transport.json(
        "POST",
        f"/api/tasks/{task_id}/annotations/",
        content=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY),
    )
    annotation_id: int = answer["id"]
    return annotation_id
