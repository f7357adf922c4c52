"""Touching nuclei: objects cut apart by the watershed, against connected components.

What `benchmark.py instances` runs on ../shared/data/dsb2018_nuclei, or on discs drawn here. First
on the true masks, merged into one label: how well cutting alone undoes the merging. Then on what a
network says that was trained by configs/instances.yaml, made short (`SMALL`). The split is fixed:
of the images in the order of their names every fourth is for the test, the next one for validation,
the other two are learned from. Validation chooses the epoch and the settings of the watershed; the
test is measured once, with components and watershed on the same predicted label maps.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from benchmark import DATA, Row
from benchmark_files import find_pairs
from benchmark_learning import Pair, paired, read_pair, tell
from PIL import Image

from ml_backend.learning.data import Sample
from ml_backend.learning.inference import Predictor, predictor_from_state
from ml_backend.learning.training import train
from ml_backend.loop.instances import Trials
from ml_backend.masks.instances import Objects, components, told_apart
from ml_backend.masks.matching import Found, Matching
from ml_backend.masks.sheet import Row as SheetRow
from ml_backend.masks.sheet import contact_sheet
from ml_backend.masks.watershed import objects
from ml_backend.recipe import Instances, Recipe, load_recipe
from ml_backend.store.mask_values import read_objects

RECIPE = Path(__file__).resolve().parents[1] / "configs/instances.yaml"
SEEDS = 3
SMALL = {"training.steps": 900, "training.epochs": 9}
DRAWN = 24  # images, where there are no real ones
SHOWN, CUT, CELL, COLOURS = 3, 160, 240, 64


@dataclass(frozen=True)
class Nuclei:
    """An image as a sample, and its objects as they were told apart."""

    sample: Sample
    true: Objects

    @property
    def merged(self) -> np.ndarray:
        """What a network is taught, (H, W) uint8: nucleus or not."""
        return self.sample.load()[1]


@dataclass(frozen=True)
class Ways:
    """The scores of both ways to tell objects apart, on the same label maps."""

    watershed: Found
    components: Found


def rows(*, quick: bool = False, out: Path | None = None) -> Iterator[Row]:
    """Measure cutting alone, then a network of every seed; `quick`: one seed, few steps."""
    learned, validation, test = split(pictures())
    base = load_recipe(RECIPE).instances
    settings = tuned([nuclei.merged for nuclei in validation], validation, base)
    merged = [nuclei.merged for nuclei in test]
    yield from compared("true masks", [both(merged, test, settings)])
    if out is not None:
        draw(merged, test, settings, out / "instances-true.png")
    found = []
    for seed in range(1 if quick else SEEDS):
        recipe = load_recipe(RECIPE).changed(SMALL | {"training.seed": seed})
        if quick:
            recipe = recipe.changed({"training.steps": 20, "training.epochs": 1})
        predictor = fit(recipe, learned, validation)
        settings = tuned(maps_of(predictor, validation), validation, recipe.instances)
        predicted = maps_of(predictor, test)
        found.append(both(predicted, test, settings))
        tell(
            f"seed {seed}: PQ {found[-1].watershed.pq:.3f} by watershed (neck {settings.neck}, "
            f"smoothing {settings.smoothing}), {found[-1].components.pq:.3f} by components"
        )
        if seed == 0 and out is not None:
            draw(predicted, test, settings, out / "instances.png")
    yield from compared("predicted masks", found)


def split(nuclei: Sequence[Nuclei]) -> tuple[list[Nuclei], list[Nuclei], list[Nuclei]]:
    """To learn from, to validate and to test on."""
    learned = [one for index, one in enumerate(nuclei) if index % 4 > 1]
    return learned, list(nuclei[1::4]), list(nuclei[0::4])


def pictures() -> list[Nuclei]:
    """The real nuclei by name, or drawn ones."""
    folder = DATA / "dsb2018_nuclei"
    if not folder.is_dir():
        return [drawn(np.random.default_rng([7, index]), index) for index in range(DRAWN)]
    pairs = find_pairs(folder / "images", folder / "masks")
    return [real(image, mask) for image, mask in sorted(pairs.items())]


def real(image: Path, mask: Path) -> Nuclei:
    """An image whose mask file numbers its nuclei."""
    _, label_map = read_pair(image, mask)
    numbers = read_objects(mask.read_bytes(), mask.name)
    true = components(label_map) if numbers is None else told_apart(label_map, numbers)
    return Nuclei(Sample(image.name, partial(read_pair, image, mask)), true)


def drawn(rng: np.random.Generator, index: int, side: int = 192) -> Nuclei:
    """Bright discs in the dark, some of which touch or overlap a little."""
    numbers = np.zeros((side, side), np.int32)
    for number in range(1, 31):
        x, y = (int(place) for place in rng.integers(0, side, 2))
        cv2.circle(numbers, (x, y), int(rng.integers(8, 15)), number, -1)
    label_map = (numbers > 0).astype(np.uint8)
    light = 30 + 130 * cv2.GaussianBlur(label_map.astype(np.float32), (0, 0), 1.0)
    grey = np.clip(light + rng.normal(0, 12, light.shape), 0, 255).astype(np.uint8)
    pair = (np.repeat(grey[..., None], 3, axis=2), label_map)
    return Nuclei(Sample(f"drawn-{index:02}", partial(same, pair)), told_apart(label_map, numbers))


def same(pair: Pair) -> Pair:
    """Give back what was drawn."""
    return pair


def fit(recipe: Recipe, learned: Sequence[Nuclei], validation: Sequence[Nuclei]) -> Predictor:
    """Train by the recipe; the validation images choose the epoch."""
    samples, judges = ([one.sample for one in side] for side in (learned, validation))
    trained = train(samples, judges, recipe=recipe, classes=1)
    return predictor_from_state(trained.state, recipe.network, 1, recipe.prediction)


def maps_of(predictor: Predictor, nuclei: Sequence[Nuclei]) -> list[np.ndarray]:
    """Predicted label maps, (H, W) uint8."""
    seen = predictor.probs_many(one.sample.load()[0] for one in nuclei)
    return [probs.argmax(axis=0).astype(np.uint8) for probs in seen]


def tuned(label_maps: Sequence[np.ndarray], nuclei: Sequence[Nuclei], base: Instances) -> Instances:
    """Choose the watershed's settings as the loop does after a training."""
    trials = Trials(base, 1)
    for label_map, one in zip(label_maps, nuclei, strict=True):
        trials.add(label_map, one.merged, one.true)
    return trials.best().settings


def both(label_maps: Sequence[np.ndarray], nuclei: Sequence[Nuclei], settings: Instances) -> Ways:
    """Match the objects of both ways; the smallest are left out of both alike."""
    whole = settings.model_copy(update={"neck": None})
    counts = Matching(1), Matching(1)
    for label_map, one in zip(label_maps, nuclei, strict=True):
        for counting, how in zip(counts, (settings, whole), strict=True):
            counting.add(objects(label_map, how), one.true, one.merged)
    return Ways(*(counting.scores() for counting in counts))


def compared(what: str, found: Sequence[Ways]) -> Iterator[Row]:
    """Rows of PQ, AP50, and the share of the true number by which the count is off."""
    names = ("watershed", "components")
    sides = [[getattr(ways, name) for ways in found] for name in names]
    for title, key in (("PQ", "pq"), ("AP50", "ap50")):
        scores = ([getattr(one, key) for one in side] for side in sides)
        case = f"{title} of nuclei on {what}, watershed by components"
        yield paired(case, *scores, title, 1, names=names)
    counted = ([right_count(one) for one in side] for side in sides)
    true = found[0].watershed.true
    case = f"nuclei counted on {what}, lesser by larger of found and true ({true})"
    yield paired(case, *counted, "share", 1, names=names)


def right_count(scores: Found) -> float:
    """How near the number of objects comes to the true one, 0..1."""
    return min(scores.found, scores.true) / max(scores.found, scores.true, 1)


def draw(
    predicted: Sequence[np.ndarray], test: Sequence[Nuclei], settings: Instances, path: Path
) -> None:
    """Write the test images with most nuclei cut apart: image, truth, components, watershed."""
    hows = settings.model_copy(update={"neck": None}), settings
    found = [[objects(label_map, how)[0] for how in hows] for label_map in predicted]
    cuts = [cut_apart(*ways) for ways in found]
    lines = []
    for index in np.argsort([int(cut.sum()) for cut in cuts])[::-1][:SHOWN].tolist():
        place = busiest(cuts[index])
        image = test[index].sample.load()[0][place]
        stretched = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
        numbers = (test[index].true[0], *found[index])
        pictures = [stretched, *(coloured(one[place]) for one in numbers)]
        lines.append(SheetRow("image | truth | components | watershed", [*map(enlarged, pictures)]))
    sheet = Image.open(io.BytesIO(contact_sheet(lines)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def cut_apart(whole: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Pixels of the components that were cut, (H, W) bool."""
    inside = (whole > 0) & (parts > 0)
    pairs = np.unique(np.stack([whole[inside], parts[inside]]), axis=1)
    counts = np.bincount(pairs[0], minlength=int(whole.max()) + 1)
    return np.asarray(counts[whole] > 1)


def busiest(mask: np.ndarray) -> tuple[slice, slice]:
    """The square of `CUT` px with most foreground."""
    height, width = (min(CUT, size) for size in mask.shape)
    sums = cv2.boxFilter(mask.astype(np.float32), -1, (width, height), normalize=False)
    sums = sums[height // 2 : mask.shape[0] - (height - 1) // 2]
    sums = sums[:, width // 2 : mask.shape[1] - (width - 1) // 2]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    return np.s_[y : y + height, x : x + width]


def coloured(numbers: np.ndarray) -> np.ndarray:
    """A colour a number, black where there is none; neighbours differ."""
    hues = (np.arange(int(numbers.max()) + 1) * 67 % 180).astype(np.uint8)
    bright = np.full_like(hues, 255)
    table = cv2.cvtColor(np.stack([hues, bright - 80, bright], axis=1)[None], cv2.COLOR_HSV2RGB)[0]
    table[0] = 0
    return np.asarray(table[numbers])


def enlarged(picture: np.ndarray) -> np.ndarray:
    """`CELL` px high."""
    side = (round(picture.shape[1] * CELL / picture.shape[0]), CELL)
    return np.asarray(cv2.resize(picture, side, interpolation=cv2.INTER_NEAREST))
