"""The gate, and the ways round it that people have: promoting by hand and rolling back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ml_backend.errors import NotFound
from ml_backend.loop.context import Context

ROUNDING = 1e-9


@dataclass(frozen=True)
class Decision:
    """What the gate says, and why."""

    name: Literal["promoted", "rejected"]
    reason: str


def decide(numbers: Mapping[str, Any], tolerance: float) -> Decision:
    """Let a candidate pass when it is not worse than the current model on the same tiles.

    `numbers["candidate"]` and `["current"]` hold `iou` (mean over classes, 0..1, None when no
    validation tile has a foreground) or are None where there was nothing to measure.
    """
    candidate, current = numbers.get("candidate"), numbers.get("current")
    if current is None:
        return Decision("promoted", "there is no earlier model to compare it with")
    if candidate is None or candidate["accuracy"] is None or current["accuracy"] is None:
        return Decision("promoted", "no validation image is labelled yet, so nothing speaks")
    new, old = candidate["iou"], current["iou"]
    if new is None or old is None:
        new, old = candidate["accuracy"], current["accuracy"]
        what = "accuracy (no foreground in the validation tiles)"
    else:
        what = "validation IoU"
    text = f"{what} {new:.3f} against {old:.3f}, tolerance {tolerance:.3f}"
    worse = old - new > tolerance + ROUNDING
    return Decision("rejected" if worse else "promoted", text)


def promote(context: Context, project_id: int, version: str) -> str:
    """Serve `version` from now on, by hand. Raises `NotFound` for a version without weights."""
    model = context.catalog.models.get(project_id, version)
    if not model.card:
        raise NotFound(f"{version} was never finished: only trained models can be served")
    if model.status != "current":
        context.catalog.models.settle(project_id, version, decision="by hand", numbers={})
    return version


def roll_back(context: Context, project_id: int) -> str:
    """Serve again what was served before the current model. Raises `NotFound` if nothing was."""
    current = context.catalog.models.current(project_id)
    if current is not None:
        for gate in reversed(context.catalog.models.gates(project_id)):
            took_over = gate.candidate == current.version and gate.decision != "rejected"
            if took_over and gate.current is not None and gate.decision != "rollback":
                context.catalog.models.settle(
                    project_id, gate.current, decision="rollback", numbers={}
                )
                return gate.current
    raise NotFound(f"project {project_id} has no earlier model to roll back to")
