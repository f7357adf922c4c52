"""The recipe for stained tissue, tried: first weights and choice of tiles, each with and without.

What `benchmark.py glands` runs: {random, suggestive} x {random weights, BYOL} (Max 2021) with the
sections of configs/glands-byol.yaml at smaller sizes, on the stained tissue among the nuclei of
../shared/data. Images are split once; those of the test take part in nothing. All arms of a seed
have the same first tiles, decoder, steps and order of patches.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import DATA, Row, row
from benchmark_byol import Section, interval, pretrained, say, spread, tiles
from benchmark_select import NUCLEI

from ml_backend.recipe import Recipe, load_recipe

CONFIG = Path(__file__).resolve().parents[1] / "configs/glands-byol.yaml"
KINDS = ("purple tissue", "pink tissue")
TEST = 3  # every third image
BATCH = 6
TASK = "nuclei"
RULES = ("random", "suggestive")


def rows(*, seeds: int, pretraining_steps: int, steps: int) -> Iterator[Row]:
    """Pretrain once; by seed train on a batch, choose another in two ways, train on both."""
    recipe = load_recipe(CONFIG)
    bare = recipe.network.model_copy(update={"encoder_weights": None})  # handed in below
    recipe = recipe.model_copy(update={"network": bare}).changed(
        {
            "pretraining.steps": pretraining_steps,
            "pretraining.epochs": 4,
            "pretraining.patch": 96,
            "pretraining.batch_size": 16,
            "training.steps": steps,
            "training.epochs": 1,
            "training.batch_size": 4,
            "training.patch": 128,
        }
    )
    found = sections()
    encoders = {"random weights": None, "BYOL": pretrained(found, recipe)}
    ious: dict[str, list[float]] = {}
    for seed in range(seeds):
        for name, iou in played(found, recipe.changed({"training.seed": seed}), encoders):
            say(f"seed {seed}, {name}: IoU {iou:.3f}")
            ious.setdefault(name, []).append(iou)
    values = {name: np.array(of_seeds) for name, of_seeds in ious.items()}
    first, *_ = RULES
    yield compared(values, f"BYOL, {BATCH} tiles", f"random weights, {BATCH} tiles")
    base = f"random weights, {2 * BATCH} tiles {first}"
    for name in values:
        if f"{2 * BATCH} tiles" in name and name != base:
            yield compared(values, name, base)


def compared(values: dict[str, np.ndarray], name: str, base: str) -> Row:
    """Compare an arm with another in pairs; it holds where the interval is above 0."""
    ours, other = values[name], values[base]
    low, high = interval(ours - other)
    case = (
        f"{name} against {base}: {(ours - other).mean():+.4f} [{low:+.4f}, {high:+.4f}], "
        f"deviations {spread(ours):.4f} and {spread(other):.4f}"
    )
    mean, base_mean = float(ours.mean()), float(other.mean())
    return row(case, mean, base_mean, mean / base_mean, "IoU", 1, holds=low > 0)


def sections() -> list[Section]:
    """Images of stained tissue; every third one tests."""
    from ml_backend.store.images import decode_image
    from ml_backend.store.mask_values import read_mask

    folder = DATA / "dsb2018_nuclei"
    if not folder.is_dir():
        raise SystemExit(f"no images in {folder}: this comparison needs real ones")
    paths = sorted((folder / "images").iterdir())
    wanted = sorted(int(place) for kind in KINDS for place in NUCLEI[kind].split())
    found = []
    for number, place in enumerate(wanted):
        path = paths[place]
        image = decode_image(path.read_bytes(), path.name)
        mask = folder / "masks" / path.name
        nuclei = read_mask(mask.read_bytes(), mask.name, shape=image.shape[:2])
        side = "test" if number % TEST == 0 else "pool"
        found.append(Section(path.stem[:8], side, image, {TASK: nuclei}))
    return found


def played(
    found: Sequence[Section], recipe: Recipe, encoders: dict[str, Any]
) -> Iterator[tuple[str, float]]:
    """Play every arm with one seed: its name and IoU on the test images."""
    pool, seed = tiles(found), recipe.training.seed
    rng = np.random.default_rng([seed, len(pool)])
    first = rng.choice(len(pool), BATCH, replace=False)
    for start, encoder in encoders.items():
        state, iou = trained(found, recipe, first, encoder)
        yield f"{start}, {BATCH} tiles", iou
        for rule in RULES:
            batch = chosen(found, recipe, first, state, rule)
            _, iou = trained(found, recipe, np.append(first, batch), encoder)
            yield f"{start}, {2 * BATCH} tiles {rule}", iou


def trained(
    found: Sequence[Section], recipe: Recipe, picked: np.ndarray, encoder: dict[str, Any] | None
) -> tuple[dict[str, Any], float]:
    """Train anew on some tiles of the pool; the last step's weights and their IoU."""
    from ml_backend.learning.data import Sample
    from ml_backend.learning.training import train

    pool = tiles(found)
    labelled = [
        Sample(name, partial(lambda one, at: (one.image[at], one.masks[TASK][at]), section, place))
        for section, name, place in (pool[index] for index in picked)
    ]
    test = [
        Sample(one.name, partial(lambda one: (one.image, one.masks[TASK]), one))
        for one in found
        if one.side == "test"
    ]
    done = train(labelled, test, recipe=recipe, classes=1, encoder=encoder)
    return done.state, done.epochs[-1].val_iou


def chosen(
    found: Sequence[Section], recipe: Recipe, first: np.ndarray, state: dict[str, Any], rule: str
) -> np.ndarray:
    """Choose the next batch of tiles by a rule, as the loop does."""
    from ml_backend.learning.inference import predictor_from_state
    from ml_backend.learning.passes import passes_many
    from ml_backend.selection.embeddings import embed
    from ml_backend.selection.strategies import STRATEGIES, Pool
    from ml_backend.selection.uncertainty import Passes, score_image

    pool, scoring = tiles(found), recipe.scoring
    predictor = predictor_from_state(state, recipe.network, 1, recipe.prediction)
    asked = [(section.image[at], (index,)) for index, (section, _, at) in enumerate(pool)]
    column = f"{scoring.score}:{scoring.reduction}"
    scores, looks = [], []
    for seen in passes_many(predictor, asked, scoring):
        scores.append(score_image(Passes(seen.probs_TCHW, None, scoring.top_share))[column])
        looks.append(embed(seen.features_D))
    free = np.setdiff1d(np.arange(len(pool)), first)
    vectors = np.stack(looks)
    known = Pool(np.array(scores)[free], embeddings_ND=vectors[free], labelled_MD=vectors[first])
    rng = np.random.default_rng([recipe.training.seed, 1])
    picked: np.ndarray = free[STRATEGIES[rule](known, BATCH, rng, recipe.selection)]
    return picked
