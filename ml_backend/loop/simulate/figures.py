"""What the trainings of a simulation say: curves over labels, and differences seed by seed.

S seeds, R rounds and the start: arrays are (S, R + 1). Intervals are 95 % of Student's t over
seeds; with one seed there are none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ml_backend.loop.simulate.likeness import Likeness
from ml_backend.loop.simulate.plan import BASELINE, Plan, Unit, ceiling_of, longer_of, start_of
from ml_backend.loop.simulate.records import Record, Records

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its interval, nan where there is none."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One strategy: IoU on the test set, by pixels or images, over what it cost.

    `repeated`: the share of each batch that has a near-duplicate in it.
    """

    name: str
    iou: Floats
    tiles: Floats
    images: Floats
    foreground: Floats
    objects: Floats
    lift: Floats
    repeated: Floats

    @property
    def area(self) -> Floats:
        """Mean IoU over the tiles from the start to the end, of each seed."""
        return self.area_over(lambda curve: curve.tiles)

    def area_over(self, cost: "Callable[[Curve], Floats]", until: Floats | None = None) -> Floats:
        """The same over another cost, up to `until` (S,) of it; nan where nothing is spent."""
        spent = cost(self)
        ends = spent[:, -1] if until is None else until
        rows = zip(spent, self.iou, ends, strict=True)
        return np.array([mean_until(x, y, float(end)) for x, y, end in rows])


@dataclass(frozen=True)
class Reach:
    """Tiles until each seed reaches what the baseline ends with in the other seeds.

    `tiles_S`: by linear interpolation; a seed that does not get there counts with the last
    round's tiles. `reached`: how many seeds do.
    """

    tiles_S: Floats  # noqa: N815
    reached: int


@dataclass(frozen=True)
class Result:
    """Every curve by its strategy, and the controls: IoU of each seed by their arms."""

    curves: dict[str, Curve]
    controls: dict[str, Floats]

    @property
    def baseline(self) -> Curve:
        """What all are compared with."""
        return self.curves[BASELINE]


def collect(plan: Plan, records: Records, likeness: Likeness) -> Result:
    """Read all trainings of a plan. Raises `NotFound` when one is missing."""
    seeds, rounds = plan.played, range(1, plan.rounds + 1)
    starts = {seed: records.read(start_of(seed)) for seed in seeds}

    def curve_of(name: str) -> Curve:
        rows = [
            [starts[seed], *(records.read(Unit(name, seed, number)) for number in rounds)]
            for seed in seeds
        ]

        def column(of: Callable[[Record], float | None]) -> Floats:
            return np.array([[of(record) for record in row] for row in rows], np.float64)

        return Curve(
            name,
            column(partial(iou_of, plan)),
            column(lambda record: record.tiles),
            column(lambda record: record.images),
            column(lambda record: record.foreground),
            column(lambda record: record.objects),
            column(lambda record: record.lift),
            column(lambda record: likeness.repeated(record.chosen)),
        )

    arms = {ceiling_of(1): 0}
    if plan.longer > 1:
        arms |= {ceiling_of(plan.longer): 0, longer_of(plan.longer): plan.rounds}
    return Result(
        {name: curve_of(name) for name in plan.strategies},
        {
            arm: np.array([iou_of(plan, records.read(Unit(arm, seed, number))) for seed in seeds])
            for arm, number in arms.items()
        },
    )


def iou_of(plan: Plan, record: Record) -> float:
    """The IoU that a plan judges a training by."""
    return record.iou if plan.judged_by == "pixels" else record.iou_by_image


def interval(values_S: Floats) -> Interval:
    """Mean of the known values and its 95 % interval (Student's t)."""
    known = values_S[~np.isnan(values_S)]
    mean = float(known.mean()) if known.size else float("nan")
    if known.size < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, known.size - 1) * stats.sem(known))
    return Interval(mean, mean - half, mean + half)


def mean_until(x: Floats, y: Floats, end: float) -> float:
    """Mean height of the line through the points (x rising) from the first to `end`."""
    if end <= x[0]:
        return float("nan")
    inside = int((x < end).sum())  # what costs nothing more after the end does not count
    left, right = slice(inside - 1, None), slice(None, inside + 1)
    last = np.interp(end, x[left][:2], y[left][:2])
    xs, ys = x[right].copy(), y[right].copy()
    xs[-1], ys[-1] = end, last
    return float(np.trapezoid(ys, xs) / (end - x[0]))


def tiles_to(x: Floats, y: Floats, target: float) -> float:
    """Where the line through the points first reaches `target`; infinity where it never does."""
    if y[0] >= target:
        return float(x[0])
    for left in range(len(x) - 1):
        if y[left + 1] >= target:
            share = (target - y[left]) / (y[left + 1] - y[left])
            return float(x[left] + share * (x[left + 1] - x[left]))
    return float("inf")


def reach(curve: Curve, baseline: Curve) -> Reach:
    """How many tiles a strategy needs for the baseline's final IoU.

    A noisy curve crosses its own end early, so the target is what the baseline ends with in the
    *other* seeds, and the baseline's own answer is the null that a strategy must beat.
    """
    final_S = baseline.iou[:, -1]
    seeds = len(final_S)
    targets = (final_S.sum() - final_S) / (seeds - 1) if seeds > 1 else final_S
    found = np.array([
        tiles_to(x, y, target)
        for x, y, target in zip(curve.tiles, curve.iou, targets, strict=True)
    ])  # fmt: skip
    return Reach(np.minimum(found, curve.tiles[:, -1]), int(np.isfinite(found).sum()))


def null_area(baseline: Curve) -> Interval:
    """Area of each seed against the next one's: how far apart curves lie that differ by luck."""
    area_S = baseline.area
    return interval(np.roll(area_S, -1) - area_S)


def at_equal_cost(curve: Curve, baseline: Curve, cost: Callable[[Curve], Floats]) -> Floats:
    """Difference of the areas over a cost, up to what the cheaper of both has spent, by seed."""
    until = np.minimum(cost(curve)[:, -1], cost(baseline)[:, -1])
    return curve.area_over(cost, until) - baseline.area_over(cost, until)
