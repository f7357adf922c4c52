"""How good a version is on the frozen validation tiles: what the gate compares."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ml_backend.loop.context import Context
from ml_backend.loop.dataset import Dataset, samples_of
from ml_backend.loop.gains import ByImage
from ml_backend.loop.instances import Counting, settings_of
from ml_backend.loop.masks import load_objects
from ml_backend.loop.models import load_predictor
from ml_backend.store.rows import Project
from ml_backend.store.weights import model_key, read_card

if TYPE_CHECKING:
    from ml_backend.learning.evaluation import Metrics
    from ml_backend.loop.gains import LabelMap


def measure(context: Context, project: Project, version: str, dataset: Dataset) -> dict[str, Any]:
    """IoU, Dice (means over labels, and by label), accuracy, ECE of a version on `dataset.val`.

    Pooled over all pixels; None where there was nothing to count. `by_image`: the pixels counted
    on each image. `instances`: how well it finds objects one by one, where it cuts them.
    """
    from ml_backend.learning.evaluation import evaluate

    predictor = load_predictor(context, project, version)
    labels = context.labels(project)
    names = labels.names
    samples = samples_of(context, dataset.val, labels)
    cutting = settings_of(read_card(context.blobs, model_key(project.id, version)))
    counting = Counting(
        cutting,
        len(names),
        lambda index: load_objects(context.blobs, dataset.val[index].mask, names)[1],
    )
    by_image = ByImage(
        [item.tile.image.id for item in dataset.val], len(names), overlapping=labels.overlapping
    )

    def each(index: int, predicted: "LabelMap", truth: "LabelMap") -> None:
        by_image(index, predicted, truth)
        if cutting.enabled:
            counting(index, predicted, truth)

    metrics: Metrics = evaluate(predictor, samples, len(names), each=each)
    numbers = {
        "iou": finite(metrics.mean_iou),
        "dice": finite(metrics.mean_dice),
        "accuracy": finite(metrics.accuracy),
        "ece": finite(metrics.ece),
        "iou_by_class": dict(zip(names, map(finite, metrics.iou_by_class), strict=True)),
        "dice_by_class": dict(zip(names, map(finite, metrics.dice_by_class), strict=True)),
        "by_image": by_image.numbers(),
    }
    return numbers | ({"instances": counting.numbers()} if cutting.enabled else {})


def finite(value: float) -> float | None:
    """Give a number as JSON may hold it: nan means that there was nothing to count."""
    return None if np.isnan(value) else float(value)
