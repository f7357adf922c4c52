"""Training a candidate and putting it before the gate."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_backend import __version__
from ml_backend.errors import NotFound, NothingToLearn
from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.dataset import Dataset, dataset_of, newest_round, source_keys
from ml_backend.loop.due import next_batch, training_due
from ml_backend.loop.encoders import EncoderStart, start_of
from ml_backend.loop.ensemble import forget_checkpoints, train_siblings
from ml_backend.loop.finish import finish
from ml_backend.loop.fitting import fit
from ml_backend.loop.labels import check_names
from ml_backend.loop.measure import finite, measure
from ml_backend.loop.models import alike, labels_on_card
from ml_backend.loop.promote import decide
from ml_backend.loop.tracking import Tracked, tracked
from ml_backend.recipe import Recipe
from ml_backend.store.rows import Model, Project
from ml_backend.store.weights import load_model, model_key, read_card, save_model

if TYPE_CHECKING:
    from ml_backend.learning.training import EpochRecord, Trained


def train(context: Context, project_id: int, progress: Progress) -> Report:
    """Train on all there is, then promote or reject; nothing to do if nothing changed.

    A training that was killed carries on from its last epoch under the same version.
    """
    project = context.catalog.projects.get(project_id)
    dataset = dataset_of(context, project_id)
    current = context.catalog.models.current(project_id)
    for model in context.catalog.models.all(project_id):
        if model.fingerprint == dataset.fingerprint and model.status != "candidate":
            text = f"nothing new since {model.version} was trained"
            return Report(text, {}, _follow(context, project))
    if not dataset.train:
        if dataset.val:
            text = "only validation images are labelled so far: nothing to train on yet"
            return Report(text, {}, next_batch(context, project))
        raise NothingToLearn(
            f"project {project_id} has no usable masks: submit some annotations in Label Studio"
        )
    check_names(project)
    _abandon(context, project_id, dataset)
    candidate = context.catalog.models.add(
        project_id,
        parent=current.version if current else None,
        fingerprint=dataset.fingerprint,
    )
    progress(0, 1, f"{candidate.version}: learning from {len(dataset.train)} tiles")
    number = newest_round(context, project_id, dataset)
    recipe = project.recipe.at_round(number).changed(source_keys(context, project, dataset))
    project = replace(project, recipe=recipe)
    card = _published(context, project_id, candidate)
    if card is None:
        try:
            trained, start = _fit(context, project, dataset, candidate, current, progress)
        except NothingToLearn as error:  # only empty tiles so far: others must be asked about
            return Report(str(error), {}, next_batch(context, project))
        progress(1, 1, f"{candidate.version}: calibrating it")
        card = _card(context, project, dataset, candidate, trained)
        card |= {"round": number, "encoder_start": start.record}
        parent = current if start.warm else None
        siblings = train_siblings(context, project, dataset, candidate, parent, progress)
        card["ensemble"] = siblings or None
        _publish(context, project_id, candidate, trained, card)
    progress(1, 1, "asking the gate")
    return _gate(context, project, dataset, candidate, card)


def _published(context: Context, project_id: int, candidate: Model) -> dict[str, Any] | None:
    """Give the card of a candidate that was killed between its training and the gate's word."""
    try:
        return read_card(context.blobs, model_key(project_id, candidate.version))
    except NotFound:
        return None


def _abandon(context: Context, project_id: int, dataset: Dataset) -> None:
    """Give up candidates whose training was cut off and whose data have changed since."""
    for model in context.catalog.models.all(project_id):
        if model.status == "candidate" and model.fingerprint != dataset.fingerprint:
            reason = "its training was cut off, and the data changed before it could go on"
            context.catalog.models.settle(
                project_id, model.version, decision="rejected", numbers={"reason": reason}
            )
            _forget(context, model)


def _fit(
    context: Context,
    project: Project,
    dataset: Dataset,
    candidate: Model,
    current: Model | None,
    progress: Progress,
) -> "tuple[Trained, EncoderStart]":
    """Train; returns what came of it, and what the encoder started from."""
    from ml_backend.learning.state import use_threads

    use_threads(context.settings.threads)
    home, recipe = context.settings.home, project.recipe

    def on_epoch(record: "EpochRecord") -> None:
        numbers = {
            key: None if isinstance(value, float) and np.isnan(value) else value
            for key, value in vars(record).items()
        }
        context.catalog.models.save_epoch(candidate.version, record.epoch, numbers)
        tell(record.epoch, record)
        progress(
            record.epoch,
            record.epochs,
            f"{candidate.version}: epoch {record.epoch} of {record.epochs}, "
            f"loss {record.train_loss:.3f}, validation IoU {record.val_iou:.3f}"
            f"{_besides(record, recipe)}",
        )

    tracking = Tracked(home, project.title, candidate.version, recipe)
    start = start_of(context.blobs, recipe.network, project.id)
    initial, start = _initial(context, project, current, start)
    with tracked(context.settings.track, tracking) as tell:
        return fit(
            context,
            project,
            recipe,
            dataset.train,
            dataset.val,
            initial=initial,
            start=start,
            checkpoint=_checkpoint(context, candidate),
            on_epoch=on_epoch,
        )


def _told(trained: "Trained") -> dict[str, Any]:
    """What the card says of how the training went."""
    last = trained.epochs[-1]
    waited = [record.waited for record in trained.epochs]
    return {
        "best_epoch": trained.best_epoch,
        "epochs": len(trained.epochs),
        "stopped": last.stopped,
        "patches_at_once": last.at_once,
        "processes": last.processes,
        "waited": finite(float(np.mean(waited))),
    }


def _besides(record: "EpochRecord", recipe: Recipe) -> str:
    """What people are told of an epoch besides its numbers."""
    said = ""
    if record.at_once and record.at_once < recipe.training.batch_size // record.processes:
        said += f", memory is short: {record.at_once} patches at once"
    return said + (f", {record.stopped}" if record.stopped else "")


def _checkpoint(context: Context, candidate: Model) -> Path:
    return context.settings.home.absolute() / "runs" / f"{candidate.version}.safetensors"


def _forget(context: Context, candidate: Model) -> None:
    """Remove the checkpoints of a training that will not go on."""
    _checkpoint(context, candidate).unlink(missing_ok=True)
    forget_checkpoints(context, candidate.version)


def _initial(
    context: Context, project: Project, current: Model | None, start: EncoderStart
) -> tuple[dict[str, Any] | None, EncoderStart]:
    """Weights to start from: the current model's, when the recipe wants it and they fit.

    They do not where the recipe's encoder weights have become others since: what has been
    pretrained again is to be used. Also gives from what the line of models began.
    """
    if current is None or not project.recipe.training.warm_start:
        return None, start
    wanted = labels_on_card(context.labels(project))
    network = project.recipe.network.model_dump(mode="json", exclude={"require_weights"})
    before = {key: value for key, value in current.card.get("network", {}).items()
              if key != "require_weights"}  # fmt: skip
    if not alike(current.card, wanted) or before != network:
        return None, start
    origin = current.card.get("encoder_start") or {}
    if origin and start.sha256 is not None and start.sha256 != origin["sha256"]:
        return None, start
    from ml_backend.learning.state import to_tensors

    arrays, _ = load_model(context.blobs, model_key(project.id, current.version))
    began = EncoderStart(**origin) if origin else EncoderStart(start.asked, start.asked)
    return to_tensors(arrays), replace(began, warm=current.version)


def _publish(
    context: Context, project_id: int, candidate: Model, trained: "Trained", card: dict[str, Any]
) -> None:
    from ml_backend.learning.state import to_arrays

    key = model_key(project_id, candidate.version)
    save_model(context.blobs, key, to_arrays(trained.state), card)


def _card(
    context: Context, project: Project, dataset: Dataset, candidate: Model, trained: "Trained"
) -> dict[str, Any]:
    recipe: Recipe = project.recipe
    return {
        "version": candidate.version,
        "project": project.id,
        "parent": candidate.parent,
        **labels_on_card(context.labels(project)),
        "network": recipe.network.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "fingerprint": dataset.fingerprint,
        "train_tiles": len(dataset.train),
        "val_tiles": len(dataset.val),
        "labelled": dataset.annotated,
        "masks": list(dataset.masks),
        "seed": recipe.training.seed,
        **_told(trained),
        **finish(context, project, dataset, trained),
        "package": __version__,
    }


def _gate(
    context: Context,
    project: Project,
    dataset: Dataset,
    candidate: Model,
    card: dict[str, Any],
) -> Report:
    """Judge candidate and current model on the same validation tiles, and carry it out."""
    current = context.catalog.models.current(project.id)  # people may have chosen another
    numbers: dict[str, Any] = {"val_tiles": len(dataset.val), "candidate": None, "current": None}
    if dataset.val:
        numbers["candidate"] = measure(context, project, candidate.version, dataset)
        if current and alike(current.card, card):
            numbers["current"] = measure(context, project, current.version, dataset)
    validation = project.recipe.validation
    by_image = {
        side: (numbers[side] or {}).pop("by_image", None) for side in ("candidate", "current")
    }
    decision = decide(numbers, validation)
    numbers["reason"] = decision.reason
    numbers["limits"] = validation.model_dump(
        mode="json", include={"tolerance", "class_tolerance", "floors"}
    )
    card["metrics"] = numbers["candidate"]
    context.catalog.models.settle(
        project.id,
        candidate.version,
        decision=decision.name,
        numbers=numbers | {"by_image": by_image},
        card=card,
    )
    _forget(context, candidate)
    note = EncoderStart(**card["encoder_start"]).note if card.get("encoder_start") else ""
    return Report(
        f"{candidate.version} {decision.name}: {decision.reason}{note}",
        {"version": candidate.version, "decision": decision.name, **numbers},
        _follow(context, project),
    )


def _follow(context: Context, project: Project) -> tuple[str, ...]:
    """What a training calls for, read from the catalog: it may have been killed before it said."""
    follow = ["predict"]
    if training_due(context, project.id):
        follow.append("train")
    return (*follow, *next_batch(context, project))
