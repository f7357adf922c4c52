"""What a dozen masks teach the default recipe, against a plain U-Net trained for the same time.

What `benchmark.py learn` runs: six cases of real images in ../shared/data (pictures drawn by the
package without it), or `--images` and `--masks` of anybody. For every seed both sides learn from
the same 12 images or tiles, choose their best weights by the same few validation images, and are
judged on the same held-out ones. `ours` and `other` are means of the IoU over the seeds.
"""

import csv
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from benchmark import DATA, Row, row
from benchmark_learn_data import (
    Case,
    Material,
    material_of,
    own_case,
    rare_cases,
    real_cases,
    sample_case,
)

from ml_backend.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from benchmark_learn_sides import Learned

BETTER = 5 / 6
"""Share of the cases in which ours must be better."""


class Score(NamedTuple):
    """One side of one case and seed."""

    key: str
    case: str
    seed: int
    side: str
    iou: float
    dice: float
    cpu_seconds: float
    steps: int
    iou_by_label: str


def rows(
    *,
    quick: bool = False,
    case: Sequence[str] = (),
    seeds: int = 3,
    out: Path | None = None,
    recipe: Path | None = None,
    images: Path | None = None,
    masks: Path | None = None,
    label: Sequence[str] = (),
    values: str | None = None,
    tile: int | None = None,
) -> Iterator[Row]:
    """Measure every case with every seed; one seed and a tenth of the steps if `quick`.

    With `out`, figures go to learn.csv there as soon as they are known, and pictures beside it.
    The same command goes on from there: take another folder after a change of the code.
    """
    how = load_recipe(recipe) if recipe else Recipe()
    if quick:
        how, seeds = how.changed({"training.steps": max(1, how.training.steps // 10)}), 1
    with tempfile.TemporaryDirectory(prefix="brushloop-benchmark-") as place:
        if images:
            if not masks:
                raise SystemExit("--images needs --masks")
            cases = [own_case(images, masks, label, values, tile)]
        else:
            cases = chosen(case, Path(place))
        measured = []
        for one in cases:
            found = judged(one, how, range(seeds), out)
            measured += [] if one.rare else [found]
            yield found
    if out and measured:
        from benchmark_learn_pictures import draw_chart

        draw_chart(out / "learn.png", measured)
    if len(measured) > 1:
        yield from verdicts(measured)


def chosen(names: Sequence[str], place: Path) -> list[Case]:
    """The cases of these names (parts of them are enough), or the six."""
    cases = real_cases()
    if not cases:
        tell("there is no ../shared/data: both sides learn from pictures drawn by the package")
        return [sample_case(place / "samples")]
    known = [*cases, *rare_cases()]
    if strange := [name for name in names if not any(name in one.name for one in known)]:
        choices = ", ".join(one.name for one in known)
        raise SystemExit(f"--case {strange[0]}: there is no such case; choose from: {choices}")
    return [one for one in known if any(name in one.name for name in names)] if names else cases


def judged(case: Case, recipe: Recipe, seeds: Sequence[int], out: Path | None) -> Row:
    """Row of a case, means over the seeds; the ratio is ours / other."""
    scores = [score for seed in seeds for score in scores_of(case, recipe, seed, out)]
    sides = {side: [s for s in scores if s.side == side] for side in ("ours", "other")}
    ious, dices, seconds, steps = (
        {side: np.array([getattr(s, name) for s in found]) for side, found in sides.items()}
        for name in ("iou", "dice", "cpu_seconds", "steps")
    )
    mean = {side: float(values.mean()) for side, values in ious.items()}
    ratio = mean["ours"] / max(mean["other"], 1e-3)  # nothing found is no zero to divide by
    found = row(
        case.name, mean["ours"], mean["other"], ratio, "IoU", 1, holds=mean["ours"] > mean["other"]
    )
    for side in sides:
        found[f"{side}_sd"] = round(deviation(ious[side]), 3)
        found[f"{side}_dice"] = round(float(dices[side].mean()), 3)
    return found | {
        "cpu_seconds": round(float(seconds["ours"].mean())),
        "other_cpu_seconds": round(float(seconds["other"].mean())),
        "other_steps": round(float(steps["other"].mean())),
        "seeds": len(seeds),
    }


def verdicts(measured: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows of all cases: in how many ours is better, and its worst difference in sd.

    The sd is the smaller one of the two sides; of a single seed it is 0.001.
    """
    better, count = sum(one["holds"] for one in measured), len(measured)
    target = int(np.ceil(BETTER * count))
    yield row(
        "cases in which ours is better", better, count, better / count, "cases", target,
        holds=better >= target,
    ) | same_fields(measured[0])  # fmt: skip
    gaps = [
        (one["ours"] - one["other"]) / max(min(one["ours_sd"], one["other_sd"]), 1e-3)
        for one in measured
    ]
    worst = int(np.argmin(gaps))
    ours, other = measured[worst]["ours"], measured[worst]["other"]
    yield row(
        f"worst difference, in sd: {measured[worst]['case']}", ours, other, gaps[worst], "sd", -1,
        holds=gaps[worst] >= -1,
    ) | same_fields(measured[0])  # fmt: skip


def same_fields(one: Row) -> Row:
    """Fields of the other rows that a row of several cases has no values for."""
    return dict.fromkeys(list(one)[7:-1]) | {"seeds": one["seeds"]}


def deviation(values: np.ndarray) -> float:
    """Standard deviation of a sample; 0 of one value."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def scores_of(case: Case, recipe: Recipe, seed: int, out: Path | None) -> list[Score]:
    """Train both sides, or read from learn.csv what they have reached before."""
    key = fingerprint(recipe, case)
    done = [s for s in read_scores(out) if (s.key, s.case, s.seed) == (key, case.name, seed)]
    if len(done) == 2:
        return done
    from benchmark_learn_sides import count_pixels

    material, sides = trained(case, recipe.changed({"training.seed": seed}).at_round(1), seed)
    scores = []
    for side, learned in sides.items():
        counts = count_pixels(learned.maps, material.test, len(case.labels))
        by_label = " ".join(f"{value:.4f}" for value in counts.iou())
        iou, dice = counts.mean_iou(), counts.mean_dice()
        if case.rare:
            iou, dice = (float(np.nan_to_num(v[-1])) for v in (counts.iou(), counts.dice()))
        figures = round(iou, 4), round(dice, 4), round(learned.seconds, 1), learned.steps
        scores.append(Score(key, case.name, seed, side, *figures, by_label))
    tell(f"{case.name}, seed {seed}: " + " against ".join(map(figures_of, scores)))
    if out:
        write_scores(out, scores)
        if seed == 0:
            from benchmark_learn_pictures import draw_sheet

            name = "".join(c if c.isalnum() else "-" for c in case.name)
            draw_sheet(out / f"{name}.png", case.name, material, [s.maps for s in sides.values()])
    return scores


def trained(case: Case, recipe: Recipe, seed: int) -> "tuple[Material, dict[str, Learned]]":
    """Give what was learned from, and what each side made of it; ours first, for its time."""
    from benchmark_learn_sides import plain, product

    material = material_of(case, seed)
    ours = product(material, case.labels, recipe)
    if case.rare:
        anywhere = recipe.changed({"training.foreground_share": 0})
        return material, {"ours": ours, "other": product(material, case.labels, anywhere)}
    other = plain(material, len(case.labels), recipe, ours.seconds)
    return material, {"ours": ours, "other": other}


def figures_of(score: Score) -> str:
    """Write one side's result for people."""
    return f"IoU {score.iou:.3f} ({score.steps} steps, {score.cpu_seconds:.0f} s of the processor)"


def fingerprint(recipe: Recipe, case: Case) -> str:
    """What figures must agree in to be comparable: wherever ../shared/data lies."""
    places = {
        name: getattr(case, name).relative_to(DATA)
        for name in ("images", "masks")
        if getattr(case, name).is_relative_to(DATA)
    }
    what = replace(case, **places)
    text = recipe.model_dump_json(include={"network", "training", "prediction"}) + repr(what)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_scores(out: Path | None) -> list[Score]:
    """Read the figures that an earlier run left behind."""
    path = out / "learn.csv" if out else None
    if path is None or not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_score(record) for record in csv.DictReader(file)]


def _score(record: dict[str, Any]) -> Score:
    numbers = {name: float(record[name]) for name in ("iou", "dice", "cpu_seconds")}
    return Score(**record | numbers | {name: int(record[name]) for name in ("seed", "steps")})


def write_scores(out: Path, scores: Sequence[Score]) -> None:
    """Append figures to learn.csv."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "learn.csv"
    begins = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, Score._fields)
        if begins:
            writer.writeheader()
        writer.writerows(score._asdict() for score in scores)


def tell(text: str) -> None:
    """Say how far it is, beside the rows."""
    print(text, file=sys.stderr, flush=True)
