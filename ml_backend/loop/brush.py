"""Giving a project's labeling config the brush that it lacks, shown before it is done."""

from dataclasses import dataclass
from difflib import unified_diff

from ml_backend.errors import LabelConfigError
from ml_backend.loop.context import Context
from ml_backend.loop.site import find_project
from ml_backend.masks.brush_control import add_brush


@dataclass(frozen=True)
class BrushProposal:
    """A changed labeling config: what changes, a line each (none: it has a brush), and the diff."""

    project_id: int
    label_config: str
    changes: tuple[str, ...]
    diff: str


def propose_brush(context: Context, project_id: int, labels: tuple[str, ...]) -> BrushProposal:
    """Look at a project's labeling config in Label Studio; nothing is changed yet.

    Raises `LabelConfigError` for a config without an image.
    """
    before = find_project(context, project_id).label_config
    addition = add_brush(before, labels)
    lines = unified_diff(
        before.splitlines(), addition.xml.splitlines(), "labeling config", "with a brush",
        lineterm="",
    )  # fmt: skip
    return BrushProposal(project_id, addition.xml, addition.changes, "\n".join(lines))


def apply_brush(context: Context, proposal: BrushProposal) -> None:
    """Change the labeling config in Label Studio."""
    context.studio.set_label_config(proposal.project_id, proposal.label_config)


def brush_hint(label_config: str, project_id: int) -> str:
    """Name the way out for a config that lacks nothing but a brush; empty for any other."""
    try:
        changes = add_brush(label_config).changes
    except LabelConfigError:
        return ""
    if not changes:
        return ""
    return f"; `brushloop connect --project {project_id} --add-brush` shows one for it and adds it"
