"""The networks of a simulation: each learns from scratch, by a seed of its training's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.ensemble import on_a_draw, sibling_recipe
from ml_backend.loop.simulate.material import Material
from ml_backend.loop.simulate.plan import Plan, Unit
from ml_backend.recipe import Recipe

if TYPE_CHECKING:
    from ml_backend.learning.data import Sample
    from ml_backend.learning.inference import Predictor

_CEILING = 2**16  # in place of a round's number, so that its training has a seed of its own


def recipe_of(plan: Plan, unit: Unit, factor: int) -> Recipe:
    """What a unit's training goes by, so many times as long as the recipe says.

    Its seed goes by the unit's seed and round, so that it is the same for every strategy.
    """
    of_all = unit.arm.startswith("ceiling")
    recipe = plan.recipe.at_round(plan.rounds if of_all else unit.round)
    number = _CEILING if of_all else unit.round
    seed = int(np.random.SeedSequence([unit.seed, number]).generate_state(1)[0])
    steps = recipe.training.steps * factor
    return recipe.changed({"training.steps": steps, "training.seed": seed})


@dataclass(frozen=True)
class Trainer:
    """Where networks learn: on which images, on which device, by which clock."""

    material: Material
    device: str
    clock: Callable[[], float]

    def network(self, tiles: Sequence[int], recipe: Recipe) -> "Predictor":
        """Train on these tiles of the pool."""
        from ml_backend.learning.inference import predictor_from_state
        from ml_backend.learning.references import Reference
        from ml_backend.learning.training import train

        material = self.material
        looks = [Reference(sample.name, partial(_image, sample)) for sample in material.samples]
        classes = len(material.labels)
        trained = train(
            [material.samples[tile] for tile in tiles],
            [],
            recipe=recipe,
            classes=classes,
            labels=material.labels,
            pool=looks,
            device=self.device,
            clock=self.clock,
            overlapping=material.overlapping,
        )
        return predictor_from_state(
            trained.state, recipe.network, classes, recipe.prediction, self.device,
            overlapping=material.overlapping,
        )  # fmt: skip

    def siblings(self, tiles: Sequence[int], recipe: Recipe) -> "tuple[Predictor, ...]":
        """Train what the recipe's scoring asks beside the network, as a project does; or none."""
        if recipe.scoring.passes != "ensemble":
            return ()
        recipes = [sibling_recipe(recipe, number) for number in range(1, recipe.scoring.members)]
        return tuple(
            on_a_draw(tiles, own.training.seed, partial(self.network, recipe=own))
            for own in recipes
        )


def _image(sample: "Sample") -> NDArray[np.uint8]:
    return sample.load()[0]
