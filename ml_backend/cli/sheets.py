"""The commands that work on folders alone: bootstrap, augment-sheet."""

from pathlib import Path
from typing import Annotated

import typer

from ml_backend.cli import app
from ml_backend.cli.options import (
    Address,
    AsJson,
    Labels,
    MaskAddress,
    MaskValues,
    MatchRule,
    RecipeFile,
    show_summary,
)


@app.command(
    epilog="Example: brushloop augment-sheet --images scans --masks masks --augmentation elastic"
)
def augment_sheet(
    images: Address,
    masks: MaskAddress,
    augmentation: Annotated[
        str | None, typer.Option(help="basic, affine, …: docs/recipes.md [default: the recipe's].")
    ] = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("augment-sheet.png"),
    recipe: RecipeFile = None,
    pool: Annotated[
        str | None, typer.Option(help="Unlabelled images of the target, for specialized.")
    ] = None,
    label: Labels = None,
    mask_values: MaskValues = None,
    match: MatchRule = "name",
    rows: Annotated[int, typer.Option(min=1, max=50, help="Images.")] = 6,
    columns: Annotated[int, typer.Option(min=1, max=20, help="Variants of each.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of images, places and variants.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what an augmentation does to your images and masks, before you train with it."""
    from ml_backend.loop.augment_sheet import augment_sheet as write
    from ml_backend.recipe import Recipe, load_recipe
    from ml_backend.store.mask_values import parse_values

    chosen = (load_recipe(recipe) if recipe else Recipe()).changed(
        {"training.augmentation": augmentation, "training.seed": seed}
    )
    report = write(
        images,
        masks,
        out,
        recipe=chosen,
        labels=label or ["object"],
        values=parse_values(mask_values) if mask_values else None,
        match=match,
        pool=pool,
        rows=rows,
        columns=columns,
    )
    if as_json:
        show_summary(report.summary, as_json=True)
        return
    typer.echo(
        f"{chosen.training.augmentation} on {len(report.shown)} images: "
        f"left as they are, then {columns} variants → {out}"
    )
    show_summary(report.summary)


@app.command(epilog="Example: brushloop bootstrap clean clean-masks --method otsu --largest 1")
def bootstrap(
    images: Annotated[str, typer.Argument(help="Folder or address of clean images.")],
    masks: Annotated[str, typer.Argument(help="Folder or address for their masks.")],
    method: Annotated[str, typer.Option(help="otsu, local or hysteresis.")] = "hysteresis",
    min_area: Annotated[int, typer.Option(min=1, help="Smaller objects are specks, px.")] = 16,
    closing: Annotated[
        int, typer.Option(min=0, max=99, help="Join what is less than twice this apart, px.")
    ] = 0,
    opening: Annotated[
        int, typer.Option(min=0, max=99, help="Cut off what is thinner than twice this, px.")
    ] = 0,
    largest: Annotated[
        int | None, typer.Option(min=1, help="Keep so many objects of an image [default: all].")
    ] = None,
    sheet: Annotated[Path, typer.Option(help="A PNG to judge the masks by.")] = Path(
        "bootstrap-sheet.png"
    ),
    recipe: RecipeFile = None,
    as_json: AsJson = False,
) -> None:
    """Make masks of images with an even background by thresholding; none is overwritten."""
    from ml_backend.cli.printing import progress_bar
    from ml_backend.loop.bootstrap import Thresholding
    from ml_backend.loop.bootstrap import bootstrap as threshold
    from ml_backend.recipe import load_recipe

    how = Thresholding(method, min_area, closing, opening, largest)
    base = load_recipe(recipe) if recipe else None
    with progress_bar() as progress:
        report = threshold(images, masks, how=how, sheet=sheet, recipe=base, progress=progress)
    if as_json:
        show_summary(report.summary, as_json=True)
        return
    typer.echo(
        f"{len(report.written)} masks written, {len(report.kept)} left as they were, "
        f"{len(report.empty)} images without any object"
    )
    show_summary(report.summary)
    if report.written or report.kept:
        typer.echo(f"look at {sheet}, then: brushloop pool add {images} --masks {masks}")
