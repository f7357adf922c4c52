"""BYOL: an encoder learns from images alone (Grill et al. 2020, arXiv 2006.07733).

An online network (encoder, projector, predictor) foretells what a target network (encoder and
projector, a moving average of the online ones) makes of another view of the same place. Nothing
pushes different places apart; that the average moves slowly, and the predictor, keep everything
from becoming one point. Only the online encoder is kept.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ml_backend.errors import ConfigError, LearningError
from ml_backend.learning.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from ml_backend.learning.device import autocast, resolve_device
from ml_backend.learning.networks import build_network, fill_encoder, normalise
from ml_backend.learning.optimizing import (
    Follower,
    build_optimizer,
    optimizer_tensors,
    restore_optimizer,
    warm_cosine,
)
from ml_backend.learning.references import Reference
from ml_backend.learning.twins import TwinBatch, Twins
from ml_backend.recipe import Network, Pretraining, Recipe


@dataclass(frozen=True)
class PretrainingRecord:
    """One epoch (counted from 1 of `epochs`): means over its steps.

    `loss`: 2 - 2 cos of prediction and target, over both directions: 0 is perfect, 4 is chance.
    `spread`: standard deviation of the target's unit vectors over a batch, 0 where all places have
    become one point, 1 where they lie in all directions.
    """

    epoch: int
    epochs: int
    loss: float
    spread: float
    seconds: float


@dataclass(frozen=True)
class Pretrained:
    """The encoder's state dictionary, the course, and images that could not be read, with why."""

    state: dict[str, Tensor]
    epochs: list[PretrainingRecord]
    faults: dict[str, str]


def pretrain(
    images: Sequence[Reference],
    *,
    recipe: Recipe,
    device: str = "cpu",
    precision: str = "float32",
    encoder: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[PretrainingRecord], None] = lambda _record: None,
    clock: Callable[[], float] = time.monotonic,
) -> Pretrained:
    """Pretrain the encoder of the recipe's network; on a processor the same input, same weights.

    It is the very encoder that a training uses: folded, of the same depth. `encoder` weights are
    what it starts from, instead of the recipe's `network.encoder_weights`. With a `checkpoint`
    path the state is written after each epoch, before `on_epoch`, and a pretraining that was killed
    carries on from there to the same result, in the `precision` it began in. Raises
    `NothingToLearn` without images, `DataError` where none can be read, `WeightsUnavailable`,
    `ConfigError`, `LearningError` (the loss is no longer a number), and whatever `on_epoch` raises.
    """
    settings, place = recipe.pretraining, resolve_device(device)
    twins = Twins(images, settings)
    run = _Run(recipe, encoder, place, precision)
    identity = _identity(recipe, images, encoder)
    if checkpoint:
        run.restore(*load_checkpoint(checkpoint, identity))
    epochs = min(settings.epochs, settings.steps)
    bounds = [settings.steps * epoch // epochs for epoch in range(epochs + 1)]
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        for epoch in range(len(run.records), epochs):
            started = clock()
            torch.manual_seed(settings.seed + 7919 * (epoch + 1))  # also after a restart
            loss, spread = _learn(run, twins, range(bounds[epoch], bounds[epoch + 1]))
            record = PretrainingRecord(epoch + 1, epochs, loss, spread, clock() - started)
            run.records.append(record)
            if checkpoint:
                save_checkpoint(checkpoint, run.groups(), run.remember(identity))
            on_epoch(record)
    return Pretrained(run.encoder(), run.records, twins.faults)


def _learn(run: "_Run", twins: Twins, steps: range) -> tuple[float, float]:
    """Take the networks through `steps`; returns the means of loss and spread."""
    settings = run.settings
    target = Follower(run.target, run.online)
    sums = torch.zeros(2, device=run.place)
    for step, batch in zip(steps, twins.batches(steps), strict=True):
        for group in run.optimizer.param_groups:
            group["lr"] = settings.learning_rate * warm_cosine(step, settings.steps)
        loss, spread = _losses(run, batch)
        run.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        run.optimizer.step()
        target.move(momentum(step, settings))
        sums += torch.stack([loss.detach(), spread])
    loss_sum, spread_sum = sums.tolist()  # the epoch's only wait for an accelerator
    if not math.isfinite(loss_sum):
        raise LearningError(
            f"the loss is {loss_sum} after step {steps[-1]}; lower pretraining.learning_rate "
            f"(now {settings.learning_rate:g})"
        )
    return loss_sum / len(steps), spread_sum / len(steps)


def momentum(step: int, settings: Pretraining) -> float:
    """Decay of the target at a step: from the base to 1, as half a cosine (Grill et al., 3.3)."""
    return 1 - (1 - settings.momentum) * (math.cos(math.pi * step / settings.steps) + 1) / 2


def _losses(run: "_Run", batch: TwinBatch) -> tuple[Tensor, Tensor]:
    """Loss of a batch, each view foretold from the other, and the spread of its targets."""
    one = normalise(batch.one, batch.stats).to(run.place)
    two = normalise(batch.two, batch.stats).to(run.place)
    with autocast(run.place, run.precision):
        with torch.no_grad():
            aims = [_unit(run.target(view)) for view in (two, one)]
        guesses = [_unit(run.predictor(run.online(view))) for view in (one, two)]
    cosines = [(guess * aim).sum(dim=1).mean() for guess, aim in zip(guesses, aims, strict=True)]
    spread = torch.stack([aim.std(dim=0).mean() for aim in aims]).mean() * aims[0].shape[1] ** 0.5
    return 4 - 2 * (cosines[0] + cosines[1]), spread


def _unit(vectors_ND: Tensor) -> Tensor:
    return nn.functional.normalize(vectors_ND.float(), dim=1)


class _Embedder(nn.Module):
    """Views → vectors: the encoder's deepest features, averaged over the view and projected."""

    def __init__(self, encoder: nn.Module, width: int, settings: Pretraining) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = _perceptron(width, settings)

    def forward(self, views_NCHW: Tensor) -> Tensor:
        deepest = self.encoder(views_NCHW)[-1]
        vectors: Tensor = self.projector(deepest.float().mean(dim=(2, 3)))
        return vectors


def _perceptron(width: int, settings: Pretraining) -> nn.Module:
    return nn.Sequential(
        nn.Linear(width, settings.hidden),
        nn.BatchNorm1d(settings.hidden),
        nn.ReLU(inplace=True),
        nn.Linear(settings.hidden, settings.projection),
    )


def _start_embedder(recipe: Recipe, encoder: Mapping[str, Tensor] | None) -> _Embedder:
    network, settings = recipe.network, recipe.pretraining
    if encoder is not None:
        network = network.model_copy(update={"encoder_weights": None})
    model: Any = build_network(network, 1, seed=settings.seed)
    if settings.patch % network.stride:
        raise ConfigError(
            f"pretraining.patch is {settings.patch} px, but {network.architecture} with "
            f"network.fold {network.fold} needs a multiple of {network.stride}"
        )
    if encoder is not None:
        fill_encoder(model, encoder, "the encoder weights handed in")
    return _Embedder(model.encoder, model.encoder.out_channels[-1], settings)


class _Run:
    """Everything that changes during a pretraining, and how it is written down."""

    def __init__(
        self,
        recipe: Recipe,
        encoder: Mapping[str, Tensor] | None,
        place: torch.device,
        precision: str,
    ) -> None:
        self.settings, self.place, self.precision = recipe.pretraining, place, precision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            self.online = _start_embedder(recipe, encoder).to(place)
            self.predictor = _perceptron(self.settings.projection, self.settings).to(place)
        self.target = copy.deepcopy(self.online).requires_grad_(requires_grad=False)
        # As in training: with the statistics of the batch, which is part of why nothing collapses.
        self.learner = nn.ModuleList([self.online, self.predictor]).train()
        self.target.train()
        self.optimizer = build_optimizer(
            self.learner, self.settings.learning_rate, self.settings.weight_decay
        )
        self.records: list[PretrainingRecord] = []

    def encoder(self) -> dict[str, Tensor]:
        """What is kept of it all."""
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.online.encoder.state_dict().items()
        }

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """All tensors that carrying on needs, by group."""
        return {
            "learner": self.learner.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer, self.learner),
        }

    def remember(self, identity: str) -> dict[str, object]:
        """The rest, as JSON."""
        return {
            "fingerprint": identity,
            "precision": self.precision,
            "records": [asdict(record) for record in self.records],
        }

    def restore(self, groups: Mapping[str, dict[str, Tensor]], record: Mapping[str, Any]) -> None:
        """Take up what `groups` and `remember` wrote; empty mappings change nothing."""
        if not record:
            return
        self.learner.load_state_dict(groups["learner"])
        self.target.load_state_dict(groups["target"])
        restore_optimizer(self.optimizer, self.learner, groups["optimizer"])
        self.precision = str(record["precision"])
        self.records = [PretrainingRecord(**fields) for fields in record["records"]]


def encoder_kind(network: Network) -> str:
    """What decides which encoder a network has, as text; weights of one kind fit each other."""
    return network.model_dump_json(include={"architecture", "encoder", "depth", "fold"})


def _identity(
    recipe: Recipe, images: Sequence[Reference], encoder: Mapping[str, Tensor] | None
) -> str:
    weights = repr(recipe.network.encoder_weights)
    parts = [encoder_kind(recipe.network), weights, recipe.pretraining.model_dump_json()]
    return fingerprint([*parts, *(image.name for image in images)], encoder)
