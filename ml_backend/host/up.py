"""Everything on one machine: Redis, Label Studio, backend, worker, schedule, and a project.

`up` tells where the page is as soon as Label Studio answers, fills the pool, asks for the first
batch and the first training, hands over what is running, and stops every process it started. What
comes of the jobs is told while it runs. A second start over the same home folder finds everything
as it was.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from ml_backend.errors import ConfigError, JobError
from ml_backend.host.allocator import ALLOCATOR
from ml_backend.host.files import write_text
from ml_backend.host.label_studio import LabelStudioServer
from ml_backend.host.pool_fill import Pictures, PoolFill
from ml_backend.host.ports import Ports
from ml_backend.host.processes import Child, Processes, one_instance
from ml_backend.host.progress_log import AnnotationLogger, ProgressLogger, Say
from ml_backend.host.secrets import LocalSecrets, local_secrets
from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.redis_server import EmbeddedRedis
from ml_backend.loop.connect import connect, create_project
from ml_backend.loop.context import Context, open_context
from ml_backend.recipe import Recipe
from ml_backend.samples import make_samples
from ml_backend.settings import ENV_FILE, Settings, load_settings
from ml_backend.store.blobs import local_folder
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_values import parse_values
from ml_backend.store.rows import Project

SAMPLE_LABEL = "plankton"
FIRST_PORT = 8080  # Label Studio's own default, when it is free


@dataclass(frozen=True)
class Wishes:
    """What the user asked for on the command line."""

    home: Path
    recipe: Recipe
    studio: Path
    images: Path | str | None = None
    masks: Path | str | None = None
    labels: tuple[str, ...] = ()
    values: str | None = None
    match: Match = "name"
    port: int | None = None
    seed: int = 0
    demo: bool = False


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
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def page(self) -> str:
        """The address at which people open the project's tasks."""
        site = (self.settings.label_studio_browser_url or self.studio_url).rstrip("/")
        return f"{site}/projects/{self.project.id}/data"

    def tend(self) -> None:
        """Start again what died. To be called now and then by whoever waits."""
        self.processes.tend()
        if not self.redis.alive():
            self.redis.start()

    def watch(self, say: Say, every: float = 20.0) -> None:
        """Tend everything and say what the jobs do, until a signal comes.

        `every`: seconds between two lines about a job that runs.
        """
        with open_context(self.settings) as context:
            look = self.watcher(context, say, every)
            while True:
                look()
                time.sleep(1.0)

    def watcher(self, context: Context, say: Say, every: float = 20.0) -> Callable[[], None]:
        """What `watch` does once, to be called about once a second."""
        jobs, home = Jobs(self.settings), self.settings.home
        logger = ProgressLogger(
            say, every=every, began=self.began,
            help_line=f"`brushloop doctor --home {home}` looks for the reason; what the worker "
            f"said stands in {self.processes.log('worker')}",
        )  # fmt: skip
        annotated = AnnotationLogger(context, self.project.id, say)

        def look() -> None:
            self.tend()
            with suppress(JobError):  # Redis is being started again
                views = jobs.overview(self.project.id)
                logger.log(views)
                annotated.log(views)

        return look


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
    for given in (wishes.images, wishes.masks):
        folder = None if given is None else local_folder(str(given))
        if folder is not None and not folder.exists():
            raise ConfigError(f"there is nothing at {folder}: give a folder of images, or of masks")
    labels = wishes.labels or ("object",)
    known = None if wishes.demo else wishes.masks
    truths = wishes.masks if wishes.demo else None
    values = parse_values(wishes.values) if wishes.values else None
    return Pictures(wishes.images, truths, None, known, labels, values, wishes.match)


Welcome = Callable[[Running], None]


@contextmanager
def up(wishes: Wishes, say: Say, welcome: Welcome = lambda _: None) -> Iterator[Running]:
    """Start everything, connect a project, fill its pool; stop everything at the end.

    `welcome` is called when the project's page can be opened. The first batch and the first
    training have been asked for when the block begins, and come by themselves.
    """
    wishes.home.mkdir(parents=True, exist_ok=True)
    with one_instance(wishes.home):
        secrets = local_secrets(wishes.home)
        pictures = pictures_of(wishes)
        redis = EmbeddedRedis(wishes.home)
        with Processes(wishes.home, say=say) as processes:
            try:
                say("starting Redis")
                redis.start()
                studio = _studio(wishes, secrets)
                settings = _write_settings(wishes, secrets, studio.url)
                # it needs nothing of Label Studio to start, and takes as long
                processes.start(_child("backend", settings, "serve"))
                _start_studio(studio, processes, say)
                with open_context(settings) as context:
                    project = _open_project(context, wishes, pictures)
                    running = Running(
                        settings, project, studio.url, secrets, pictures, processes, redis
                    )
                    welcome(running)
                    _begin(running, context, say, demo=wishes.demo)
                yield running
            finally:
                say("stopping")
                processes.stop()
                redis.stop(adopted=True)


def _studio(wishes: Wishes, secrets: LocalSecrets) -> LabelStudioServer:
    ports = Ports(wishes.home)
    port = (
        ports.demand("label-studio", wishes.port)
        if wishes.port
        else ports.choose("label-studio", FIRST_PORT)
    )
    return LabelStudioServer(
        executable=wishes.studio,
        data_dir=wishes.home / "label-studio",
        port=port,
        secrets=secrets,
        local_files_root=wishes.home,
        browser_url=load_settings(home=wishes.home).label_studio_browser_url or "",
    )


def _start_studio(server: LabelStudioServer, processes: Processes, say: Say) -> None:
    say("starting Label Studio (the first start takes up to a minute)")
    told = [0.0]

    def waiting(seconds: float) -> None:
        if seconds - told[0] >= 10:
            told[0] = seconds
            say(f"  still starting Label Studio, {seconds:.0f} s")

    server.start(processes, progress=waiting)


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


def _open_project(context: Context, wishes: Wishes, pictures: Pictures) -> Project:
    title = f"Brushloop {', '.join(pictures.labels)}"[:50]
    return create_project(context, title, pictures.labels, wishes.recipe)


def _begin(running: Running, context: Context, say: Say, *, demo: bool) -> None:
    """Wire the project, fill its pool, and ask for what comes first.

    The worker imports meanwhile what its jobs need. The first batch waits neither for the first
    training nor for the last image of a large pool: it goes by what images look like, and a model's
    predictions come to its tasks when there is one. A demo waits, so that it can be repeated.
    """
    settings, project_id, processes = running.settings, running.project.id, running.processes
    processes.start(_child("worker", settings, "worker"))
    processes.wait_ready("backend", lambda: _healthy(settings))
    connect(context, project_id, running.project.recipe)
    jobs = Jobs(settings, patient=True)
    fill = PoolFill(context, project_id, running.pictures, say, running.watcher(context, say))
    if demo or context.catalog.pool.images(project_id):
        fill.finish()
        _ask(context, project_id, jobs, say)
    else:
        left = fill.begin()
        _ask(context, project_id, jobs, say)
        if left:
            fill.finish()
    processes.start(_child("schedule", settings, "schedule"))


def _ask(context: Context, project_id: int, jobs: Jobs, say: Say) -> None:
    """Ask for the first batch and the first training, or for what an earlier start left open."""
    rounds = context.catalog.rounds.all(project_id)
    sources = bool(context.catalog.pool.sources(project_id))
    if not sources or not rounds or rounds[-1].state != "pushed":
        jobs.request("select", project_id)
    if sources:
        jobs.request("train", project_id)
    if not rounds:
        say("choosing the first batch" + "; a first model learns from your masks" * sources)


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
