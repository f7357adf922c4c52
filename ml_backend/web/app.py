"""The HTTP contract that Label Studio expects of a backend (docs/label-studio.md)."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio
from anyio import to_thread
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ml_backend.errors import BrushloopError, DataError, JobError, NotFound, StudioError
from ml_backend.settings import Settings
from ml_backend.web.auth import Gate
from ml_backend.web.contract import (
    PROJECT_UPDATED,
    START_TRAINING,
    Event,
    PredictRequest,
    SetupRequest,
    read_payload,
)
from ml_backend.web.doorman import Doorman, refuse
from ml_backend.web.metrics import Metrics, Sample
from ml_backend.web.predicting import Predicting, predict_each
from ml_backend.web.reply import Reply

logger = logging.getLogger(__name__)

MAX_BODY = 64 * 2**20  # bytes: five noisy 12-megapixel masks
PREDICTIONS_AT_ONCE = 2  # one decodes and fetches while the other keeps torch busy
ENQUEUE_SECONDS = 2.0  # an event waits inside the annotator's Submit
STATUS = ((DataError, 422), (NotFound, 404), (StudioError, 502), (BrushloopError, 503))
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Requesting(Protocol):
    """What the web needs of `ml_backend.jobs.queues.Jobs`."""

    def request(self, step: str, project_id: int) -> str | None:
        """Queue a step; the job's id."""

    def counts(self) -> Mapping[Any, int]:
        """Jobs by state, queued and running."""

    def workers(self) -> int:
        """How many workers there are."""


def create_app(
    settings: Settings, *, jobs: Requesting | None = None, service: Predicting | None = None
) -> FastAPI:
    """Build the backend; `service` is closed when it stops serving.

    Raises `ConfigError` without a password and a webhook secret.
    """
    gate = Gate.from_settings(settings)
    jobs = _open_jobs(settings) if jobs is None else jobs
    service = _open_service(settings) if service is None else service
    metrics = Metrics(service.metrics, partial(_queue_gauges, jobs))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with closing(service):
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Doorman, gate=gate, metrics=metrics)
    app.add_exception_handler(BrushloopError, _explain)
    app.add_exception_handler(HTTPException, _explain_http)
    _add_reading(app, service, metrics)
    _add_predict(app, service, metrics)
    _add_webhook(app, gate, jobs, service, metrics)
    return app


def _open_jobs(settings: Settings) -> Requesting:
    from ml_backend.jobs.queues import Jobs

    return Jobs(settings)


def _open_service(settings: Settings) -> Predicting:
    from ml_backend.loop.serve import Service
    from ml_backend.masks import rle

    rle.warm_up(settings.machine_code)  # no request waits for a compiler
    return Service(settings)


def _add_reading(app: FastAPI, service: Predicting, metrics: Metrics) -> None:
    @app.get("/health")
    async def health() -> Response:
        return Reply({"status": "UP"})

    @app.post("/setup")
    async def setup(request: Request) -> Response:
        asked = await _read(request, SetupRequest)
        _say(request, project=asked.project.id)
        version = await to_thread.run_sync(
            service.register, asked.project.id, asked.project.title, asked.label_config
        )
        return Reply({"model_version": version})

    @app.get("/versions")
    async def versions() -> Response:
        return Reply({"versions": list(await to_thread.run_sync(service.versions))})

    @app.get("/metrics")
    async def metrics_text() -> Response:
        text = await to_thread.run_sync(metrics.text)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _add_predict(app: FastAPI, service: Predicting, metrics: Metrics) -> None:
    turn = anyio.CapacityLimiter(PREDICTIONS_AT_ONCE)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        asked = await _read(request, PredictRequest)
        _say(request, project=asked.project.id, tasks=len(asked.tasks))
        if not asked.tasks:
            return Reply({"results": []})
        async with turn:
            if await request.is_disconnected():  # it gave up while it waited: spare the work
                raise HTTPException(503, "the client went away")
            answers, failed = await to_thread.run_sync(
                predict_each, service, asked.project.id, asked.label_config, asked.tasks
            )
        metrics.predictions(len(answers) - failed, failed)
        _say(request, failed=failed)
        # spliced, not serialised again: the regions' JSON is most of the cost
        body = b'{"results":[' + b",".join(answers) + b"]}"
        return Response(body, media_type="application/json")


def _add_webhook(
    app: FastAPI, gate: Gate, jobs: Requesting, service: Predicting, metrics: Metrics
) -> None:
    @app.post("/webhook")
    async def webhook(request: Request) -> Response:
        event = await _read(request, Event)
        _say(request, action=event.label)
        training = event.action == START_TRAINING
        if not training and not gate.event(request.headers):
            return refuse()
        metrics.event(event.label)
        project = event.subject() if event.steps else None
        if project is None:
            if training:
                raise DataError("project: START_TRAINING names no project")
            return Reply({"status": "ignored"})
        _say(request, project=project.id)
        if event.action == PROJECT_UPDATED:
            try:
                await _quickly(service.register, project.id, project.title, project.label_config)
            except BrushloopError as error:  # sync reads the project again and says more
                logger.warning("project %s not updated: %s", project.id, error)
        if event.deleted is not None and not await _any_known(service, event.deleted):
            return Reply({"status": "ignored"})
        ids = [await _quickly(jobs.request, step, project.id) for step in event.steps]
        return Reply({"job": ids[-1]}, 201 if training else 200)


async def _any_known(service: Predicting, task_ids: list[int]) -> bool:
    """Whether a deletion is of any task that was pulled: `doctor` deletes tasks of its own."""
    try:
        return await _quickly(service.knows_any, task_ids)
    except BrushloopError:
        return True


async def _quickly(function: Callable[..., T], *args: object) -> T:
    """Run in a thread, but answer in time. Raises `JobError` where that takes too long."""
    with anyio.move_on_after(ENQUEUE_SECONDS):
        return await to_thread.run_sync(function, *args, abandon_on_cancel=True)
    raise JobError(f"no answer within {ENQUEUE_SECONDS:g} s; are Redis and the database up?")


async def _read(request: Request, model: type[M]) -> M:
    """Read and check the body; large ones are parsed beside the event loop."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise HTTPException(413, f"a body may have {MAX_BODY // 2**20} MiB at most")
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    return await to_thread.run_sync(read_payload, model, bytes(body))


def _say(request: Request, **words: object) -> None:
    """Add to the request's line of log; only numbers and names out of fixed sets."""
    request.state.said = {**getattr(request.state, "said", {}), **words}


def _queue_gauges(jobs: Requesting) -> list[Sample]:
    depths: list[Sample] = [("jobs", {"state": key}, n) for key, n in jobs.counts().items()]
    return [*depths, ("workers", {}, jobs.workers())]


async def _explain(request: Request, error: Exception) -> Response:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    logger.warning("%s refused with %d: %s", request.url.path, status, " ".join(str(error).split()))
    return Reply({"error": str(error)}, status)


async def _explain_http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return Reply({"error": error.detail}, error.status_code, headers=error.headers)
