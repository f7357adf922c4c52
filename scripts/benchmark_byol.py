"""What BYOL is worth: few labelled tiles, an encoder from random weights or from the same images.

What `benchmark.py byol` runs, on the electron micrographs in ../shared/data. Both arms of a seed
have the same labelled tiles, decoder, steps and order of patches; only the encoder's first weights
differ. Sections are split once: some are the pool, those next to them are left out, the last ones
test. Test sections take part in nothing, and nothing is chosen by them: the last step counts.
"""

import csv
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark import DATA, Row, row

from ml_backend.recipe import Recipe, parse_recipe

SIDE = 128
TEST_SIDE = 384  # the middle of each test section
LABELLED = 20
ARMS = ("random", "byol")
# Sections of each stack: the pool up to the first number, the test from the second one on.
STACKS = {"vnc_mitochondria": (8, 9), "isbi2012_membranes": (14, 15)}
TASKS = {
    "membranes": {"vnc_mitochondria": "masks/membranes", "isbi2012_membranes": "masks"},
    "mitochondria": {"vnc_mitochondria": "masks/mitochondria"},
}
DARK_IS_LABEL = ("isbi2012_membranes",)


@dataclass(frozen=True)
class Section:
    """One section of a stack: (H, W, 3) uint8, and by task its (H, W) uint8 label map."""

    name: str
    side: str
    image: np.ndarray
    masks: dict[str, np.ndarray]


@dataclass(frozen=True)
class Point:
    """IoU on the test sections of a task after some steps, by an arm with a seed."""

    task: str
    seed: int
    arm: str
    step: int
    iou: float


def rows(
    *,
    tasks: Sequence[str],
    seeds: int,
    encoders: int | None,
    pretraining_steps: int,
    steps: int,
    table: Path | None,
    figure: Path | None,
) -> Iterator[Row]:
    """Pretrain, train both arms on every task with every seed, and compare them in pairs.

    `encoders` is how many are pretrained; seeds take them in turn. None is one for each seed.
    """
    recipe = recipe_of(pretraining_steps, steps)
    found = sections()
    points: list[Point] = []
    made: list[dict[str, Any]] = []
    spent = {"pretraining": 0.0, "training": 0.0}
    for seed in range(seeds):
        seeded = recipe.changed({"training.seed": seed, "pretraining.seed": seed})
        began = time.process_time()
        if len(made) < (encoders or seeds):
            made.append(pretrained(found, seeded))
            spent["pretraining"] += time.process_time() - began
        for task in tasks:
            for arm, encoder in zip(ARMS, (None, made[seed % len(made)]), strict=True):
                began = time.process_time()
                points += trained(found, seeded, task, arm, encoder)
                spent["training"] += time.process_time() - began
                say(f"seed {seed}, {task}, {arm}: IoU {points[-1].iou:.3f}")
        if table is not None:
            write(points, table)
        if figure is not None:
            draw(points, figure)
    yield from compared(points)
    runs = seeds * len(tasks) * len(ARMS)
    cost, usual = spent["pretraining"] / len(made), spent["training"] / runs
    yield row(
        "processor time of one pretraining by one training",
        cost, usual, cost / usual, "s", math.inf, holds=True,
    )  # fmt: skip


def recipe_of(pretraining_steps: int, steps: int) -> Recipe:
    """The defaults but for sizes: what two processor cores do in half an hour."""
    views = {"patch": 64, "batch_size": 16}
    return parse_recipe(
        {
            "pretraining": {"steps": pretraining_steps, "epochs": 5, **views},
            "training": {"steps": steps, "epochs": 3, "patch": SIDE},
            "prediction": {"overlap": 32},
        }
    )


def sections() -> list[Section]:
    """Read the stacks; a section that is next to the pool and to the test is left out."""
    found = []
    for stack, (pool_ends, test_begins) in STACKS.items():
        paths = sorted((DATA / stack / "images").iterdir(), key=lambda path: int(path.stem))
        if not paths:
            raise SystemExit(f"no images in {DATA / stack}: this comparison needs real ones")
        for number, path in enumerate(paths):
            if pool_ends <= number < test_begins:
                continue
            image = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), cv2.COLOR_GRAY2RGB)
            masks = {
                task: label_map(DATA / stack / folders[stack] / f"{path.stem}.png", stack)
                for task, folders in TASKS.items()
                if stack in folders
            }
            side = "pool" if number < pool_ends else "test"
            if side == "test":
                image, masks = middle(image), {task: middle(mask) for task, mask in masks.items()}
            found.append(Section(f"{stack}/{path.stem}", side, image, masks))
    return found


def middle(pixels: np.ndarray) -> np.ndarray:
    """Cut a square out of the middle."""
    top, left = ((length - TEST_SIDE) // 2 for length in pixels.shape[:2])
    return pixels[top : top + TEST_SIDE, left : left + TEST_SIDE]


def label_map(path: Path, stack: str) -> np.ndarray:
    """1 where the label is."""
    bright = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
    return (~bright if stack in DARK_IS_LABEL else bright).astype(np.uint8)


def pretrained(found: Sequence[Section], recipe: Recipe) -> dict[str, Any]:
    """Pretrain on every tile of the pool, without a mask."""
    from ml_backend.learning.byol import pretrain
    from ml_backend.learning.references import Reference

    images = [
        Reference(name, partial(np.asarray, section.image[place]))
        for section, name, place in tiles(found)
    ]
    seed = recipe.pretraining.seed
    return pretrain(
        images,
        recipe=recipe,
        on_epoch=lambda epoch: say(
            f"seed {seed}, pretraining: epoch {epoch.epoch} of {epoch.epochs}, "
            f"loss {epoch.loss:.3f}, spread {epoch.spread:.2f}, {epoch.seconds:.0f} s"
        ),
    ).state


def tiles(found: Sequence[Section]) -> list[tuple[Section, str, tuple[slice, slice]]]:
    """Every tile of the pool with its name and place."""
    return [
        (section, f"{section.name} {y},{x}", np.s_[y : y + SIDE, x : x + SIDE])
        for section in found
        if section.side == "pool"
        for y in range(0, section.image.shape[0] - SIDE + 1, SIDE)
        for x in range(0, section.image.shape[1] - SIDE + 1, SIDE)
    ]


def trained(
    found: Sequence[Section], recipe: Recipe, task: str, arm: str, encoder: dict[str, Any] | None
) -> list[Point]:
    """Train on the seed's labelled tiles; the course on the test sections."""
    from ml_backend.learning.data import Sample
    from ml_backend.learning.training import train

    pool = [tile for tile in tiles(found) if task in tile[0].masks]
    rng = np.random.default_rng([recipe.training.seed, len(pool)])
    drawn = rng.choice(len(pool), min(LABELLED, len(pool)), replace=False)
    labelled = [
        Sample(name, partial(lambda one, at: (one.image[at], one.masks[task][at]), section, place))
        for section, name, place in (pool[index] for index in drawn)
    ]
    test = [
        Sample(one.name, partial(lambda one: (one.image, one.masks[task]), one))
        for one in found
        if one.side == "test" and task in one.masks
    ]
    done = train(labelled, test, recipe=recipe, classes=1, encoder=encoder)
    step = recipe.training.steps / len(done.epochs)
    return [
        Point(task, recipe.training.seed, arm, round(step * epoch.epoch), epoch.val_iou)
        for epoch in done.epochs
    ]


def compared(points: Sequence[Point]) -> Iterator[Row]:
    """Means of the arms at every point of the curves; it holds where the interval is above 0."""
    for task in tasks_of(points):
        steps = sorted({point.step for point in points if point.task == task})
        for step in steps:
            arms = {
                arm: np.array(
                    [p.iou for p in points if (p.task, p.arm, p.step) == (task, arm, step)]
                )
                for arm in ARMS
            }
            low, high = interval(arms["byol"] - arms["random"])
            ours, other = (float(arms[arm].mean()) for arm in ("byol", "random"))
            case = (
                f"{task}, step {step}: {ours - other:+.4f} [{low:+.4f}, {high:+.4f}], "
                f"deviations {spread(arms['byol']):.4f} and {spread(arms['random']):.4f}"
            )
            yield row(case, ours, other, ours / other, "IoU", 1, holds=low > 0)


def tasks_of(points: Sequence[Point]) -> list[str]:
    """The tasks in their order."""
    return list(dict.fromkeys(point.task for point in points))


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of paired differences (Student)."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return -math.inf, math.inf
    half = t.ppf(0.975, count - 1) * differences.std(ddof=1) / math.sqrt(count)
    return float(differences.mean() - half), float(differences.mean() + half)


def spread(values: np.ndarray) -> float:
    """Standard deviation over the seeds."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def write(points: Sequence[Point], path: Path) -> None:
    """Write the curves as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["task", "seed", "arm", "step", "iou"])
        for one in points:
            lines.writerow([one.task, one.seed, one.arm, one.step, f"{one.iou:.4f}"])


def draw(points: Sequence[Point], path: Path) -> None:
    """Draw the curves: thin each seed, thick the mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = tasks_of(points)
    figure = Figure(figsize=(4.2 * len(tasks), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    colours = {"random": "#777777", "byol": "#0a64ad"}
    names = {"random": "random weights", "byol": "BYOL"}
    for place, task in enumerate(tasks, 1):
        axes = figure.add_subplot(1, len(tasks), place)
        for arm in ARMS:
            mine = [point for point in points if (point.task, point.arm) == (task, arm)]
            steps = sorted({point.step for point in mine})
            curves = np.array(
                [
                    [point.iou for point in mine if point.seed == seed]
                    for seed in sorted({point.seed for point in mine})
                ]
            )
            axes.plot(steps, curves.T, color=colours[arm], linewidth=0.7, alpha=0.5)
            axes.plot(steps, curves.mean(axis=0), color=colours[arm], linewidth=2.2,
                      label=f"{names[arm]}, mean of {len(curves)}")  # fmt: skip
        axes.set(title=task, xlabel="training steps", ylabel="IoU on test sections")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110)


def say(line: str) -> None:
    """Tell where it is; the rows go to the standard output."""
    print(line, file=sys.stderr, flush=True)
