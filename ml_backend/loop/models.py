"""The current model of each project in memory: loaded once, swapped when another is promoted."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.context import Context
from ml_backend.loop.instances import settings_of
from ml_backend.loop.masks import values_among
from ml_backend.loop.precision import precisions_of
from ml_backend.masks.likeliest import likeliest
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
    )
    log.info("%s predicts with %s", version, predictor.mode)
    return predictor


log = logging.getLogger(__name__)
WHOLE = Instances()  # one region a label


class Likeliest(NamedTuple):
    """A label map (H, W) uint8, the probability of its labels (H, W) float16, and their mean."""

    label_map: NDArray[np.uint8]
    likelihood: NDArray[np.float16]
    mean: float


@dataclass(frozen=True)
class Serving:
    """A version in memory: for which labels it was trained, and how it cuts objects apart.

    `key`: what the label maps that it makes are kept under, beside its version.
    """

    version: str
    predictor: "Predictor"
    labels: tuple[str, ...]
    instances: Instances = WHOLE
    key: str = ""

    def among(self, probs_CHW: NDArray[np.float32], labels: Sequence[str]) -> NDArray[np.float32]:
        """Give its probabilities for the project's labels of today, by their names.

        A label it does not know has probability 0; one that is gone counts as background.
        """
        if tuple(labels) == self.labels:
            return probs_CHW
        today = np.zeros((len(labels) + 1, *probs_CHW.shape[1:]), np.float32)
        places = values_among(self.labels, labels, missing=0)
        for value, probs in enumerate(probs_CHW):
            today[places[value]] += probs
        return today

    def likeliest_many(
        self, images: Iterable[NDArray[np.uint8]], labels: Sequence[str]
    ) -> Iterator[Likeliest]:
        """What it says of each image in order, among `labels`; images are taken lazily.

        Beside an image it holds 3 bytes a pixel, and rows of windows as `bands_many` does.
        """
        for _, bands in groupby(self.predictor.bands_many(images), attrgetter("image")):
            label_map: NDArray[np.uint8] = np.empty(0, np.uint8)
            likelihood: NDArray[np.float16] = np.empty(0, np.float16)
            total = 0.0
            for _, size, y, probs_CHW in bands:
                if y == 0:
                    label_map, likelihood = np.empty(size, np.uint8), np.empty(size, np.float16)
                rows = slice(y, y + probs_CHW.shape[1])
                label_map[rows], highest = likeliest(self.among(probs_CHW, labels))
                likelihood[rows] = highest
                total += float(highest.sum(dtype=np.float64))
            yield Likeliest(label_map, likelihood, total / label_map.size)

    def label_map(self, image: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.uint8]:
        """(H, W) uint8: the likeliest of `labels`, or 0, at each pixel."""
        return next(self.likeliest_many([image], labels)).label_map


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
                serving = Serving(model.version, predictor, labels, instances, recipe.key)
                self._loaded[project.id] = recipe, serving
        return serving
