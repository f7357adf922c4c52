"""How good a predictor is on labelled images."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ml_backend.learning.data import Sample
from ml_backend.learning.inference import Predictor
from ml_backend.learning.losses import Loss
from ml_backend.learning.metrics import IGNORE, Confusion, Reliability
from ml_backend.learning.networks import to_logits
from ml_backend.masks.sets import decided, planes_of

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Metrics:
    """Pooled over all pixels of `images` images; nan where nothing could be counted.

    `ece` is the expected calibration error of the probabilities, 0..1. Of labels that may overlap
    all but the scores by class are means over the labels.
    """

    mean_iou: float
    mean_dice: float
    iou_by_class: tuple[float, ...]
    dice_by_class: tuple[float, ...]
    accuracy: float
    images: int
    loss: float
    ece: float


def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    classes: int,
    loss: Loss | None = None,
    each: Callable[[int, U8, U8], None] | None = None,
) -> Metrics:
    """Compare predictions with label maps; `loss` is averaged over images when given.

    `each` is told index, predicted and true label map, (H, W) uint8, of every sample in order.
    Where the predictor's labels may overlap, label maps are set maps.
    """
    sets = predictor.overlapping
    confusion, reliability = Confusion(classes, overlapping=sets), Reliability()
    truths: deque[U8] = deque()
    costs: list[float] = []

    def images() -> Iterator[U8]:
        for sample in samples:
            image, truth = sample.load()
            truths.append(truth)
            yield image

    for index, probs in enumerate(predictor.probs_many(images())):
        truth = truths.popleft()
        known = truth != IGNORE
        if sets:
            found = decided(probs)
            sure, right = np.maximum(probs, 1 - probs), _agreeing(found, truth, classes)
            reliability.add(sure[:, known].ravel(), right[:, known].ravel())
        else:
            found = probs.argmax(axis=0).astype(np.uint8)
            reliability.add(probs.max(axis=0)[known], (found == truth)[known])
        confusion.add(found, truth)
        if each:
            each(index, found, truth)
        if loss:
            target = torch.from_numpy(truth.astype(np.int64))[None]
            logits = to_logits(torch.from_numpy(probs)[None], overlapping=sets)
            costs.append(float(loss(logits, target)))
    return Metrics(
        confusion.mean_iou(),
        confusion.mean_dice(),
        tuple(float(value) for value in confusion.iou()),
        tuple(float(value) for value in confusion.dice()),
        confusion.accuracy(),
        len(samples),
        float(np.mean(costs)) if costs else float("nan"),
        reliability.ece(),
    )


def _agreeing(found_HW: U8, truth_HW: U8, classes: int) -> npt.NDArray[np.bool_]:
    """(K, H, W): where two set maps say the same of a label."""
    return np.asarray(planes_of(found_HW, classes) == planes_of(truth_HW, classes))
