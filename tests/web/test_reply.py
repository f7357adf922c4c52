"""Answers are written by orjson, whichever route it is: regions are long lists of numbers."""

import json

import orjson
import pytest
from fastapi.testclient import TestClient

from ml_backend.web.app import create_app

from .conftest import BASIC, SECRET
from .fakes import FakeService


class Ready(FakeService):
    """A service whose answers are bytes already, as the real one's."""

    def _answer(self, task):
        return b'{"result":[{"id":%d}],"score":0.5,"model_version":"p1-m3"}' % task["id"]


@pytest.fixture
def strict(settings, jobs, monkeypatch):
    """Give a client of a backend in which nobody writes JSON with the standard library."""

    def fail(*_):
        raise AssertionError("JSON was written by the standard library")

    with TestClient(create_app(settings, jobs=jobs, service=Ready())) as client:
        client.auth = (BASIC[0].encode(), BASIC[1].encode())
        monkeypatch.setattr(json.JSONEncoder, "encode", fail)
        monkeypatch.setattr(json.JSONEncoder, "iterencode", fail)
        yield client


@pytest.mark.parametrize(
    ("path", "body", "status", "answer"),
    [
        ("/health", None, 200, {"status": "UP"}),
        ("/versions", None, 200, {"versions": ["p1-m3", "p1-m2"]}),
        ("/setup", {"project": "1", "schema": "<View/>"}, 200, {"model_version": "p1-m3"}),
        ("/predict", {"project": 1, "tasks": []}, 200, {"results": []}),
        ("/webhook", {"action": "START_TRAINING", "project": 1}, 201, {"job": "train-1"}),
        ("/webhook", {"action": "X", "project": 1}, 200, {"status": "ignored"}),
        ("/nowhere", None, 404, {"error": "Not Found"}),
    ],
)
def test_every_route(strict, path, body, status, answer):
    """Each answers what it should, as JSON."""
    sent = {} if body is None else {"content": orjson.dumps(body)}
    reply = strict.request("GET" if body is None else "POST", path, headers=SECRET, **sent)
    assert (reply.status_code, orjson.loads(reply.content)) == (status, answer)
    assert reply.headers["content-type"] == "application/json"


def test_a_refusal_and_a_prediction(strict):
    """So are errors, and regions are passed on as they are."""
    reply = strict.post("/predict", content=b'{"project": 0, "tasks": []}')
    assert reply.status_code == 422
    assert "project" in orjson.loads(reply.content)["error"]
    body = {"project": 1, "tasks": [{"id": 5, "data": {}}]}
    reply = strict.post("/predict", content=orjson.dumps(body))
    (result,) = orjson.loads(reply.content)["results"]
    assert result["result"] == [{"id": 5}]
    strict.auth = None
    assert strict.get("/versions").status_code == 401
