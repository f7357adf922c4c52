"""`brushloop inspect`: look at images and masks before anything is added."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import Labels, MaskValues, MatchRule, RecipeFile

if TYPE_CHECKING:
    from rich.table import Table

    from ml_backend.loop.inspection import InspectedImage, Inspection

_MOST_ROWS = 40
_LETTERS = 20


@app.command(
    epilog="Example: brushloop inspect scans --masks scan-masks --label cell --sheet s.png"
)
def inspect(
    address: Annotated[
        str,
        typer.Argument(help="Folder of images, one file, or an address like s3://bucket/scans."),
    ],
    masks: Annotated[str | None, typer.Option(help="Masks of these images, likewise.")] = None,
    label: Labels = None,
    mask_values: MaskValues = None,
    match: MatchRule = "name",
    recipe: RecipeFile = None,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG to write: the images with their masks drawn in.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what of images and masks would be taken and how, without a project; adds nothing.

    Ends with 1 if anything cannot be used.
    """
    from ml_backend.cli.printing import console, progress_bar
    from ml_backend.loop.inspection import inspect_folder
    from ml_backend.recipe import Recipe, load_recipe
    from ml_backend.store.mask_values import parse_values

    with progress_bar() as progress:
        found = inspect_folder(
            address,
            load_recipe(recipe) if recipe else Recipe(),
            labels=label or ["object"],
            masks=masks,
            values=parse_values(mask_values) if mask_values else None,
            match=match,
            sheet=sheet,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        console.print(_table(found))
        for line in (*found.shares.lines(), *found.summary.lines()):
            console.print(line, markup=False, soft_wrap=True)
        if sheet is not None:
            console.print(f"look at {sheet}", markup=False, soft_wrap=True)
    if found.summary.count("set_aside"):
        raise typer.Exit(1)


def _table(found: "Inspection") -> "Table":
    """The first images, a row each."""
    from rich.table import Table

    more = len(found.images) - _MOST_ROWS
    table = Table(title=f"{len(found.images)} images" + f", the first {_MOST_ROWS}" * (more > 0))
    for head in ("image", "size", "channels", "range", "mask", "share", "objects"):
        table.add_column(head, no_wrap=head in {"image", "size", "mask"})
    for image in found.images[:_MOST_ROWS]:
        table.add_row(*_cells(image))
    return table


def _cells(image: "InspectedImage") -> tuple[str, ...]:
    from ml_backend.masks.sheet import shorten

    size = "unreadable" if image.size is None else f"{image.size[0]}x{image.size[1]}"
    ranges = image.range if image.range and isinstance(image.range[0], tuple) else (image.range,)
    scaled = "; ".join(f"{pair[0]:g}, {pair[1]:g}" for pair in ranges if pair) or "as is"
    named = len(image.shares) > 1
    shares = ", ".join(f"{name} " * named + f"{share:.1%}" for name, share in image.shares.items())
    objects = "" if image.objects is None else str(image.objects)
    mask = "same" if image.mask == image.name else shorten(image.mask or "none", _LETTERS)
    name = shorten(image.name, _LETTERS)
    return name, size, str(image.channels), scaled, mask, shares, objects
