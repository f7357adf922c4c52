"""The commands that do one step of the loop, and the export of what came of it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import (
    AsJson,
    Here,
    Home,
    ProjectId,
    opened,
    project_of,
    show_summary,
)
from ml_backend.errors import ConfigError


def do_step(name: str, home: Path | None, project_id: int | None, *, here: bool) -> None:
    """Have the worker do a step and show its progress, or do it in this process."""
    from ml_backend.cli.printing import follow_job, progress_bar

    with opened(home) as context:
        project = project_of(context, project_id)
        if not here:
            follow_job(context.settings, name, project.id)
            return
        from ml_backend.loop.steps import STEPS

        with progress_bar() as progress:
            report = STEPS[name](context, project.id, progress)
        typer.echo(report.summary)


@app.command(
    epilog="\b\nExamples:\n"
    "  brushloop sync                     the worker pulls what changed, with a progress bar\n"
    "  brushloop sync --project 3 --here  this process does, without a worker\n"
    "  brushloop sync --all               every task again, say after files were lost\n"
    "  python scripts/sync.py --here      the same command as a script"
)
def sync(
    everything: Annotated[
        bool, typer.Option("--all", help="Pull every task again, not only what changed.")
    ] = False,
    home: Home = None,
    project: ProjectId = None,
    here: Here = False,
) -> None:
    """Pull finished annotations from Label Studio."""
    if everything:
        with opened(home) as context:
            context.catalog.projects.set_cursor(project_of(context, project).id, None)
    do_step("sync", home, project, here=here)


@app.command(epilog="Example: brushloop train --project 3")
def train(home: Home = None, project: ProjectId = None, here: Here = False) -> None:
    """Train a candidate on all masks and put it before the gate."""
    do_step("train", home, project, here=here)


@app.command(
    epilog="\b\nExamples:\n"
    "  brushloop select                             the worker pushes the next batch\n"
    "  brushloop select --dry-run --sheet next.png  only look at it\n"
    "  python scripts/select_batch.py --dry-run     the same command as a script"
)
def select(
    home: Home = None,
    project: ProjectId = None,
    here: Here = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Choose in this process and show it; push nothing."),
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(help="The PNG that --dry-run draws [default: select-sheet.png]."),
    ] = None,
) -> None:
    """Score the pool, choose the next batch and push it.

    Tasks that are in Label Studio already are chosen as well, and listed in a tab. With --dry-run
    neither a round is recorded nor anything pushed; Label Studio is asked for such tasks only.
    """
    if dry_run:
        _preview(home, project, sheet or Path("select-sheet.png"))
    elif sheet is not None:
        raise ConfigError("--sheet draws a batch that is not pushed: add --dry-run")
    else:
        do_step("select", home, project, here=here)


def _preview(home: Path | None, project_id: int | None, sheet: Path) -> None:
    from ml_backend.cli.printing import progress_bar, show_preview
    from ml_backend.loop.preview import draw_preview, preview

    with opened(home) as context:
        project = project_of(context, project_id)
        with progress_bar() as progress:
            shown = preview(context, project.id, progress)
            draw_preview(context, project, shown, sheet, progress)
    show_preview(shown, sheet)


@app.command(epilog="Example: brushloop predict --project 3")
def predict(home: Home = None, project: ProjectId = None, here: Here = False) -> None:
    """Show the current model's predictions on every open task."""
    do_step("predict", home, project, here=here)


@app.command(epilog="Example: brushloop export masks --format png --source people")
def export(
    address: Annotated[
        str, typer.Argument(help="Folder to write to, or an address like s3://bucket/masks.")
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="png, coco, …: docs/recipes.md; repeatable."),
    ] = None,
    source: Annotated[str, typer.Option(help="people, model or both.")] = "both",
    annotators: Annotated[
        str | None,
        typer.Option(
            help="Whose masks count where a task has several: latest, all or consensus "
            "[default: the recipe's loop.annotators]."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or all.")] = "all",
    changed_since: Annotated[
        str | None,
        typer.Option(
            help="Only images whose annotation or model version changed after this moment "
            "(ISO 8601, such as 2026-03-01T08:00+01:00), or since their last export (last)."
        ),
    ] = None,
    as_json: AsJson = False,
    home: Home = None,
    project: ProjectId = None,
) -> None:
    """Write masks: people's where there are any, the current model's for the rest.

    What the folder holds of the same formats is replaced once all is complete. Interrupted, the
    same command carries on.
    """
    from ml_backend.cli.printing import progress_bar
    from ml_backend.loop.export import export as write

    with opened(home) as context, progress_bar() as progress:
        done = write(
            context,
            project_of(context, project).id,
            address,
            formats=formats or ("png", "coco"),
            source=source,
            annotators=annotators,
            split=split,
            changed_since=changed_since,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(done.as_json()))
        return
    for name, written in done.written.items():
        typer.echo(f"{name}: {written.images} images, {written.regions} regions → {written.path}")
        for note in written.notes:
            typer.echo(f"  {note}")
    show_summary(done.summary)
