"""Looking at everything that can be wrong, in both directions, and saying how to mend it."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import httpx

from ml_backend.errors import BrushloopError, LabelConfigError
from ml_backend.loop.brush import brush_hint
from ml_backend.loop.connect import SECRET_HEADER
from ml_backend.loop.context import Context
from ml_backend.loop.precision import precisions_of
from ml_backend.loop.site import find_page_address, find_project
from ml_backend.loop.trial import try_write_path
from ml_backend.recipe import Recipe
from ml_backend.store.rows import Project

ENOUGH_DISK = 2 << 30  # bytes: a few models and their checkpoints


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    well: bool
    text: str


def examine(context: Context, project_id: int | None = None) -> list[Finding]:
    """Look at Redis, disk, torch, the backend, Label Studio and each project's wiring."""
    findings = [
        _look("redis", lambda: _redis(context)),
        _look("disk", lambda: _disk(context)),
        _look("torch", lambda: _torch(context)),
        _look("backend", lambda: _backend(context)),
        _look("label studio", lambda: _studio(context)),
    ]
    projects = context.catalog.projects.all()
    wanted = [row for row in projects if project_id in (None, row.id)]
    if project_id is not None and not wanted:
        wanted = [context.catalog.projects.get(project_id)]
    for project in wanted:
        findings += _project(context, project)
    return findings


def _look(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, well=True, text=check())
    except BrushloopError as error:
        return Finding(name, well=False, text=str(error))


def _redis(context: Context) -> str:
    from ml_backend.jobs.queues import Jobs

    jobs = Jobs(context.settings)
    jobs.ping()
    workers = jobs.workers()
    if not workers:
        raise BrushloopError("answers, but no worker runs: start one with `brushloop worker`")
    return f"answers, {workers} worker{'s' * (workers > 1)}"


def _disk(context: Context) -> str:
    free = shutil.disk_usage(context.settings.home).free
    text = f"{free / 2**30:.1f} GiB free in {context.settings.home}"
    if free < ENOUGH_DISK:
        raise BrushloopError(f"{text}: make room, or move the folder and set BRUSHLOOP_HOME")
    return text


def _torch(context: Context) -> str:
    import torch

    from ml_backend.learning import networks  # noqa: F401  (fails where torchvision does not fit)
    from ml_backend.learning.device import resolve_device

    device = resolve_device(context.settings.device)
    recipes = [project.recipe for project in context.catalog.projects.all()] or [Recipe()]
    found = [precisions_of(context.settings, recipe.network) for recipe in recipes]
    formats = {f"{one.prediction} for predictions, {one.training} for trainings" for one in found}
    return f"{torch.__version__}, {device.type}, {'; '.join(sorted(formats))}"


def _backend(context: Context) -> str:
    url = context.settings.public_url
    try:
        answer = httpx.get(f"{url}/health", timeout=5, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise BrushloopError(
            f"{url} does not answer ({type(error).__name__}): start it with `brushloop serve`, "
            "or set BRUSHLOOP_BACKEND_URL to where it is"
        ) from None
    return f"{url} answers"


def _studio(context: Context) -> str:
    studio = context.studio
    user = studio.whoami()
    pages = studio.browser_url
    shown = "" if pages == studio.url else f"; people open {pages}"
    return f"{studio.url} {studio.version()}, {studio.token_kind} token of {user.email}{shown}"


def _project(context: Context, project: Project) -> Iterator[Finding]:
    name = f"project {project.id}"
    there = _look(name, lambda: _there(context, project))
    if not there.well:
        yield there
        return
    labels = _look(f"{name} labels", lambda: _labels(context, project))
    yield labels
    if labels.well:
        yield _look(f"{name} tasks", lambda: _tasks(context, project))
    yield _look(f"{name} backend", lambda: _registered(context, project))
    yield _look(f"{name} webhook", lambda: _webhook(context, project))


def _there(context: Context, project: Project) -> str:
    info = find_project(context, project.id)
    return f"{info.title}, at {find_page_address(context, project.id)}/projects/{info.id}"


def _labels(context: Context, project: Project) -> str:
    from ml_backend.masks.labels import parse_label_config

    text = context.studio.get_project(project.id).label_config
    try:
        config = parse_label_config(text)
    except LabelConfigError as error:
        raise LabelConfigError(f"{error}{brush_hint(text, project.id)}") from None
    return f"brush {config.control!r} with {', '.join(config.names)}"


def _tasks(context: Context, project: Project) -> str:
    info = context.studio.get_project(project.id)
    return try_write_path(context, replace(project, label_config=info.label_config))


def _registered(context: Context, project: Project) -> str:
    url = context.settings.public_url
    mine = [row for row in context.studio.backends(project.id) if row.url.rstrip("/") == url]
    again = f"run `brushloop connect --project {project.id}`"
    if not mine:
        raise BrushloopError(f"Label Studio does not know {url}: {again}")
    if mine[0].error:
        raise BrushloopError(
            f"Label Studio cannot reach {url}: {mine[0].error.splitlines()[-1]}; is that address "
            "reachable from Label Studio, with ML_BLOCK_LOCAL_IP=false and "
            f"SSRF_PROTECTION_ENABLED=false set there for private addresses? Then {again}"
        )
    return f"{mine[0].state}, {url}"


def _webhook(context: Context, project: Project) -> str:
    url = f"{context.settings.public_url}/webhook"
    mine = [row for row in context.studio.webhooks(project.id) if row.url == url]
    again = f"run `brushloop connect --project {project.id}`"
    if not mine:
        raise BrushloopError(f"no webhook sends events to {url}: {again}")
    secret = context.settings.webhook_secret
    given = {key.lower(): value for key, value in mine[0].headers.items()}
    if secret is None or given.get(SECRET_HEADER.lower()) != secret.get_secret_value():
        raise BrushloopError(f"the webhook lacks our secret header {SECRET_HEADER}: {again}")
    if not mine[0].is_active:
        raise BrushloopError(f"the webhook is switched off in Label Studio: {again}")
    others = len(mine) - 1
    return f"sends events to {url}" + (f"; {others} duplicates" if others else "")
