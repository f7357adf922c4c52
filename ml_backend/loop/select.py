"""Choosing the next batch, writing it down, and pushing it to Label Studio.

The round is recorded before anything of it leaves the house. A push that was cut off is
finished by the next call, which first asks Label Studio what arrived: no tile is ever
pushed twice.
"""

import math
from collections.abc import Sequence

import numpy as np

from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.models import Models, Serving
from ml_backend.loop.push import push
from ml_backend.loop.score import score_pool
from ml_backend.recipe import Recipe, Selection
from ml_backend.store.rows import Chosen, Numbers, Project, Round, Tile


def select(context: Context, project_id: int, progress: Progress) -> Report:
    """Push the next batch, or finish one that was cut off; nothing while plenty is open."""
    project = context.catalog.projects.get(project_id)
    for record in context.catalog.rounds.all(project_id):
        if record.state == "chosen":
            return _finish(context, project, record, progress)
    if not batch_wanted(context, project):
        return Report("enough tasks are open: no new batch is needed")
    serving = Models(context).current(project)
    if serving is not None:
        score_pool(context, project, serving, progress)
    tiles = context.catalog.pool.unasked(project.id)
    if not tiles:
        return Report("the pool is empty: everything has been asked about")
    number = context.catalog.rounds.next_number(project.id)
    record = choose(tiles, _scores(context, project, serving), project.recipe, number, serving)
    return _finish(context, project, context.catalog.rounds.add(project.id, record), progress)


def batch_wanted(context: Context, project: Project) -> bool:
    """Whether at most half a batch of pushed tasks is still open."""
    return context.catalog.work.waiting(project.id) * 2 <= project.recipe.selection.batch


def next_batch(context: Context, project: Project) -> tuple[str, ...]:
    """Name the step that leads to the next batch, if the recipe wants it by itself."""
    wanted = project.recipe.loop.auto_select and batch_wanted(context, project)
    return ("score",) if wanted else ()


def _scores(context: Context, project: Project, serving: Serving | None) -> dict[int, Numbers]:
    if serving is None:
        return {}
    passes = project.recipe.scoring.passes
    return context.catalog.rounds.scores(project.id, serving.version, passes)


def choose(
    tiles: Sequence[Tile],
    scores: dict[int, Numbers],
    recipe: Recipe,
    number: int,
    serving: Serving | None,
) -> Round:
    """Choose a round from `tiles` (pure: the same arguments give the same round).

    A share (exact over the rounds) is drawn uniformly from the validation images, for the
    audit and the gate; the strategy chooses the rest from the training images. Without
    scores it draws at random.
    """
    from ml_backend.selection.strategies import STRATEGIES, Pool

    settings, column = recipe.selection, f"{recipe.scoring.score}:{recipe.scoring.reduction}"
    rng = np.random.default_rng([settings.seed, number])
    audited = [tile for tile in tiles if tile.image.split == "val"]
    asked = [tile for tile in tiles if tile.image.split == "train"]
    if scores:
        asked = [tile for tile in asked if tile.id in scores]
    audit = min(len(audited), _audits_until(settings, number) - _audits_until(settings, number - 1))
    audit = max(audit, min(len(audited), settings.batch - len(asked)))
    strategy = settings.strategy if scores else "random"
    values = np.array([scores[tile.id][column] for tile in asked if scores], np.float64)
    pool = Pool(
        values if scores else np.zeros(len(asked)),
        np.array([scores[tile.id]["foreground"] for tile in asked]) if scores else None,
    )
    picked = STRATEGIES[strategy](pool, settings.batch - audit, rng, settings)
    drawn = rng.choice(len(audited), audit, replace=False)
    chosen = [
        Chosen(asked[index].id, float(values[index]) if scores else None, "strategy")
        for index in picked
    ] + [Chosen(audited[index].id, None, "audit") for index in drawn]
    return Round(
        number=number,
        strategy=strategy,
        seed=settings.seed,
        model=serving.version if serving and scores else None,
        settings={
            "selection": settings.model_dump(mode="json"),
            "scoring": recipe.scoring.model_dump(mode="json"),
        },
        pool_size=len(tiles),
        pool_mean=float(values.mean()) if len(values) else None,
        batch_mean=float(values[picked].mean()) if len(values) and len(picked) else None,
        state="chosen",
        chosen=tuple(chosen),
    )


def _audits_until(settings: Selection, number: int) -> int:
    """Count the audits of the rounds up to `number`: the share of all, rounded up."""
    return math.ceil(round(settings.batch * settings.audit_share * number, 9))


def _finish(context: Context, project: Project, record: Round, progress: Progress) -> Report:
    pushed = push(context, project, record, progress)
    return Report(
        f"round {record.number}: {pushed} tasks pushed, chosen by {record.strategy}",
        {"round": record.number, "pushed": pushed, "strategy": record.strategy},
    )
