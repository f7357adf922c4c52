"""Everything on one machine: Redis, Label Studio, backend, worker, schedule, and a project.

`up` brings it all to the point where a person can begin, hands over what is running, and
stops every process it started. A second start over the same home folder finds everything
as it was.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from ml_backend.errors import ConfigError, HostError
from ml_backend.host.allocator import ALLOCATOR
from ml_backend.host.files import write_text
from ml_backend.host.label_studio import LabelStudioServer
from ml_backend.host.ports import Ports
from ml_backend.host.processes import Child, Processes, one_instance
from ml_backend.host.secrets import LocalSecrets, local_secrets
from ml_backend.jobs.queues import Jobs, JobView
from ml_backend.jobs.redis_server import EmbeddedRedis
from ml_backend.loop.connect import connect, create_project
from ml_backend.loop.context import Context, open_context
from ml_backend.loop.pool import add_folder
from ml_backend.recipe import Recipe
from ml_backend.samples import make_samples
from ml_backend.settings import ENV_FILE, Settings, load_settings
from ml_backend.store.mask_values import Values, parse_values
from ml_backend.store.rows import Project

SAMPLE_LABEL = "plankton"
FIRST_PORT = 8080  # Label Studio's own default, when it is free


@dataclass(frozen=True)
class Wishes:
    """What the user asked for on the command line."""

    home: Path
    recipe: Recipe
    studio: Path
    images: Path | None = None
    masks: Path | None = None
    labels: tuple[str, ...] = ()
    values: str | None = None
    port: int | None = None
    seed: int = 0
    demo: bool = False


@dataclass(frozen=True)
class Pictures:
    """Folders to fill the pool from; `truths` are masks that only the scripted annotator knows."""

    images: Path
    truths: Path | None
    sources: Path | None
    source_masks: Path | None
    labels: tuple[str, ...]
    values: Values | None = None


@dataclass(frozen=True)
class Running:
    """What `up` started."""

    settings: Settings
    project: Project
    studio_url: str
    secrets: LocalSecrets
    pictures: Pictures
    processes: Processes
    redis: EmbeddedRedis

    def tend(self) -> None:
        """Start again what died. To be called now and then by whoever waits."""
        self.processes.tend()
        if not self.redis.alive():
            self.redis.start()

    def watch(self) -> None:
        """Tend everything until a signal comes."""
        while True:
            self.tend()
            time.sleep(1.0)


Say = Callable[[str], None]


def failed_since(began: datetime, view: JobView) -> bool:
    """Whether a job failed for good after `began`: older failures are another start's."""
    given_up = view.state == "failed" and view.not_before is None
    return given_up and (view.ended_at is None or view.ended_at.astimezone(UTC) >= began)


class Teller:
    """Tells what the running job does, when it is new and not more often than a person reads."""

    def __init__(self, say: Say, every: float = 5.0) -> None:
        self._say, self._every = say, every
        self._told, self._at = "", -every

    def tell(self, views: Sequence[JobView]) -> bool:
        """Say the running job's line; returns whether it had changed since it was last said."""
        text = next((view.text for view in views if view.state == "running" and view.text), "")
        if not text or text == self._told or time.monotonic() - self._at < self._every:
            return False
        self._told, self._at = text, time.monotonic()
        self._say(f"  {text}")
        return True


def pictures_of(wishes: Wishes) -> Pictures:
    """Decide what is shown: the user's folders, or samples that the package draws.

    In a demo the masks belong to the annotator; otherwise images that have a mask are
    learned from at once and only the others are asked about.
    """
    if wishes.images is None:
        if wishes.masks is not None:
            raise ConfigError("--masks needs --images: say which images they belong to")
        folders = make_samples(wishes.home / f"samples-{wishes.seed}", seed=wishes.seed)
        return Pictures(
            folders.noisy_images,
            folders.noisy_masks,
            folders.clean_images,
            folders.clean_masks,
            wishes.labels or (SAMPLE_LABEL,),
        )
    if wishes.demo and wishes.masks is None:
        raise ConfigError("--demo with --images needs --masks: the annotator must know the truth")
    labels = wishes.labels or ("object",)
    known = None if wishes.demo else wishes.masks
    truths = wishes.masks if wishes.demo else None
    values = parse_values(wishes.values) if wishes.values else None
    return Pictures(wishes.images, truths, None, known, labels, values)


@contextmanager
def up(wishes: Wishes, say: Say) -> Iterator[Running]:
    """Start everything, connect a project, fill its pool; stop everything at the end."""
    wishes.home.mkdir(parents=True, exist_ok=True)
    with one_instance(wishes.home):
        secrets = local_secrets(wishes.home)
        pictures = pictures_of(wishes)
        redis = EmbeddedRedis(wishes.home)
        with Processes(wishes.home, say=say) as processes:
            try:
                say("starting Redis")
                redis.start()
                studio = _start_studio(wishes, secrets, processes, say)
                settings = _write_settings(wishes, secrets, studio.url)
                running = Running(
                    settings, _connect(wishes, settings, pictures, processes, say), studio.url,
                    secrets, pictures, processes, redis,
                )  # fmt: skip
                _prepare(running, say)
                yield running
                say("stopping")
            finally:
                processes.stop()
                redis.stop(adopted=True)


def _start_studio(
    wishes: Wishes, secrets: LocalSecrets, processes: Processes, say: Say
) -> LabelStudioServer:
    ports = Ports(wishes.home)
    port = (
        ports.demand("label-studio", wishes.port)
        if wishes.port
        else ports.choose("label-studio", FIRST_PORT)
    )
    server = LabelStudioServer(
        executable=wishes.studio,
        data_dir=wishes.home / "label-studio",
        port=port,
        secrets=secrets,
        local_files_root=wishes.home,
    )
    say("starting Label Studio (the first start takes up to a minute)")
    told = [0.0]

    def waiting(seconds: float) -> None:
        if seconds - told[0] >= 10:
            told[0] = seconds
            say(f"  still starting Label Studio, {seconds:.0f} s")

    server.start(processes, progress=waiting)
    return server


def _write_settings(wishes: Wishes, secrets: LocalSecrets, studio_url: str) -> Settings:
    """Leave in the home folder what every other `brushloop` command needs to know."""
    values = {
        "BRUSHLOOP_LABEL_STUDIO_URL": studio_url,
        "BRUSHLOOP_LABEL_STUDIO_API_KEY": secrets.studio_token,
        "BRUSHLOOP_PORT": str(Ports(wishes.home).choose("backend", 9090)),
        "BRUSHLOOP_USER": secrets.user,
        "BRUSHLOOP_PASSWORD": secrets.password,
        "BRUSHLOOP_WEBHOOK_SECRET": secrets.webhook_secret,
    }
    lines = [f"{name}={value}" for name, value in values.items()]
    write_text(wishes.home / ENV_FILE, "\n".join(lines) + "\n")
    return load_settings(home=wishes.home)


def _connect(
    wishes: Wishes, settings: Settings, pictures: Pictures, processes: Processes, say: Say
) -> Project:
    """Start the backend, wire it to the project in Label Studio, fill the pool."""
    say("starting the backend")
    processes.start(_child("backend", settings, "serve"))
    processes.wait_ready("backend", lambda: _healthy(settings))
    with open_context(settings) as context:
        title = f"Brushloop {', '.join(pictures.labels)}"[:50]
        project = create_project(context, title, pictures.labels, wishes.recipe)
        connect(context, project.id, wishes.recipe)
        say(f"filling the pool from {pictures.images}")
        masks = pictures.source_masks
        if pictures.sources is not None:
            add_folder(context, project.id, pictures.sources, masks=masks)
            masks = None
        values = pictures.values
        pool = add_folder(context, project.id, pictures.images, masks=masks, values=values)
    say(f"  {pool.images} images, {pool.tiles} tiles to ask about")
    for name, reason in pool.quarantined:
        say(f"  set aside: {name}: {reason}")
    return project


def _prepare(running: Running, say: Say) -> None:
    """Start worker and schedule, and wait until Label Studio has a batch to work on."""
    settings, project = running.settings, running.project
    jobs = Jobs(settings, patient=True)
    running.processes.start(_child("worker", settings, "worker"))
    running.processes.start(_child("schedule", settings, "schedule"))
    with open_context(settings) as context:
        sources = bool(context.catalog.pool.sources(project.id))
        jobs.request("train" if sources else "select", project.id)
        say("preparing the first batch" + " (a first model learns from your masks)" * sources)
        _wait_for_batch(running, context, jobs, say)


def _child(name: str, settings: Settings, *arguments: str) -> Child:
    command = (sys.executable, "-m", "ml_backend.cli", *arguments)
    environment = {**ALLOCATOR, "BRUSHLOOP_HOME": str(settings.home.absolute())}
    return Child(name, command, environment, grace=20.0)


def _healthy(settings: Settings) -> bool:
    try:
        address = f"http://{settings.host}:{settings.port}/health"
        return httpx.get(address, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _wait_for_batch(running: Running, context: Context, jobs: Jobs, say: Say) -> None:
    """Wait for the batch, telling what the jobs do meanwhile. Raises `HostError` if none comes."""
    project_id, teller, began = running.project.id, Teller(say), datetime.now(UTC)
    while True:
        rounds = context.catalog.rounds.all(project_id)
        if rounds and rounds[-1].state == "pushed":
            return
        views = jobs.overview(project_id)
        busy = [view for view in views if view.state in ("queued", "running")]
        failed = [view for view in views if failed_since(began, view)]
        if failed and not busy:
            raise HostError(f"the first batch could not be prepared: {failed[0].error}")
        teller.tell(views)
        if not busy:
            if not context.catalog.pool.unasked(project_id):
                return  # everything has been asked before: nothing to wait for
            jobs.request("select", project_id)  # the recipe may not select by itself
        running.tend()
        time.sleep(1.0)
