"""`brushloop runs`: what happened in each epoch of each training, as a table, JSON or a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import Home, ProjectId, opened, project_of

if TYPE_CHECKING:
    from rich.table import Table

    from ml_backend.loop.curves import Training


@app.command(epilog="Example: brushloop runs --last 3 --plot curves.png")
def runs(
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curves into this file: .png or .svg.")
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many newest trainings.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    home: Home = None,
    project: ProjectId = None,
) -> None:
    """List every training with its epochs: loss, IoU, Dice and accuracy on both sides."""
    import orjson

    from ml_backend.cli.drawing import draw_curves
    from ml_backend.cli.printing import console
    from ml_backend.loop.curves import as_dict, trainings

    with opened(home) as context:
        chosen = project_of(context, project)
        found = trainings(context, chosen.id, last)
    if plot is not None:
        draw_curves(found, plot, title=chosen.title)
    if as_json:
        rows = [as_dict(training) for training in found]
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    for table in tables_of(found):
        console.print(table)
    if not found:
        typer.echo(f"project {chosen.id} has no finished epoch yet: run `brushloop train`")
    if plot is not None:
        typer.echo(f"curves: {plot}")


def tables_of(found: "Sequence[Training]") -> "list[Table]":
    """One table a training; the epoch whose weights were kept has a star."""
    from rich import box
    from rich.table import Table

    from ml_backend.loop.curves import MEASURES

    tables = []
    for training in found:
        origin = f", from {training.parent}" if training.parent else ""
        title = f"{training.version} ({training.status}{origin})"
        table = Table(
            title=title,
            title_justify="left",
            caption=training.stopped,
            caption_justify="left",
            box=box.SIMPLE,
            padding=(0, 1, 0, 0),
        )
        for head in ("epoch", *MEASURES, *(f"val {name}" for name in MEASURES), "s", "waited"):
            table.add_column(head, justify="right")
        for row in training.epochs:
            star = "*" if row["epoch"] == training.best_epoch else " "
            sides = [row[f"{side}_{name}"] for side in ("train", "val") for name in MEASURES]
            seconds = "-" if row["seconds"] is None else f"{row['seconds']:.0f}"
            waited = "-" if row["waited"] is None else f"{row['waited']:.0%}"
            table.add_row(f"{star}{row['epoch']}", *map(_number, sides), seconds, waited)
        tables.append(table)
    return tables


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
