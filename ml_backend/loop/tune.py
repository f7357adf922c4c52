"""Tuning a recipe: how networks learn, and how objects are cut apart."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ml_backend import __version__
from ml_backend.errors import ConfigError, NotFound, StoreError
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.instances import Cut, choose
from ml_backend.loop.material import Material, check
from ml_backend.loop.models import alike, labels_on_card, load_predictor
from ml_backend.loop.precision import precisions_of
from ml_backend.recipe import Recipe
from ml_backend.settings import Settings
from ml_backend.store.rows import Project

if TYPE_CHECKING:
    from ml_backend.learning.inference import Predictor
    from ml_backend.learning.training import EpochRecord, Trained
    from ml_backend.learning.tuning import Report, Tuned


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

    check(material)
    given = dict(over or {})
    wanted = (given or recipe.tuning.grid) if grid else recipe.tuning.over | given
    space = parse_space(wanted, recipe)
    use_threads(settings.threads)
    material = replace(material, train=cached(material.train), val=cached(material.val))
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


def tune_instances(
    settings: Settings,
    material: Material,
    recipe: Recipe,
    predictor: "Predictor | None" = None,
    *,
    progress: Progress,
) -> Cut:
    """Find out how objects are best cut apart, judged by the validation images.

    By what `predictor` says of them, or without one a network trained by the recipe. Raises as
    `tune` does.
    """
    from ml_backend.learning.inference import predictor_from_state
    from ml_backend.learning.state import use_threads

    check(material)
    if material.overlapping:
        raise ConfigError(
            f"objects of labels that may overlap ({', '.join(material.labels)}) are not cut apart; "
            "set labels.overlap: exclusive in the recipe to tune how they are cut"
        )
    use_threads(settings.threads)
    if predictor is None:
        trained = _trained(
            recipe,
            material,
            settings,
            lambda row: progress(
                row.epoch, row.epochs, f"training, validation IoU {row.val_iou:.3f}"
            ),
        )
        predictor = predictor_from_state(
            trained.state,
            recipe.network,
            len(material.labels),
            recipe.prediction,
            settings.device,
            precision=precisions_of(settings, recipe.network).prediction,
        )
    progress(0, 0, f"cutting the objects of {len(material.val)} images")
    base = recipe.instances.model_copy(update={"enabled": True, "tune": False})
    return choose(predictor, material.val, material.truth, base)


def current_predictor(context: Context, project: Project) -> "Predictor":
    """The predictor of a project's current model. Raises `NotFound` before there is one."""
    model = context.catalog.models.current(project.id)
    if model is None or not alike(model.card, labels_on_card(context.labels(project))):
        raise NotFound(
            f"project {project.id} has no model of its labels yet: run `brushloop train` first"
        )
    return load_predictor(context, project, model.version)


def _score(recipe: Recipe, material: Material, settings: Settings, report: "Report") -> float:
    """Train once and give the best epoch's validation IoU."""
    trained = _trained(
        recipe, material, settings, lambda record: report(record.epoch, record.val_iou)
    )
    return trained.epochs[trained.best_epoch - 1].val_iou


def _trained(
    recipe: Recipe,
    material: Material,
    settings: Settings,
    on_epoch: "Callable[[EpochRecord], None]",
) -> "Trained":
    from ml_backend.learning.training import train as fit

    weight = recipe.training.target_weight
    needed = recipe.network.model_copy(update={"require_weights": True})
    network, encoder, _ = material.weights(needed)  # a trial of other weights would be a lie
    return fit(
        [
            replace(sample, weight=weight) if sample.name in material.targets else sample
            for sample in material.train
        ],
        material.val,
        recipe=recipe.model_copy(update={"network": network}),
        classes=len(material.labels),
        labels=material.labels,
        overlapping=material.overlapping,
        pool=material.pool,
        device=settings.device,
        processes=settings.processes,
        precision=precisions_of(settings, recipe.network).training,
        encoder=encoder,
        on_epoch=on_epoch,
    )


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


def write_tuned(tuned: "Tuned", path: Path) -> None:
    """Write the best recipe with its score as YAML, whole or not at all. Raises `StoreError`."""
    states = [row.state for row in tuned.tried]
    before = "" if tuned.before is None else f" (as it was: {tuned.before:.4f})"
    values = ", ".join(f"{key} {value}" for key, value in tuned.best.values.items())
    head = (
        f"validation IoU {tuned.score:.4f}{before},",
        f"the best of {len(states)} trials, {states.count('pruned')} of them cut short,",
        f"{states.count('failed')} failed: {values}",
    )
    _write(tuned.recipe, head, path)


def write_cut(cut: Cut, recipe: Recipe, path: Path) -> None:
    """Write the recipe with the settings that cut objects best. Raises `StoreError`."""
    head = (f"{found_of(cut)}.",)
    _write(recipe.model_copy(update={"instances": cut.settings}), head, path)


def found_of(cut: Cut) -> str:
    """Say in a line how well objects are found."""
    found = cut.found
    return (
        f"PQ {found.pq:.4f} (uncut: {cut.uncut.pq:.4f}), AP {found.ap:.4f}, "
        f"AP50 {found.ap50:.4f} on {found.true} objects of the validation images"
    )


def _write(recipe: Recipe, head: Sequence[str], path: Path) -> None:
    lines = [f"Tuned with brushloop {__version__}:", *head]
    body = yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text("".join(f"# {line}\n" for line in lines) + body, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"recipe {path} cannot be written: {error.strerror}") from None
