"""From what is known of the pool to a round: a pure function."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.models import Serving
from ml_backend.recipe import Recipe, Selection
from ml_backend.store.blobs import natural_order
from ml_backend.store.rows import Chosen, Numbers, Round, Tile

if TYPE_CHECKING:
    from ml_backend.selection.strategies import Pool

Vector = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Known:
    """What is known of the tiles of a pool, by their ids.

    With `scores` a model has seen them: `embeddings` are its own, `labelled` those of tiles that
    were asked about, `guided` the number of rounds that a model has chosen so far. Without
    scores, `embeddings` say what the images look like by themselves.
    """

    scores: Mapping[int, Numbers] = field(default_factory=dict)
    embeddings: Mapping[int, Vector] = field(default_factory=dict)
    labelled: Sequence[Vector] = ()
    guided: int = 0


def choose(
    tiles: Sequence[Tile], known: Known, recipe: Recipe, number: int, serving: Serving | None
) -> Round:
    """Choose a round from `tiles` (pure: the same arguments give the same round).

    A share (exact over the rounds) is drawn uniformly from the validation images, for the
    audit and the gate; the strategy chooses the rest from the training images. Without
    scores it goes by what the images look like, or draws at random.
    """
    from ml_backend.selection.strategies import STRATEGIES

    settings, scores = recipe.selection, known.scores
    rng = np.random.default_rng([settings.seed, number])
    audited = [tile for tile in tiles if tile.image.split == "val"]
    asked = [tile for tile in tiles if tile.image.split == "train"]
    if scores or known.embeddings:
        asked = [tile for tile in asked if tile.id in (scores or known.embeddings)]
    audit = min(len(audited), _audits_until(settings, number) - _audits_until(settings, number - 1))
    audit = max(audit, min(len(audited), settings.batch - len(asked)))
    pool = pool_of(asked, known, recipe)
    picked = STRATEGIES[_rule(known, settings)](pool, settings.batch - audit, rng, settings)
    drawn = rng.choice(len(audited), audit, replace=False)
    chosen = [
        Chosen(asked[index].id, float(pool.scores_N[index]) if scores else None, "strategy")
        for index in picked
    ] + [Chosen(audited[index].id, None, "audit") for index in drawn]
    return Round(
        number=number,
        strategy=settings.strategy if scores else "clusters" if known.embeddings else "random",
        seed=settings.seed,
        model=serving.version if serving and scores else None,
        settings={
            "selection": settings.model_dump(mode="json"),
            "scoring": recipe.scoring.model_dump(mode="json"),
        },
        pool_size=len(tiles),
        pool_mean=float(pool.scores_N.mean()) if scores and asked else None,
        batch_mean=float(pool.scores_N[picked].mean()) if scores and len(picked) else None,
        state="chosen",
        chosen=tuple(chosen),
    )


def column_of(recipe: Recipe) -> str:
    """The name of the number that a recipe selects by."""
    return f"{recipe.scoring.score}:{recipe.scoring.reduction}"


def _rule(known: Known, settings: Selection) -> str:
    if known.scores:
        return settings.strategy
    return "kmeans" if known.embeddings else "random"


def pool_of(tiles: Sequence[Tile], known: Known, recipe: Recipe) -> "Pool":
    """One row a tile, in the same order."""
    from ml_backend.selection.appearance import comparable
    from ml_backend.selection.strategies import Pool

    ids = [tile.id for tile in tiles]
    places = np.empty(len(tiles), np.int64)
    places[sorted(range(len(tiles)), key=lambda index: _place(tiles[index]))] = range(len(tiles))
    sources = np.array([tile.image.id for tile in tiles], np.int64)
    vectors = [known.embeddings[tile_id] for tile_id in ids if tile_id in known.embeddings]
    looks = np.stack(vectors) if vectors and len(vectors) == len(tiles) else None
    if not known.scores:
        looks = None if looks is None else comparable(looks)
        nothing = np.zeros(len(tiles))
        return Pool(nothing, embeddings_ND=looks, order_N=places, sources_N=sources)
    rows = [known.scores[tile_id] for tile_id in ids]
    names = set(rows[0] if rows else ())
    classes = sorted(name for name in names if name.startswith("class:"))
    return Pool(
        np.array([row[column_of(recipe)] for row in rows], np.float64),
        np.array([row["foreground"] for row in rows], np.float64),
        np.array([[row[name] for name in classes] for row in rows]) if classes else None,
        looks,
        np.stack(known.labelled) if len(known.labelled) else None,
        places,
        sources,
        np.array([row["objects"] for row in rows], np.float64) if "objects" in names else None,
        known.guided + 1,
    )


def _place(tile: Tile) -> tuple[list[tuple[int, str]], int, int]:
    """Where a tile stands in its sequence of images: by name, 2 before 10, then row by row."""
    return natural_order(tile.image.name), tile.y, tile.x


def _audits_until(settings: Selection, number: int) -> int:
    """Count the audits of the rounds up to `number`: the share of all, rounded up."""
    return math.ceil(round(settings.batch * settings.audit_share * number, 9))
