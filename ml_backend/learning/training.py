"""The training loop: samples in, the best epoch's weights out."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ml_backend.errors import LearningError
from ml_backend.learning.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from ml_backend.learning.data import Batch, Patches, Sample, cached
from ml_backend.learning.device import autocast, resolve_device
from ml_backend.learning.evaluation import Metrics, evaluate
from ml_backend.learning.gradient import backward_that_fits, is_out_of_memory
from ml_backend.learning.inference import Predictor
from ml_backend.learning.job import Job
from ml_backend.learning.losses import Loss, make_loss, weights_of
from ml_backend.learning.metrics import Confusion, PixelCounts
from ml_backend.learning.networks import normalise
from ml_backend.learning.optimizing import Follower
from ml_backend.learning.ranks import how_many, train_in_ranks
from ml_backend.learning.references import Reference
from ml_backend.learning.run import EpochRecord, Run, Trained
from ml_backend.learning.stopping import out_of_patience
from ml_backend.learning.team import Team
from ml_backend.recipe import Recipe

__all__ = ["EpochRecord", "Trained", "train", "train_as"]

_CLIP = 1.0


def train(
    train: Sequence[Sample],
    val: Sequence[Sample],
    *,
    recipe: Recipe,
    classes: int,
    labels: Sequence[str] = (),
    pool: Sequence[Reference] = (),
    device: str = "cpu",
    processes: int | None = 1,
    precision: str = "float32",
    initial: Mapping[str, Tensor] | None = None,
    encoder: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] = lambda _record: None,
    clock: Callable[[], float] = time.monotonic,
    overlapping: bool = False,
) -> Trained:
    """Train a network for `classes` labels; on a processor the same input gives the same weights.

    `overlapping`: they do not exclude each other, and the samples' masks are set maps. `labels` are
    their names, by which the recipe may weigh them; `pool` are unlabelled images whose looks the
    augmentation may borrow.
    The epoch with the highest validation mean IoU wins, the last one without validation. With
    `training.patience` the last one may come early.
    `encoder` weights take the place of the recipe's `network.encoder_weights`; `initial` ones, of
    a whole network, are taken where names and shapes fit. With a `checkpoint` path the state is
    written after each epoch, before `on_epoch`, and a training that was killed carries on from
    there to the same result, in the `precision` it began in. Where memory is short, fewer patches
    go through the network at once, for the rest of the training. With several `processes` (None:
    as many as `ranks.how_many` says), which have clocks of their own, each computes its part of
    every batch. Raises `NothingToLearn`, `WeightsUnavailable`, `LearningError` (the loss is no
    longer a number, one patch does not fit into memory, a process was killed), and whatever
    `on_epoch` raises.
    """
    job = Job(
        train, val, recipe, classes, tuple(labels), pool, initial, encoder,
        precision=precision, overlapping=overlapping,
    )  # fmt: skip
    count = how_many(device, processes, recipe.training.batch_size)
    if count > 1:
        return train_in_ranks(job, count, device=device, checkpoint=checkpoint, on_epoch=on_epoch)
    return train_as(
        Team(), job, device=device, checkpoint=checkpoint, on_epoch=on_epoch, clock=clock
    )


def train_as(
    team: Team,
    job: Job,
    *,
    device: str,
    checkpoint: Path | None,
    on_epoch: Callable[[EpochRecord], None],
    clock: Callable[[], float],
    at_once: int | None = None,
) -> Trained:
    """Train as one process of a team, of which the leader writes, validates and reports.

    `at_once`: begin with so many patches at a time. What the others return has no epochs. Raises
    `MemoryShort` in a team that must begin anew.
    """
    settings = job.recipe.training
    place = resolve_device(device)
    train, val = cached(job.train), cached(job.val)
    patches = Patches(
        train, job.classes, settings, job.pool, job.small, overlapping=job.overlapping
    )
    weights = weights_of(settings, job.labels, patches.pixels)
    loss = make_loss(settings, job.classes, weights, overlapping=job.overlapping)
    share = team.share(settings.batch_size)
    run = Run(job, place, at_once or share.stop - share.start)
    run.model = team.prepared(run.model, place)
    identity = _identity(job, weights)
    if checkpoint:
        run.restore(*load_checkpoint(checkpoint, identity))
    epochs = min(settings.epochs, settings.steps)
    bounds = np.linspace(0, settings.steps, epochs + 1).astype(int).tolist()
    done = epochs if run.ended else len(run.records)
    steps = range(bounds[done], settings.steps)
    random = torch.random.fork_rng(devices=[place] if place.type == "cuda" else [])
    with random, closing(patches.batches(steps, share)) as batches:
        for epoch in range(done, epochs):
            started = clock()
            # What is dropped out differs between processes, and is the same after a restart.
            torch.manual_seed(settings.seed + 7919 * (epoch + 1) + 104_729 * team.rank)
            learned = _train_epoch(
                run, batches, range(bounds[epoch], bounds[epoch + 1]), loss, team, clock
            )
            if team.leads:
                metrics = _validate(run, val, loss)
                record = _record(run, learned, metrics, epochs, clock() - started, team.size)
                run.keep(record)
                if checkpoint:
                    save_checkpoint(checkpoint, run.groups(), run.remember(identity))
                on_epoch(record)
            if team.agreed(place, word=run.ended):
                break
    return Trained(run.best, run.records, run.best_epoch, run.precision)


def _record(
    run: Run, learned: "_Learned", metrics: Metrics, epochs: int, seconds: float, processes: int
) -> EpochRecord:
    """The epoch after those that `run` has recorded."""
    seen, ious = learned.seen, [*(row.val_iou for row in run.records), metrics.mean_iou]
    return EpochRecord(
        epoch=len(ious),
        epochs=epochs,
        train_loss=learned.loss,
        val_loss=metrics.loss,
        val_iou=metrics.mean_iou,
        val_dice=metrics.mean_dice,
        val_accuracy=metrics.accuracy,
        seconds=seconds,
        train_iou=seen.mean_iou(),
        train_dice=seen.mean_dice(),
        train_accuracy=seen.accuracy(),
        waited=learned.waited,
        at_once=run.at_once,
        processes=processes,
        stopped=out_of_patience(ious, run.settings.patience, epochs),
    )


@dataclass(frozen=True)
class _Learned:
    """What the steps of an epoch came to: mean loss, pixel counts, share of time without data."""

    loss: float
    seen: Confusion
    waited: float


def _train_epoch(
    run: Run,
    batches: Iterator[Batch],
    steps: range,
    loss: Loss,
    team: Team,
    clock: Callable[[], float],
) -> _Learned:
    """Take the optimizer through `steps`."""
    settings, model, place = run.settings, run.model, run.place
    model.train()
    if settings.freeze_encoder:
        model.get_submodule("encoder").eval()  # its running statistics stay as they came, too

    def forward(images: Tensor) -> Tensor:
        with autocast(place, run.precision):
            logits: Tensor = model(images)
        return logits

    total = torch.zeros((), device=place)
    counts = PixelCounts(run.classes, place, overlapping=run.overlapping)
    average = Follower(run.average, model)
    waited, began = 0.0, clock()
    for step in steps:
        asked = clock()
        batch = next(batches)
        if _is_idle(place):
            waited += clock() - asked
        run.set_rate(step)
        images = normalise(batch.images, batch.stats).to(place)
        target = torch.from_numpy(batch.masks).to(place, torch.int64)
        run.at_once, cost, logits, truth = backward_that_fits(
            model, forward, images, target, loss, at_once=run.at_once, team=team
        )
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        run.optimizer.step()
        average.move(min(settings.average, (1 + step) / (10 + step)))
        total += cost
        counts.add(logits, truth)
    mean = float(total) / len(steps)  # the epoch's only wait for an accelerator
    if not math.isfinite(mean):
        raise LearningError(
            f"the loss is {mean} after step {steps[-1]}; lower training.learning_rate "
            f"(now {settings.learning_rate:g})"
        )
    return _Learned(mean, counts.confusion(), waited / max(clock() - began, 1e-9))


def _is_idle(place: torch.device) -> bool:
    """Whether all that was asked of the device is done: then waiting for data costs time."""
    return place.type != "cuda" or torch.cuda.current_stream(place).query()


def _validate(run: Run, val: Sequence[Sample], loss: Loss) -> Metrics:
    prediction = run.recipe.prediction
    predictor = Predictor(
        run.average,
        run.classes,
        window=prediction.window,
        overlap=prediction.overlap,
        batch_size=prediction.batch_size,
        device=str(run.place),
        precision=run.precision,
        overlapping=run.overlapping,
    )
    try:
        return evaluate(predictor, val, run.classes, loss)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise LearningError(
            f"the validation does not fit into the memory of {run.place}: lower "
            "prediction.batch_size or prediction.window"
        ) from error


def _identity(job: Job, weights: Sequence[float] | None) -> str:
    """A digest of what decides the outcome: a checkpoint is taken up by the same training only."""
    parts = [job.recipe.network.model_dump_json(), job.recipe.training.model_dump_json()]
    parts += [str(job.classes) + " overlapping" * job.overlapping, repr(weights)]
    parts += [f"{sample.name}\0{sample.weight!r}" for sample in job.train]
    parts += ["validated on", *(sample.name for sample in job.val)]
    parts += ["looks like", *(reference.name for reference in job.pool)]
    given = {
        f"{part}/{name}": value
        for part, state in (("initial", job.initial), ("encoder", job.encoder))
        for name, value in (state or {}).items()
    }
    return fingerprint(parts, given)
