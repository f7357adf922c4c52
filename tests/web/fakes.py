"""Hand-written stand-ins for the queue and the service."""

import json
import threading

from ml_backend.errors import ImageUnreadable, JobError


class FakeJobs:
    """Remembers what was requested; may be down, or never answer."""

    def __init__(self):
        self.requested = []
        self.down = False
        self.stuck = None

    def request(self, step, project_id):
        """Queue a step."""
        if self.down:
            raise JobError("Redis at unix:/somewhere does not answer; start it")
        if self.stuck is not None:
            self.stuck.wait(30)
        self.requested.append((step, project_id))
        return f"{step}-{project_id}"

    def counts(self):
        """Jobs by state."""
        if self.down:
            raise JobError("Redis does not answer")
        return {"queued": 2, "running": 1}

    def workers(self):
        """How many workers there are."""
        return 3


class FakeService:
    """Answers each task with its id; breaks on chosen ones, or waits to be released."""

    version = "p1-m3"

    def __init__(self):
        self.registered = []
        self.predicted = []
        self.broken = set()
        self.known = set()
        self.error = None
        self.closed = False
        self.extra = []
        self.running = 0
        self.most = 0
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()
        self.release.set()
        self._lock = threading.Lock()

    def register(self, project_id, title, label_config):
        """Make a project known."""
        if self.error:
            raise self.error
        self.registered.append((project_id, title, label_config))
        return self.version

    def predict(self, project_id, label_config, tasks):
        """One JSON object for each task."""
        self.predicted.append((project_id, label_config, len(tasks)))
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.entered.release()
        self.release.wait(30)
        with self._lock:
            self.running -= 1
        if self.error:
            raise self.error
        for task in tasks:
            if task.get("id") in self.broken:
                raise ImageUnreadable(f"task {task['id']}: truncated\nTraceback of a library")
        return [*(self._answer(task) for task in tasks), *self.extra]

    def knows_any(self, task_ids):
        """Whether any of them is among the tasks that it knows."""
        return bool(self.known & set(task_ids))

    def versions(self):
        """All versions."""
        return [self.version, "p1-m2"]

    def metrics(self):
        """Gauges."""
        return [
            ("model_info", {"project": "1", "version": self.version}, 1.0),
            ("model_info", {"project": "2"}, 1.0),
            ("brushloop_model_iou", {"project": "1"}, 0.75),
        ]

    def close(self):
        """Let go."""
        self.closed = True

    def _answer(self, task):
        # two blanks show whether the bytes were passed on untouched
        return json.dumps(
            {"result": [{"id": task.get("id")}], "score": 0.5, "model_version": self.version},
            separators=(",  ", ":  "),
        ).encode()
