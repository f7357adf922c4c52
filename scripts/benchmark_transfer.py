"""From clean silhouettes to noisy water: what the augmentations are worth without annotations.

What `benchmark.py transfer` runs. The source is ../shared/data/plankton_ndsb_derived, or the
package's clean samples without it; the target is the package's noisy samples, whose masks are
exact. All arms take the same steps by the recipe configs/plankton.yaml, made small (`SMALL`), and
differ in nothing but what is said of them here. The test images are frozen and choose nothing:
there is no validation, the last weights count. The pool whose looks `specialized` borrows, and from
which the few annotated target images are drawn, holds other images than the test.
"""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark import DATA, Row, row
from benchmark_learning import paired, samples_in, spread, tell
from PIL import Image

from ml_backend.learning.data import Sample
from ml_backend.learning.evaluation import evaluate
from ml_backend.learning.inference import Predictor, predictor_from_state
from ml_backend.learning.references import Reference
from ml_backend.learning.training import train
from ml_backend.loop.bootstrap import bootstrap
from ml_backend.masks.sheet import Row as SheetRow
from ml_backend.masks.sheet import contact_sheet
from ml_backend.recipe import Recipe, load_recipe
from ml_backend.samples import make_samples

RECIPE = Path(__file__).resolve().parents[1] / "configs/plankton.yaml"
SEEDS = 3
STEPS = 150
SMALL = {"network.encoder": "resnet18", "training.batch_size": 4, "training.patch": 128}
CLEAN, POOL, TEST = 77, 40, 40  # images
POOL_SEED, TEST_SEED = 101, 202
ANNOTATED = 5
SHOWN, CELL, GREYS = 3, 192, 48
RIGHT, WRONG, MISSED = (255, 255, 255), (220, 40, 40), (60, 110, 255)

FEW = f"specialized + {ANNOTATED} target images"
OWN_MASKS = "specialized, masks by bootstrap"
ARMS = ("basic", "domain", "specialized", OWN_MASKS, FEW)


@dataclass(frozen=True)
class Domains:
    """Source by its given masks and by those of `bootstrap`, and two sets of target images."""

    source: list[Sample]
    own_masks: list[Sample]
    pool: list[Sample]
    test: list[Sample]


def rows(*, quick: bool = False, out: Path | None = None) -> Iterator[Row]:
    """Train every arm with every seed; `quick`: one seed, a tenth of the steps, few images."""
    seeds, steps, count = (1, max(STEPS // 10, 1), 6) if quick else (SEEDS, STEPS, TEST)
    with tempfile.TemporaryDirectory() as folder:
        domains = make_domains(Path(folder), count)
        yield agreement(domains)
        found: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for seed in range(seeds):
            predictors = {}
            for arm in ARMS:
                predictors[arm] = fit(arm, seed, steps, domains)
                found[arm].append(evaluate(predictors[arm], domains.test, 1).mean_dice)
                tell(f"seed {seed}, {arm}: Dice {found[arm][-1]:.3f} on {count} noisy images")
            if seed == 0 and out is not None:
                draw(domains.test[:SHOWN], predictors, out / "transfer.png")
    for ours, other, target in (
        ("specialized", "basic", 1),
        ("domain", "basic", 1),
        ("specialized", "domain", 1),
        (FEW, "specialized", 1),
        (OWN_MASKS, "specialized", 0.95),
    ):
        case = f"Dice on noisy images, {ours} by {other}"
        names = (ours, other)
        yield paired(case, found[ours], found[other], "Dice", target, names=names)


def make_domains(folder: Path, count: int) -> Domains:
    """Draw the target's images, and the source's where there are no real ones."""
    images = DATA / "plankton_ndsb_derived/images"
    masks = images.with_name("masks")
    if not images.is_dir():
        drawn = make_samples(folder / "clean", count_clean=CLEAN, count_noisy=0)
        images, masks = drawn.clean_images, drawn.clean_masks
    bootstrap(images, folder / "masks")
    pool, test = (
        make_samples(folder / f"noisy-{seed}", count_clean=0, count_noisy=images_N, seed=seed)
        for seed, images_N in ((POOL_SEED, POOL), (TEST_SEED, count))
    )
    return Domains(
        samples_in(images, masks),
        samples_in(images, folder / "masks"),
        samples_in(pool.noisy_images, pool.noisy_masks),
        samples_in(test.noisy_images, test.noisy_masks),
    )


def agreement(domains: Domains) -> Row:
    """Row of how well the masks that `bootstrap` makes agree with the given ones."""
    own = {sample.name: sample.load()[1] > 0 for sample in domains.own_masks}
    ious = []
    for sample in domains.source:
        given = sample.load()[1] > 0
        mine = own.get(sample.name, np.zeros_like(given))
        ious.append((mine & given).sum() / max((mine | given).sum(), 1))
    case = f"IoU of bootstrap's masks with the given ones, {len(ious)} clean images"
    case += f" ({spread(np.array(ious))})"
    mean = float(np.mean(ious))
    return row(case, mean, 1.0, mean, "IoU", 0.8, holds=mean >= 0.8)


def recipe_of(arm: str, seed: int, steps: int) -> Recipe:
    """The recipe made small, with this arm's augmentation."""
    changes: dict[str, Any] = {
        "training.augmentation": arm if arm in {"basic", "domain"} else "specialized",
        "training.steps": steps,
        "training.epochs": 1,
        "training.seed": seed,
    }
    return load_recipe(RECIPE).changed(SMALL | changes)


def fit(arm: str, seed: int, steps: int, domains: Domains) -> Predictor:
    """Train one arm; what has learned is the last step's moving average."""
    recipe = recipe_of(arm, seed, steps)
    learned = domains.own_masks if arm == OWN_MASKS else domains.source
    if arm == FEW:
        chosen = np.random.default_rng([seed, 5]).permutation(len(domains.pool))[:ANNOTATED]
        weight = recipe.training.target_weight
        learned = learned + [replace(domains.pool[index], weight=weight) for index in chosen]
    looks = [Reference(sample.name, lambda s=sample: s.load()[0]) for sample in domains.pool]
    trained = train(learned, [], recipe=recipe, classes=1, pool=looks)
    return predictor_from_state(trained.state, recipe.network, 1, recipe.prediction)


def draw(test: list[Sample], predictors: dict[str, Predictor], path: Path) -> None:
    """Write the first test images beside their truth and what two arms make of them.

    White is right, red is too much, blue is missed.
    """
    lines = []
    for sample in test:
        image, truth = sample.load()
        answers = {arm: predictors[arm].probs(image)[1] > 0.5 for arm in ("basic", "specialized")}
        pictures = [image, errors(truth > 0, truth > 0)]
        pictures += [errors(answer, truth > 0) for answer in answers.values()]
        title = " | ".join(["noisy image", "truth", *answers])
        lines.append(SheetRow(title, [shrunk(picture) for picture in pictures]))
    sheet = Image.open(io.BytesIO(contact_sheet(lines)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(palette=palette(), dither=Image.Dither.NONE).save(path, optimize=True)


def palette() -> Image.Image:
    """Greys for the images, and the colours of the masks, which are too rare to be found."""
    greys = [(grey,) * 3 for grey in np.linspace(0, 255, GREYS).astype(int).tolist()]
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in (*greys, WRONG, MISSED) for channel in colour])
    return image


def errors(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Colour a mask by what is right about it."""
    picture = np.zeros((*truth.shape, 3), np.uint8)
    picture[found & truth] = RIGHT
    picture[found & ~truth] = WRONG
    picture[~found & truth] = MISSED
    return picture


def shrunk(picture: np.ndarray) -> np.ndarray:
    """At most `CELL` px high."""
    height, width = picture.shape[:2]
    side = (round(width * CELL / height), CELL)
    return np.asarray(cv2.resize(picture, side, interpolation=cv2.INTER_AREA))
