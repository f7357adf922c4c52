"""Tuning a recipe, on a project's masks or on a folder of images with theirs."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from numpy.typing import NDArray

from ml_backend import __version__
from ml_backend.errors import ConfigError, DataError, NothingToLearn, StoreError
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.dataset import dataset_of, looks_of, samples_of
from ml_backend.loop.masks import UNKNOWN
from ml_backend.loop.pool import split_of
from ml_backend.recipe import Recipe
from ml_backend.settings import Settings
from ml_backend.store.images import decode_image, find_images
from ml_backend.store.masks_in import Values, read_mask
from ml_backend.store.pairs import match_masks
from ml_backend.store.rows import Project

if TYPE_CHECKING:
    from ml_backend.learning.data import Sample
    from ml_backend.learning.references import Reference
    from ml_backend.learning.tuning import Report, Tuned


@dataclass(frozen=True)
class Material:
    """What is learned from and judged by; `fingerprint` changes when any of it does.

    `labels`: names, as many as there are. `targets`: names of the training samples that
    `training.target_weight` is about. `pool`: images whose looks an augmentation may borrow.
    """

    train: "Sequence[Sample]"
    val: "Sequence[Sample]"
    labels: tuple[str, ...]
    fingerprint: str
    targets: frozenset[str] = frozenset()
    pool: "Sequence[Reference]" = ()


def material_of(context: Context, project: Project) -> Material:
    """A project's masks, on the two sides of its frozen split."""
    dataset, names = dataset_of(context, project.id), context.labels(project).names
    return Material(
        samples_of(context, dataset.train, names),
        samples_of(context, dataset.val, names),
        tuple(names),
        dataset.fingerprint,
        frozenset(row.tile.title for row in dataset.train if row.tile.image.role == "pool"),
        looks_of(context, project.id),
    )


def material_in(
    folder: Path,
    masks: Path,
    recipe: Recipe,
    *,
    labels: Sequence[str] = ("object",),
    values: Values | None = None,
) -> Material:
    """Images of a folder that have a mask, split as a project's would be; the others are the pool.

    Files are read when they are needed; a broken one raises `DataError` then.
    """
    from ml_backend.learning.data import Sample
    from ml_backend.learning.references import Reference

    files = find_images(folder)
    pairs = match_masks(files, masks)
    if not pairs:
        raise DataError(f"no mask in {masks} has the name of an image in {folder}")
    digest = hashlib.sha256(repr((tuple(labels), values)).encode())
    sides: dict[str, list[Sample]] = {"train": [], "val": []}
    share, seed = recipe.validation.share, recipe.selection.seed
    for ordinal, (image, mask) in enumerate(sorted(pairs.items())):
        side = split_of(ordinal, share, seed)
        for path in (image, mask):
            digest.update(side.encode() + hashlib.sha256(_bytes(path)).digest())
        name = image.relative_to(folder).as_posix()
        sides[side].append(Sample(name, _loader(image, mask, len(labels), values)))
    pool = [Reference(path.name, partial(_picture, path)) for path in files if path not in pairs]
    return Material(
        sides["train"], sides["val"], tuple(labels), digest.hexdigest(), frozenset(), pool
    )


def _loader(
    image: Path, mask: Path, classes: int, values: Values | None
) -> Callable[[], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    def load() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        pixels = _picture(image)
        shape = (pixels.shape[0], pixels.shape[1])
        return pixels, read_mask(_bytes(mask), mask.name, classes, values=values, shape=shape)

    return load


def _picture(path: Path) -> NDArray[np.uint8]:
    return decode_image(_bytes(path), path.name)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def tune(
    settings: Settings,
    material: Material,
    recipe: Recipe,
    *,
    over: Mapping[str, str] | None = None,
    trials: int | None = None,
    grid: bool = False,
    progress: Progress,
) -> "Tuned":
    """Try recipes on the material and keep every trial in the home folder.

    `over` adds to the recipe's `tuning.over`; a grid is made of `over` alone, or of the recipe's
    `tuning.grid` without it. The same question carries on where it was left. A trial's score is
    the mean IoU of the validation images at its best epoch. Raises `NothingToLearn` without masks
    on both sides, `ConfigError` for keys and values that cannot be.
    """
    from ml_backend.learning.data import cached
    from ml_backend.learning.space import parse_space
    from ml_backend.learning.state import use_threads
    from ml_backend.learning.tuning import tune as search

    if not material.train or not material.val:
        raise NothingToLearn(
            f"tuning needs masks to learn from and masks to judge by: there are "
            f"{len(material.train)} training and {len(material.val)} validation images with one"
        )
    given = dict(over or {})
    wanted = (given or recipe.tuning.grid) if grid else recipe.tuning.over | given
    space = parse_space(wanted, recipe)
    use_threads(settings.threads)
    material = replace(material, train=cached(material.train), val=cached(material.val))
    if not any(_has_object(sample.load()[1]) for sample in material.val):
        raise NothingToLearn("tuning needs an object in at least one validation mask")
    with _alone(settings.home):
        return search(
            lambda tried, report: _score(tried, material, settings, report),
            recipe=recipe,
            space=space,
            trials=trials or recipe.tuning.trials,
            storage=f"sqlite:///{settings.home.absolute() / 'tuning.sqlite3'}",
            study=_question(material, recipe, repr(sorted(space.items())), grid=grid),
            grid=grid,
            progress=progress,
        )


def _has_object(label_map: NDArray[np.uint8]) -> bool:
    return bool(((label_map > 0) & (label_map != UNKNOWN)).any())


def _score(recipe: Recipe, material: Material, settings: Settings, report: "Report") -> float:
    """Train once and give the best epoch's validation IoU."""
    from ml_backend.learning.training import train as fit

    weight = recipe.training.target_weight
    trained = fit(
        [
            replace(sample, weight=weight) if sample.name in material.targets else sample
            for sample in material.train
        ],
        material.val,
        recipe=recipe,
        classes=len(material.labels),
        labels=material.labels,
        pool=material.pool,
        device=settings.device,
        on_epoch=lambda record: report(record.epoch, record.val_iou),
    )
    return trained.epochs[trained.best_epoch - 1].val_iou


def _question(material: Material, recipe: Recipe, space: str, *, grid: bool) -> str:
    """A name for what is asked: the same data, recipe and space are the same study."""
    learning = recipe.model_dump_json(include={"network", "training", "prediction"})
    parts = [material.fingerprint, repr(material.labels), learning, space, str(grid)]
    return f"tune-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Tune one at a time in a home folder: a trial that seems to run was killed."""
    path = home.absolute() / "tuning.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"another `brushloop tune` works in {home}: wait for it, or give --home"
            ) from None
        yield


def write_recipe(tuned: "Tuned", path: Path) -> None:
    """Write the best recipe with its score as YAML, whole or not at all. Raises `StoreError`."""
    states = [row.state for row in tuned.tried]
    before = "" if tuned.before is None else f" (as it was: {tuned.before:.4f})"
    values = ", ".join(f"{key} {value}" for key, value in tuned.best.values.items())
    head = (
        f"# Tuned with brushloop {__version__}: validation IoU {tuned.score:.4f}{before},\n"
        f"# the best of {len(states)} trials, {states.count('pruned')} of them cut short, "
        f"{states.count('failed')} failed.\n"
        f"# {values}\n"
    )
    body = yaml.safe_dump(tuned.recipe.model_dump(mode="json", exclude_defaults=True))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(head + body, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"recipe {path} cannot be written: {error.strerror}") from None
