"""The demo: a scripted annotator works through N rounds of the real loop.

The annotator talks to Label Studio only. This driver waits for what the annotations set
off (webhook → sync → train → gate → predict → score → select) and reads the catalog to
report it; it starts nothing itself.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ml_backend.demo.annotator import Annotator, Work
from ml_backend.demo.truths import MaskTruths
from ml_backend.errors import HostError
from ml_backend.host.progress_log import ProgressLogger, failed_since
from ml_backend.host.up import Running
from ml_backend.jobs.queues import Jobs
from ml_backend.loop.annotators import labelled
from ml_backend.loop.context import Context
from ml_backend.loop.dataset import dataset_of
from ml_backend.loop.measure import measure
from ml_backend.masks.labels import parse_label_config
from ml_backend.store.rows import Model, Run
from ml_backend.studio.client import Studio

PATIENCE = 3600.0  # seconds without any progress after which a demo gives up
Say = Callable[[str], None]


@dataclass(frozen=True)
class RoundResult:
    """One round as the report gives it.

    `model_version` was trained on the round and judged by the gate (`decision`), which saw
    `candidate_iou` on the validation tiles labelled by then; `serving` is the version that
    served afterwards. `val_iou` and `val_dice` are those of `serving` on the validation tiles
    of the last round, the same for every round, so that the rounds can be compared.
    """

    round: int
    labelled: int
    model_version: str
    decision: str
    candidate_iou: float | None
    serving: str
    val_iou: float | None
    val_dice: float | None
    accepted: int
    submitted: int
    mean_prediction_dice: float | None
    seconds: dict[str, float] = field(default_factory=dict)


def drive(running: Running, context: Context, rounds: int, say: Say) -> list[RoundResult]:
    """Play `rounds` rounds. Raises `HostError` when one does not really happen."""
    truths_folder = running.pictures.truths
    if truths_folder is None:
        raise HostError("the demo needs true masks: give --masks")
    pictures = running.pictures
    truths = MaskTruths(
        pictures.images,
        truths_folder,
        pictures.labels,
        values=pictures.values,
        match=pictures.match,
        overlapping=parse_label_config(running.project.label_config).overlapping,
        recipe=running.project.recipe,
    )
    studio = Studio(running.studio_url, running.secrets.studio_token)
    annotator = Annotator(studio, running.project.id, truths)
    waiter = _Waiter(running, context, say)
    results = []
    for number in range(1, rounds + 1):
        waiter.wait_for(
            lambda: bool(annotator.open_tasks()) and waiter.idle(),
            f"the tasks of round {number}",
        )
        mark = max((run.id for run in context.catalog.models.runs(running.project.id)), default=0)
        before = _settled(context, running.project.id)
        works = _annotate(annotator, number, say)
        waiter.wait_for(
            lambda before=before: waiter.trained(before),  # type: ignore[misc]
            f"the training of round {number}",
        )
        results.append(_result(running, context, number, works, mark))
        say(_line(results[-1]))
    studio.close()
    say("measuring every round's model on the same validation tiles")
    return _comparable(running, context, results)


def _annotate(annotator: Annotator, number: int, say: Say) -> list[Work]:
    tasks = annotator.open_tasks()
    works = [annotator.annotate(task) for task in tasks]
    say(
        f"round {number}: the annotator submitted {len(works)} tasks, "
        f"{sum(work.accepted for work in works)} of them unchanged"
    )
    return works


def _settled(context: Context, project_id: int) -> int:
    """The number of the last model that the gate has judged."""
    return max((m.number for m in context.catalog.models.all(project_id) if m.card), default=0)


class _Waiter:
    """Waits for the loop, shows what its jobs do, and notices when nothing can happen any more."""

    def __init__(self, running: Running, context: Context, say: Say) -> None:
        self._running, self._context = running, context
        self._jobs = Jobs(running.settings, patient=True)
        self._logger = ProgressLogger(say, every=5.0, began=running.began)

    def idle(self) -> bool:
        """Whether no job waits or runs, so that the batch on show is whole."""
        views = self._jobs.overview(self._running.project.id)
        return not any(view.state in ("queued", "running") for view in views)

    def trained(self, before: int) -> bool:
        """Whether a later model has been judged and has learned from every annotation."""
        project_id = self._running.project.id
        models = [m for m in self._context.catalog.models.all(project_id) if m.card]
        if not models or models[-1].number <= before:
            return False
        counting = labelled(self._context, project_id)
        now = {f"{item.tile.id}:{item.mask}" for item in counting}
        runs = self._context.catalog.models.runs(project_id, step="train")
        return now <= set(models[-1].card["masks"]) and runs[-1].state != "running"

    def wait_for(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until `ready()`. Raises `HostError` when a job failed for good or nothing moves."""
        moved = time.monotonic()
        while not ready():
            views = self._jobs.overview(self._running.project.id)
            for view in failed_since(self._running.began, views):
                raise HostError(f"{what} did not come: {view.step} failed: {view.error}")
            if self._logger.log(views):
                moved = time.monotonic()
            if time.monotonic() - moved > PATIENCE:
                raise HostError(f"{what} did not come within {PATIENCE / 60:.0f} minutes")
            self._running.tend()
            time.sleep(0.5)


def _result(
    running: Running, context: Context, number: int, works: list[Work], mark: int
) -> RoundResult:
    project_id = running.project.id
    model: Model = [m for m in context.catalog.models.all(project_id) if m.card][-1]
    gate = next(g for g in context.catalog.models.gates(project_id) if g.candidate == model.version)
    metrics: dict[str, Any] = model.card.get("metrics") or {}
    current = context.catalog.models.current(project_id)
    seen = [work.dice for work in works if work.dice is not None]
    return RoundResult(
        round=number,
        labelled=len(context.catalog.work.labelled(project_id)),
        model_version=model.version,
        decision=gate.decision,
        candidate_iou=metrics.get("iou"),
        serving=current.version if current else model.version,
        val_iou=None,
        val_dice=None,
        accepted=sum(work.accepted for work in works),
        submitted=len(works),
        mean_prediction_dice=sum(seen) / len(seen) if seen else None,
        seconds=_seconds(context.catalog.models.runs(project_id), mark),
    )


def _comparable(
    running: Running, context: Context, results: list[RoundResult]
) -> list[RoundResult]:
    project = context.catalog.projects.get(running.project.id)
    dataset = dataset_of(context, project.id)
    if not dataset.val:
        return results
    found = {
        version: measure(context, project, version, dataset)
        for version in {row.serving for row in results}
    }
    return [
        replace(row, val_iou=found[row.serving]["iou"], val_dice=found[row.serving]["dice"])
        for row in results
    ]


def _seconds(runs: list[Run], mark: int) -> dict[str, float]:
    """How long the steps took: the batch was scored and pushed before `mark`, trained after it."""
    past = [run for run in runs if run.id <= mark]
    since = [run for run in runs if run.id > mark]
    pushes = [run for run in past if run.step == "select" and run.report.get("pushed")]
    scores = [run for run in past if run.step == "score"]
    return {
        "sync": _sum(run for run in since if run.step == "sync"),
        "train": _sum(run for run in since if run.step == "train"),
        "score": _sum(scores[-1:]),
        "push": _sum(pushes[-1:]),
    }


def _sum(runs: Any) -> float:
    return round(sum(run.seconds or 0.0 for run in runs), 2)


def _line(result: RoundResult) -> str:
    iou = "-" if result.candidate_iou is None else f"{result.candidate_iou:.3f}"
    return (
        f"round {result.round}: {result.labelled} tiles labelled, {result.model_version} "
        f"{result.decision} with validation IoU {iou}"
    )
