"""`brushloop pretrain`: an encoder from unlabelled images."""

from pathlib import Path
from typing import Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import Here, Home, ProjectId, RecipeFile, settings_of
from ml_backend.cli.steps import do_step

OUT = Path("byol-encoder")


@app.command(
    epilog="\b\nExamples:\n"
    "  brushloop pretrain --project 3               on the project's pool, by the worker\n"
    "  brushloop pretrain scans --recipe scans.yaml on a folder of images, by this process"
)
def pretrain(
    images: Annotated[
        str | None,
        typer.Argument(help="Folder or address of images [default: the project's pool]."),
    ] = None,
    recipe: RecipeFile = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Folder for the encoder of a folder of images [default: {OUT}]."),
    ] = None,
    home: Home = None,
    project: ProjectId = None,
    here: Here = False,
) -> None:
    """Pretrain the encoder on unlabelled images (BYOL); the recipe says how.

    A project's network starts from it with `network.encoder_weights: byol` in the recipe.
    Interrupted, the same command carries on.
    """
    if images is None:
        _alone(recipe, out)
        do_step("pretrain", home, project, here=here)
        return
    from ml_backend.cli.printing import progress_bar
    from ml_backend.loop.pretrain import pretrain_folder
    from ml_backend.recipe import Recipe, load_recipe

    chosen = load_recipe(recipe) if recipe else Recipe()
    with progress_bar() as progress:
        report = pretrain_folder(settings_of(home), images, out or OUT, chosen, progress)
    typer.echo(report.summary)


def _alone(recipe: Path | None, out: Path | None) -> None:
    from ml_backend.errors import ConfigError

    if recipe or out:
        raise ConfigError(
            "pretrain without a folder of images goes by the project's own recipe and home: "
            "leave out --recipe and --out, or name the folder"
        )
