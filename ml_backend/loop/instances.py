"""Objects one by one: which settings cut them best, and how well a model finds them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.masks.instances import Objects
from ml_backend.masks.matching import Found, Matching
from ml_backend.masks.watershed import find_basins, joined, objects
from ml_backend.recipe import Instances

if TYPE_CHECKING:
    from ml_backend.learning.data import Sample
    from ml_backend.learning.inference import Predictor

LabelMap = NDArray[np.uint8]
Truth = Callable[[int], Objects]
"""The objects that people told apart on the n-th validation image."""

NECKS = (0.5, 0.75, 1.0, 1.5, 2.5, 4.0)
SMOOTHINGS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Cut:
    """The settings that found objects best, how well, and how well without any cut."""

    settings: Instances
    found: Found
    uncut: Found


class Trials:
    """Tries every neck and smoothing on images that come one by one."""

    def __init__(self, base: Instances, labels: int) -> None:
        keys = [(None, base.smoothing), (base.neck, base.smoothing)]
        keys += [(neck, smoothing) for smoothing in SMOOTHINGS for neck in NECKS]
        self._settings = {
            key: base.model_copy(update={"neck": key[0], "smoothing": key[1]}) for key in keys
        }
        self._uncut = keys[0]
        self._counts = {key: Matching(labels) for key in self._settings}

    def add(self, predicted: LabelMap, truth: LabelMap, true: Objects) -> None:
        """Cut the predicted label map in every way and match what comes of it."""
        for smoothing in dict.fromkeys(smoothing for _, smoothing in self._settings):
            basins = find_basins(predicted, smoothing)
            for key, settings in self._settings.items():
                if key[1] == smoothing:
                    self._counts[key].add(joined(basins, settings), true, truth)

    def best(self) -> Cut:
        """Give the highest panoptic quality; of equals the first: no cut, then the recipe's."""
        scores = {key: matching.scores() for key, matching in self._counts.items()}
        best = max(scores, key=lambda key: np.nan_to_num(scores[key].pq, nan=-1.0))
        return Cut(self._settings[best], scores[best], scores[self._uncut])


def choose(
    predictor: "Predictor", samples: "Sequence[Sample]", truth: Truth, base: Instances
) -> Cut:
    """Find the settings by which a model's objects come nearest to those of the samples."""
    from ml_backend.learning.evaluation import evaluate

    trials = Trials(base, predictor.classes)
    evaluate(
        predictor,
        samples,
        predictor.classes,
        each=lambda index, predicted, known: trials.add(predicted, known, truth(index)),
    )
    return trials.best()


class Counting:
    """Counts how well objects are found, image by image, as `evaluate` tells them."""

    def __init__(self, settings: Instances, labels: int, truth: Truth) -> None:
        self._settings, self._truth = settings, truth
        self._matching = Matching(labels)

    def __call__(self, index: int, predicted: LabelMap, known: LabelMap) -> None:
        """Match the objects of one image."""
        found = objects(predicted, self._settings)
        self._matching.add(found, self._truth(index), known)

    def numbers(self) -> dict[str, Any]:
        """Give the scores so far."""
        return as_numbers(self._matching.scores())


def settings_of(card: Mapping[str, Any]) -> Instances:
    """How a version cuts objects: as its card says; versions without it do not."""
    instances = card.get("instances")
    return Instances(**instances["settings"]) if instances else Instances()


def as_numbers(found: Found) -> dict[str, Any]:
    """Scores for a card or the gate; what could not be measured is None."""
    values = {key: getattr(found, key) for key in ("pq", "sq", "rq", "ap", "ap50", "ap75")}
    known = {key: None if np.isnan(value) else value for key, value in values.items()}
    return known | {"true": found.true, "found": found.found}
