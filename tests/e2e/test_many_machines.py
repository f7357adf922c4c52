"""Many machines: a pool in a bucket, and workers that share servers but no folder."""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from support.databases import shared_database
from support.label_studio import LabelStudio, free_port
from support.s3 import S3Server
from support.sections import SECTIONS, Sections, read_sections

from ml_backend.demo.annotator import ACCEPT_DICE
from ml_backend.demo.drive import drive
from ml_backend.host.processes import Child, Processes
from ml_backend.host.secrets import LocalSecrets
from ml_backend.host.up import Pictures, Running
from ml_backend.jobs.queues import QUEUES, Jobs
from ml_backend.jobs.redis_server import EmbeddedRedis
from ml_backend.loop.connect import connect, create_project
from ml_backend.loop.context import Context, open_context, silent
from ml_backend.loop.export import export
from ml_backend.loop.masks import load_mask, mean_dice
from ml_backend.loop.pool import add_folder
from ml_backend.settings import Settings

from .conftest import quick_recipe

pytestmark = [pytest.mark.studio, pytest.mark.integration, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Machines:
    """What they share: the servers' addresses. Each has a home folder of its own."""

    folder: Path
    settings: Settings
    processes: Processes
    redis: EmbeddedRedis

    def start(self, name: str, *arguments: str) -> None:
        """Run a command of `brushloop` on a machine of this name."""
        shared = self.settings.model_dump(
            include={"database_url", "storage_url", "redis_url", "label_studio_url", "port"}
        )
        secret = ("label_studio_api_key", "password", "webhook_secret")
        shared |= {key: getattr(self.settings, key).get_secret_value() for key in secret}
        environment = {f"BRUSHLOOP_{key.upper()}": str(value) for key, value in shared.items()}
        environment["BRUSHLOOP_HOME"] = str(self.folder / name)
        command = (sys.executable, "-m", "ml_backend.cli", *arguments)
        self.processes.start(Child(name, command, environment))

    def log(self, name: str) -> str:
        """What a machine's process has said."""
        return self.processes.log(name).read_text(encoding="utf-8")


@pytest.fixture
def machines(label_studio: LabelStudio, bucket: str, tmp_path: Path) -> Iterator[Machines]:
    """A backend, a worker for trainings, one for the rest; nothing on the disk is shared."""
    redis = EmbeddedRedis(tmp_path / "redis")
    with shared_database(tmp_path) as database, Processes(tmp_path / "processes") as processes:
        settings = Settings(
            home=tmp_path / "admin",
            database_url=database,
            storage_url=f"{bucket}/brushloop",
            redis_url=redis.url,
            label_studio_url=label_studio.url,
            label_studio_api_key=label_studio.token,
            port=free_port(),
            password="a-password",
            webhook_secret="a-secret",
        )
        redis.start()
        try:
            machines = Machines(tmp_path, settings, processes, redis)
            machines.start("backend", "serve")
            for name, queue in zip(("short", "training"), QUEUES, strict=True):
                machines.start(name, "worker", "--queue", queue)
            processes.wait_ready("backend", lambda: _healthy(settings))
            yield machines
        finally:
            processes.stop()
            redis.stop()


def _healthy(settings: Settings) -> bool:
    try:
        return httpx.get(f"{settings.public_url}/health", trust_env=False).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture
def sections(tmp_path: Path) -> Sections:
    """Twenty sections whose masks are known."""
    return read_sections(tmp_path / "sections")


def test_a_stack_in_a_bucket_with_two_workers(
    machines: Machines,
    sections: Sections,
    label_studio: LabelStudio,
    s3: S3Server,
    bucket: str,
    tmp_path: Path,
) -> None:
    """Two rounds: both workers have a part, and what was painted comes out in the bucket."""
    pictures = _fill_bucket(s3, bucket, sections, tmp_path)
    secrets = LocalSecrets(
        machines.settings.user, "a-password", "a-secret",
        label_studio.email, label_studio.password, label_studio.token,
    )  # fmt: skip
    with open_context(machines.settings) as context:
        recipe = quick_recipe(
            loop__auto_select=True, loop__retrain_every=None,
            training__steps=40, training__epochs=2,
        )  # fmt: skip
        project = create_project(context, "Many machines", pictures.labels, recipe)
        connect(context, project.id, recipe)
        pool = add_folder(context, project.id, pictures.images)
        assert pool.tiles == SECTIONS
        Jobs(machines.settings, patient=True).request("select", project.id)
        running = Running(
            machines.settings, project, label_studio.url, secrets, pictures,
            machines.processes, machines.redis,
        )  # fmt: skip
        results = drive(running, context, 2, print)
        assert [row.labelled for row in results] == [6, 12]
        assert results[1].mean_prediction_dice is not None
        assert f"train of project {project.id}: done" in machines.log("training")
        assert f"select of project {project.id}: done" in machines.log("short")
        assert "train of" not in machines.log("short")
        _check_export(context, project.id, sections, s3, f"{bucket}/exports/first")


def _fill_bucket(s3: S3Server, bucket: str, sections: Sections, folder: Path) -> Pictures:
    """Put the stack and its masks into the bucket."""
    for path in sections.write_stack(folder / "written"):
        s3.put(f"{bucket}/{path.name}/sec.tif", (path / "sec.tif").read_bytes())
    return Pictures(f"{bucket}/images", f"{bucket}/masks", None, None, ("object",))


def _check_export(
    context: Context, project_id: int, sections: Sections, s3: S3Server, address: str
) -> None:
    """Every section has a mask in the bucket; of those that were painted it is the true one."""
    export(context, project_id, address, progress=silent)
    found = s3.objects(address)
    masks = {Path(name).stem: data for name, data in found.items() if name.endswith(".png")}
    assert len(masks) == SECTIONS
    painted = context.catalog.work.labelled(project_id)
    assert len(painted) == 12
    for item in painted:
        truth = sections.truth(item.tile.image.name).astype(np.uint8)
        mask = np.asarray(Image.open(io.BytesIO(masks[Path(item.tile.image.name).stem])))
        assert np.array_equal(mask, load_mask(context.blobs, item.mask))
        assert mean_dice(mask, truth) >= ACCEPT_DICE
