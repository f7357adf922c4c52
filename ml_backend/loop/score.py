"""Scoring the pool: one row of uncertainties a tile, carried on where it stopped."""

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.models import Models, Serving
from ml_backend.loop.predict import readable_tiles
from ml_backend.store.rows import Numbers, Project, Tile

CHUNK = 32  # tiles between two looks at the catalog: what a crash may cost


def score(context: Context, project_id: int, progress: Progress) -> Report:
    """Score every tile that may still be chosen and has no score under the current model."""
    project = context.catalog.projects.get(project_id)
    serving = Models(context).current(project)
    follow = ("select",) if project.recipe.loop.auto_select else ()
    if serving is None:
        return Report("there is no model yet: the first batch is drawn at random", {}, follow)
    done = score_pool(context, project, serving, progress)
    return Report(f"{done} tiles scored by {serving.version}", {"scored": done}, follow)


def score_pool(context: Context, project: Project, serving: Serving, progress: Progress) -> int:
    """Score what is missing; returns how many tiles that were."""
    from ml_backend.selection.uncertainty import score_image

    passes = project.recipe.scoring.passes
    known = context.catalog.rounds.scores(project.id, serving.version, passes)
    missing = [
        tile
        for tile in context.catalog.pool.unasked(project.id)
        if tile.id not in known and tile.image.split == "train"
    ]
    for start in range(0, len(missing), CHUNK):
        rows: dict[int, Numbers] = {}
        for tile, image in readable_tiles(context, missing[start : start + CHUNK]):
            rows[tile.id] = score_image(_passes(project, serving, tile, image))
            progress(start + len(rows), len(missing), f"{serving.version}: scoring {tile.title}")
        context.catalog.rounds.save_scores(serving.version, passes, rows)
    return len(missing)


def _passes(
    project: Project, serving: Serving, tile: Tile, image: NDArray[np.uint8]
) -> NDArray[np.float32]:
    from ml_backend.learning.views import tta_passes

    scoring = project.recipe.scoring
    if scoring.passes == "single":
        return serving.predictor.probs(image)[None]
    rng = np.random.default_rng([project.recipe.selection.seed, tile.id])
    return tta_passes(serving.predictor, image, scoring.views, rng)
