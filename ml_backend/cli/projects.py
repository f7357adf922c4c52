"""The commands that connect projects, check that all is well, and forget them."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import Home, ProjectId, RecipeFile, opened

if TYPE_CHECKING:
    from ml_backend.settings import Settings

StudioProject = Annotated[int, typer.Option("--project", help="Id of the Label Studio project.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


@app.command(epilog="Example: brushloop connect --project 3 --recipe configs/default.yaml")
def connect(
    project: StudioProject,
    recipe: RecipeFile = None,
    home: Home = None,
) -> None:
    """Register the backend and its webhook with a Label Studio project."""
    from ml_backend.loop.connect import connect as join
    from ml_backend.loop.reading import news
    from ml_backend.recipe import load_recipe

    with opened(home) as context:
        joined = join(context, project, load_recipe(recipe) if recipe else None)
        typer.echo(f"project {joined.id} ({joined.title}) ↔ {context.settings.public_url}")
        for line in news(joined):
            typer.echo(f"  labels: {line}")


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
