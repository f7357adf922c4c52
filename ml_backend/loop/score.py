"""Scoring the pool: one row of uncertainties a tile, carried on where it stopped."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ml_backend.errors import ConfigError
from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.due import resting_until
from ml_backend.loop.labels import BACKGROUND
from ml_backend.loop.models import Models, Serving
from ml_backend.loop.predict import readable_tiles
from ml_backend.store.rows import Project, Tile

if TYPE_CHECKING:
    from ml_backend.learning.inference import Asked, Seen
    from ml_backend.recipe import Scoring

CHUNK = 32  # tiles between two looks at the catalog: what a crash may cost


def score(context: Context, project_id: int, progress: Progress) -> Report:
    """Score every tile that may still be chosen and has no score under the current model."""
    project = context.catalog.projects.get(project_id)
    serving = Models(context).current(project)
    wanted = project.recipe.loop.auto_select and resting_until(context, project) is None
    follow = ("select",) if wanted else ()
    if serving is None:
        return Report("there is no model yet: the first batch goes by the images", {}, follow)
    done = score_pool(context, project, serving, progress)
    return Report(f"{done} tiles scored by {serving.version}", {"scored": done}, follow)


def score_pool(context: Context, project: Project, serving: Serving, progress: Progress) -> int:
    """Score what is missing, and keep what the model made of it; returns how many tiles."""
    from ml_backend.selection.embeddings import embed
    from ml_backend.selection.overlapping import score_sets
    from ml_backend.selection.uncertainty import Passes, score_image

    scoring, rounds = project.recipe.scoring, context.catalog.rounds
    weights = weights_of(context, project, serving)
    known = rounds.scored(project.id, serving.version, scoring.key)
    missing = [
        tile
        for tile in context.catalog.pool.unasked(project.id)
        if tile.id not in known and tile.image.split == "train"
    ]
    for start in range(0, len(missing), CHUNK):
        part = missing[start : start + CHUNK]
        rows, embeddings = {}, {}
        for tile, seen in look_at(context, project, serving, part, scoring):
            if serving.overlapping:
                rows[tile.id] = score_sets(seen.probs_TCHW, weights, scoring.top_share)
            else:
                rows[tile.id] = score_image(Passes(seen.probs_TCHW, weights, scoring.top_share))
            embeddings[tile.id] = embed(seen.features_D)
            progress(start + len(rows), len(missing), f"{serving.version}: scoring {tile.title}")
        rounds.save_scores(serving.version, scoring.key, rows, embeddings)
    return len(missing)


def embed_tiles(
    context: Context,
    project: Project,
    serving: Serving,
    tiles: Sequence[Tile],
    progress: Progress,
) -> None:
    """Keep what the model makes of `tiles`, where it is not known: one plain pass each."""
    from ml_backend.selection.embeddings import embed

    plain = project.recipe.scoring.model_copy(update={"passes": "single"})
    known = context.catalog.rounds.embeddings(project.id, serving.version)
    missing = [tile for tile in tiles if tile.id not in known]
    for start in range(0, len(missing), CHUNK):
        part = missing[start : start + CHUNK]
        seen = look_at(context, project, serving, part, plain)
        vectors = {tile.id: embed(look.features_D) for tile, look in seen}
        context.catalog.rounds.save_embeddings(serving.version, vectors)
        progress(
            start + len(part), len(missing), f"{serving.version}: looking at what it learned from"
        )


def look_at(
    context: Context,
    project: Project,
    serving: Serving,
    tiles: Iterable[Tile],
    scoring: "Scoring",
) -> Iterator[tuple[Tile, "Seen"]]:
    """The passes over each tile that can be read; what is drawn for it depends on its id."""
    from ml_backend.learning.passes import passes_many
    from ml_backend.loop.ensemble import join_siblings

    if scoring.passes == "ensemble":
        join_siblings(context, project, serving)
    readable: deque[Tile] = deque()

    def asked() -> Iterator["Asked"]:
        for tile, image in readable_tiles(context, tuple(tiles)):
            readable.append(tile)
            yield image, (project.recipe.selection.seed, tile.id)

    for seen in passes_many(serving.predictor, asked(), scoring):
        yield readable.popleft(), seen


def weights_of(context: Context, project: Project, serving: Serving) -> tuple[float, ...] | None:
    """How much background and labels count in weighted_entropy; None for all alike."""
    given = project.recipe.scoring.weights
    names = (BACKGROUND, *serving.labels)
    today = context.labels(project).names
    strange = given.keys() - {*names, *today}
    if strange:
        raise ConfigError(
            f"scoring.weights names {sorted(strange)}, which project {project.id} does not have; "
            f"its labels are {', '.join(today)}, and {BACKGROUND} is the rest"
        )
    weights = tuple(given.get(name, 1.0) for name in names)
    if not any(weights):
        raise ConfigError("scoring.weights: all weights are 0; leave out the labels that count")
    return weights if given else None
