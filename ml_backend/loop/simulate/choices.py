"""Which tiles are learned from: those that curves begin with, and the choice of each round."""

from collections.abc import Sequence

import numpy as np

from ml_backend.loop.choose import Known, choose, column_of
from ml_backend.loop.simulate.material import Material
from ml_backend.loop.simulate.plan import Plan, Unit
from ml_backend.loop.simulate.records import Scored


def first_tiles(plan: Plan, material: Material, seed: int) -> list[int]:
    """The tiles to start with, by `selection.first`; where none shows an object one does instead.

    Of `clusters` the seed says where they begin, so that seeds differ in them, too.
    """
    rng = np.random.default_rng([seed, 0])
    if plan.recipe.selection.first == "clusters":
        tiles = _some_of_each_kind(plan, material, rng)
    else:
        drawn = rng.choice(len(material.tiles), plan.first, replace=False)
        tiles = [int(tile) for tile in drawn]
    if not material.foreground_N[tiles].any():
        tiles[-1] = int(rng.choice(np.flatnonzero(material.foreground_N)))
    return tiles


def _some_of_each_kind(plan: Plan, material: Material, rng: np.random.Generator) -> list[int]:
    """As the product's first batch: tiles of different colours and texture."""
    from ml_backend.loop.simulate.likeness import looks_of
    from ml_backend.selection.strategies import STRATEGIES, Pool

    looks_ND = looks_of(material)
    pool = Pool(np.zeros(len(looks_ND)), embeddings_ND=looks_ND)
    chosen = STRATEGIES["kmeans"](pool, plan.first, rng, plan.recipe.selection)
    return [int(tile) for tile in chosen]


def choose_next(
    plan: Plan, material: Material, unit: Unit, scored: Scored, labelled: Sequence[int]
) -> tuple[list[int], float]:
    """Choose a round as the product does, from the tiles that nobody has labelled.

    Also says how far its mean score lies above theirs, in their standard deviations.
    """
    asked = set(labelled)
    free = [tile for tile in material.tiles if tile.id not in asked]
    known = Known(
        {tile.id: scored.row(tile.id) for tile in free},
        {tile.id: scored.embeddings_ND[tile.id] for tile in free},
        [scored.embeddings_ND[tile_id] for tile_id in labelled],
        unit.round - 1,
    )
    recipe = plan.recipe.changed({"selection.strategy": unit.arm, "selection.seed": unit.seed})
    chosen = choose(free, known, recipe, unit.round, None)
    tiles = [row.tile_id for row in chosen.chosen]
    column_N = scored.values_NS[:, scored.names.index(column_of(recipe))]
    free_N = column_N[[tile.id for tile in free]]
    spread = float(free_N.std())
    return tiles, float(column_N[tiles].mean() - free_N.mean()) / spread if spread else 0.0
