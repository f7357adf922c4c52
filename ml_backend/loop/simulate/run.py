"""One part of a simulation: trainings, choices and tests, carried on where it stopped."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.loop.context import Progress, Report
from ml_backend.loop.labels import BACKGROUND
from ml_backend.loop.simulate.choices import choose_next, first_tiles
from ml_backend.loop.simulate.material import Material, read_material
from ml_backend.loop.simulate.networks import Trainer, recipe_of
from ml_backend.loop.simulate.plan import Part, Plan, Unit, ceiling_of, start_of, units_of
from ml_backend.loop.simulate.records import Record, Records, Scored
from ml_backend.recipe import Scoring
from ml_backend.settings import Settings

if TYPE_CHECKING:
    from ml_backend.learning.inference import Predictor

THREADS = 1  # a process; several processes use several cores better than threads do


@dataclass(frozen=True)
class Bench:
    """What every part is handed."""

    plan: Plan
    material: Material
    records: Records
    settings: Settings
    clock: Callable[[], float] = time.monotonic

    @property
    def trainer(self) -> Trainer:
        """Where its networks learn."""
        return Trainer(self.material, self.settings.device, self.clock)


def open_bench(records: Records, settings: Settings) -> Bench:
    """Read the plan of a folder and its images. Raises `DataError` if those have changed."""
    plan, fingerprint = records.plan()
    material = read_material(plan.source, plan.recipe)
    if material.fingerprint != fingerprint:
        raise DataError(
            f"{plan.source.images} or {plan.source.masks} changed while the simulation ran: put "
            "the files back, or begin again with another --out"
        )
    return Bench(plan, material, records, settings)


def run_part(bench: Bench, part: Part, progress: Progress) -> Report:
    """Do what is missing of a part; the same part gives the same numbers in any process."""
    from ml_backend.learning.state import use_threads

    use_threads(bench.settings.threads or THREADS)
    if part.kind == "start":
        _start(bench, part.seed, progress)
    elif part.kind == "curve":
        _curve(bench, part, progress)
    else:
        _ceiling(bench, part, progress)
    name = part.strategy or part.kind
    return Report(f"{name}, seed {part.seed}: {len(units_of(bench.plan, part))} trainings")


def _start(bench: Bench, seed: int, progress: Progress) -> Record:
    """The tiles that all curves of a seed begin with, and the network that learned from them."""
    unit = start_of(seed)
    if not bench.records.has(unit):
        progress(0, 1, f"start, seed {seed}")
        _train(bench, unit, first_tiles(bench.plan, bench.material, seed), [], scores=True)
    return bench.records.read(unit)


def _curve(bench: Bench, part: Part, progress: Progress) -> None:
    """The rounds of one strategy, then the baseline's control."""
    units, labelled = units_of(bench.plan, part), []
    before, last = start_of(part.seed), _start(bench, part.seed, progress)
    for done, unit in enumerate(units):
        labelled += [tile for tile in last.chosen if tile not in labelled]
        if not bench.records.has(unit):
            progress(done, len(units), f"{unit.arm}, seed {unit.seed}, round {unit.round}")
            if unit.arm == part.strategy:
                scored = bench.records.scored(before)
                tiles, lift = choose_next(bench.plan, bench.material, unit, scored, labelled)
                _train(bench, unit, tiles, labelled, lift=lift, scores=True)
            else:
                _train(bench, unit, labelled, [], factor=bench.plan.longer)
        before, last = unit, bench.records.read(unit)
    progress(len(units), len(units), f"{part.strategy}, seed {part.seed}")


def _ceiling(bench: Bench, part: Part, progress: Progress) -> None:
    """Networks that learned from the whole pool, as long as the others and longer."""
    units = units_of(bench.plan, part)
    for done, unit in enumerate(units):
        if not bench.records.has(unit):
            progress(done, len(units), f"{unit.arm}, seed {unit.seed}")
            factor = 1 if unit.arm == ceiling_of(1) else bench.plan.longer
            _train(bench, unit, range(len(bench.material.tiles)), [], factor=factor)
    progress(len(units), len(units), f"ceiling, seed {part.seed}")


def _train(
    bench: Bench,
    unit: Unit,
    chosen: Sequence[int],
    labelled: Sequence[int],
    *,
    factor: int = 1,
    lift: float | None = None,
    scores: bool = False,
) -> None:
    """Learn from scratch from the labelled and the chosen tiles, test, and keep what came of it.

    Weights, patches and augmentation go by seed and round, the same for every strategy. Those
    of the last step are tested: the test set chooses nothing.
    """
    from ml_backend.learning.evaluation import evaluate

    began, material = bench.clock(), bench.material
    used = [*labelled, *chosen]
    recipe = recipe_of(bench.plan, unit, factor)
    predictor = bench.trainer.network(used, recipe)
    images = _Images(material)
    metrics = evaluate(predictor, material.test, len(material.labels), each=images.add)
    scored = None
    if scores:
        predictor.siblings = bench.trainer.siblings(used, recipe)
        scored = _look(bench, predictor)
    record = Record(
        *unit,
        tuple(int(tile) for tile in chosen),
        len(used),
        len({material.tiles[tile].image.id for tile in used}),
        int(material.foreground_N[used].sum()),
        int(material.objects_N[used].sum()),
        recipe.training.steps,
        metrics.mean_iou,
        tuple(None if np.isnan(value) else value for value in metrics.iou_by_class),
        metrics.mean_dice,
        metrics.accuracy,
        lift,
        bench.clock() - began,
        predictor.mode,
        images.mean_iou(),
    )
    bench.records.write(unit, record, scored)


class _Images:
    """The IoU of each test image, told tile by tile."""

    def __init__(self, material: Material) -> None:
        from ml_backend.learning.metrics import Confusion

        self._image_of_N = material.test_of_N
        self._counts = [
            Confusion(len(material.labels), overlapping=material.overlapping)
            for _ in range(material.test_images)
        ]

    def add(self, tile: int, found_HW: NDArray[np.uint8], truth_HW: NDArray[np.uint8]) -> None:
        self._counts[self._image_of_N[tile]].add(found_HW, truth_HW)

    def mean_iou(self) -> float:
        """Mean over the images that show an object, or are said to; one at least does."""
        return float(np.nanmean([counts.mean_iou() for counts in self._counts]))


def _look(bench: Bench, predictor: "Predictor") -> Scored:
    """Score the pool, as `loop.score` does."""
    from ml_backend.learning.passes import passes_many
    from ml_backend.selection.embeddings import embed
    from ml_backend.selection.overlapping import score_sets
    from ml_backend.selection.uncertainty import Passes, score_image

    scoring = bench.plan.recipe.scoring
    weights = _weights(scoring, bench.material.labels)
    asked = ((sample.load()[0], (0, n)) for n, sample in enumerate(bench.material.samples))
    rows, embeddings = [], []
    for seen in passes_many(predictor, asked, scoring):
        if bench.material.overlapping:
            rows.append(score_sets(seen.probs_TCHW, weights, scoring.top_share))
        else:
            rows.append(score_image(Passes(seen.probs_TCHW, weights, scoring.top_share)))
        embeddings.append(embed(seen.features_D))
    names = tuple(rows[0])
    return Scored(
        names,
        np.array([[row[name] for name in names] for row in rows], np.float64),
        np.stack(embeddings),
    )


def _weights(scoring: Scoring, labels: Sequence[str]) -> tuple[float, ...] | None:
    """How much background and labels count in weighted_entropy; None for all alike."""
    names = (BACKGROUND, *labels)
    return tuple(scoring.weights.get(name, 1.0) for name in names) if scoring.weights else None
