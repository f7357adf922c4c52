"""The tables of docs/evidence/selection.md, from the trainings in docs/evidence/selection/*.csv.

    python scripts/evidence_tables.py

A file is the `curves.csv` of a run of `brushloop simulate`. Several runs on one set stand in files
whose names go on with their first seed (`nuclei.csv`, `nuclei-8.csv`); those count that have been
measured so. A strategy is compared with the random of its own runs, seed by seed, and the seeds of
all its runs count together.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ml_backend.loop.simulate.figures import Curve, Floats, at_equal_cost, interval, reach
from ml_backend.loop.simulate.plan import BASELINE
from ml_backend.loop.simulate.report import signed
from ml_backend.selection.strategies import STRATEGIES

FOLDER = Path(__file__).resolve().parents[1] / "docs/evidence/selection"
SETS = {
    "nuclei": ("nuclei", "iou"),
    "nuclei by image": ("nuclei", "iou_by_image"),
    "mitochondria": ("mitochondria", "iou"),
    "synapses": ("synapses", "iou"),
    "membranes": ("membranes", "iou"),
    "mitochondrion": ("mitochondrion", "iou"),
}
"""Where the trainings of each column of the tables are, and what it shows of them."""
LARGER = ("nuclei20", "synapses20", "mitochondrion20")
"""The same sets with twenty tiles to start with and twenty a round."""
VARIANTS = {
    "BYOL encoder": ("nuclei", "byol", ("random", "suggestive")),
    "four views": ("nuclei", "views", ("power",)),
    "first tiles by `clusters`": ("nuclei", "clusters", ("random",)),
    "BALD of an ensemble": ("mitochondria", "ensemble", ("power",)),
    "BALD of dropout": ("mitochondria", "dropout", ("power",)),
}
"""What was changed on which set, where its trainings are, and whose curves they are."""
COLUMNS = {
    "tiles": "tiles", "images": "images", "foreground": "foreground_px",
    "objects": "objects", "lift": "lift", "repeated": "repeated",
}  # fmt: skip
Row = dict[str, str]
Runs = list[dict[str, Curve]]


def files_of(name: str, measure: str) -> list[list[Row]]:
    """The trainings of every run on a set that has been measured so."""
    found = []
    for path in [FOLDER / f"{name}.csv", *sorted(FOLDER.glob(f"{name}-*.csv"))]:
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            found += [rows] if measure in rows[0] else []
    return found


def runs_of(name: str, measure: str = "iou") -> Runs:
    """Every run on a set that has been measured so: its strategies' curves."""
    return [curves_of(rows, measure) for rows in files_of(name, measure)]


def curves_of(rows: Sequence[Row], measure: str) -> dict[str, Curve]:
    """The curves of some trainings by their strategies, seed after seed, without controls."""
    first = (row for row in rows if row["arm"] == "start")
    starts = {row["seed"]: row for row in sorted(first, key=lambda row: int(row["seed"]))}
    arms = dict.fromkeys(row["arm"] for row in rows if row["arm"] in STRATEGIES)
    return {arm: _curve(arm, rows, starts, measure) for arm in arms}


def _curve(arm: str, rows: Sequence[Row], starts: dict[str, Row], measure: str) -> Curve:
    seeds = [
        [start, *(row for row in rows if row["arm"] == arm and row["seed"] == seed)]
        for seed, start in starts.items()
    ]

    def column(name: str) -> Floats:
        return np.array([[float(row[name] or "nan") for row in seed] for seed in seeds])

    costs = {key: column(name) for key, name in COLUMNS.items()}
    return Curve(arm, column(measure), **costs)


def paired(runs: Runs, strategy: str) -> tuple[Curve, Curve]:
    """A strategy and random, over the seeds of all runs that play it."""
    those = [run for run in runs if strategy in run]
    return _joined([run[strategy] for run in those]), _joined([run[BASELINE] for run in those])


def _joined(curves: Sequence[Curve]) -> Curve:
    names = ("iou", *COLUMNS)
    fields = {name: np.concatenate([getattr(curve, name) for curve in curves]) for name in names}
    return Curve(curves[0].name, **fields)


def on_the_way(curve: Curve, random: Curve) -> str:
    """Difference of the areas, and in how many seeds it is above zero."""
    gain_S = curve.area - random.area
    return f"{signed(interval(gain_S))}, {int((gain_S > 0).sum())} of {len(gain_S)}"


def at_the_end(curve: Curve, random: Curve) -> str:
    """Difference after the last round."""
    return signed(interval(curve.iou[:, -1] - random.iou[:, -1]))


def tiles_needed(curve: Curve, random: Curve) -> str:
    """Tiles for what random ends with, and how many fewer than random's own."""
    needed_S = reach(curve, random).tiles_S
    if curve.name == BASELINE:
        return f"{needed_S.mean():.1f}"
    saved = interval(reach(random, random).tiles_S - needed_S)
    return f"{needed_S.mean():.1f}: {saved.mean:+.1f} [{saved.low:+.1f}, {saved.high:+.1f}]"


def objects(curve: Curve, random: Curve) -> str:
    """Outlined objects at the end, and the difference where both have outlined as many."""
    spent = f"{curve.objects[:, -1].mean():.0f}"
    if curve.name == BASELINE:
        return spent
    return f"{spent}: {signed(interval(at_equal_cost(curve, random, lambda row: row.objects)))}"


def repeated(curve: Curve, random: Curve) -> str:  # noqa: ARG001
    """The share of a batch that has a near-duplicate in it."""
    return f"{curve.repeated[:, 1:].mean():.0%}"


TABLES: dict[str, tuple[Callable[[Curve, Curve], str], bool]] = {
    "On the way, against random": (on_the_way, False),
    "At the end, against random": (at_the_end, False),
    "Tiles for what random ends with": (tiles_needed, True),
    "Objects, and the difference at equal objects": (objects, True),
    "Batches that repeat themselves": (repeated, True),
}
"""What each table shows, and whether random has a row of its own."""


def table(title: str) -> list[str]:
    """One table as lines of Markdown."""
    show, own = TABLES[title]
    sets = {name: runs for name, place in SETS.items() if (runs := runs_of(*place))}
    names = dict.fromkeys(arm for runs in sets.values() for run in runs for arm in run)
    lines = [f"| strategy | {' | '.join(sets)} |", f"| --- |{' --: |' * len(sets)}"]
    for name in names:
        if name == BASELINE and not own:
            continue
        cells = [
            show(*paired(runs, name)) if any(name in run for run in runs) else ""
            for runs in sets.values()
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def larger() -> list[str]:
    """What the default gains where rounds are larger: a line for each set and strategy."""
    heads = ["set", "strategy", "random", "on the way", "at the end", "tiles", "objects"]
    lines = [f"| {' | '.join(heads)} |", f"| --- | --- |{' --: |' * (len(heads) - 2)}"]
    for name in LARGER:
        runs = runs_of(name)
        for strategy in dict.fromkeys(arm for run in runs for arm in run if arm != BASELINE):
            curve, random = paired(runs, strategy)
            ends = f"{random.iou[:, 0].mean():.3f}, {random.iou[:, -1].mean():.3f}"
            tiles = f"{tiles_needed(random, random)}, {tiles_needed(curve, random)}"
            work = f"{objects(random, random)}, {objects(curve, random)}"
            shown = [ends, on_the_way(curve, random), at_the_end(curve, random), tiles, work]
            lines.append(f"| {name} | `{strategy}` | {' | '.join(shown)} |")
    return lines


def variants() -> list[str]:
    """What each variant reaches, and how far it is from the same strategy without it."""
    heads = ["changed", "on", "strategy", "seeds", "IoU by round", "on the way", "at the end"]
    heads += ["by image, on the way", "at the end"]
    lines = [f"| {' | '.join(heads)} |", f"| --- | --- | --- |{' --: |' * (len(heads) - 3)}"]
    for what, (usual, name, strategies) in VARIANTS.items():
        for strategy in strategies:
            cells = []
            for measure in ("iou", "iou_by_image"):
                changed, plain = against_plain(usual, name, strategy, measure)
                cells += [signed(interval(changed.area - plain.area)), at_the_end(changed, plain)]
                if measure == "iou":
                    curve = ", ".join(f"{value:.3f}" for value in changed.iou.mean(axis=0))
                    seeds = len(changed.iou)
            shown = [what, usual, f"`{strategy}`", str(seeds), curve, *cells]
            lines.append(f"| {' | '.join(shown)} |")
    return lines


def against_plain(usual: str, name: str, strategy: str, measure: str) -> tuple[Curve, Curve]:
    """A strategy in a variant, and in the usual runs on its set: the same seeds and rounds."""
    (rows,) = files_of(name, measure)
    seeds = {row["seed"] for row in rows}
    last = max(int(row["round"]) for row in rows if row["arm"] == strategy)
    plain = [
        row
        for run in files_of(usual, measure)
        for row in run
        if row["arm"] in {"start", strategy} and row["seed"] in seeds and int(row["round"]) <= last
    ]
    return curves_of(rows, measure)[strategy], curves_of(plain, measure)[strategy]


def main() -> None:
    """Print all tables."""
    for title in TABLES:
        print(f"{title}\n", *table(title), "", sep="\n")
    print("With twenty tiles a round\n", *larger(), "", sep="\n")
    print("Other starts, other scores\n", *variants(), sep="\n")


if __name__ == "__main__":
    main()
