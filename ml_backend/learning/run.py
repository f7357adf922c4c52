"""Everything that changes during a training, and how it is written down."""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from ml_backend.errors import ConfigError
from ml_backend.learning.job import Job
from ml_backend.learning.networks import build_network, fill_encoder, load_fitting
from ml_backend.learning.optimizing import (
    build_optimizer,
    optimizer_tensors,
    restore_optimizer,
    warm_cosine,
)
from ml_backend.learning.steady import steady
from ml_backend.recipe import Training


@dataclass(frozen=True)
class EpochRecord:
    """One epoch (counted from 1 of `epochs`); validation values are nan without images.

    Training values are running means over the epoch's augmented patches, taken while the weights
    moved (and with dropout): they cost no pass of their own, and lag behind the epoch's end.
    `waited` is the share, 0..1, of the time of the steps in which nothing could be computed
    because the next batch was not ready; `at_once` how many patches each of `processes` computed
    at a time in the end; `stopped` why this is the last epoch although it is not number `epochs`.
    """

    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    val_iou: float
    val_dice: float
    val_accuracy: float
    seconds: float
    train_iou: float = math.nan
    train_dice: float = math.nan
    train_accuracy: float = math.nan
    waited: float = math.nan
    at_once: int | None = None
    processes: int = 1
    stopped: str | None = None


@dataclass(frozen=True)
class Trained:
    """The weights of `best_epoch` (counted from 1) and the curve of all epochs.

    `precision`: the number format that it was trained in.
    """

    state: dict[str, Tensor]
    epochs: list[EpochRecord]
    best_epoch: int
    precision: str = "float32"


class Run:
    """A training's network, the moving average of its weights, optimizer, and curve.

    `at_once`: how many patches go through the network at a time; less than a batch where memory
    was short.
    """

    def __init__(self, job: Job, place: torch.device, at_once: int) -> None:
        self.recipe, self.classes, self.place = job.recipe, job.classes, place
        self.overlapping, self.precision = job.overlapping, job.precision
        self.settings: Training = job.recipe.training
        self.at_once = at_once
        self.model = _start_network(job).to(place)
        if self.settings.freeze_encoder:
            self.model.get_submodule("encoder").requires_grad_(requires_grad=False)
        self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        self.optimizer = build_optimizer(
            self.model, self.settings.learning_rate, self.settings.weight_decay
        )
        self.records: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0

    @property
    def ended(self) -> bool:
        """Whether the last epoch said that it is the last."""
        return bool(self.records) and self.records[-1].stopped is not None

    def set_rate(self, step: int) -> None:
        """Give the optimizer the learning rate of a step."""
        share = warm_cosine(step, self.settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * share

    def keep(self, record: EpochRecord) -> None:
        """Append an epoch; remember its weights if none was better."""
        self.records.append(record)
        scores = [-1.0 if math.isnan(r.val_iou) else r.val_iou for r in self.records]
        if scores[-1] >= max(scores):  # the later one of equals: it has learned longer
            self.best_epoch = record.epoch
            self.best = {
                name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, value in self.average.state_dict().items()
            }

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """All tensors that carrying on needs, by group."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer, self.model),
            "best": self.best,
        }

    def remember(self, identity: str) -> dict[str, object]:
        """The rest, as JSON."""
        return {
            "fingerprint": identity,
            "best_epoch": self.best_epoch,
            "at_once": self.at_once,
            "precision": self.precision,
            "records": [asdict(record) for record in self.records],
        }

    def restore(
        self, groups: Mapping[str, dict[str, Tensor]], record: Mapping[str, object]
    ) -> None:
        """Take up what `groups` and `remember` wrote; empty mappings change nothing."""
        if not record:
            return
        self.model.load_state_dict(groups["model"])
        self.average.load_state_dict(groups["average"])
        restore_optimizer(self.optimizer, self.model, groups["optimizer"])
        kept = trained_of(groups, record)
        self.best, self.best_epoch, self.records = kept.state, kept.best_epoch, kept.epochs
        self.precision = kept.precision
        self.at_once = min(self.at_once, int(record["at_once"]))  # type: ignore[call-overload]


def trained_of(groups: Mapping[str, dict[str, Tensor]], record: Mapping[str, object]) -> Trained:
    """What a checkpoint that `Run.groups` and `Run.remember` filled has come to."""
    epochs = [EpochRecord(**fields) for fields in record["records"]]  # type: ignore[attr-defined]
    return Trained(
        groups["best"],
        epochs,
        record["best_epoch"],  # type: ignore[arg-type]
        str(record["precision"]),
    )


def _start_network(job: Job) -> nn.Module:
    recipe, network = job.recipe, job.recipe.network
    if not (job.initial is None and job.encoder is None):  # the named ones may be out of reach
        network = network.model_copy(update={"encoder_weights": None})
    model = build_network(
        network, job.classes, seed=recipe.training.seed, overlapping=job.overlapping
    )
    stride = int(getattr(model, "stride", 1))
    if recipe.training.patch % stride:
        raise ConfigError(
            f"training.patch is {recipe.training.patch} px, but {network.architecture} with "
            f"network.fold {network.fold} needs a multiple of {stride}"
        )
    if job.encoder is not None:
        fill_encoder(model, job.encoder, "the encoder weights handed in")
    if job.initial is not None:
        load_fitting(model, job.initial)
    return steady(model)
