"""The current model of each project in memory: loaded once, swapped when another is promoted."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.context import Context
from ml_backend.loop.instances import settings_of
from ml_backend.loop.masks import values_among
from ml_backend.recipe import Instances, parse_recipe
from ml_backend.store.rows import Project
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
    return predictor_from_state(
        to_tensors(arrays),
        network,
        len(card["labels"]),
        project.recipe.prediction,
        context.settings.device,
        (card.get("calibration") or {}).get("temperature", 1.0),
    )


WHOLE = Instances()  # one region a label


@dataclass(frozen=True)
class Serving:
    """A version in memory: for which labels it was trained, and how it cuts objects apart."""

    version: str
    predictor: "Predictor"
    labels: tuple[str, ...]
    instances: Instances = WHOLE

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

    def label_map(self, image: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.uint8]:
        """(H, W) uint8: the likeliest of `labels`, or 0, at each pixel."""
        likeliest = self.predictor.probs(image).argmax(axis=0)
        places = values_among(self.labels, labels, missing=0)
        label_map: NDArray[np.uint8] = np.take(places, likeliest)
        return label_map


class Models:
    """The current model of every project that was asked for.

    A request takes the `Serving` once and keeps it to its end; a promotion replaces the
    reference, so no request ever sees half of a model or two versions.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loaded: dict[int, Serving] = {}
        self._lock = Lock()

    def current(self, project: Project) -> Serving | None:
        """Give the model to use now, or None before the first promotion."""
        model = self._context.catalog.models.current(project.id)
        if model is None:
            return None
        serving = self._loaded.get(project.id)
        if serving is not None and serving.version == model.version:
            return serving
        with self._lock:  # one load, however many requests wait for it
            serving = self._loaded.get(project.id)
            if serving is None or serving.version != model.version:
                predictor = load_predictor(self._context, project, model.version)
                labels, instances = tuple(model.card["labels"]), settings_of(model.card)
                serving = Serving(model.version, predictor, labels, instances)
                self._loaded[project.id] = serving
        return serving
