"""The trainings of a project, epoch by epoch, as the catalog remembers them."""

from dataclasses import dataclass
from typing import Any

from ml_backend.loop.context import Context
from ml_backend.store.rows import Numbers

MEASURES = ("loss", "iou", "dice", "accuracy")
"""What is kept of each epoch, once as `train_…` and once as `val_…`."""


@dataclass(frozen=True)
class Training:
    """One version's training; `best_epoch` (counted from 1) is the one whose weights it has.

    An epoch's numbers are `epoch`, `seconds`, `waited` (the share of the steps' time without data),
    `at_once` (patches that went through the network at a time), and `train_` and `val_` of each of
    `MEASURES`; None where there was nothing to measure. `stopped` says why a training ended before
    its last epoch.
    """

    version: str
    status: str
    parent: str | None
    created_at: str
    best_epoch: int
    epochs: tuple[Numbers, ...]
    stopped: str | None = None


def trainings(context: Context, project_id: int, last: int | None = None) -> list[Training]:
    """Every training that has finished an epoch, oldest first; with `last` only so many of them."""
    found = []
    for model in context.catalog.models.all(project_id):
        rows = context.catalog.models.epochs(model.version)
        if not rows:
            continue
        epochs = tuple(map(_whole, rows))
        best = model.card.get("best_epoch") or _best(epochs)
        why, at = rows[-1].get("stopped"), model.created_at
        found.append(
            Training(model.version, model.status, model.parent, at, best, epochs, why),
        )
    return found if last is None else found[-last:]


def _whole(row: Numbers) -> Numbers:
    """An epoch with every measure; older catalogs hold epochs with fewer."""
    names = [f"{side}_{measure}" for measure in MEASURES for side in ("train", "val")]
    names += ["seconds", "waited", "at_once"]
    return {"epoch": row["epoch"]} | {name: row.get(name) for name in names}


def _best(epochs: tuple[Numbers, ...]) -> int:
    """Of a training still going on: the highest validation IoU so far, the later of equals."""
    scores = [-1.0 if row["val_iou"] is None else row["val_iou"] for row in epochs]
    latest = max(range(len(scores)), key=lambda index: (scores[index], index))
    return int(epochs[latest]["epoch"])


def as_dict(training: Training) -> dict[str, Any]:
    """A training as plain JSON values."""
    return vars(training) | {"epochs": list(training.epochs)}
