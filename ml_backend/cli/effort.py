"""`brushloop effort`: what the rounds cost and brought, as a table, JSON or a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import Home, ProjectId, opened, project_of

if TYPE_CHECKING:
    from rich.table import Table

    from ml_backend.loop.advice import Advice
    from ml_backend.loop.effort import Effort, Work
    from ml_backend.loop.gains import Interval


@app.command(epilog="Example: brushloop effort --plot effort.png")
def effort(
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curves into this file: .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    home: Home = None,
    project: ProjectId = None,
) -> None:
    """Show what each round cost and brought, and whether another is worth it."""
    import numpy as np
    import orjson

    from ml_backend.cli.drawing import draw_effort
    from ml_backend.cli.printing import console
    from ml_backend.loop.effort import as_dict
    from ml_backend.loop.effort import effort as measure

    with opened(home) as context:
        chosen = project_of(context, project)
        found = measure(context, chosen, np.random.default_rng(seed))
    if plot is not None:
        draw_effort(found, plot, title=chosen.title)
    if as_json:
        typer.echo(orjson.dumps(as_dict(found), option=orjson.OPT_INDENT_2).decode())
        return
    for table in tables_of(found):
        console.print(table)
    typer.echo(f"advice: {advice_line(found.advice)}")
    if plot is not None:
        typer.echo(f"curves: {plot}")


def advice_line(advice: "Advice") -> str:
    """An advice, its reason, and what is missing for a better one."""
    missing = f"; missing: {', '.join(advice.missing)}" if advice.missing else ""
    return f"{advice.verdict}: {advice.reason}{missing}"


def tables_of(found: "Effort") -> "list[Table]":
    """What people did in each round and in all; what each model was worth."""
    from rich import box
    from rich.table import Table

    work = Table(title="Work", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for head in ("round", "tiles", "redone", "audit redone", "Dice shown", "px corrected", "min"):
        work.add_column(head, justify="right")
    for row in found.rounds:
        work.add_row(str(row.round), str(row.labelled), *_worked(row.work, row.audit))
    work.add_row("all", "", *_worked(found.total, None), end_section=True)
    work.caption = (
        "redone: submissions that differ from the prediction that was shown, or saw none. "
        "audit: tiles drawn at random. Dice: of prediction to submission."
    )
    curve = Table(title="Models", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for head in ("version", "round", "tiles", "images", "val IoU", "gain"):
        curve.add_column(head, justify="left" if head == "version" else "right")
    for one in found.gains.models:
        gate = "" if one.decision == "promoted" else f" {one.decision}"
        curve.add_row(
            one.version + gate,
            str(one.round),
            str(one.labelled),
            str(one.images),
            _interval(one.iou),
            _interval(one.gain),
        )
    curve.caption = (
        "On the validation images labelled by then, with 95 % bootstrap intervals over images. "
        "gain: over the model that served before, on the same images."
    )
    return [work, curve]


def _worked(work: "Work", audit: "Work | None") -> list[str]:
    return [
        f"{work.redone}/{work.submitted}",
        f"{audit.redone}/{audit.submitted}" if audit else "",
        "-" if work.dice is None else f"{work.dice:.3f}",
        "-" if work.corrected is None else str(work.corrected),
        f"{work.minutes:.1f}",
    ]


def _interval(found: "Interval | None") -> str:
    return "-" if found is None else str(found)
