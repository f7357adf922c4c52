"""Siblings of a model: trained on its tiles drawn again, published with it, asked beside it.

What a model and its siblings disagree about is what its tiles do not settle (bagging, as in
Yang et al. 2017 and Max 2021). A sibling has a seed of its own, and as many tiles as the model,
drawn from the same ones with replacement.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ml_backend.errors import ConfigError, NothingToLearn
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.dataset import Dataset
from ml_backend.loop.encoders import start_of
from ml_backend.loop.fitting import fit
from ml_backend.recipe import Recipe, parse_recipe
from ml_backend.store.rows import Labelled, Model, Project
from ml_backend.store.weights import load_sibling, model_key, read_card, save_sibling

if TYPE_CHECKING:
    from torch import Tensor

    from ml_backend.learning.inference import Predictor
    from ml_backend.learning.training import EpochRecord
    from ml_backend.loop.models import Serving

Seals = list[dict[str, Any]]
"""What a card says of each sibling: its file's size and checksum, and its seed."""

Tile = TypeVar("Tile")
State = TypeVar("State")

DRAWS = 8  # of the tiles, until some of them hold a label
STRIDE = 104729  # between the seeds of siblings, so that they do not meet those of other trainings


def train_siblings(
    context: Context,
    project: Project,
    dataset: Dataset,
    candidate: Model,
    parent: Model | None,
    progress: Progress,
) -> Seals:
    """Train a candidate's siblings and write their weights, if the recipe's scoring asks them.

    `parent` is the model whose weights the candidate starts from, None for random ones: so do
    its siblings from theirs. A training that was cut off carries on from its last epoch; without
    the model's card nobody reads what was written.
    """
    if project.recipe.scoring.passes != "ensemble":
        return []
    return [
        _train_sibling(context, project, dataset, candidate, parent, number, progress)
        for number in range(1, project.recipe.scoring.members)
    ]


def _train_sibling(
    context: Context,
    project: Project,
    dataset: Dataset,
    candidate: Model,
    parent: Model | None,
    number: int,
    progress: Progress,
) -> dict[str, Any]:
    from ml_backend.learning.state import to_arrays

    recipe = sibling_recipe(project.recipe, number)
    initial = _initial(context, project, parent, number)
    start = start_of(context.blobs, recipe.network, project.id)

    def train_on(tiles: Sequence[Labelled]) -> "dict[str, Tensor]":
        trained, _ = fit(
            context,
            project,
            recipe,
            tiles,
            dataset.val,
            initial=initial,
            start=start,
            checkpoint=_checkpoint(context, candidate.version, number),
            on_epoch=_telling(progress, f"{candidate.version}: sibling {number}"),
        )
        return trained.state

    state = on_a_draw(dataset.train, recipe.training.seed, train_on)
    key = model_key(project.id, candidate.version)
    seal = save_sibling(context.blobs, key, number, to_arrays(state))
    return seal | {"seed": recipe.training.seed}


def sibling_recipe(recipe: Recipe, number: int) -> Recipe:
    """A sibling's own seed and its share of the steps; `number` counts from 1."""
    training, share = recipe.training, recipe.scoring.member_share
    steps = max(1, round(training.steps * share))
    return recipe.changed(
        {"training.seed": training.seed + STRIDE * number, "training.steps": steps}
    )


def on_a_draw(
    tiles: Sequence[Tile], seed: int, train_on: Callable[[Sequence[Tile]], State]
) -> State:
    """Train on tiles drawn with replacement; where no draw holds a label, on all of them."""
    rng = np.random.default_rng([seed, 17])
    for _ in range(DRAWS):
        drawn = np.sort(rng.integers(len(tiles), size=len(tiles)))
        try:
            return train_on([tiles[index] for index in drawn])
        except NothingToLearn:
            continue
    return train_on(tiles)


def join_siblings(context: Context, project: Project, serving: "Serving") -> None:
    """Load a version's siblings beside it, once.

    Raises `ConfigError` for a version that was trained without, or with others than the recipe
    asks for.
    """
    from ml_backend.learning.inference import predictor_from_state
    from ml_backend.learning.state import to_tensors

    wanted, predictor = project.recipe.scoring.members, serving.predictor
    if len(predictor.siblings) == wanted - 1:
        return
    key = model_key(project.id, serving.version)
    card = read_card(context.blobs, key)
    seals = card.get("ensemble") or []
    if len(seals) != wanted - 1:
        has = f"{len(seals)} siblings" if seals else "none"
        raise ConfigError(
            f"scoring.passes: ensemble asks {wanted} models, and {serving.version} has {has} "
            "beside it: `brushloop train` trains them, or set scoring.passes to single"
        )
    network = parse_recipe({"network": card["network"]}, where=f"the card of {key}").network
    found: list[Predictor] = [
        predictor_from_state(
            to_tensors(load_sibling(context.blobs, key, number, seal)),
            network,
            len(card["labels"]),
            project.recipe.prediction,
            context.settings.device,
            predictor.temperature,
            predictor.precision,
            overlapping=predictor.overlapping,
        )
        for number, seal in enumerate(seals, 1)
    ]
    predictor.siblings = tuple(found)


def forget_checkpoints(context: Context, version: str) -> None:
    """Remove what only a training that is not finished needs."""
    runs = _checkpoint(context, version, 0).parent
    for path in runs.glob(f"{version}-sibling-*.safetensors"):
        path.unlink(missing_ok=True)


def _initial(
    context: Context, project: Project, parent: Model | None, number: int
) -> dict[str, Any] | None:
    from ml_backend.learning.state import to_tensors

    seals = (parent.card.get("ensemble") or []) if parent else []
    if parent is None or len(seals) < number:
        return None
    key = model_key(project.id, parent.version)
    return to_tensors(load_sibling(context.blobs, key, number, seals[number - 1]))


def _checkpoint(context: Context, version: str, number: int) -> Path:
    return context.settings.home.absolute() / "runs" / f"{version}-sibling-{number}.safetensors"


def _telling(progress: Progress, who: str) -> "Callable[[EpochRecord], None]":
    def tell(record: "EpochRecord") -> None:
        done, total = record.epoch, record.epochs
        progress(done, total, f"{who}, epoch {done} of {total}, loss {record.train_loss:.3f}")

    return tell
