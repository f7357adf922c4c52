"""The backend stays quick while it predicts: Label Studio waits one second for health."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ml_backend.web.app import PREDICTIONS_AT_ONCE

from .conftest import SECRET
from .test_app import ask, task


def test_health_and_events_pass_running_predictions(studio, service, jobs):
    """While more predictions than may run are asked for, health and events are answered."""
    service.release.clear()
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(studio.post, "/predict", json=ask(task(n))) for n in range(1, 7)]
        try:
            for _ in range(PREDICTIONS_AT_ONCE):
                assert service.entered.acquire(timeout=10)
            started = time.perf_counter()
            assert studio.get("/health").status_code == 200
            event = {"action": "ANNOTATION_CREATED", "project": 1}
            assert studio.post("/webhook", json=event, headers=SECRET).status_code == 200
            assert time.perf_counter() - started < 1
            assert not any(one.done() for one in asked)
        finally:
            service.release.set()
        results = [one.result(timeout=10).json()["results"] for one in asked]
    assert [one[0]["result"][0]["id"] for one in results] == list(range(1, 7))
    assert service.most == PREDICTIONS_AT_ONCE
    assert jobs.requested == [("sync", 1)]


def test_many_clients_at_once(studio, service):
    """Answers are never mixed up between projects that ask at the same time."""
    barrier = threading.Barrier(8)

    def one(number):
        barrier.wait(10)
        answer = studio.post("/predict", json=ask(task(number), project=f"{number}.5"))
        return answer.json()["results"][0]["result"][0]["id"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(1, 9))) == list(range(1, 9))
    assert sorted(service.predicted) == [(n, "<View/>", 1) for n in range(1, 9)]
