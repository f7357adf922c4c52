"""What one training is given, in one piece that can be handed on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ml_backend.learning.data import Sample
from ml_backend.learning.references import Reference, Small
from ml_backend.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """Samples of both sides, the recipe, the labels' count and names, looks, and first weights.

    `initial` ones are of a whole network, `encoder` ones of its encoder alone.

    `precision`: the number format to begin in. `overlapping`: labels do not exclude each other.

    `small`: what `References` made of the `pool` in another process; its images are not opened
    then.
    """

    train: Sequence[Sample]
    val: Sequence[Sample]
    recipe: Recipe
    classes: int
    labels: tuple[str, ...]
    pool: Sequence[Reference]
    initial: Mapping[str, Tensor] | None = None
    encoder: Mapping[str, Tensor] | None = None
    small: Sequence[Small] | None = None
    precision: str = "float32"
    overlapping: bool = False
