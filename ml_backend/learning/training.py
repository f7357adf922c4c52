"""The training loop: samples in, the best epoch's weights out."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ml_backend.errors import ConfigError, LearningError
from ml_backend.learning.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from ml_backend.learning.data import Patches, Sample, cached
from ml_backend.learning.device import autocast, resolve_device
from ml_backend.learning.inference import Metrics, Predictor, evaluate
from ml_backend.learning.losses import Loss, make_loss, weights_of
from ml_backend.learning.metrics import Confusion, PixelCounts
from ml_backend.learning.networks import build_network, load_fitting, normalise
from ml_backend.learning.references import Reference
from ml_backend.recipe import Recipe, Training

_CLIP = 1.0
_WARM_UP = 0.05


@dataclass(frozen=True)
class EpochRecord:
    """One epoch (counted from 1 of `epochs`); validation values are nan without images.

    Training values are running means over the epoch's augmented patches, taken while the weights
    moved (and with dropout): they cost no pass of their own, and lag behind the epoch's end.
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


@dataclass(frozen=True)
class Trained:
    """The weights of `best_epoch` (counted from 1) and the curve of all epochs."""

    state: dict[str, Tensor]
    epochs: list[EpochRecord]
    best_epoch: int


def train(
    train: Sequence[Sample],
    val: Sequence[Sample],
    *,
    recipe: Recipe,
    classes: int,
    labels: Sequence[str] = (),
    pool: Sequence[Reference] = (),
    device: str = "cpu",
    initial: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] = lambda _record: None,
    clock: Callable[[], float] = time.monotonic,
    overlapping: bool = False,
) -> Trained:
    """Train a network for `classes` labels; on a processor the same input gives the same weights.

    `overlapping`: they do not exclude each other, and the samples' masks are set maps. `labels` are
    their names, by which the recipe may weigh them; `pool` are unlabelled images whose looks the
    augmentation may borrow. The epoch with the highest validation mean IoU wins, the last one
    without validation. `initial` weights are taken where names and shapes fit. With a `checkpoint`
    path the state is written after each epoch, before `on_epoch`, and a training that was killed
    carries on from there to the same result. Raises `NothingToLearn`, `WeightsUnavailable`,
    `LearningError` (the loss is no longer a number), and whatever `on_epoch` raises.
    """
    settings = recipe.training
    place = resolve_device(device)
    train, val = cached(train), cached(val)
    patches = Patches(train, classes, settings, pool, overlapping=overlapping)
    weights = weights_of(settings, labels, patches.pixels)
    loss = make_loss(settings, classes, weights, overlapping=overlapping)
    run = _Run(recipe, classes, place, initial, overlapping=overlapping)
    identity = _identity(run, weights, train, val, pool, initial)
    if checkpoint:
        run.restore(*load_checkpoint(checkpoint, identity))
    epochs = min(settings.epochs, settings.steps)
    bounds = np.linspace(0, settings.steps, epochs + 1).astype(int).tolist()
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        for epoch in range(len(run.records), epochs):
            started = clock()
            torch.manual_seed(settings.seed + 7919 * (epoch + 1))  # dropout, also after a restart
            steps = range(bounds[epoch], bounds[epoch + 1])
            train_loss, seen = _train_epoch(run, patches, steps, loss)
            metrics = _validate(run, val, loss)
            record = EpochRecord(
                epoch + 1, epochs, train_loss, metrics.loss, metrics.mean_iou, metrics.mean_dice,
                metrics.accuracy, clock() - started,
                seen.mean_iou(), seen.mean_dice(), seen.accuracy(),
            )  # fmt: skip
            run.keep(record)
            if checkpoint:
                save_checkpoint(checkpoint, run.groups(), run.remember(identity))
            on_epoch(record)
    return Trained(run.best, run.records, run.best_epoch)


def _train_epoch(
    run: "_Run", patches: Patches, steps: range, loss: Loss
) -> tuple[float, Confusion]:
    """Take the optimizer through `steps`; returns the mean loss and the patches' pixel counts."""
    settings, model, place = run.settings, run.model, run.place
    model.train()
    if settings.freeze_encoder:
        model.get_submodule("encoder").eval()  # its running statistics stay as they came, too
    total = torch.zeros((), device=place)
    counts = PixelCounts(run.classes, place, overlapping=run.overlapping)
    for step, batch in zip(steps, patches.batches(steps), strict=True):
        for group in run.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings.steps)
        images = normalise(batch.images, batch.stats).to(place)
        target = torch.from_numpy(batch.masks).to(place, torch.int64)
        with autocast(place):
            logits = model(images)
        cost = loss(logits, target)
        run.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(cost)
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        run.optimizer.step()
        _follow(run.average, model, min(settings.average, (1 + step) / (10 + step)))
        total += cost.detach()
        counts.add(logits.detach(), target)
    mean = float(total) / len(steps)  # the epoch's only wait for an accelerator
    if not math.isfinite(mean):
        raise LearningError(
            f"the loss is {mean} after step {steps[-1]}; lower training.learning_rate "
            f"(now {settings.learning_rate:g})"
        )
    return mean, counts.confusion()


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up, then half a cosine down to zero."""
    warm_up = max(1.0, _WARM_UP * steps)
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights (and running statistics) towards the model's by 1 - decay."""
    own, other = average.state_dict(), model.state_dict()
    names = [name for name, value in own.items() if value.is_floating_point()]
    torch._foreach_lerp_([own[n] for n in names], [other[n] for n in names], 1 - decay)
    for name in own.keys() - names:
        own[name].copy_(other[name])


def _validate(run: "_Run", val: Sequence[Sample], loss: Loss) -> Metrics:
    prediction = run.recipe.prediction
    predictor = Predictor(
        run.average,
        run.classes,
        window=prediction.window,
        overlap=prediction.overlap,
        batch_size=prediction.batch_size,
        device=str(run.place),
        overlapping=run.overlapping,
    )
    return evaluate(predictor, val, run.classes, loss)


def _identity(
    run: "_Run",
    weights: Sequence[float] | None,
    train: Sequence[Sample],
    val: Sequence[Sample],
    pool: Sequence[Reference],
    initial: Mapping[str, Tensor] | None,
) -> str:
    parts = [run.recipe.network.model_dump_json(), run.recipe.training.model_dump_json()]
    parts += [str(run.classes) + " overlapping" * run.overlapping, repr(weights)]
    parts += [f"{sample.name}\0{sample.weight!r}" for sample in train]
    parts += ["validated on", *(sample.name for sample in val)]
    parts += ["looks like", *(reference.name for reference in pool)]
    return fingerprint(parts, initial)


class _Run:
    """Everything that changes during a training, and how it is written down."""

    def __init__(
        self,
        recipe: Recipe,
        classes: int,
        place: torch.device,
        initial: Mapping[str, Tensor] | None,
        *,
        overlapping: bool,
    ) -> None:
        self.recipe, self.classes, self.overlapping = recipe, classes, overlapping
        self.place = place
        self.settings: Training = recipe.training
        self.model = _start_network(recipe, classes, initial, overlapping=overlapping).to(place)
        if self.settings.freeze_encoder:
            self.model.get_submodule("encoder").requires_grad_(requires_grad=False)
        self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        self.optimizer = _build_optimizer(self.model, self.settings)
        self.records: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0

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
        optimizer = {
            f"{index}.{key}": value
            for index, parameter in enumerate(self.model.parameters())
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": optimizer,
            "best": self.best,
        }

    def remember(self, identity: str) -> dict[str, object]:
        """The rest, as JSON."""
        return {
            "fingerprint": identity,
            "best_epoch": self.best_epoch,
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
        parameters = list(self.model.parameters())
        for name, saved in groups["optimizer"].items():
            index, key = name.split(".", 1)
            parameter = parameters[int(index)]
            # In the parameter's own memory layout, which decides the order of rounding.
            value = torch.empty_like(parameter) if saved.shape == parameter.shape else saved
            self.optimizer.state[parameter][key] = value.detach().copy_(saved)
        self.best = groups["best"]
        self.best_epoch = record["best_epoch"]  # type: ignore[assignment]
        self.records = [EpochRecord(**fields) for fields in record["records"]]  # type: ignore[attr-defined]


def _start_network(
    recipe: Recipe, classes: int, initial: Mapping[str, Tensor] | None, *, overlapping: bool
) -> nn.Module:
    network = recipe.network
    if initial is not None:  # they replace the pretrained weights, which may be out of reach
        network = network.model_copy(update={"encoder_weights": None})
    model = build_network(network, classes, seed=recipe.training.seed, overlapping=overlapping)
    stride = int(getattr(model, "stride", 1))
    if recipe.training.patch % stride:
        raise ConfigError(
            f"training.patch is {recipe.training.patch} px, but {network.architecture} with "
            f"network.fold {network.fold} needs a multiple of {stride}"
        )
    if initial is not None:
        load_fitting(model, initial)
    return model


def _build_optimizer(model: nn.Module, settings: Training) -> torch.optim.AdamW:
    """AdamW that decays weights, but neither biases nor the scales of normalisation."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        foreach=True,
    )
