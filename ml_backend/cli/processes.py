"""The commands that keep running: serve, worker, schedule, and all of them at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_backend.cli import app
from ml_backend.cli.options import (
    STUDIO,
    Batch,
    Home,
    Images,
    Labels,
    Masks,
    MaskValues,
    MatchRule,
    Port,
    RecipeFile,
    Seed,
    StudioPath,
    TileSide,
    settings_of,
)

if TYPE_CHECKING:
    from ml_backend.recipe import Recipe


@app.command(epilog="Example: BRUSHLOOP_HOST=0.0.0.0 brushloop serve")
def serve(home: Home = None) -> None:
    """Run the backend that Label Studio talks to."""
    from ml_backend.web.server import serve as run

    run(settings_of(home))


@app.command(epilog="Example: brushloop worker --queue brushloop-train")
def worker(
    queue: Annotated[
        list[str] | None, typer.Option(help="Serve only these queues; repeatable.")
    ] = None,
    burst: Annotated[bool, typer.Option(help="Leave when nothing is left to do.")] = False,
    home: Home = None,
) -> None:
    """Run a worker; start more of them on more machines."""
    from ml_backend.jobs.queues import QUEUES
    from ml_backend.jobs.worker import run_worker

    run_worker(settings_of(home), burst=burst, queues=queue or QUEUES)


@app.command(epilog="Example: brushloop schedule")
def schedule(home: Home = None) -> None:
    """Run the schedule: it polls for what lost events left behind, and knows the hours."""
    from ml_backend.jobs.schedule import run_schedule
    from ml_backend.loop.context import open_context

    settings = settings_of(home)
    with open_context(settings) as context:
        projects = context.catalog.projects
        run_schedule(settings, lambda: [(row.id, row.recipe.loop) for row in projects.polled()])


@app.command(epilog="Example: brushloop up --images ~/scans --label cell --tile 256")
def up(
    images: Images = None,
    masks: Masks = None,
    mask_values: MaskValues = None,
    match: MatchRule = "name",
    label: Labels = None,
    tile: TileSide = None,
    batch: Batch = None,
    recipe: RecipeFile = None,
    home: Home = None,
    port: Port = None,
    seed: Seed = 0,
    demo_: Annotated[
        bool, typer.Option("--demo", help="Let a scripted annotator work, then end.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the demo.")] = 3,
    report: Annotated[Path | None, typer.Option(help="Write the demo's report as JSON.")] = None,
    label_studio: StudioPath = STUDIO,
) -> None:
    """Start everything on this machine: Redis, Label Studio, backend, worker, schedule."""
    _up(
        rounds if demo_ else None, report, home=home, tile=tile, batch=batch, recipe=recipe,
        images=images, masks=masks, values=mask_values, labels=label, port=port, seed=seed,
        studio=label_studio, match=match,
    )  # fmt: skip


@app.command(epilog="Example: brushloop demo --rounds 3 --report demo.json")
def demo(
    images: Images = None,
    masks: Masks = None,
    mask_values: MaskValues = None,
    match: MatchRule = "name",
    label: Labels = None,
    tile: TileSide = None,
    batch: Batch = None,
    recipe: RecipeFile = None,
    home: Home = None,
    port: Port = None,
    seed: Seed = 0,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds to play.")] = 3,
    report: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
    label_studio: StudioPath = STUDIO,
) -> None:
    """Play the whole loop with a scripted annotator who knows the masks."""
    _up(
        rounds, report, home=home, tile=tile, batch=batch, recipe=recipe,
        images=images, masks=masks, values=mask_values, labels=label, port=port, seed=seed,
        studio=label_studio, match=match,
    )  # fmt: skip


def _up(
    rounds: int | None,
    report: Path | None,
    *,
    home: Path | None,
    tile: int | None,
    batch: int | None,
    recipe: Path | None,
    labels: list[str] | None,
    seed: int,
    **wishes: Any,
) -> None:
    """Bring everything up; play `rounds` rounds and end, or wait for Ctrl-C."""
    from ml_backend.cli.printing import run_demo, show_address, show_welcome, speaker
    from ml_backend.host.processes import stopped_by_signals
    from ml_backend.host.up import Wishes, up

    wanted = Wishes(
        home=settings_of(home).home.absolute(),
        recipe=_recipe(recipe, tile=tile, batch=batch, seed=seed),
        labels=tuple(labels or ()),
        seed=seed,
        demo=rounds is not None,
        **wishes,
    )
    say = speaker()
    try:
        welcome = show_welcome if rounds is None else show_address
        with stopped_by_signals(), up(wanted, say, welcome) as running:
            if rounds is not None:
                run_demo(running, rounds, report, say)
            else:
                running.watch(say)
    except KeyboardInterrupt:
        raise typer.Exit(0 if rounds is None else 130) from None


def _recipe(path: Path | None, *, tile: int | None, batch: int | None, seed: int) -> "Recipe":
    """Read the recipe; what the command line says wins over the file."""
    from ml_backend.recipe import Recipe, load_recipe

    recipe = load_recipe(path) if path else Recipe()
    return recipe.changed(
        {
            "pool.tile": tile,
            "selection.batch": batch,
            "selection.seed": seed,
            "training.seed": seed,
        }
    )
