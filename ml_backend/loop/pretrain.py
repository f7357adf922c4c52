"""Pretraining an encoder on the images alone, before or between the trainings.

It learns from every training tile of the pool, labelled or not. Validation images are never
looked at, not even under another name; source images are not, for they may look otherwise.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend import __version__
from ml_backend.errors import ConfigError, NotFound, NothingToLearn
from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.encoders import NEWEST, EncoderStart, encoders_of, start_of, weights_of
from ml_backend.loop.precision import precisions_of
from ml_backend.recipe import Network, Recipe
from ml_backend.settings import Settings
from ml_backend.store.blobs import Blobs
from ml_backend.store.collection import SourceImage, open_collection
from ml_backend.store.rows import Tile
from ml_backend.store.summary import Summary
from ml_backend.store.weights import WEIGHTS, list_models, read_card, save_model

if TYPE_CHECKING:
    from ml_backend.learning.byol import Pretrained, PretrainingRecord
    from ml_backend.learning.references import Reference

COLLAPSED = 0.1
"""A spread below this: all places look alike to the encoder, and it has learned nothing."""


@dataclass(frozen=True)
class _Material:
    """Images to learn from, and what is said of them in the card."""

    images: "Sequence[Reference]"
    fingerprint: str
    facts: dict[str, Any]


def pretrain(context: Context, project_id: int, progress: Progress) -> Report:
    """Pretrain on the pool and publish the encoder; nothing to do if nothing changed.

    A pretraining that was killed carries on from its last epoch.
    """
    project = context.catalog.projects.get(project_id)
    tiles = unlabelled_tiles(context, project_id)
    if not tiles:
        raise NothingToLearn(
            f"project {project_id} has no training images in its pool: "
            "add some with `brushloop pool add`"
        )
    recipe, network = project.recipe, _beginning(project.recipe.network)
    start = start_of(context.blobs, network, project_id)
    fingerprint = _fingerprint(recipe, start, (repr(tile.content) for tile in tiles))
    published = list_models(context.blobs, encoders_of(project_id))
    for key in published:
        if read_card(context.blobs, key)["fingerprint"] == fingerprint:
            version = key.rsplit("/", 1)[-1]
            return Report(f"nothing new since {version} was pretrained", {"version": version})
    version = f"p{project_id}-byol{_number(published)}"
    images = len({tile.image.sha256 for tile in tiles})
    facts = {"version": version, "project": project_id, "tiles": len(tiles), "images": images}
    material = _Material(_references(context, tiles), fingerprint, facts)
    checkpoint = _checkpoint(context, project_id, f"{version}-{fingerprint[:16]}")
    pretrained, card = _learn(
        context.settings, context.blobs, recipe, network, start, material, checkpoint, progress
    )
    broken = {
        tile.image.id: pretrained.faults[str(tile.id)]
        for tile in tiles
        if str(tile.id) in pretrained.faults
    }
    left = (repr(tile.content) for tile in tiles if tile.image.id not in broken)
    card["fingerprint"] = _fingerprint(recipe, start, left)  # what the next call will find
    _publish(context.blobs, f"{encoders_of(project_id)}/{version}", pretrained, card)
    for image_id, reason in broken.items():
        context.catalog.pool.quarantine(image_id, reason)
    checkpoint.unlink(missing_ok=True)
    return Report(_summary(version, card), {"version": version, **_course(card)})


def _checkpoint(context: Context, project_id: int, name: str) -> Path:
    """Where an unfinished pretraining is kept; those of former images or settings are given up."""
    runs = context.settings.home.absolute() / "runs"
    checkpoint = runs / f"{name}.safetensors"
    for other in runs.glob(f"p{project_id}-byol*.safetensors"):
        if other != checkpoint:
            other.unlink(missing_ok=True)
    return checkpoint


def pretrain_folder(
    settings: Settings, address: Path | str, out: Path, recipe: Recipe, progress: Progress
) -> Report:
    """Pretrain on the images at an address, without a project, and publish to the folder `out`.

    `out/weights.safetensors` is what `network.encoder_weights` may name. Raises `ConfigError`
    where an encoder of other images or settings is there already.
    """
    summary = Summary()
    images = open_collection(address, recipe, summary, digest=True, progress=progress)
    for image in images:
        summary.add("taken", image.name, "learned from")
    blobs, key = Blobs(out.absolute().parent), out.name
    home = Blobs(settings.blob_url)  # of the versions that the recipe may begin from
    network = _beginning(recipe.network)
    start = start_of(home, network)
    contents = (repr((image.name, image.identity.hex())) for image in images)
    fingerprint = _fingerprint(recipe, start, contents)
    try:
        known = read_card(blobs, key)
    except NotFound:
        known = None
    if known is not None and known.get("fingerprint") != fingerprint:
        raise ConfigError(
            f"{out} holds an encoder of other images or settings: name another folder with --out"
        )
    if known is not None:
        return Report(f"nothing new since {out / WEIGHTS} was pretrained")
    facts = {"version": out.name, "images": len(images), "tiles": len(images)}
    material = _Material(_pictures(images), fingerprint, facts)
    checkpoint = out.absolute() / "unfinished.safetensors"
    pretrained, card = _learn(
        settings, home, recipe, network, start, material, checkpoint, progress
    )
    _publish(blobs, key, pretrained, card)
    checkpoint.unlink(missing_ok=True)
    told = "\n".join([_summary(str(out / WEIGHTS), card), *summary.lines()])
    return Report(told, _course(card))


def unlabelled_tiles(context: Context, project_id: int) -> list[Tile]:
    """Give every training tile of the pool once, asked about or not, by id.

    A picture that is there under several names is on one side of the split with all of them.
    """
    found: dict[object, Tile] = {}
    for tile in context.catalog.pool.tiles(project_id):
        if tile.image.split == "train":
            found.setdefault(tile.content, tile)
    return list(found.values())


def _beginning(network: Network) -> Network:
    """The newest encoder is not what the next one goes on from: it would depend on its past."""
    newest = network.encoder_weights == NEWEST
    return network.model_copy(update={"encoder_weights": None}) if newest else network


def _number(versions: Sequence[str]) -> int:
    return 1 + max((int(key.rpartition("byol")[2]) for key in versions), default=0)


def _references(context: Context, tiles: Sequence[Tile]) -> "list[Reference]":
    from ml_backend.learning.references import Reference

    return [Reference(str(tile.id), partial(context.pixels, tile)) for tile in tiles]


def _pictures(images: Sequence[SourceImage]) -> "list[Reference]":
    from ml_backend.learning.references import Reference

    return [Reference(image.name, image.pixels) for image in images]


def _fingerprint(recipe: Recipe, start: EncoderStart, contents: Iterable[str]) -> str:
    from ml_backend.learning.byol import encoder_kind

    digest = hashlib.sha256(encoder_kind(recipe.network).encode())
    digest.update(recipe.pretraining.model_dump_json().encode())
    digest.update(repr((start.used, start.sha256)).encode())
    for content in contents:
        digest.update(content.encode())
    return digest.hexdigest()


def _learn(
    settings: Settings,
    blobs: Blobs,
    recipe: Recipe,
    network: Network,
    start: EncoderStart,
    material: _Material,
    checkpoint: Path,
    progress: Progress,
) -> "tuple[Pretrained, dict[str, Any]]":
    """Pretrain; returns what came of it and its card."""
    from ml_backend.learning.byol import pretrain as fit
    from ml_backend.learning.state import use_threads

    use_threads(settings.threads)
    network, encoder, start = weights_of(blobs, network, start)
    name = material.facts["version"]

    def on_epoch(record: "PretrainingRecord") -> None:
        progress(
            record.epoch,
            record.epochs,
            f"{name}: epoch {record.epoch} of {record.epochs}, loss {record.loss:.3f}, "
            f"spread {record.spread:.2f}",
        )

    progress(0, 1, f"{name}: learning from {material.facts['images']} images without their masks")
    pretrained = fit(
        material.images,
        recipe=recipe.model_copy(update={"network": network}),
        device=settings.device,
        precision=precisions_of(settings, network).training,
        encoder=encoder,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    return pretrained, {
        "kind": "byol",
        **material.facts,
        "network": recipe.network.model_dump(mode="json"),
        "pretraining": recipe.pretraining.model_dump(mode="json"),
        "fingerprint": material.fingerprint,
        "encoder_start": start.record,
        "epochs": [vars(record) for record in pretrained.epochs],
        "unreadable": sorted(pretrained.faults.values()),
        "package": __version__,
    }


def _publish(blobs: Blobs, key: str, pretrained: "Pretrained", card: dict[str, Any]) -> None:
    from ml_backend.learning.state import to_arrays

    save_model(blobs, key, to_arrays(pretrained.state), card)


def _course(card: dict[str, Any]) -> dict[str, Any]:
    last = card["epochs"][-1]
    return {"loss": last["loss"], "spread": last["spread"]}


def _summary(name: str, card: dict[str, Any]) -> str:
    last = card["epochs"][-1]
    text = (
        f"{name}: pretrained on {card['images']} images, loss {last['loss']:.3f}, "
        f"spread {last['spread']:.2f}"
    )
    if last["spread"] < COLLAPSED:
        text += (
            ", which is a collapse: do not use it; raise pretraining.batch_size or momentum, or "
            "lower pretraining.learning_rate"
        )
    if card["unreadable"]:
        text += f"; {len(card['unreadable'])} could not be read"
    return text + EncoderStart(**card["encoder_start"]).note
