"""The gate, and the ways round it that people have: promoting by hand and rolling back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ml_backend.errors import NotFound
from ml_backend.loop.context import Context
from ml_backend.recipe import Validation

ROUNDING = 1e-9


@dataclass(frozen=True)
class Decision:
    """What the gate says, and why."""

    name: Literal["promoted", "rejected"]
    reason: str


def decide(numbers: Mapping[str, Any], validation: Validation) -> Decision:
    """Let a candidate pass when it is not worse than the current model on the same tiles.

    `numbers["candidate"]` and `["current"]` hold `iou` (mean over classes, 0..1, None when no
    validation tile has a foreground) and `iou_by_class` (label → the same of one label), or are
    None where there was nothing to measure. A label below its floor rejects the first model,
    too, and so does one that fell by more than the tolerance of single labels, whatever the mean.
    """
    candidate, current = numbers.get("candidate"), numbers.get("current")
    if candidate is not None and (faults := _below(candidate, current, validation)):
        return Decision("rejected", "; ".join(faults))
    if current is None:
        return Decision("promoted", "there is no earlier model to compare it with")
    if candidate is None or candidate["accuracy"] is None or current["accuracy"] is None:
        return Decision("promoted", "no validation image is labelled yet, so nothing speaks")
    new, old, tolerance = candidate["iou"], current["iou"], validation.tolerance
    if new is None or old is None:
        new, old = candidate["accuracy"], current["accuracy"]
        what = "accuracy (no foreground in the validation tiles)"
    else:
        what = "validation IoU"
    text = f"{what} {new:.3f} against {old:.3f}, tolerance {tolerance:.3f}"
    worse = old - new > tolerance + ROUNDING
    return Decision("rejected" if worse else "promoted", text)


def _below(
    candidate: Mapping[str, Any], current: Mapping[str, Any] | None, validation: Validation
) -> list[str]:
    """Each label that is worse than it may be; those that no validation tile shows are not."""
    faults = []
    before = current["iou_by_class"] if current else {}
    for label, iou in candidate["iou_by_class"].items():
        floor, old = validation.floors.get(label), before.get(label)
        if iou is None:
            continue
        if floor is not None and floor - iou > ROUNDING:
            faults.append(f"IoU of {label} {iou:.3f} is below its floor {floor:.3f}")
        limit = validation.class_tolerance
        if limit is not None and old is not None and old - iou > limit + ROUNDING:
            faults.append(
                f"IoU of {label} {iou:.3f} against {old:.3f}, tolerance of each label {limit:.3f}"
            )
    return faults


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
