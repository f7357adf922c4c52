"""The commands that look after a project's pool and models, and show its status."""

import json
from typing import Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import Home, MaskValues, MatchRule, ProjectId, opened, project_of

pool = typer.Typer(no_args_is_help=True, help="The images that may be asked about.")
app.add_typer(pool, name="pool")


@app.command(epilog="Example: brushloop models --roll-back")
def models(
    promote: Annotated[str | None, typer.Option(help="Serve this version from now on.")] = None,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Serve what was served before.")
    ] = False,
    home: Home = None,
    project: ProjectId = None,
) -> None:
    """List the versions with what the gate said; promote one by hand, or roll back."""
    from ml_backend.cli.printing import request_job, show_models
    from ml_backend.loop import promote as gate

    with opened(home) as context:
        chosen = project_of(context, project)
        if promote or roll_back:
            version = (
                gate.promote(context, chosen.id, promote)
                if promote
                else gate.roll_back(context, chosen.id)
            )
            typer.echo(f"now serving {version}")
            request_job(context.settings, "predict", chosen.id)
        show_models(context, chosen)


@app.command(epilog="Example: brushloop status")
def status(home: Home = None) -> None:
    """Show every project: pool, tasks, model, jobs, and what cannot be used and why."""
    from ml_backend.cli.printing import show_status

    with opened(home) as context:
        show_status(context)


@pool.command("add", epilog="Example: brushloop pool add ~/scans --masks ~/scans-masks")
def pool_add(
    address: Annotated[
        str,
        typer.Argument(help="Folder of images, one file, or an address like s3://bucket/scans."),
    ],
    masks: Annotated[
        str | None,
        typer.Option(help="Masks of some of these images: a folder, a COCO file, or an address."),
    ] = None,
    mask_values: MaskValues = None,
    match: MatchRule = "name",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was taken as JSON.")] = False,
    home: Home = None,
    project: ProjectId = None,
) -> None:
    """Add images to the pool; those with a mask are learned from at once."""
    from ml_backend.cli.printing import progress_bar
    from ml_backend.loop.pool import add_folder
    from ml_backend.store.mask_values import parse_values

    with opened(home) as context, progress_bar() as progress:
        report = add_folder(
            context,
            project_of(context, project).id,
            address,
            masks=masks,
            values=parse_values(mask_values) if mask_values else None,
            match=match,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(report.as_json()))
        return
    typer.echo(
        f"{report.images} images, {report.tiles} tiles to ask about, "
        f"{report.sources} images with masks"
    )
    for line in (*report.shares.lines(), *report.summary.lines()):
        typer.echo(line)
