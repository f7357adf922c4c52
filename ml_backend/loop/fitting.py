"""One call of the trainer with what a project has: for a candidate and for its siblings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.loop.context import Context
from ml_backend.loop.dataset import references_of, samples_of
from ml_backend.loop.encoders import EncoderStart, weights_of
from ml_backend.loop.precision import precisions_of
from ml_backend.recipe import Recipe
from ml_backend.store.rows import Labelled, Project

if TYPE_CHECKING:
    from ml_backend.learning.training import EpochRecord, Trained


def fit(
    context: Context,
    project: Project,
    recipe: Recipe,
    train: Sequence[Labelled],
    val: Sequence[Labelled],
    *,
    initial: dict[str, Any] | None,
    start: EncoderStart,
    checkpoint: Path,
    on_epoch: "Callable[[EpochRecord], None]",
) -> "tuple[Trained, EncoderStart]":
    """Train by `recipe` on the project's labelled tiles, as the settings of this process say.

    From the weights `initial`, or without them from what the encoder's `start` is found to be,
    which is returned. Raises as `learning.training.train` does.
    """
    from ml_backend.learning.training import train as learn

    labels, network, encoder = context.labels(project), recipe.network, None
    if initial is None:
        network, encoder, start = weights_of(context.blobs, network, start)
    trained = learn(
        samples_of(context, train, labels, recipe.training.target_weight),
        samples_of(context, val, labels),
        recipe=recipe.model_copy(update={"network": network}),
        classes=len(labels.names),
        labels=labels.names,
        overlapping=labels.overlapping,
        pool=references_of(context, project),
        device=context.settings.device,
        processes=context.settings.processes,
        precision=precisions_of(context.settings, recipe.network).training,
        initial=initial,
        encoder=encoder,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    return trained, start
