"""The contract of label-studio.md, route by route."""

import logging
import threading

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from ml_backend.errors import (
    LabelConfigError,
    NotFound,
    NothingToLearn,
    StoreError,
    StudioUnreachable,
    UnknownName,
)
from ml_backend.web import app as web_app

from .conftest import BASIC, SECRET
from .fakes import FakeJobs


def task(number, **more):
    """Give a task as Label Studio sends it."""
    return {"id": number, "data": {"image": f"/data/upload/1/{number}.png"}, **more}


def ask(*tasks, project="1.1714000000", **more):
    """Give the body of a predict request."""
    return {"tasks": list(tasks), "project": project, "label_config": "<View/>", **more}


def test_setup_answers_with_the_version(studio, service):
    """Setup registers the project, whatever form the extra parameters have."""
    for extra in (None, "text", {"a": 1}):
        body = {"project": "12.1714000000", "schema": "<View/>", "extra_params": extra}
        answer = studio.post("/setup", json=body)
        assert answer.json() == {"model_version": service.version}
    assert service.registered == [(12, None, "<View/>")] * 3


def test_one_result_for_each_task(studio, service):
    """Results are as many as tasks, in order, with the service's bytes untouched."""
    answer = studio.post("/predict", json=ask(task(3), task(1), task(2)))
    assert [one["result"][0]["id"] for one in answer.json()["results"]] == [3, 1, 2]
    assert b',  "score":  0.5' in answer.content
    assert answer.headers["content-type"] == "application/json"
    assert service.predicted == [(1, "<View/>", 3)]


def test_no_tasks_no_results(studio, service):
    """An empty list is answered with an empty list."""
    assert studio.post("/predict", json=ask()).json() == {"results": []}
    assert service.predicted == []


def test_interactive_requests_are_answered(studio):
    """A request with a context is answered with one object, as Label Studio expects."""
    params = {"login": None, "password": None, "context": {"result": [{"type": "brushlabels"}]}}
    answer = studio.post("/predict", json=ask(task(1), params=params))
    (result,) = answer.json()["results"]
    assert isinstance(result, dict)


def test_a_broken_image_breaks_only_its_task(studio, service, caplog):
    """The task with the broken image is left empty with one line of warning."""
    service.broken = {2}
    answer = studio.post("/predict", json=ask(task(1), task(2), task(3)))
    results = answer.json()["results"]
    assert [len(one["result"]) for one in results] == [1, 0, 1]
    assert results[1] == {"result": [], "score": 0.0, "model_version": service.version}
    (warning,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "task 2" in warning.getMessage()
    assert "\n" not in warning.getMessage()


def test_a_wrong_count_is_never_sent(studio, service):
    """A service that miscounts is an error, not predictions on the wrong tasks."""
    service.extra = [b"{}"]
    answer = studio.post("/predict", json=ask(task(1)))
    assert answer.status_code == 503
    assert "2 predictions for 1 tasks" in answer.json()["error"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LabelConfigError("no brush control; found: Image"), 422),
        (NotFound("project 1 is unknown"), 404),
        (StudioUnreachable("Label Studio at http://x does not answer"), 502),
        (StoreError("disk full"), 503),
        (NothingToLearn("no masks"), 503),
        (UnknownName("unknown loss"), 503),
    ],
)
def test_our_errors_are_told(studio, service, error, status):
    """What concerns the whole project is said with its own words and a fitting status."""
    service.error = error
    answer = studio.post("/setup", json={"project": "1.2", "schema": None})
    assert (answer.status_code, answer.json()) == (status, {"error": str(error)})


def test_bugs_are_not_told(studio, service, caplog):
    """An unexpected error reaches the log, and the client only learns that there was one."""
    service.error = ZeroDivisionError("secret detail")
    answer = studio.post("/predict", json=ask(task(1)))
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal error; see the log"}
    assert "secret detail" in caplog.text


def test_the_service_is_closed(settings, service):
    """The catalog is let go when the server stops."""
    with TestClient(web_app.create_app(settings, jobs=FakeJobs(), service=service)):
        assert not service.closed
    assert service.closed


def test_versions(studio, service):
    """Versions are asked for without a project."""
    assert studio.get("/versions").json() == {"versions": service.versions()}


@pytest.mark.parametrize("project", [4, "4.1714000000", {"id": 4, "title": "t"}])
def test_training_is_requested(studio, jobs, project):
    """The Train button asks for sync, then training, and learns the job."""
    answer = studio.post("/webhook", json={"action": "START_TRAINING", "project": project})
    assert (answer.status_code, answer.json()) == (201, {"job": "train-4"})
    assert jobs.requested == [("sync", 4), ("train", 4)]


@pytest.mark.parametrize(
    "action",
    ["ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "TASKS_DELETED"],
)
def test_events_ask_for_sync(client, jobs, action):
    """An event asks for sync and nothing else."""
    body = {"action": action, "project": {"id": 4}, "annotation": [{"id": 1}]}
    assert client.post("/webhook", json=body, headers=SECRET).json() == {"job": "sync-4"}
    assert jobs.requested == [("sync", 4)]


def test_an_update_registers_the_project(client, jobs, service):
    """A changed title or labeling config is known at once, then synced."""
    project = {"id": 4, "title": "Cells", "label_config": "<View/>"}
    body = {"action": "PROJECT_UPDATED", "project": project}
    assert client.post("/webhook", json=body, headers=SECRET).status_code == 200
    assert service.registered == [(4, "Cells", "<View/>")]
    service.error = LabelConfigError("no brush control")
    assert client.post("/webhook", json=body, headers=SECRET).status_code == 200
    assert jobs.requested == [("sync", 4)] * 2


@pytest.mark.parametrize(
    "body",
    [
        {"action": "LABEL_LINK_CREATED", "project": "nonsense"},
        {"action": "PROJECT_DELETED", "project": {"id": 4}},
        {"action": "ANNOTATION_CREATED"},
    ],
)
def test_what_we_do_not_know_is_acknowledged(client, jobs, body):
    """Unknown actions, and events sent without payload, are no error."""
    answer = client.post("/webhook", json=body, headers=SECRET)
    assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})
    assert jobs.requested == []


def test_redis_down_is_said_and_logged(client, jobs, caplog):
    """Without Redis the event is refused with 503; the poll will find what it told."""
    jobs.down = True
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 4}}
    answer = client.post("/webhook", json=body, headers=SECRET)
    assert answer.status_code == 503
    assert "Redis" in answer.json()["error"]
    assert "Redis" in caplog.text


def test_a_stuck_redis_does_not_hold_the_annotator(client, jobs, monkeypatch):
    """The answer comes after the deadline although the request for the job still hangs."""
    monkeypatch.setattr(web_app, "ENQUEUE_SECONDS", 0.05)
    jobs.stuck = threading.Event()
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 4}}
    try:
        assert client.post("/webhook", json=body, headers=SECRET).status_code == 503
    finally:
        jobs.stuck.set()


def test_large_bodies_are_refused(studio, monkeypatch):
    """More than the limit is 413, with or without a declared length."""
    monkeypatch.setattr(web_app, "MAX_BODY", 2**20)
    body = b" " * 2**20 + b"{}"
    halves = (body[:700_000], body[700_000:])
    assert studio.post("/predict", content=body).status_code == 413
    assert studio.post("/predict", content=iter(halves)).status_code == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"tasks": 1}', b"[" * 9999])
@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
def test_malformed_bodies_are_422(studio, path, body):
    """A body that is no payload is refused in a short sentence."""
    answer = studio.post(path, content=body)
    assert answer.status_code == 422
    assert len(answer.json()["error"]) < 400


def test_unknown_paths_answer_json(studio):
    """Wrong paths and methods are errors in the same form."""
    assert studio.get("/nothing").json() == {"error": "Not Found"}
    assert studio.get("/predict").json() == {"error": "Method Not Allowed"}


def test_metrics_count_what_happened(studio, service, jobs):
    """Requests, predictions, events, models and queues are all readable by Prometheus."""
    service.broken = {2}
    studio.post("/predict", json=ask(task(1), task(2)))
    studio.post("/webhook", json={"action": "x" * 9, "project": 1}, headers=SECRET)
    jobs.down = True
    without_redis = studio.get("/metrics").text
    jobs.down = False
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(studio.get("/metrics").text)
        for sample in family.samples
    }
    route = ("route", "/predict"), ("status", "200")
    assert found["brushloop_requests_total", *route] == 1
    assert found["brushloop_request_seconds_count", ("route", "/predict")] == 1
    assert found["brushloop_predictions_total", ("outcome", "good")] == 1
    assert found["brushloop_predictions_total", ("outcome", "failed")] == 1
    assert found["brushloop_events_total", ("action", "other")] == 1
    assert found["brushloop_jobs", ("state", "queued")] == 2
    assert found[("brushloop_workers",)] == 3
    model = ("project", "1"), ("version", service.version)
    assert found["brushloop_model_info", *model] == 1
    assert found["brushloop_model_iou", ("project", "1")] == 0.75
    assert "brushloop_jobs" not in without_redis
    assert "brushloop_model_info" in without_redis


def test_one_line_a_request_without_secrets(studio, caplog):
    """The log says route, status, time, project and tasks; no body, no secret, no health."""
    caplog.set_level(logging.INFO, "ml_backend.web")
    studio.get("/health")
    studio.post("/predict", json=ask(task(1, comment="a private\nremark")))
    studio.get("/a%0Aforged line")
    lines = [one.getMessage() for one in caplog.records if one.name == "ml_backend.web.doorman"]
    assert len(lines) == 2
    assert lines[0].startswith("/predict status=200 ms=")
    assert lines[0].endswith("project=1 tasks=1 failed=0")
    assert lines[1].startswith("other status=404")
    assert "remark" not in caplog.text
    assert BASIC[1] not in caplog.text


def test_a_deletion_of_unknown_tasks_changes_nothing(client, jobs, service):
    """Tasks that were never pulled, such as the doctor's own, leave nothing to pull."""
    service.known = {7}
    body = {"action": "TASKS_DELETED", "project": {"id": 4}, "tasks": [{"id": 8}, {"id": 9}]}
    assert client.post("/webhook", json=body, headers=SECRET).json() == {"status": "ignored"}
    body["tasks"].append({"id": 7})
    assert client.post("/webhook", json=body, headers=SECRET).json() == {"job": "sync-4"}
    body["tasks"] = [{"id": "9"}]
    assert client.post("/webhook", json=body, headers=SECRET).json() == {"job": "sync-4"}
    assert jobs.requested == [("sync", 4)] * 2
