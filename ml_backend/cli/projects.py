"""The commands that connect projects, check that all is well, and forget them."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import Home, Labels, ProjectId, RecipeFile, opened

if TYPE_CHECKING:
    from ml_backend.loop.context import Context
    from ml_backend.settings import Settings

StudioProject = Annotated[int, typer.Option("--project", help="Id of the Label Studio project.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


@app.command(
    epilog="\b\nExamples:\n"
    "  brushloop connect --project 3 --recipe configs/default.yaml\n"
    "  brushloop connect --project 3 --add-brush  a template without a brush gets one"
)
def connect(
    project: StudioProject,
    recipe: RecipeFile = None,
    add_brush: Annotated[
        bool,
        typer.Option("--add-brush", help="Give the labeling config the brush that it lacks."),
    ] = False,
    label: Labels = None,
    yes: Yes = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Register the backend and its webhook with a Label Studio project.

    First a task of our own goes there and away again, so that whatever would keep tasks or images
    from people is said before anything is pushed.
    """
    from ml_backend.errors import ConfigError
    from ml_backend.loop.connect import connect as join
    from ml_backend.loop.existing import way_of
    from ml_backend.loop.reading import news
    from ml_backend.recipe import load_recipe

    if label and not add_brush:
        raise ConfigError("--label names the labels of a new brush: add --add-brush")
    with opened(home) as context:
        chosen = load_recipe(recipe) if recipe else None
        diff = _add_brush(context, project, tuple(label or ()), yes, as_json) if add_brush else ""
        done = join(context, project, chosen, trial=True)
        said, way = news(done.project), way_of(context, done.project)
        if as_json:
            values = {
                "project": done.project.id,
                "title": done.project.title,
                "backend": context.settings.public_url,
                "page": done.page,
                "labels": list(context.labels(done.project).names),
                "tried": done.trial,
                "batches": {"existing": way.existing, "pool": way.pool, "summary": way.summary},
                "news": said,
                "diff": diff,
            }
            typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
            return
        typer.echo(f"project {project} ({done.project.title}) ↔ {context.settings.public_url}")
        for line in (f"open: {done.page}", f"tried: {done.trial}", f"batches: {way.summary}"):
            typer.echo(f"  {line}")
        for line in said:
            typer.echo(f"  labels: {line}")


def _add_brush(
    context: "Context", project_id: int, labels: tuple[str, ...], yes: bool, as_json: bool
) -> str:
    """Show what a brush changes in the labeling config, ask, and do it; return the diff."""
    from ml_backend.errors import ConfigError
    from ml_backend.loop.brush import apply_brush, propose_brush

    if as_json and not yes:
        raise ConfigError("--json asks nothing: add --yes to have the labeling config changed")
    proposal = propose_brush(context, project_id, labels)
    if not proposal.changes:
        typer.echo("the labeling config has a brush, nothing is changed", err=True)
        return ""
    if not as_json:
        typer.echo(proposal.diff)
        for line in proposal.changes:
            typer.echo(f"adds {line}")
    if not yes:
        typer.confirm(f"Change the labeling config of project {project_id}?", abort=True)
    apply_brush(context, proposal)
    return proposal.diff


@app.command(epilog="Example: brushloop doctor --project 3")
def doctor(home: Home = None, project: ProjectId = None, as_json: AsJson = False) -> None:
    """Check Redis, disk, torch, Label Studio and both directions; say how to mend each."""
    from ml_backend.cli.printing import show_findings
    from ml_backend.host.doctor import examine

    with opened(home) as context:
        findings = examine(context, project)
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(one) for one in findings]}, indent=2))
    else:
        show_findings(findings)
    if not all(one.well for one in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: brushloop forget --project 3")
def forget(project: StudioProject, yes: Yes = False, home: Home = None) -> None:
    """Remove everything that is kept here of a project; Label Studio's own data stay there.

    For a project that was deleted in Label Studio, or that Brushloop shall leave alone.
    """
    from ml_backend.loop.forget import forget as remove
    from ml_backend.loop.forget import remains

    with opened(home) as context:
        found = remains(context, project)
        _refuse_while_working(context.settings, project)
        typer.echo(f"project {project} ({found.title}):")
        for line in found.lines():
            typer.echo(f"  {line}")
        typer.echo("Tasks and annotations in Label Studio, exports and your images stay.")
        if not yes:
            typer.confirm("Remove it?", abort=True)
        trouble = remove(context, found)
    typer.echo(f"project {project} is forgotten")
    if trouble:
        typer.echo(trouble, err=True)


def _refuse_while_working(settings: "Settings", project_id: int) -> None:
    """A job that is running would write again what is removed."""
    from ml_backend.errors import JobError
    from ml_backend.jobs.queues import Jobs

    try:
        running = [one for one in Jobs(settings).overview(project_id) if one.state == "running"]
    except JobError:
        return  # without Redis no job runs
    if running:
        raise JobError(
            f"{running[0].step} of project {project_id} is running: wait until it has ended, or "
            "stop the worker, then forget the project"
        )
