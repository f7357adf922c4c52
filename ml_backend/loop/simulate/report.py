"""What a simulation leaves: every training as CSV, the curves as PNG, the findings as Markdown."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ml_backend import __version__
from ml_backend.loop.choose import column_of
from ml_backend.loop.simulate.drawing import draw
from ml_backend.loop.simulate.figures import (
    Curve,
    Floats,
    Interval,
    Result,
    at_equal_cost,
    collect,
    interval,
    null_area,
    reach,
)
from ml_backend.loop.simulate.likeness import Likeness, likeness_of
from ml_backend.loop.simulate.material import Material
from ml_backend.loop.simulate.plan import BASELINE, Plan, all_units, ceiling_of, longer_of
from ml_backend.loop.simulate.records import Records
from ml_backend.store.summary import Summary

_JUDGED = {
    "pixels": "IoU is that of all their pixels together",
    "images": "IoU is the mean of those images' own",
}
_MEASURES = {"pixels": "IoU on the test set", "images": "mean IoU of the test images"}
_FIRST = {"random": "random tiles", "clusters": "tiles of different colours and texture"}
CURVES, PICTURE, REPORT = "curves.csv", "curves.png", "report.md"


@dataclass(frozen=True)
class Written:
    """The files of a finished simulation, its main table as lines for people, what it read."""

    folder: Path
    lines: tuple[str, ...]
    files: Summary


def write_report(plan: Plan, material: Material, records: Records) -> Written:
    """Write all three from what is kept; the same trainings give the same CSV and text."""
    likeness = likeness_of(material)
    result = collect(plan, records, likeness)
    records.publish(CURVES, curves_csv(plan, material, records, likeness))
    records.publish(PICTURE, draw(result, title_of(plan, material), _MEASURES[plan.judged_by]))
    text = report_of(plan, material, records, result)
    records.publish(REPORT, text.encode())
    return Written(records.folder, tuple(summary(result)), material.summary)


def title_of(plan: Plan, material: Material) -> str:
    """One line: what was played on."""
    return (
        f"{_short(plan.source.masks)}: {len(material.tiles)} pool tiles of {material.images} "
        f"images, {_seeds(plan)}"
    )


def _seeds(plan: Plan) -> str:
    """How many, and which where they are not the first ones."""
    return f"{plan.seeds} seeds" + f" from {plan.first_seed} on" * (plan.first_seed > 0)


def _short(address: str) -> str:
    """The end of an address: enough to recognise it by, and nothing of the machine."""
    return "/".join(PurePosixPath(address).parts[-2:])


def curves_csv(plan: Plan, material: Material, records: Records, likeness: Likeness) -> bytes:
    """One line a training."""
    text = io.StringIO()
    heads = ["arm", "seed", "round", "tiles", "images", "foreground_px", "objects", "steps"]
    heads += ["iou", "iou_by_image"]
    heads += [f"iou_{label}" for label in material.labels] if len(material.labels) > 1 else []
    heads += ["dice", "accuracy", "lift", "repeated", "seconds"]
    table = csv.DictWriter(text, heads, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for unit in all_units(plan):
        record = records.read(unit)
        row = asdict(record) | {"foreground_px": record.foreground}
        if not unit.arm.startswith("ceiling"):  # which is no batch
            row["repeated"] = likeness.repeated(record.chosen)
        labels = zip(material.labels, record.iou_by_label, strict=True)
        row |= {f"iou_{label}": value for label, value in labels}
        table.writerow({key: _cell(row.get(key)) for key in heads})
    return text.getvalue().encode()


def _cell(value: object) -> object:
    return f"{value:.5f}" if isinstance(value, float) else value


def report_of(plan: Plan, material: Material, records: Records, result: Result) -> str:
    """The findings as Markdown."""
    parts = [
        _head(plan, material, records),
        f"![Learning curves]({PICTURE})",
        "## Against random",
        _against(result),
        "## Tiles for what random ends with",
        _reached(result),
        "## What it costs",
        _costs(result),
        "## IoU by round",
        _rounds(result),
        "## Is the training long enough?",
        _controls(plan, result),
    ]
    if material.set_aside:
        faults = _list(f"{name}: {reason}" for name, reason in material.set_aside)
        parts += ["## Images that cannot be used", faults]
    return "\n\n".join(parts) + "\n"


def summary(result: Result) -> list[str]:
    """The main finding of each strategy in a line."""
    lines = []
    for curve in result.curves.values():
        ends = f"{curve.name}: IoU {curve.iou[:, 0].mean():.3f} → {curve.iou[:, -1].mean():.3f}"
        if curve.name != BASELINE:
            gain = interval(curve.area - result.baseline.area)
            ends += f", on the way {signed(gain)} against {BASELINE}"
        lines.append(ends)
    return lines


def signed(value: Interval) -> str:
    """A difference with its interval."""
    if math.isnan(value.mean):
        return "-"
    if math.isnan(value.low):
        return f"{value.mean:+.3f}"
    return f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def plain(value: Interval, digits: int = 3) -> str:
    """A mean with half its interval."""
    if math.isnan(value.mean):
        return "-"
    if math.isnan(value.low):
        return f"{value.mean:.{digits}f}"
    return f"{value.mean:.{digits}f} ± {value.mean - value.low:.{digits}f}"


def _head(plan: Plan, material: Material, records: Records) -> str:
    recipe, training = plan.recipe, plan.recipe.training
    last = records.read(all_units(plan)[-1])
    spent = sum(records.read(unit).seconds for unit in all_units(plan)) / 60
    tiles = f"tiles of {recipe.pool.tile} px" if recipe.pool.tile else "whole images"
    network = recipe.network
    setup = (
        f"Images `{_short(plan.source.images)}`, masks `{_short(plan.source.masks)}`, labels "
        f"{', '.join(material.labels)}; {tiles}: {len(material.tiles)} of {material.images} images "
        f"to choose from, {len(material.test)} of {material.test_images} other images to judge "
        f"by (frozen: `{plan.source.test_part}`); {_JUDGED[plan.judged_by]}.\n"
        f"{plan.first} {_FIRST[recipe.selection.first]} to start with, then {plan.rounds} rounds "
        f"of {recipe.selection.batch}; {_seeds(plan)}. Start, test set, weights, patches and "
        "augmentation of a seed and round are the same for every strategy.\n"
        f"{network.architecture}/{network.encoder}, depth {network.depth}, "
        f"width {network.decoder_width}, fold {network.fold}, trained from scratch each round: "
        f"{training.steps} steps of {training.batch_size} patches of {training.patch} px, "
        f"{training.loss}, {training.augmentation}. The averaged weights of the last step are "
        "tested; the test set chooses nothing.\n"
        f"Chosen by `{column_of(recipe)}`, passes `{recipe.scoring.passes}`.\n"
        f"{len(all_units(plan))} trainings, {spent:.0f} minutes of one process in all "
        f"({last.mode}); Brushloop {__version__}."
    )
    return "# Simulation\n\n" + _list(setup.split("\n"))


def _against(result: Result) -> str:
    rows = []
    for curve in result.curves.values():
        area_S, final_S = curve.area, curve.iou[:, -1]
        gain_S = area_S - result.baseline.area
        own = curve.name == BASELINE
        rows.append([
            f"`{curve.name}`",
            plain(interval(area_S)),
            "" if own else signed(interval(gain_S)),
            "" if own else f"{int((gain_S > 0).sum())} of {len(gain_S)}",
            plain(interval(final_S)),
            "" if own else signed(interval(final_S - result.baseline.iou[:, -1])),
        ])  # fmt: skip
    heads = ["strategy", "IoU on the way", "against random", "seeds better", "IoU at the end",
             "against random"]  # fmt: skip
    null = signed(null_area(result.baseline))
    text = (
        "*On the way*: mean IoU over the tiles from the start to the end (area under the curve). "
        "Differences are taken seed by seed, with 95 % intervals (Student's t over seeds), each "
        f"for itself. The null, random against random of the next seed: {null}; "
        "those are not paired, so theirs is wider."
    )
    return _table(heads, rows) + "\n\n" + text


def _reached(result: Result) -> str:
    null = reach(result.baseline, result.baseline)
    rows = []
    for curve in result.curves.values():
        found = reach(curve, result.baseline)
        own = curve.name == BASELINE
        saved = null.tiles_S - found.tiles_S
        rows.append([
            f"`{curve.name}`" + " (the null)" * own,
            plain(interval(found.tiles_S), 1),
            f"{found.reached} of {len(found.tiles_S)}",
            f"{np.mean(found.tiles_S) / curve.tiles[0, -1]:.0%}",
            "" if own else _tiles(interval(saved)),
        ])  # fmt: skip
    text = (
        "The target of a seed is the mean of what random ends with in the other seeds. A seed that "
        "does not get there counts with all tiles of the last round. Random itself crosses that "
        "target before its end by luck: its row is the null, and savings count from there."
    )
    heads = ["strategy", "tiles", "seeds that get there", "of all", "tiles fewer than the null"]
    return _table(heads, rows) + "\n\n" + text


def _tiles(value: Interval) -> str:
    if math.isnan(value.low):
        return f"{value.mean:+.1f}"
    return f"{value.mean:+.1f} [{value.low:+.1f}, {value.high:+.1f}]"


def _costs(result: Result) -> str:
    rows = []
    for curve in result.curves.values():
        own = curve.name == BASELINE

        def gain(cost: Callable[[Curve], Floats], curve: Curve = curve) -> str:
            return signed(interval(at_equal_cost(curve, result.baseline, cost)))

        rows.append([
            f"`{curve.name}`",
            *(f"{cost[:, -1].mean():,.0f}" for cost in (
                curve.tiles, curve.images, curve.foreground, curve.objects
            )),
            "" if own else gain(lambda row: row.foreground),
            "" if own else gain(lambda row: row.objects),
            "-" if own else f"{np.nanmean(curve.lift[:, 1:]):+.1f}",
            f"{curve.repeated[:, 1:].mean():.0%}",
        ])  # fmt: skip
    heads = ["strategy", "tiles", "images", "foreground px", "objects", "at equal foreground",
             "at equal objects", "lift, SD", "repeated"]  # fmt: skip
    text = (
        "Tiles, source images, labelled pixels and outlined objects at the end, means over seeds. "
        "*At equal …*: the difference on the way, over that cost in place of tiles, as far as both "
        "have spent it. *Lift*: how far the mean score of a batch lies above the pool's, in its "
        "standard deviations. *Repeated*: the share of a batch that has a near-duplicate in the "
        "same batch; of all pairs of the pool the hundredth that look most alike, by colours and "
        "texture, are near-duplicates."
    )
    return _table(heads, rows) + "\n\n" + text


def _rounds(result: Result) -> str:
    tiles = result.baseline.tiles[0].astype(int)
    rows = [
        [f"`{curve.name}`", *(plain(interval(column)) for column in curve.iou.T)]
        for curve in result.curves.values()
    ]
    return _table(["strategy", *(f"{count} tiles" for count in tiles)], rows)


def _controls(plan: Plan, result: Result) -> str:
    end_S = result.baseline.iou[:, -1]
    rows = [["`random`, at the end", plain(interval(end_S)), ""]]
    names = {
        longer_of(plan.longer): f"the same tiles, {plan.longer} times as long",
        ceiling_of(plan.longer): f"the whole pool, {plan.longer} times as long",
        ceiling_of(1): "the whole pool, as long as the others",
    }
    for arm, iou_S in sorted(result.controls.items(), reverse=True):
        rows.append([names[arm], plain(interval(iou_S)), signed(interval(iou_S - end_S))])
    text = (
        "Where the same tiles gain much from a longer training, a strategy may look better because "
        "its tiles are learned faster, not because they say more."
    )
    return _table(["trained on", "IoU", "against random's end"], rows) + "\n\n" + text


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
