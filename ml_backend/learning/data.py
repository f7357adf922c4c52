"""Labelled images → an endless, reproducible stream of training patches."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ml_backend.errors import ConfigError, DataError, NothingToLearn
from ml_backend.learning.augment import AUGMENTATIONS, NEEDS_POOL
from ml_backend.learning.networks import image_stats
from ml_backend.learning.references import Reference, References, Small
from ml_backend.masks.sets import mask_of, strangers
from ml_backend.recipe import Training

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Points = npt.NDArray[np.int64]
T = TypeVar("T")

IGNORE = 255
MARGIN = 1.5
"""A region handed to an augmentation has this many times the side of the patch."""
CACHE_BYTES = 1 << 30
_POINTS = 512
_AHEAD = 4
"""So many batches are prepared before they are asked for: one that takes long delays no step."""
_WORKERS = 2


@dataclass(frozen=True)
class Sample:
    """One labelled image: `load` gives (H, W, 3) uint8 RGB and (H, W) uint8 labels (255 unknown).

    Where labels may overlap the latter is a set map (`masks/sets.py`).
    A sample of weight 10 is drawn ten times as often as one of weight 1.
    """

    name: str
    load: Callable[[], tuple[U8, U8]]
    weight: float = 1.0


class Batch(NamedTuple):
    """Patches (N, p, p, 3), the `image_stats` (N, 2) of their images, their labels (N, p, p)."""

    images: U8
    stats: F32
    masks: U8


def region_side(settings: Training) -> int:
    """Side, px, of the region that is cut out around a patch."""
    return int(settings.patch * MARGIN) // 2 * 2


def cached(samples: Sequence[Sample], budget: int = CACHE_BYTES) -> list[Sample]:
    """The same samples, which keep what they loaded while it fits into `budget` bytes in all.

    Nothing is evicted: with uniformly random access that would only cost decoding.
    """
    kept: dict[int, tuple[U8, U8]] = {}
    used = 0

    def remember(index: int, load: Callable[[], tuple[U8, U8]]) -> tuple[U8, U8]:
        nonlocal used
        if index not in kept:
            pair = load()
            size = pair[0].nbytes + pair[1].nbytes
            if used + size > budget:
                return pair
            used += size
            kept[index] = pair
        return kept[index]

    def loader(index: int, sample: Sample) -> Callable[[], tuple[U8, U8]]:
        return lambda: remember(index, sample.load)

    return [replace(sample, load=loader(i, sample)) for i, sample in enumerate(samples)]


def prepared(make: Callable[[int], T], steps: range) -> Generator[T]:
    """What `make` gives for each step; a few are made ahead of their use.

    Close it when it is not read to its end.
    """
    workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="patches")
    waiting: deque[Future[T]] = deque()
    coming = iter(steps)
    try:
        for _ in steps:
            for step in islice(coming, _AHEAD + 1 - len(waiting)):
                waiting.append(workers.submit(make, step))
            yield waiting.popleft().result()
    finally:
        workers.shutdown(cancel_futures=True)


def cut_region(image: U8, mask: U8, centre: tuple[int, int], side: int) -> tuple[U8, U8]:
    """The square around `centre` (y, x); beyond the image it is reflected and ignored."""
    spans = [np.arange(at - side // 2, at - side // 2 + side) for at in centre]
    rows, columns = (_reflect(span, size) for span, size in zip(spans, mask.shape, strict=True))
    region, labels = image[rows[:, None], columns], mask[rows[:, None], columns]
    labels[rows != spans[0]] = IGNORE
    labels[:, columns != spans[1]] = IGNORE
    return region, labels


def _reflect(indices: Points, size: int) -> Points:
    """Indices beyond 0..size-1 mirrored at the border pixels, however far away they are."""
    period = max(2 * (size - 1), 1)
    folded = np.abs(indices) % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(indices)


@dataclass(frozen=True)
class _Entry:
    """What is remembered of a sample: its statistics and some pixels of each label.

    `counts` (K + 1,): all its known pixels by label, background first.
    """

    sample: Sample
    stats: tuple[float, float]
    counts: Points
    known: Points
    labelled: dict[int, Points]


class Patches:
    """Draws training patches, batch by batch.

    A share of them lies on labelled pixels, each label equally often, so that rare ones are
    seen; the others lie anywhere on known pixels, so that the background is seen. A patch
    depends on the seed, its step and its place in the batch alone. `pool`: images of the target,
    for augmentations that borrow their looks, or `small`, what `References` made of them. Raises
    `NothingToLearn` when no image has a labelled pixel, `DataError` for a mask that does not fit,
    and `ConfigError` without a pool where the augmentation needs one.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: int,
        settings: Training,
        pool: Sequence[Reference] = (),
        small: Sequence[Small] | None = None,
        *,
        overlapping: bool = False,
    ) -> None:
        self._settings = settings
        self._side = region_side(settings)
        self._references = References(pool, self._side, settings.seed, small)
        if settings.augmentation in NEEDS_POOL and not pool:
            raise ConfigError(
                f"training.augmentation {settings.augmentation} borrows the looks of unlabelled "
                "images of the pool, and there are none: add some, or choose domain"
            )
        self._augment = AUGMENTATIONS[settings.augmentation](settings.patch)
        rng = np.random.default_rng([settings.seed, 0])
        entries = [_index(sample, classes, rng, overlapping=overlapping) for sample in samples]
        self._entries = [entry for entry in entries if entry.known.size and entry.sample.weight > 0]
        self._labels = sorted({label for entry in self._entries for label in entry.labelled})
        if not self._labels:
            raise NothingToLearn(
                f"none of the {len(samples)} training images has a labelled pixel; "
                "annotate at least one object and train again"
            )
        self._chances = {label: self._chance(label) for label in [None, *self._labels]}

    def _chance(self, label: int | None) -> npt.NDArray[np.float64]:
        weights = np.zeros(len(self._entries))
        for index, entry in enumerate(self._entries):
            if label is None or label in entry.labelled:
                weights[index] = entry.sample.weight
        return weights / float(weights.sum())

    @property
    def pixels(self) -> list[float]:
        """Known pixels of background and labels, counted as often as their samples are drawn.

        A pixel of several labels counts for each.
        """
        counts = [entry.sample.weight * entry.counts for entry in self._entries]
        return [float(count) for count in np.sum(counts, axis=0)]

    def batches(self, steps: range, rows: slice = slice(None)) -> Generator[Batch]:
        """The batch of each step, or some rows of it; close it when it is not read to its end."""
        return prepared(partial(self.batch, rows=rows), steps)

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of one step, or some rows of it."""
        places = range(self._settings.batch_size)[rows]
        seed = self._settings.seed
        drawn = [self._draw(np.random.default_rng([seed, 1, step, place])) for place in places]
        images, stats, masks = zip(*drawn, strict=True)
        return Batch(np.stack(images), np.array(stats, np.float32), np.stack(masks))

    def variants(self, index: int, count: int) -> tuple[str, list[tuple[U8, U8]]]:
        """The name of a sample, a patch of it as it is, and then `count` times augmented.

        To be looked at: samples are taken in turn, and the seed decides the place.
        """
        rng = np.random.default_rng([self._settings.seed, 4, index])
        entry = self._entries[index % len(self._entries)]
        found = list(entry.labelled.values())
        points = found[rng.integers(len(found))] if found else entry.known
        region, labels = self._region(entry, points, rng)
        plain = AUGMENTATIONS["none"](self._settings.patch)(region, labels, rng)
        seen = [self._seen(entry, region, labels, rng) for _ in range(count)]
        return entry.sample.name, [plain, *seen]

    def _draw(self, rng: np.random.Generator) -> tuple[U8, tuple[float, float], U8]:
        label = None
        if rng.random() < self._settings.foreground_share:
            label = self._labels[rng.integers(len(self._labels))]
        entry = self._entries[rng.choice(len(self._entries), p=self._chances[label])]
        points = entry.known if label is None else entry.labelled[label]
        region, labels = self._region(entry, points, rng)
        image, mask = self._seen(entry, region, labels, rng)
        return image, entry.stats, mask

    def _region(self, entry: _Entry, points: Points, rng: np.random.Generator) -> tuple[U8, U8]:
        """Cut the surroundings of one of the points."""
        image, mask = entry.sample.load()
        patch = self._settings.patch
        # Shifted, so that objects are not always in the middle; held inside the image.
        at = rng.integers(-(patch // 4), patch // 4, size=2, endpoint=True)
        at += np.array(divmod(points[rng.integers(len(points))], mask.shape[1]))
        y, x = (
            int(np.clip(a, patch // 2, size - patch // 2)) if size >= patch else size // 2
            for a, size in zip(at, mask.shape, strict=True)
        )
        return cut_region(image, mask, (y, x), self._side)

    def _seen(
        self, entry: _Entry, region: U8, labels: U8, rng: np.random.Generator
    ) -> tuple[U8, U8]:
        style = partial(self._references.draw, stats=entry.stats)
        return self._augment(region, labels, rng, style)


def _index(sample: Sample, classes: int, rng: np.random.Generator, *, overlapping: bool) -> _Entry:
    image, mask = sample.load()
    if image.shape != (*mask.shape, 3):
        raise DataError(
            f"{sample.name}: the mask is {mask.shape}, its image {image.shape}; "
            "an (H, W) mask and an (H, W, 3) image of the same size are needed"
        )
    flat = mask.reshape(-1)
    found = np.bincount(flat, minlength=256)
    if overlapping:
        strange = strangers(flat, classes)
    else:
        strange = [label for label in range(classes + 1, IGNORE) if found[label]]
    if strange:
        raise DataError(f"{sample.name}: the mask holds {strange}, beyond the {classes} labels")
    places = {
        label: np.flatnonzero(mask_of(flat, label, overlapping=overlapping))
        for label in range(1, classes + 1)
        if overlapping or found[label]
    }
    counts = [len(places.get(label, ())) for label in range(1, classes + 1)]
    return _Entry(
        sample,
        image_stats(image),
        np.array([found[0], *counts]),
        _some(np.flatnonzero(flat != IGNORE), rng),
        {label: _some(points, rng) for label, points in places.items() if len(points)},
    )


def _some(points: Points, rng: np.random.Generator) -> Points:
    """At most `_POINTS` of the points, drawn without replacement."""
    return points if len(points) <= _POINTS else rng.choice(points, _POINTS, replace=False)
