"""The other processes of `benchmark.py sync`: a Label Studio, and a first pull from it.

    python scripts/benchmark_sync_worker.py studio
    python scripts/benchmark_sync_worker.py pull HOME SERVED COUNT

The first serves until its input ends, and says where on a line of JSON, SERVED. The second asks
it for a project of COUNT annotated tasks, pulls that into HOME, and prints its peak memory.
"""

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import orjson

if TYPE_CHECKING:
    from ml_backend.loop.context import Context

TESTS = Path(__file__).resolve().parents[1] / "tests"
SIDE = 256  # px


def serve() -> None:
    """Answer as Label Studio, with projects made on demand, until the input ends."""
    sys.path.insert(0, str(TESTS))
    from support.fake_studio import FakeStudio
    from support.studio_server import LEGACY, StudioServer

    from ml_backend.masks.labels import make_label_config, parse_label_config

    class Studio(FakeStudio):
        """In the time of this machine, with images that are drawn when they are asked for."""

        clock = property(lambda _: datetime.now(UTC).replace(microsecond=0))

        def __init__(self) -> None:
            super().__init__()
            self.tick = lambda: max(datetime.now(UTC), self.now + timedelta(microseconds=1))
            self.files = Pictures()

    config = make_label_config(["cell"])
    labels = parse_label_config(config)
    fake, rng = Studio(), np.random.default_rng(0)

    def make(_server: Any, _params: Any, _given: Any, count: int) -> dict[str, int]:
        project = fake.create_project(f"{count} tasks", config)
        new = [{"data": {"image": f"/data/upload/{n}.jpg"}} for n in range(count)]
        for number, task_id in enumerate(fake.import_tasks(project.id, new)):
            made = fake.create_annotation(task_id, [])
            row = fake.tasks[task_id]["annotations"][-1]
            row["result"] = orjson.Fragment(regions(number, labels))
            row["id"] = made
        return {"project": project.id}

    def change(_server: Any, _params: Any, _given: Any, project: int) -> dict[str, str]:
        answered = [task for task in fake.rows(project) if task["annotations"]]
        chosen = rng.choice(len(answered), 10, replace=False)
        for kind, task in zip("eeeecccddt", [answered[n] for n in chosen], strict=True):
            answer = task["annotations"][-1]["id"]
            drawn = orjson.loads(regions(int(rng.integers(1 << 30)), labels))
            if kind == "t":
                fake.delete_task(task["id"])
            elif kind == "d":
                fake.delete_annotation(answer)
            elif kind == "e":
                fake.edit_annotation(answer, drawn)
            else:
                fake.create_annotation(task["id"], drawn)
        return {}

    with StudioServer(fake) as server:
        server.routes[:0] = [("POST", r"/make/(\d+)", make), ("POST", r"/change/(\d+)", change)]
        print(json.dumps({"url": server.url, "token": LEGACY}), flush=True)
        sys.stdin.read()


class Pictures(dict[str, bytes]):
    """A drawn image for every address that ends in a number."""

    def get(self, url: str, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        """Draw an image."""
        if not url.endswith(".jpg"):
            return default
        buffer = io.BytesIO()
        from PIL import Image

        Image.fromarray(window(int(Path(url).stem))).save(buffer, "JPEG", quality=80)
        return buffer.getvalue()


def window(number: int) -> np.ndarray:
    """Draw smooth noise, (SIDE, SIDE) uint8; every number another part of it."""
    rng = np.random.default_rng(number)
    noise = cv2.GaussianBlur(rng.random((SIDE, SIDE)), (0, 0), 5)
    return np.asarray(cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


def regions(number: int, labels: Any) -> bytes:
    """Give the JSON of brush regions, about 27 kB."""
    from ml_backend.masks.regions import encode_results

    mask = (window(number) > 140).astype(np.uint8)
    return orjson.dumps(encode_results(mask, labels), option=orjson.OPT_SERIALIZE_NUMPY)


def opened(home: Path, served: dict[str, str]) -> "Context":
    """Open a home folder whose Label Studio is the one served."""
    from ml_backend.loop.context import Context
    from ml_backend.settings import Settings
    from ml_backend.store.blobs import Blobs
    from ml_backend.store.catalog import Catalog
    from ml_backend.store.images import ImageSource

    settings = Settings(
        home=home, label_studio_url=served["url"], label_studio_api_key=served["token"]
    )
    blobs = Blobs(settings.blob_url)
    return Context(settings, Catalog(settings.catalog_url), blobs, ImageSource(blobs))


def pull(home: Path, served: dict[str, str], count: int) -> dict[str, Any]:
    """Pull a new project of so many tasks; what came, and what it took."""
    from benchmark_worker import peak_memory

    from ml_backend.loop.context import silent
    from ml_backend.loop.sync import sync

    headers = {"Authorization": f"Token {served['token']}"}
    answer = httpx.post(f"{served['url']}/make/{count}", headers=headers, timeout=3600)
    project_id = answer.raise_for_status().json()["project"]
    context = opened(home, served)
    context.catalog.projects.save(project_id, title="Benchmark", label_config="")
    report = sync(context, project_id, silent)
    context.catalog.close()
    return {"project": project_id, "peak": peak_memory(), **report.numbers}


def main() -> None:
    """Be one of the processes."""
    if sys.argv[1] == "studio":
        serve()
    else:
        home, served, count = Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
        print(json.dumps(pull(home, served, count)))


if __name__ == "__main__":
    main()
