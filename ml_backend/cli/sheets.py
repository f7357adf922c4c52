"""The commands that work on folders alone: looking at augmentations."""

from pathlib import Path
from typing import Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import Labels, MaskValues, RecipeFile


@app.command(
    epilog="Example: brushloop augment-sheet --images scans --masks masks --augmentation elastic"
)
def augment_sheet(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    masks: Annotated[Path, typer.Option(help="Folder of their masks.")],
    augmentation: Annotated[
        str | None, typer.Option(help="basic, affine, …: docs/recipes.md [default: the recipe's].")
    ] = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("augment-sheet.png"),
    recipe: RecipeFile = None,
    pool: Annotated[
        Path | None, typer.Option(help="Unlabelled images of the target, for specialized.")
    ] = None,
    label: Labels = None,
    mask_values: MaskValues = None,
    rows: Annotated[int, typer.Option(min=1, max=50, help="Images.")] = 6,
    columns: Annotated[int, typer.Option(min=1, max=20, help="Variants of each.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of images, places and variants.")] = 0,
) -> None:
    """Show what an augmentation does to your images and masks, before you train with it."""
    from ml_backend.loop.augment_sheet import augment_sheet as write
    from ml_backend.recipe import Recipe, load_recipe
    from ml_backend.store.masks_in import parse_values

    chosen = (load_recipe(recipe) if recipe else Recipe()).changed(
        {"training.augmentation": augmentation, "training.seed": seed}
    )
    report = write(
        images,
        masks,
        out,
        recipe=chosen,
        labels=len(label or ["object"]),
        values=parse_values(mask_values) if mask_values else None,
        pool=pool,
        rows=rows,
        columns=columns,
    )
    typer.echo(
        f"{chosen.training.augmentation} on {len(report.shown)} images: "
        f"left as they are, then {columns} variants → {out}"
    )
    for name, reason in report.set_aside:
        typer.echo(f"set aside: {name}: {reason}", err=True)
