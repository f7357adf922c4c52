"""The current model of each project in memory: loaded once, swapped when another is promoted."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.context import Context
from ml_backend.loop.instances import settings_of
from ml_backend.loop.masks import values_among
from ml_backend.loop.precision import precisions_of
from ml_backend.masks.labels import LabelConfig
from ml_backend.masks.likeliest import likeliest
from ml_backend.masks.sets import decided
from ml_backend.recipe import Instances, Prediction, parse_recipe
from ml_backend.store.rows import Model, Project
from ml_backend.store.weights import load_model, model_key

if TYPE_CHECKING:
    from ml_backend.learning.inference import Predictor


def load_predictor(context: Context, project: Project, version: str) -> "Predictor":
    """Load a version with the network it was trained as and the project's way to predict."""
    from ml_backend.learning.inference import predictor_from_state
    from ml_backend.learning.state import to_tensors, use_threads

    use_threads(context.settings.threads)
    arrays, card = load_model(context.blobs, model_key(project.id, version))
    network = parse_recipe({"network": card["network"]}, where=f"the card of {version}").network
    predictor = predictor_from_state(
        to_tensors(arrays),
        network,
        len(card["labels"]),
        project.recipe.prediction,
        context.settings.device,
        (card.get("calibration") or {}).get("temperature", 1.0),
        precisions_of(context.settings, network).prediction,
        overlapping=overlapping_by(card),
    )
    log.info("%s predicts with %s", version, predictor.mode)
    return predictor


def labels_on_card(labels: LabelConfig) -> dict[str, Any]:
    """What a version's card says of its labels: their names, and whether they may overlap."""
    return {"labels": list(labels.names), "overlapping": labels.overlapping}


def overlapping_by(card: Mapping[str, Any]) -> bool:
    """Whether the labels of a version may overlap; cards that do not say so mean they do not."""
    return bool(card.get("overlapping", False))


def alike(card: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two versions answer the same question, so that one may follow the other."""
    same = overlapping_by(card) == overlapping_by(other)
    return same and card.get("labels") == other.get("labels")


log = logging.getLogger(__name__)
WHOLE = Instances()  # one region a label


class Likeliest(NamedTuple):
    """What is said of an image: a label map (H, W) uint8, and how likely it is, float16, 0..1.

    `likelihood`: of the label of each pixel (H, W); of labels that may overlap each one's
    (K, H, W), and the map is a set map. `mean` over the pixels, of the likelier of yes and no where
    labels may overlap.
    """

    label_map: NDArray[np.uint8]
    likelihood: NDArray[np.float16]
    mean: float


@dataclass(frozen=True)
class Serving:
    """A version in memory: for which labels it was trained, and how it cuts objects apart.

    `key`: what the label maps that it makes are kept under, beside its version. `overlapping`:
    whether these labels may overlap; its probabilities are then (K, H, W), those of the labels for
    themselves, and else (K + 1, H, W) with the background's first.
    """

    version: str
    predictor: "Predictor"
    labels: tuple[str, ...]
    instances: Instances = WHOLE
    key: str = ""
    overlapping: bool = False

    def among(
        self, probs_CHW: NDArray[np.float32], labels: Sequence[str], *, overlapping: bool = False
    ) -> NDArray[np.float32]:
        """Give its probabilities for the project's labels of today, by their names.

        A label it does not know has probability 0; one that is gone counts as background. Where
        labels did not overlap when it was trained and may do today, or the other way round, they
        are given as today's are: each for itself, or shares of 1.
        """
        if (tuple(labels), overlapping) == (self.labels, self.overlapping):
            return probs_CHW
        size = probs_CHW.shape[1:]
        own = probs_CHW if self.overlapping else probs_CHW[1:]
        today = np.zeros((len(labels) + 1, *size), np.float32)
        places = values_among(self.labels, labels, missing=0)
        for value, probs in enumerate(own, 1):
            today[places[value]] += probs
        if overlapping:
            return today[1:]
        if not self.overlapping:
            today[0] += probs_CHW[0]
            return today
        today[0] = np.prod(1 - today[1:], axis=0)
        return np.asarray(today / np.maximum(today.sum(axis=0), np.finfo(np.float32).tiny))

    def likeliest_many(
        self,
        images: Iterable[NDArray[np.uint8]],
        labels: Sequence[str],
        *,
        overlapping: bool = False,
    ) -> Iterator[Likeliest]:
        """What it says of each image in order, among `labels`; images are taken lazily.

        Beside an image it holds 3 bytes a pixel, of labels that may overlap 1 + 2K, and rows of
        windows as `bands_many` does.
        """
        for _, bands in groupby(self.predictor.bands_many(images), attrgetter("image")):
            label_map: NDArray[np.uint8] = np.empty(0, np.uint8)
            likelihood: NDArray[np.float16] = np.empty(0, np.float16)
            total = 0.0
            for _, size, y, probs_CHW in bands:
                if y == 0:
                    label_map = np.empty(size, np.uint8)
                    depth = (len(labels),) if overlapping else ()
                    likelihood = np.empty((*depth, *size), np.float16)
                rows = slice(y, y + probs_CHW.shape[1])
                today = self.among(probs_CHW, labels, overlapping=overlapping)
                if overlapping:
                    label_map[rows], likelihood[:, rows] = decided(today), today
                    sure = np.maximum(today, 1 - today)
                else:
                    label_map[rows], sure = likeliest(today)
                    likelihood[rows] = sure
                total += float(sure.sum(dtype=np.float64))
            yield Likeliest(label_map, likelihood, total / likelihood.size)

    def label_map(self, image: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.uint8]:
        """(H, W) uint8: the likeliest of `labels`, or 0, at each pixel; or the set of them."""
        said = self.likeliest_many([image], labels, overlapping=self.overlapping)
        return next(said).label_map


class Models:
    """The current model of every project that was asked for.

    A request takes the `Serving` once and keeps it to its end; a promotion replaces the
    reference, so no request ever sees half of a model or two versions.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loaded: dict[int, tuple[Prediction, Serving]] = {}
        self._lock = Lock()

    def current(self, project: Project) -> Serving | None:
        """Give the model to use now, or None before the first promotion."""
        model = self._context.catalog.models.current(project.id)
        if model is None:
            return None
        return self._find(project, model.version) or self._load(project, model)

    def _find(self, project: Project, version: str) -> Serving | None:
        """What is in memory, unless it predicts in another way than the recipe says today."""
        recipe, serving = self._loaded.get(project.id, (None, None))
        if serving is None or serving.version != version or recipe != project.recipe.prediction:
            return None
        return serving

    def _load(self, project: Project, model: Model) -> Serving:
        with self._lock:  # one load, however many requests wait for it
            serving = self._find(project, model.version)
            if serving is None:
                recipe = project.recipe.prediction
                predictor = load_predictor(self._context, project, model.version)
                labels, instances = tuple(model.card["labels"]), settings_of(model.card)
                serving = Serving(
                    model.version,
                    predictor,
                    labels,
                    instances,
                    recipe.key,
                    overlapping_by(model.card),
                )
                self._loaded[project.id] = recipe, serving
        return serving
