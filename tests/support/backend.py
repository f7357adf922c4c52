"""A tiny backend that answers what Label Studio asks and remembers every request."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """One request: header names are lower case, `body` is JSON or None."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class TinyBackend:
    """Serves `/health`, `/setup`, `/predict` and `/webhook` on a free port while entered.

    `predict` is what each task gets as its prediction, None for an empty `results` list.
    """

    def __init__(self, model_version: str = "tiny-1") -> None:
        self.model_version = model_version
        self.predict: dict[str, Any] | None = {"result": []}
        self.received: list[Received] = []
        self._arrived = threading.Condition()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                raw = self.rfile.read(length)
                body = json.loads(raw) if raw else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = json.dumps(backend._reply(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                backend._remember(Received(self.command, self.path, headers, body))

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, path: str, body: Any) -> dict[str, Any]:
        if path == "/setup":
            return {"model_version": self.model_version}
        if path == "/predict":
            one = self.predict
            return {"results": [] if one is None else [one for _ in body["tasks"]]}
        if path == "/versions":
            return {"versions": [self.model_version]}
        return {"status": "UP"}

    def _remember(self, request: Received) -> None:
        with self._arrived:
            self.received.append(request)
            self._arrived.notify_all()

    def to(self, path: str) -> list[Received]:
        """The requests to `path` so far."""
        return [request for request in self.received if request.path == path]

    def wait_event(self, action: str, seconds: float = 10) -> Received:
        """The first event with this action; TimeoutError when none comes in time."""

        def find() -> Received | None:
            events = (event for event in self.to("/webhook") if event.body["action"] == action)
            return next(events, None)

        with self._arrived:
            if not self._arrived.wait_for(lambda: find() is not None, seconds):
                raise TimeoutError(f"no {action} within {seconds} s")
            found = find()
        assert found is not None
        return found
