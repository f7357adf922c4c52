"""What the work cost people and what it brought: one row a round, their total, and an advice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ml_backend.loop.advice import ROUNDS, Advice, Audit, advise
from ml_backend.loop.context import Context
from ml_backend.loop.gains import Gains, gains_of, mean_interval
from ml_backend.store.rows import Annotation, Model, Project, Round


@dataclass(frozen=True)
class Work:
    """What people did: `submitted` annotations, `seen` of them over a prediction.

    `accepted` counts submissions equal to the prediction that was shown; what is left of
    `submitted` had to be redone. `dice`: mean of prediction to submission. `corrected`: pixels
    that differ, of `seen` submissions together. Both None where no prediction was seen (or, for
    pixels, where none was counted). `minutes`: lead time as Label Studio has it.
    """

    submitted: int
    seen: int
    accepted: int
    dice: float | None
    corrected: int | None
    minutes: float

    @property
    def redone(self) -> int:
        """Submissions that the model did not get right at once."""
        return self.submitted - self.accepted


@dataclass(frozen=True)
class RoundEffort:
    """A round as people saw it and the model that came of it.

    `work` is that on all its tiles, `audit` that on those that were drawn without looking at any
    score. `labelled`: tiles with an answer so far.
    """

    round: int
    labelled: int
    work: Work
    audit: Work
    model_version: str | None
    decision: str | None
    val_iou: float | None
    val_dice: float | None


@dataclass(frozen=True)
class Effort:
    """Everything that is known of a project's rounds, oldest first."""

    rounds: tuple[RoundEffort, ...]
    total: Work
    gains: Gains
    audit: Audit
    advice: Advice


def effort(context: Context, project: Project, rng: np.random.Generator) -> Effort:
    """Measure what the rounds cost and brought; `rng` draws the bootstrap."""
    rounds = efforts(context, project.id)
    answers = _answers(context, project.id)
    gates, models = context.catalog.models.gates(project.id), context.catalog.models
    gains = gains_of(gates, models.all(project.id), ROUNDS, rng)
    audit = _audit(context, project.id, answers, rng)
    everything = [row for rows in answers.values() for row in rows]
    advice = advise(gains, audit, project.recipe.advice)
    return Effort(tuple(rounds), _work(everything), gains, audit, advice)


def efforts(context: Context, project_id: int) -> list[RoundEffort]:
    """Every round of a project, oldest first."""
    answers, places = _answers(context, project_id), _tiles(context, project_id)
    models = [model for model in context.catalog.models.all(project_id) if model.card]
    gates = context.catalog.models.gates(project_id)
    decisions = {gate.candidate: gate.decision for gate in reversed(gates)}  # the first counts
    rounds = context.catalog.rounds.all(project_id)
    found, labelled = [], 0
    for index, record in enumerate(rounds):
        mine = answers.get(record.id, [])
        labelled += len({row.task_id for row in mine})
        following = rounds[index + 1].created_at if index + 1 < len(rounds) else None
        model = _outcome(models, record, following)
        metrics: dict[str, Any] = (model.card.get("metrics") or {}) if model else {}
        audit = _audited(record)
        found.append(
            RoundEffort(
                round=record.number,
                labelled=labelled,
                work=_work(mine),
                audit=_work([row for row in mine if places.get(row.task_id) in audit]),
                model_version=model.version if model else None,
                decision=decisions.get(model.version) if model else None,
                val_iou=metrics.get("iou"),
                val_dice=metrics.get("dice"),
            )
        )
    return found


def as_dict(found: Effort) -> dict[str, Any]:
    """Everything as plain JSON values."""
    rows = asdict(found)
    for row, effort_ in zip(rows["rounds"], found.rounds, strict=True):
        row["work"]["redone"], row["audit"]["redone"] = effort_.work.redone, effort_.audit.redone
    rows["total"]["redone"] = found.total.redone
    return rows


def _answers(context: Context, project_id: int) -> dict[int, list[Annotation]]:
    """Round (its id) → the usable annotations of its tasks."""
    rounds = {task.id: task.round_id for task in context.catalog.work.tasks(project_id)}
    found: dict[int, list[Annotation]] = {}
    for row in context.catalog.work.annotations(project_id):
        round_id = rounds.get(row.task_id)
        if round_id and row.usable and not row.cancelled and not row.deleted:
            found.setdefault(round_id, []).append(row)
    return found


def _tiles(context: Context, project_id: int) -> dict[int, int | None]:
    return {task.id: task.tile_id for task in context.catalog.work.tasks(project_id)}


def _audited(record: Round) -> set[int | None]:
    return {item.tile_id for item in record.chosen if item.why == "audit"}


def _audit(
    context: Context,
    project_id: int,
    answers: dict[int, list[Annotation]],
    rng: np.random.Generator,
) -> Audit:
    """The audit tiles of the last rounds that have any with a prediction."""
    places, found = _tiles(context, project_id), []
    for record in context.catalog.rounds.all(project_id):
        audited = _audited(record)
        mine = [row for row in answers.get(record.id, []) if places.get(row.task_id) in audited]
        found.append([row for row in mine if row.shown_dice is not None])
    rows = [row for part in [part for part in found if part][-ROUNDS:] for row in part]
    dice = [row.shown_dice for row in rows if row.shown_dice is not None]
    return Audit(len(rows), sum(map(_is_accepted, rows)), mean_interval(dice, rng))


def _work(rows: Sequence[Annotation]) -> Work:
    dice = [row.shown_dice for row in rows if row.shown_dice is not None]
    corrected = [row.corrected for row in rows if row.corrected is not None]
    return Work(
        submitted=len(rows),
        seen=len(dice),
        accepted=sum(map(_is_accepted, rows)),
        dice=sum(dice) / len(dice) if dice else None,
        corrected=sum(corrected) if corrected else None,
        minutes=sum(row.lead_time or 0.0 for row in rows) / 60,
    )


def _is_accepted(row: Annotation) -> bool:
    return row.parent_prediction is not None and row.shown_dice == 1.0


def _outcome(models: list[Model], record: Round, following: str | None) -> Model | None:
    """Find the last model trained after this round was asked and before the next one was."""
    own = [
        model
        for model in models
        if model.created_at > record.created_at
        and (following is None or model.created_at < following)
    ]
    return own[-1] if own else None
