"""What the work cost people and what it brought: one row a round."""

from dataclasses import asdict, dataclass
from typing import Any

from ml_backend.loop.context import Context
from ml_backend.store.rows import Annotation, Model, Round


@dataclass(frozen=True)
class RoundEffort:
    """A round as people saw it and the model that came of it.

    `accepted` counts submissions equal to the prediction that was shown; Dice is that of
    prediction to submission (mean over submissions that saw one, None where none did).
    """

    round: int
    labelled: int
    submitted: int
    accepted: int
    mean_prediction_dice: float | None
    minutes: float
    model_version: str | None
    decision: str | None
    val_iou: float | None
    val_dice: float | None


def efforts(context: Context, project_id: int) -> list[RoundEffort]:
    """Every round of a project, oldest first."""
    tasks = {task.id: task for task in context.catalog.work.tasks(project_id)}
    answered: dict[int, list[Annotation]] = {}
    for row in context.catalog.work.annotations(project_id):
        task = tasks.get(row.task_id)
        if task and task.round_id and row.usable and not row.cancelled and not row.deleted:
            answered.setdefault(task.round_id, []).append(row)
    models = [model for model in context.catalog.models.all(project_id) if model.card]
    rounds = context.catalog.rounds.all(project_id)
    found, labelled = [], 0
    for index, record in enumerate(rounds):
        mine = answered.get(record.id, [])
        labelled += len({row.task_id for row in mine})
        following = rounds[index + 1].created_at if index + 1 < len(rounds) else None
        model = _outcome(models, record, following)
        found.append(_row(record, mine, labelled, model, _decision(context, project_id, model)))
    return found


def _outcome(models: list[Model], record: Round, following: str | None) -> Model | None:
    """Find the last model trained after this round was asked and before the next one was."""
    own = [
        model
        for model in models
        if model.created_at > record.created_at
        and (following is None or model.created_at < following)
    ]
    return own[-1] if own else None


def _decision(context: Context, project_id: int, model: Model | None) -> str | None:
    if model is None:
        return None
    gates = context.catalog.models.gates(project_id)
    return next((gate.decision for gate in gates if gate.candidate == model.version), None)


def _row(
    record: Round,
    mine: list[Annotation],
    labelled: int,
    model: Model | None,
    decision: str | None,
) -> RoundEffort:
    shown = [row.shown_dice for row in mine if row.shown_dice is not None]
    metrics: dict[str, Any] = (model.card.get("metrics") or {}) if model else {}
    return RoundEffort(
        round=record.number,
        labelled=labelled,
        submitted=len(mine),
        accepted=sum(row.parent_prediction is not None and row.shown_dice == 1.0 for row in mine),
        mean_prediction_dice=sum(shown) / len(shown) if shown else None,
        minutes=sum(row.lead_time or 0.0 for row in mine) / 60,
        model_version=model.version if model else None,
        decision=decision,
        val_iou=metrics.get("iou"),
        val_dice=metrics.get("dice"),
    )


def as_dict(row: RoundEffort) -> dict[str, Any]:
    """Give a row for JSON."""
    return asdict(row)
