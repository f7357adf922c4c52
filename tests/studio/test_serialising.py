"""What goes to Label Studio is written by orjson, whichever call it is: masks are long lists."""

import json

import httpx
import numpy as np
import orjson
import pytest

from ml_backend.studio.client import Studio

REGION = {"id": "r", "type": "brushlabels", "value": {"rle": np.arange(9, dtype=np.uint8)}}
PLAIN = {"id": "r", "type": "brushlabels", "value": {"rle": list(range(9))}}
PREDICTION = {"task": 1, "result": [REGION], "score": 0.5, "model_version": "v1"}


@pytest.fixture
def sent(monkeypatch):
    """Give a client of a Label Studio that says yes, and the bodies it was sent.

    Whoever writes JSON with the standard library fails.
    """

    def fail(*_):
        raise AssertionError("JSON was written by the standard library")

    monkeypatch.setattr(json.JSONEncoder, "encode", fail)
    monkeypatch.setattr(json.JSONEncoder, "iterencode", fail)
    bodies = []
    project = {"id": 7, "title": "t", "created_at": "", "task_number": 1000, "task_ids": [1]}

    def answer(request):
        assert request.headers.get("content-type", "application/json") == "application/json"
        if request.content:
            bodies.append(orjson.loads(request.content))
        return httpx.Response(200, content=orjson.dumps(project))

    with Studio("http://studio.test", "0" * 40, httpx.MockTransport(answer)) as client:
        yield client, bodies


@pytest.mark.parametrize("bulk", [False, True])
def test_predictions_tasks_and_annotations(sent, monkeypatch, bulk):
    """Regions of uint8 arrays arrive as lists of numbers, singly and in bulk."""
    client, bodies = sent
    monkeypatch.setattr("ml_backend.studio.tasks._BREAK_EVEN", 0 if bulk else 1)
    client.post_predictions(7, [PREDICTION])
    client.import_tasks(7, [{"data": {"image": "i"}, "predictions": [PREDICTION]}])
    client.create_annotation(3, [REGION], lead_time=2.5)
    plain = PREDICTION | {"result": [PLAIN]}
    assert bodies == [
        [plain] if bulk else plain,
        [{"data": {"image": "i"}, "predictions": [plain]}],
        {"result": [PLAIN], "parent_prediction": None, "lead_time": 2.5},
    ]


def test_projects(sent):
    """The small calls go the same way, whatever letters they hold."""
    client, bodies = sent
    client.create_project("Zellen é 日", "<View/>")
    client.set_model_version(7, "v2", sampling="Uncertainty sampling")
    assert bodies == [
        {"title": "Zellen é 日", "label_config": "<View/>"},
        {"model_version": "v2", "sampling": "Uncertainty sampling"},
    ]
