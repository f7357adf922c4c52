"""What happens to every request: authentication, counting, one line of log, no traceback out."""

import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ml_backend.web.auth import CHALLENGE, Gate
from ml_backend.web.metrics import Metrics
from ml_backend.web.reply import Reply

logger = logging.getLogger(__name__)

ROUTES = frozenset({"/health", "/setup", "/predict", "/webhook", "/versions", "/metrics"})


def refuse() -> Reply:
    """401, for whoever lacks the right secret."""
    return Reply({"error": "authentication required"}, 401, headers=CHALLENGE)


class Doorman:
    """ASGI middleware around the whole application.

    The strangers' bodies are never read. The webhook lets either secret in; its route then
    tells events from START_TRAINING.
    """

    def __init__(self, app: ASGIApp, *, gate: Gate, metrics: Metrics) -> None:
        self.app = app
        self.gate = gate
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit, pass on, count and log one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        started = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        app = self.app if self._admits(scope) else refuse()
        try:
            await app(scope, receive, watch)
        except Exception:  # the process must survive, and the client must see no traceback
            logger.exception("unexpected error at %s", _route(scope))
            if status:
                raise  # too late for another answer: the server drops the connection
            await Reply({"error": "internal error; see the log"}, 500)(scope, receive, watch)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _admits(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        return (
            scope["path"] == "/health"
            or self.gate.basic(headers)
            or (scope["path"] == "/webhook" and self.gate.event(headers))
        )

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        self.metrics.request(route, status, seconds)
        said = {
            "status": status,
            "ms": round(seconds * 1000),
            **scope.get("state", {}).get("said", {}),
        }
        quiet = status == 200 and route in {"/health", "/metrics"}
        logger.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s",
            route,
            " ".join(f"{key}={value}" for key, value in said.items()),
        )


def _route(scope: Scope) -> str:
    return scope["path"] if scope["path"] in ROUTES else "other"
