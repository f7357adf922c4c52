"""`brushloop tune`: try recipes, keep the best as a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_backend.cli import app
from ml_backend.cli.options import (
    AsJson,
    Home,
    Labels,
    MaskValues,
    MatchRule,
    ProjectId,
    RecipeFile,
    opened,
    project_of,
    show_summary,
)

if TYPE_CHECKING:
    from rich.table import Table

    from ml_backend.learning.tuning import Tuned
    from ml_backend.loop.context import Context
    from ml_backend.loop.material import Material
    from ml_backend.recipe import Recipe
    from ml_backend.store.mask_matching import Match
    from ml_backend.store.rows import Project

SHOWN = 10  # trials in the table, the best ones


@app.command(
    epilog="Example: brushloop tune scans --masks scan-masks --over training.patch=128,256"
)
def tune(
    images: Annotated[
        str | None, typer.Argument(help="Folder or address of images [default: the project's].")
    ] = None,
    masks: Annotated[str | None, typer.Option(help="Masks of these images.")] = None,
    mask_values: MaskValues = None,
    match: MatchRule = "name",
    label: Labels = None,
    recipe: RecipeFile = None,
    over: Annotated[
        list[str] | None,
        typer.Option(help="KEY=4,8,16 or KEY=1e-4..1e-2:log, a key of the recipe; repeatable."),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Try every combination, none of them cut short.")
    ] = False,
    instances: Annotated[
        bool, typer.Option("--instances", help="Tune how touching objects are cut apart instead.")
    ] = False,
    trials: Annotated[
        int | None, typer.Option(min=1, help="How many recipes [default: what the recipe says].")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the best recipe.")] = Path("tuned.yaml"),
    as_json: AsJson = False,
    home: Home = None,
    project: ProjectId = None,
) -> None:
    """Search for a better recipe; the same command carries on where it was broken off."""
    wishes = _over(over or ())
    with opened(home) as context:
        if images is None:
            base, material = _of_project(context, project, recipe)
        else:
            base, material = _of_folder(context, images, masks, mask_values, match, label, recipe)
        if not as_json:
            show_summary(material.summary)
        if instances:
            _alone(wishes, grid=grid, trials=trials)
            known = None if images else project_of(context, project)
            said = _cut(context, material, base, known, out)
        else:
            table = not as_json
            said = _search(
                context, material, base, out, table=table, over=wishes, trials=trials, grid=grid
            )
        typer.echo(json.dumps({"said": said} | material.summary.as_json()) if as_json else said)


def _alone(wishes: dict[str, str], *, grid: bool, trials: int | None) -> None:
    from ml_backend.errors import ConfigError

    if wishes or grid or trials:
        raise ConfigError("tune --instances goes without --over, --grid and --trials")


def _search(
    context: "Context",
    material: "Material",
    base: "Recipe",
    out: Path,
    *,
    table: bool,
    **wishes: Any,
) -> str:
    """Tune how networks learn; what came of it in a line."""
    from ml_backend.cli.printing import console, progress_bar
    from ml_backend.loop.tune import tune as search
    from ml_backend.loop.tune import write_tuned

    with progress_bar() as progress:
        tuned = search(context.settings, material, base, progress=progress, **wishes)
    write_tuned(tuned, out)
    if table:
        console.print(_table(tuned))
    before = "" if tuned.before is None else f", {tuned.before:.4f} before"
    return f"validation IoU {tuned.score:.4f}{before}: {out}"


def _cut(
    context: "Context", material: "Material", base: "Recipe", known: "Project | None", out: Path
) -> str:
    """Tune how objects are cut apart; what came of it in a line."""
    from ml_backend.cli.printing import progress_bar
    from ml_backend.loop.tune import current_predictor, found_of, tune_instances, write_cut

    predictor = current_predictor(context, known) if known else None
    with progress_bar() as progress:
        cut = tune_instances(context.settings, material, base, predictor, progress=progress)
    write_cut(cut, base, out)
    return f"{found_of(cut)}: {out}"


def _over(texts: Sequence[str]) -> dict[str, str]:
    from ml_backend.errors import ConfigError

    wishes = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise ConfigError(f"--over {text}: write KEY=VALUES, such as training.patch=128,256")
        wishes[key] = values
    return wishes


def _of_project(
    context: "Context", project_id: int | None, path: Path | None
) -> "tuple[Recipe, Material]":
    from ml_backend.loop.material import material_of
    from ml_backend.recipe import load_recipe

    project = project_of(context, project_id)
    base = load_recipe(path) if path else project.recipe
    return base, material_of(context, project)


def _of_folder(
    context: "Context",
    images: str,
    masks: str | None,
    values: str | None,
    match: "Match",
    labels: list[str] | None,
    path: Path | None,
) -> "tuple[Recipe, Material]":
    from ml_backend.errors import ConfigError
    from ml_backend.loop.material import material_in
    from ml_backend.recipe import Recipe, load_recipe
    from ml_backend.store.mask_values import parse_values

    if masks is None:
        raise ConfigError(f"tune {images}: say where the masks of these images are with --masks")
    base = load_recipe(path) if path else Recipe()
    rules = parse_values(values) if values else None
    names = labels or ["object"]
    return base, material_in(
        images, masks, base, labels=names, values=rules, match=match, blobs=context.blobs
    )


def _table(tuned: "Tuned") -> "Table":
    """The best trials, and how the others ended."""
    from rich import box
    from rich.table import Table

    done = [row for row in tuned.tried if row.score is not None]
    states = [row.state for row in tuned.tried]
    others = f"{states.count('pruned')} cut short, {states.count('failed')} failed"
    title = f"{len(states)} trials, {others}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    keys = [key.split(".")[1] for key in tuned.best.values]
    for head in ("trial", "val IoU", "s", *keys):
        table.add_column(head, justify="right", overflow="fold")
    for row in sorted(done, key=lambda row: -(row.score or 0))[:SHOWN]:
        values = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values.values()]
        table.add_row(str(row.number), f"{row.score:.4f}", f"{row.seconds:.0f}", *values)
    reasons = sorted({f"{row.values}: {row.reason}" for row in tuned.tried if row.reason})
    table.caption = "\n".join(reasons) or None
    return table
