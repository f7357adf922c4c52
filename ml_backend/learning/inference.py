"""Images → probabilities, in blended windows batched across images; and how good they are."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ml_backend.learning.calibration import temper
from ml_backend.learning.data import Sample
from ml_backend.learning.device import autocast, describe_mode, resolve_device
from ml_backend.learning.inside import Inside, Seed
from ml_backend.learning.losses import Loss
from ml_backend.learning.metrics import IGNORE, Confusion, Reliability
from ml_backend.learning.networks import (
    STRIDE,
    channels_last,
    image_stats,
    normalise,
    restore_network,
    to_logits,
    to_probs,
)
from ml_backend.masks.sets import decided, planes_of
from ml_backend.masks.tiles import Blend, Window, cut
from ml_backend.recipe import Network, Prediction

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

Asked = tuple[U8, Seed]
"""An (H, W, 3) image and the seed of whatever is drawn at random while looking at it."""

_BATCHES_AHEAD = 4


class Seen(NamedTuple):
    """T passes over one image (T, C, H, W), and what the encoder made of it in the end.

    `features_D`: float32 mean of the deepest feature map, over pixels and windows; empty for a
    network without an encoder.
    """

    probs_TCHW: F32  # noqa: N815
    features_D: F32  # noqa: N815


class _Job(NamedTuple):
    """A window of one image of a group."""

    image: int
    number: int
    window: Window


class Predictor:
    """A network ready to predict (H, W, 3) uint8 images of any size.

    `mode` says what it computes with, such as `cpu float32 channels_last`. `temperature` makes the
    probabilities mean what they say (see `calibration.py`) and changes no label map. `overlapping`:
    labels do not exclude each other, and each has a probability for itself. Calls from several
    threads are safe; the network is put into evaluation mode once and never changed.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        *,
        window: int,
        overlap: int,
        batch_size: int,
        device: str = "cpu",
        temperature: float = 1.0,
        overlapping: bool = False,
    ) -> None:
        self.classes = classes
        self.overlapping = overlapping
        self.temperature = temperature
        self.device = resolve_device(device)
        self.mode = describe_mode(self.device)
        self._model = channels_last(model.to(self.device)).eval()
        self._inside = Inside(self._model)
        self._stride = int(getattr(model, "stride", STRIDE))
        self._window, self._overlap, self._batch_size = window, overlap, batch_size

    def probs(self, image: U8) -> F32:
        """Probabilities (K+1, H, W) float32 of one image, background first, summing to 1.

        Of labels that may overlap (K, H, W), each 0..1 for itself.
        """
        return next(self.probs_many([image]))

    def probs_many(self, images: Iterable[U8]) -> Iterator[F32]:
        """`probs` of each image in order; windows of equal size share forward passes.

        Images are taken lazily, a few batches of windows at a time.
        """
        return (seen.probs_TCHW[0] for seen in self.see_many((image, ()) for image in images))

    def see_many(self, images: Iterable[Asked], *, samples: int = 0) -> Iterator[Seen]:
        """One plain pass over each image, or `samples` passes that differ by dropout.

        Encoder and decoder run once, in evaluation mode; only what lies behind the dropout
        before the head is repeated. What is dropped depends on the image's seed alone, not on
        the images beside it. Raises `ConfigError` for samples of a network without dropout.
        """
        if samples:
            self._inside.check_dropout()
        group: list[Asked] = []
        windows: list[list[Window]] = []
        for image, seed in images:
            group.append((image, seed))
            height, width = image.shape[:2]
            windows.append(cut(height, width, self._window, self._overlap))
            if sum(map(len, windows)) >= _BATCHES_AHEAD * self._batch_size:
                yield from self._see(group, windows, samples)
                group, windows = [], []
        yield from self._see(group, windows, samples)

    def _see(
        self, group: Sequence[Asked], windows: Sequence[list[Window]], samples: int
    ) -> Iterator[Seen]:
        passes, channels = max(samples, 1), self.classes + (not self.overlapping)
        stats = [image_stats(image) for image, _ in group]
        answers: list[list[tuple[Window, F32]]] = [[] for _ in group]
        features: list[list[F32]] = [[] for _ in group]
        by_size: dict[tuple[int, int], list[_Job]] = defaultdict(list)
        for index, cuts in enumerate(windows):
            for number, window in enumerate(cuts):
                by_size[window.height, window.width].append(_Job(index, number, window))
        for jobs in by_size.values():
            for start in range(0, len(jobs), self._batch_size):
                batch = jobs[start : start + self._batch_size]
                pixels = np.stack([group[job.image][0][job.window.slices] for job in batch])
                seeds = [(*group[job.image][1], job.number) for job in batch]
                known = np.array([stats[job.image] for job in batch])
                for job, seen in zip(
                    batch, self._forward(pixels, known, seeds, samples), strict=True
                ):
                    answers[job.image].append((job.window, seen.probs_TCHW))
                    features[job.image].append(seen.features_D)
        for (image, _), parts, deepest in zip(group, answers, features, strict=True):
            shape = passes, channels, image.shape[0], image.shape[1]
            probs_TCHW = _joined(parts, shape)
            for probs_CHW in probs_TCHW:  # not the windows: the blend is what T was fitted on
                temper(probs_CHW, self.temperature, overlapping=self.overlapping)
            yield Seen(probs_TCHW, np.mean(deepest, axis=0, dtype=np.float32))

    def _forward(
        self,
        pixels_NHWC: U8,
        stats_N2: npt.NDArray[np.floating],
        seeds_N: Sequence[Seed],
        samples: int,
    ) -> list[Seen]:
        """Pad windows by reflection to sides that the network can halve, and cut back."""
        height, width = pixels_NHWC.shape[1:3]
        stride = self._stride
        padding = ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0))
        images = normalise(np.pad(pixels_NHWC, padding, mode="reflect"), stats_N2)
        with torch.inference_mode(), autocast(self.device):
            logits, features_ND = self._inside.run(images.to(self.device))
            if samples:
                passes_N = [self._inside.sample(i, samples, s) for i, s in enumerate(seeds_N)]
                probs_N = [self._probs(passes) for passes in passes_N]
            else:
                probs_N = list(self._probs(logits)[:, None])
        probs_N = [probs[..., :height, :width] for probs in probs_N]
        return [Seen(*seen) for seen in zip(probs_N, features_ND, strict=True)]

    def _probs(self, logits_NCHW: Tensor) -> F32:
        probs: F32 = to_probs(logits_NCHW, overlapping=self.overlapping).cpu().numpy()
        return probs


def _joined(parts: Sequence[tuple[Window, F32]], shape: tuple[int, int, int, int]) -> F32:
    """The blend (T, C, H, W) of windows; one that covers all needs no blending."""
    if len(parts) == 1:
        return np.ascontiguousarray(parts[0][1])
    passes, channels, height, width = shape
    blend = Blend(passes * channels, height, width)
    for window, values in parts:
        blend.add(window, values.reshape(-1, window.height, window.width))
    return blend.result().reshape(shape)


def predictor_from_state(
    state: Mapping[str, Tensor],
    network: Network,
    classes: int,
    prediction: Prediction,
    device: str = "cpu",
    temperature: float = 1.0,
    *,
    overlapping: bool = False,
) -> Predictor:
    """The predictor of stored weights. Raises `ModelFileError` when they do not fit."""
    return Predictor(
        restore_network(state, network, classes, overlapping=overlapping),
        classes,
        window=prediction.window,
        overlap=prediction.overlap,
        batch_size=prediction.batch_size,
        device=device,
        temperature=temperature,
        overlapping=overlapping,
    )


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
