"""The current model of each project in memory: loaded once, swapped when another is promoted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.context import Context
from ml_backend.loop.instances import settings_of
from ml_backend.loop.masks import values_among
from ml_backend.masks.labels import LabelConfig
from ml_backend.masks.sets import decided
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
        overlapping=overlapping_by(card),
    )


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


WHOLE = Instances()  # one region a label


@dataclass(frozen=True)
class Serving:
    """A version in memory: for which labels it was trained, and how it cuts objects apart.

    `overlapping`: whether these labels may overlap; its probabilities are then (K, H, W), those of
    the labels for themselves, and else (K + 1, H, W) with the background's first.
    """

    version: str
    predictor: "Predictor"
    labels: tuple[str, ...]
    instances: Instances = WHOLE
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

    def label_map(self, image: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.uint8]:
        """(H, W) uint8: the likeliest of `labels`, or 0, at each pixel; or the set of them."""
        probs = self.predictor.probs(image)
        if self.overlapping:
            return decided(self.among(probs, labels, overlapping=True))
        places = values_among(self.labels, labels, missing=0)
        label_map: NDArray[np.uint8] = np.take(places, probs.argmax(axis=0))
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
                serving = Serving(
                    model.version, predictor, labels, instances, overlapping_by(model.card)
                )
                self._loaded[project.id] = serving
        return serving
