"""`brushloop simulate`: which strategy saves labels on a folder whose masks are all known."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
)

if TYPE_CHECKING:
    from ml_backend.recipe import Recipe

USUAL = "random,foreground_random,top,stochastic_batch,power,class_power,diverse_batch"


@app.command(
    epilog="\b\nExamples:\n"
    "  brushloop simulate --images scans --masks scan-masks --seeds 8\n"
    "  brushloop simulate --images stack --masks cells --strategies random,top,power --test last"
)
def simulate(
    images: Address,
    masks: MaskAddress,
    mask_values: MaskValues = None,
    match: MatchRule = "name",
    label: Labels = None,
    strategies: Annotated[
        str, typer.Option(help="Strategies by name, with commas; random is always among them.")
    ] = USUAL,
    seeds: Annotated[int, typer.Option(min=1, help="How often each is played.")] = 5,
    first_seed: Annotated[
        int, typer.Option(min=0, help="The first seed: others confirm what some have shown.")
    ] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Choices after the start.")] = 4,
    start: Annotated[
        int | None, typer.Option(min=1, help="Tiles to start with [default: a batch].")
    ] = None,
    first: Annotated[
        str | None,
        typer.Option(
            help="How those are chosen: random, or clusters as a project does "
            "[default: the recipe's, or random]."
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Tiles a round [default: the recipe's, or 2 to 8 by the pool]."),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(min=32, help="Side of a tile, px [default: the recipe's, or 128].")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of each training [default: the recipe's].")
    ] = None,
    longer: Annotated[
        int, typer.Option(min=1, help="Controls are trained so many times as long; 1 for none.")
    ] = 3,
    test: Annotated[
        str,
        typer.Option(help="Images to judge by: spread over all, or the last ones of a stack."),
    ] = "spread",
    test_share: Annotated[float, typer.Option(help="Share of the images to judge by.")] = 0.25,
    judge_by: Annotated[
        str,
        typer.Option(
            help="IoU of all test pixels together (pixels), or the mean of the test images' own "
            "(images): better where images are of several kinds."
        ),
    ] = "pixels",
    most_pool: Annotated[int, typer.Option(min=2, help="At most so many tiles in the pool.")] = 600,
    most_test: Annotated[int, typer.Option(min=1, help="At most so many tiles to judge by.")] = 200,
    recipe: RecipeFile = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("simulation"),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes at once [default: one a core, up to 8].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play active learning with every strategy and report which one saves labels.

    Nothing is needed but images with masks. The same command carries on where it was broken off,
    and adds more strategies, seeds or rounds to a folder of results, or judges it the other way.
    """
    from ml_backend.cli.printing import console, progress_bar
    from ml_backend.host.processes import stopped_by_signals
    from ml_backend.host.simulate import simulate as play
    from ml_backend.loop.simulate.plan import ask
    from ml_backend.settings import load_settings
    from ml_backend.store.listing import absolute

    base = _recipe(recipe, tile, steps, first)
    plan = ask(
        {
            "source": {
                "images": absolute(images),
                "masks": absolute(masks),
                "labels": tuple(label or ["object"]),
                "values": mask_values,
                "match": match,
                "test_share": test_share,
                "test_part": test,
                "most_pool": most_pool,
                "most_test": most_test,
            },
            "recipe": base,
            "strategies": tuple(name.strip() for name in strategies.split(",") if name.strip()),
            "seeds": seeds,
            "first_seed": first_seed,
            "rounds": rounds,
            "start": start,
            "longer": longer,
            "judged_by": judge_by,
        }
    )
    if recipe is not None:
        batch = batch or base.selection.batch
    try:
        with stopped_by_signals(), progress_bar() as progress:
            written = play(
                plan,
                out,
                load_settings(),
                batch=batch,
                jobs=jobs,
                progress=progress,
                say=lambda line: None if as_json else console.print(line, markup=False),
            )
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command carries on in {out}", err=True)
        raise typer.Exit(130) from None
    if as_json:
        lines = {"report": str(out / "report.md"), "lines": list(written.lines)}
        typer.echo(json.dumps(lines | written.files.as_json()))
        return
    for line in written.lines:
        typer.echo(line)
    typer.echo(f"report: {out / 'report.md'}")


def _recipe(path: Path | None, tile: int | None, steps: int | None, first: str | None) -> "Recipe":
    """The recipe that was given, or a small one; what the command line says wins."""
    from ml_backend.loop.simulate.plan import small_recipe
    from ml_backend.recipe import load_recipe

    base = load_recipe(path) if path else small_recipe(tile)
    return base.changed({"pool.tile": tile, "training.steps": steps, "selection.first": first})
