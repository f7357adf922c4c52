"""Images → probabilities, in blended windows batched across images; and how good they are."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ml_backend.learning.data import Sample
from ml_backend.learning.device import autocast, describe_mode, resolve_device
from ml_backend.learning.losses import Loss
from ml_backend.learning.metrics import Confusion
from ml_backend.learning.networks import (
    STRIDE,
    channels_last,
    image_stats,
    normalise,
    restore_network,
    to_logits,
    to_probs,
)
from ml_backend.masks.tiles import Blend, Window, cut
from ml_backend.recipe import Network, Prediction

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

_BATCHES_AHEAD = 4


class Predictor:
    """A network ready to predict (H, W, 3) uint8 images of any size.

    `mode` says what it computes with, such as `cpu float32 channels_last`. Calls from several
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
    ) -> None:
        self.classes = classes
        self.device = resolve_device(device)
        self.mode = describe_mode(self.device)
        self._model = channels_last(model.to(self.device)).eval()
        self._stride = int(getattr(model, "stride", STRIDE))
        self._window, self._overlap, self._batch_size = window, overlap, batch_size

    def probs(self, image: U8) -> F32:
        """Probabilities (K+1, H, W) float32 of one image, background first, summing to 1."""
        return next(self.probs_many([image]))

    def probs_many(self, images: Iterable[U8]) -> Iterator[F32]:
        """`probs` of each image in order; windows of equal size share forward passes.

        Images are taken lazily, a few batches of windows at a time.
        """
        group: list[tuple[U8, list[Window]]] = []
        waiting = 0
        for image in images:
            height, width = image.shape[:2]
            windows = cut(height, width, self._window, self._overlap)
            group.append((image, windows))
            waiting += len(windows)
            if waiting >= _BATCHES_AHEAD * self._batch_size:
                yield from self._predict(group)
                group, waiting = [], 0
        yield from self._predict(group)

    def _predict(self, group: Sequence[tuple[U8, list[Window]]]) -> Iterator[F32]:
        blends = [Blend(self.classes + 1, *image.shape[:2]) for image, _ in group]
        stats = [image_stats(image) for image, _ in group]
        by_size: dict[tuple[int, int], list[tuple[int, Window]]] = defaultdict(list)
        for index, (_, windows) in enumerate(group):
            for window in windows:
                by_size[window.height, window.width].append((index, window))
        for jobs in by_size.values():
            for start in range(0, len(jobs), self._batch_size):
                batch = jobs[start : start + self._batch_size]
                pixels = np.stack([group[index][0][window.slices] for index, window in batch])
                answers = self._forward(pixels, np.array([stats[index] for index, _ in batch]))
                for (index, window), values in zip(batch, answers, strict=True):
                    blends[index].add(window, values)
        for blend in blends:
            yield blend.result()

    def _forward(self, pixels_NHWC: U8, stats_N2: npt.NDArray[np.floating]) -> F32:
        """One pass, padded by reflection to sides that the network can halve, and cut back."""
        height, width = pixels_NHWC.shape[1:3]
        stride = self._stride
        padding = ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0))
        images = normalise(np.pad(pixels_NHWC, padding, mode="reflect"), stats_N2)
        with torch.inference_mode(), autocast(self.device):
            probs = to_probs(self._model(images.to(self.device)))
        answer: F32 = probs[:, :, :height, :width].cpu().numpy()
        return answer


def predictor_from_state(
    state: Mapping[str, Tensor],
    network: Network,
    classes: int,
    prediction: Prediction,
    device: str = "cpu",
) -> Predictor:
    """The predictor of stored weights. Raises `ModelFileError` when they do not fit."""
    return Predictor(
        restore_network(state, network, classes),
        classes,
        window=prediction.window,
        overlap=prediction.overlap,
        batch_size=prediction.batch_size,
        device=device,
    )


@dataclass(frozen=True)
class Metrics:
    """Pooled over all pixels of `images` images; nan where nothing could be counted."""

    mean_iou: float
    mean_dice: float
    iou_by_class: tuple[float, ...]
    accuracy: float
    images: int
    loss: float


def evaluate(
    predictor: Predictor, samples: Sequence[Sample], classes: int, loss: Loss | None = None
) -> Metrics:
    """Compare predictions with label maps; `loss` is averaged over images when given."""
    confusion = Confusion(classes)
    truths: deque[U8] = deque()
    costs: list[float] = []

    def images() -> Iterator[U8]:
        for sample in samples:
            image, truth = sample.load()
            truths.append(truth)
            yield image

    for probs in predictor.probs_many(images()):
        truth = truths.popleft()
        confusion.add(probs.argmax(axis=0), truth)
        if loss:
            target = torch.from_numpy(truth.astype(np.int64))[None]
            costs.append(float(loss(to_logits(torch.from_numpy(probs)[None]), target)))
    return Metrics(
        confusion.mean_iou(),
        confusion.mean_dice(),
        tuple(float(value) for value in confusion.iou()),
        confusion.accuracy(),
        len(samples),
        float(np.mean(costs)) if costs else float("nan"),
    )
