"""Tasks, annotations and predictions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from ml_backend.errors import StudioRefused
from ml_backend.studio.models import Changes, TaskInfo, moment
from ml_backend.studio.transport import SLOW_SECONDS, Answer, Transport

# Measured: 250 tasks a request is where importing stops getting faster.
_BATCH_TASKS = 250
_BATCH_BYTES = 32 * 2**20
# Even for an index Label Studio loads the annotations and predictions of the tasks on a page.
_INDEX_PAGE = 250
# Whole tasks: 8 MB of JSON take about 30 MB of memory; 100 ids fit into an address of 1 kB.
_READ_BYTES = 8 * 2**20
_READ_FIRST = 10
_READ_MOST = 100
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


def delete_task(transport: Transport, task_id: int) -> None:
    """Delete a task with all that it has."""
    transport.json("DELETE", f"/api/tasks/{task_id}/")


def changes(
    transport: Transport,
    project_id: int,
    since: str | None,
    *,
    first: int,
    last: int | None,
) -> Iterator[Changes]:
    """Index the tasks whose `updated_at` is later than `since`, with ids from `first` to `last`.

    Pages begin after the last id seen, and ids never change: no task that is changed, made or
    deleted meanwhile can hide another. What changes while we read is later than that reading.
    """
    known = first - 1
    while True:
        page = _page(
            transport,
            project_id,
            size=_INDEX_PAGE,
            include="id,updated_at",
            order="tasks:id",
            only=[*_ids(known, last), *_later(since)],
        )
        rows = page.data["tasks"]
        moments = {row["id"]: moment(row["updated_at"]) for row in rows}
        yield Changes(page.data["total"], moments)
        if len(rows) < _INDEX_PAGE:
            return
        known = rows[-1]["id"]


def count_tasks(transport: Transport, project_id: int, first: int, last: int | None) -> int:
    """How many tasks have ids from `first` to `last`."""
    only = _ids(first - 1, last)
    page = _page(transport, project_id, size=1, include="id", order="tasks:id", only=only)
    count: int = page.data["total"]
    return count


def read_tasks(
    transport: Transport, project_id: int, ids: Sequence[int], *, predictions: bool
) -> Iterator[TaskInfo]:
    """Read tasks whole, with their annotations, by id; those that are gone are left out.

    As many a request as make about `_READ_BYTES`, judged by the request before.
    """
    include = _FIELDS + (_PREDICTION_FIELDS if predictions else "")
    wanted, size = sorted(ids), _READ_FIRST
    while wanted:
        part, wanted = wanted[:size], wanted[size:]
        page = _page(
            transport,
            project_id,
            size=len(part),
            include=include,
            order="tasks:id",
            selected=part,
        )
        yield from map(TaskInfo.parse, page.data["tasks"])
        size = min(max(1, len(part) * _READ_BYTES // page.size), 4 * len(part), _READ_MOST)


def tasks_where(transport: Transport, project_id: int, key: str, number: int) -> Iterator[TaskInfo]:
    """Tasks whose data say `key: number`, without annotations and predictions."""
    last = 0
    while True:
        page = _page(
            transport,
            project_id,
            size=_ROUND_PAGE,
            include="id,data,meta,updated_at",
            order="tasks:id",
            only=[*_ids(last, None), (f"tasks:data.{key}", "equal", "Number", number)],
        )
        rows = page.data["tasks"]
        yield from map(TaskInfo.parse, rows)
        if len(rows) < _ROUND_PAGE:
            return
        last = rows[-1]["id"]


def _ids(after: int, last: int | None) -> list[_Condition]:
    """Conditions for ids above `after` and up to `last`."""
    up_to: list[_Condition] = [] if last is None else [("tasks:id", "less", "Number", last + 1)]
    return [("tasks:id", "greater", "Number", after), *up_to]


def _later(since: str | None) -> list[_Condition]:
    if since is None:
        return []
    return [("tasks:updated_at", "greater", "Datetime", moment(since))]


def _page(
    transport: Transport,
    project_id: int,
    *,
    size: int,
    include: str,
    order: str,
    only: Sequence[_Condition] = (),
    selected: Sequence[int] | None = None,
) -> Answer:
    """The first `size` tasks that meet all conditions, or those selected by their ids."""
    query: dict[str, Any] = {"ordering": [order]}
    if only:
        items = [
            {"filter": f"filter:{column}", "operator": operator, "type": kind, "value": value}
            for column, operator, kind, value in only
        ]
        query["filters"] = {"conjunction": "and", "items": items}
    if selected is not None:
        query["selectedItems"] = {"all": False, "included": list(selected)}
    params: dict[str, str | int] = {
        "project": project_id,
        "include": include,
        "page_size": size,
        "query": orjson.dumps(query).decode(),
    }
    if "annotations" in include.split(","):
        params["fields"] = "all"  # else Label Studio leaves them out, and answers sooner
    return transport.call("GET", "/api/tasks", params=params, seconds=SLOW_SECONDS)


def post_predictions(
    transport: Transport, project_id: int, predictions: Sequence[Mapping[str, Any]], tasks: int
) -> set[int]:
    """Add predictions `{task, result, score, model_version}` to a project of `tasks` tasks.

    Few go one by one, many in bulk: one bulk call costs as much as 20 single posts for
    each 1,000 tasks of the project. A single post moves the task's `updated_at`, a bulk
    call does not. Label Studio refuses a bulk call whole when one of its tasks is gone; then the
    others are sent again. Returns the tasks that are gone.
    """
    batches: Iterator[tuple[bytes, int]]
    if len(predictions) <= tasks * _BREAK_EVEN:
        path = "/api/predictions"
        bodies = (orjson.dumps(one, option=orjson.OPT_SERIALIZE_NUMPY) for one in predictions)
        batches = ((body, 1) for body in bodies)
    else:
        path = f"/api/projects/{project_id}/import/predictions"
        batches = _json_batches(predictions)
    gone: set[int] = set()
    done = 0
    for content, count in batches:
        part = predictions[done : done + count]
        gone |= _post(transport, project_id, path, content, part)
        done += count
    return gone


def _post(
    transport: Transport,
    project_id: int,
    path: str,
    content: bytes,
    predictions: Sequence[Mapping[str, Any]],
) -> set[int]:
    """Add the predictions whose JSON `content` is; returns the tasks that are gone."""
    try:
        transport.json("POST", path, content=content, seconds=SLOW_SECONDS)
    except StudioRefused:
        gone = _missing(transport, project_id, [int(one["task"]) for one in predictions])
        if not gone:
            raise
        rest = [one for one in predictions if one["task"] not in gone]
        for again, _ in _json_batches(rest):
            gone |= _post(transport, project_id, path, again, rest)
        return gone
    return set()


def _missing(transport: Transport, project_id: int, ids: Sequence[int]) -> set[int]:
    """Those of some tasks that the project does not have (any more)."""
    wanted, there = sorted(set(ids)), set()
    for start in range(0, len(wanted), _READ_MOST):
        part = wanted[start : start + _READ_MOST]
        page = _page(
            transport, project_id, size=len(part), include="id", order="tasks:id", selected=part
        )
        there |= {int(row["id"]) for row in page.data["tasks"]}
    return set(wanted) - there


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
