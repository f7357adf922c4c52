"""What pulls cost by what there is and by what changed: what `benchmark.py sync` runs.

A Label Studio of the tests' making answers real HTTP in a process of its own, with drawn images
and brush annotations. A project's first pull runs in another process, which reports its peak of
resident memory. Then, in this process, a large and a small project are changed alike and pulled
in turn; requests and SQL statements of these pulls are counted.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from benchmark import Row, row

WORKER = Path(__file__).with_name("benchmark_sync_worker.py")
LIMIT = 500e6  # bytes
MIB = 1 << 20
Numbers = dict[str, Any]


def rows(*, quick: bool = False) -> Iterator[Row]:
    """Measure 10,000 tasks, then 5,000 against 100, or a few if `quick`."""
    many, large, small = (30, 40, 25) if quick else (10_000, 5_000, 100)
    repeats = 1 if quick else 7
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="brushloop-benchmark-")))
        with studio() as served:
            first = pull(root / "many", served, many)
            fewer = pull(root / "fewer", served, many // 10)
        yield row(
            f"peak memory, first sync of {many} tasks",
            first["peak"] / MIB,
            LIMIT / MIB,
            first["peak"] / LIMIT,
            "MiB",
            1,
            holds=first["peak"] <= LIMIT and first["fresh"] == many,
        )
        ratio = first["peak"] / fewer["peak"]
        yield row(
            f"the same, against {many // 10} tasks",
            first["peak"] / MIB,
            fewer["peak"] / MIB,
            ratio,
            "MiB",
            1.25,
            holds=ratio <= 1.25,
        )
        sides = [
            Side(root / str(count), stack.enter_context(studio()), count)
            for count in (large, small)
        ]
        case = f"sync of 10 changes in {large} tasks, against {small}"
        yield from compare(sides, case, 20, repeats)
        yield from compare(sides, f"{case}, a training falls due", 5, repeats)


def compare(sides: list["Side"], case: str, retrain_every: int, repeats: int) -> Iterator[Row]:
    """Change and pull both in turn; rows of the median duration and of what was counted."""
    for side in sides:
        side.prepare(retrain_every)
    took = [[side.changed_and_pulled() for side in sides] for _ in range(1 + repeats)]
    del took[0]  # now both have warmed up
    for key, unit, target in (("ms", "ms", 3.0), ("requests", "count", 3.0), ("sql", "count", 1.5)):
        ours, other = (statistics.median(pair[n][key] for pair in took) for n in (0, 1))
        name = case if key == "ms" else f"{'requests' if key == 'requests' else 'SQL'}, {case}"
        ratio = ours / other
        yield row(name, ours, other, ratio, unit, target, holds=ratio <= target)


@contextmanager
def studio() -> Iterator[Numbers]:
    """Run the Label Studio of the tests; its address and token."""
    command = [sys.executable, str(WORKER), "studio"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise SystemExit("the tests' Label Studio did not start")
        try:
            yield json.loads(line)
        finally:
            process.communicate()  # it ends when its input does


def pull(home: Path, served: Numbers, count: int) -> Numbers:
    """Pull a project of so many tasks for the first time, in a process of its own."""
    command = [sys.executable, str(WORKER), "pull", str(home), json.dumps(served), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the pull of {count} tasks failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


class Counting(httpx.BaseTransport):
    """HTTP that counts its requests."""

    def __init__(self) -> None:
        self._http = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
        self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on."""
        self.requests += 1
        return self._http.handle_request(request)


class Side:
    """A project that has been pulled once, and is changed and pulled again and again."""

    def __init__(self, home: Path, served: Numbers, count: int) -> None:
        from benchmark_sync_worker import opened
        from sqlalchemy import event

        from ml_backend.studio.client import Studio

        self.project_id = pull(home, served, count)["project"]
        self.context = opened(home, served)
        self.http = Counting()
        self.context.__dict__["studio"] = Studio(served["url"], served["token"], self.http)
        self.studio = httpx.Client(
            base_url=served["url"], headers={"Authorization": f"Token {served['token']}"}
        )
        self.statements = 0
        event.listen(self.context.catalog.database.engine, "after_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.statements += 1

    def prepare(self, retrain_every: int) -> None:
        """Set after how many new annotations a training falls due; seven of the ten are new."""
        self.due = retrain_every <= 7
        projects = self.context.catalog.projects
        recipe = projects.get(self.project_id).recipe
        projects.save(self.project_id, recipe=recipe.changed({"loop.retrain_every": retrain_every}))

    def changed_and_pulled(self) -> Numbers:
        """Have everything learned; then pull ten changes.

        4 edited annotations, 3 new ones, 2 deleted ones, and a deleted task.
        """
        from ml_backend.loop.context import silent
        from ml_backend.loop.sync import sync

        self._learn()
        self.studio.post(f"/change/{self.project_id}").raise_for_status()
        self.http.requests = self.statements = 0
        start = time.perf_counter()
        report = sync(self.context, self.project_id, silent)
        took = 1000 * (time.perf_counter() - start)
        numbers = report.numbers
        if (numbers["fresh"], numbers["changed"], numbers["gone"]) != (3, 6, 1):
            raise SystemExit(f"the changes did not arrive: {report.summary}")
        if ("train" in report.follow) != self.due:
            raise SystemExit(f"the pull asked for {report.follow}")
        return {"ms": took, "requests": self.http.requests, "sql": self.statements}

    def _learn(self) -> None:
        """Write down a training that learned from all there is, as every batch ends with one."""
        from ml_backend.loop.dataset import dataset_of

        dataset = dataset_of(self.context, self.project_id)
        models = self.context.catalog.models
        model = models.add(self.project_id, parent=None, fingerprint=dataset.fingerprint)
        card = {"masks": list(dataset.masks)}
        models.settle(self.project_id, model.version, decision="promoted", numbers={}, card=card)
