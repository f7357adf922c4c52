"""The options that several commands share, and what they open."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:  # everything slow is imported by the command that needs it
    from ml_backend.loop.context import Context
    from ml_backend.settings import Settings
    from ml_backend.store.rows import Project
    from ml_backend.store.summary import Summary

Home = Annotated[
    Path | None, typer.Option(help="Home folder [default: $BRUSHLOOP_HOME or ./brushloop-data].")
]
ProjectId = Annotated[
    int | None, typer.Option("--project", help="Label Studio project; may be left out if one.")
]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="Recipe (YAML) of the project.")]
Here = Annotated[bool, typer.Option("--here", help="Work in this process, without a worker.")]
Images = Annotated[
    str | None,
    typer.Option(help="Folder of images, or an address like s3://bucket/scans [default: samples]."),
]
Masks = Annotated[
    str | None,
    typer.Option(help="Masks of these images: learned from, or the annotator's in a demo."),
]
MaskValues = Annotated[
    str | None,
    typer.Option(help="What the masks' values mean, such as 0=1,255=0 or '#0000ff=1' or cell=1."),
]
MatchRule = Annotated[
    Literal["name", "number"],
    typer.Option("--match", help="Pair masks with images by their names, or by a number in them."),
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="Name of a label; repeatable.")]
Address = Annotated[str, typer.Option(help="Folder of images, or an address like s3://bucket/a.")]
MaskAddress = Annotated[str, typer.Option(help="Their masks: a folder, a document or an address.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was taken and left as JSON.")]
TileSide = Annotated[int | None, typer.Option("--tile", help="Cut images into tiles, px.")]
Batch = Annotated[int | None, typer.Option(help="Tasks a round.")]
Seed = Annotated[int, typer.Option(help="Seed of samples, draws and training.")]
Port = Annotated[int | None, typer.Option(help="Port of Label Studio [default: a free one].")]
StudioPath = Annotated[
    Path, typer.Option("--label-studio", help="The label-studio executable to start.")
]
STUDIO = Path(".venv-label-studio/bin/label-studio")


def settings_of(home: Path | None) -> "Settings":
    """Read the environment and the home folder's own settings."""
    from ml_backend.settings import load_settings

    return load_settings(home=home)


@contextmanager
def opened(home: Path | None) -> "Iterator[Context]":
    """Open catalog and storage for one command."""
    from ml_backend.loop.context import open_context

    with open_context(settings_of(home)) as context:
        yield context


def project_of(context: "Context", project_id: int | None) -> "Project":
    """Find the project that is meant. Raises `ConfigError` that lists them when it is unclear."""
    from ml_backend.errors import ConfigError

    if project_id is not None:
        return context.catalog.projects.get(project_id)
    found = context.catalog.projects.all()
    if len(found) != 1:
        names = ", ".join(f"{project.id} ({project.title})" for project in found) or "none yet"
        raise ConfigError(f"say which project with --project; there are: {names}")
    return found[0]


def show_summary(summary: "Summary", *, as_json: bool = False) -> None:
    """Print what became of files: a line a group, or one of JSON."""
    if as_json:
        typer.echo(json.dumps(summary.as_json()))
        return
    for line in summary.lines():
        typer.echo(line)
