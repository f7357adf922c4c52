"""Images → probabilities, in blended windows batched across images."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ml_backend.learning.calibration import temper
from ml_backend.learning.device import describe_mode, resolve_device
from ml_backend.learning.forward import PLAIN, Forward, Seen
from ml_backend.learning.inside import Seed
from ml_backend.learning.merging import merge_norms
from ml_backend.learning.networks import image_stats, restore_network
from ml_backend.learning.views import first_views
from ml_backend.masks.tiles import Window, blend, cut
from ml_backend.recipe import Network, Prediction

__all__ = ["Asked", "Band", "Predictor", "Seen", "predictor_from_state"]

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

Asked = tuple[U8, Seed]
"""An (H, W, 3) image and the seed of whatever is drawn at random while looking at it."""

_BATCHES_AHEAD = 4


class Band(NamedTuple):
    """Rows of an image from `y` on, all its columns: probabilities (K+1, rows, W) float32.

    `image` counts the images from 0, `size` is the (H, W) of this one. The array is the caller's
    own.
    """

    image: int
    size: tuple[int, int]
    y: int
    probs_CHW: F32  # noqa: N815


class _Job(NamedTuple):
    """A window of one image of a group."""

    image: int
    number: int
    window: Window


class Predictor:
    """A network ready to predict (H, W, 3) uint8 images of any size.

    Images may be whatever numpy can slice, a memory map for example: a large one is read window by
    window, and once before for its range of values. `mode` says what is computed with, such as
    `cpu bfloat16 channels_last`. `views`: so many flips and turns of every window are looked at,
    and their mean is the prediction. `temperature` makes the probabilities mean what they say (see
    `calibration.py`) and changes no label map. `overlapping`: labels do not exclude each
    other, and each has a probability for itself. Calls from several threads are safe; the network
    is put into evaluation mode once and never changed. `siblings` are those
    that passes of an ensemble ask as well; whoever wants them puts them there.
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
        precision: str = "float32",
        temperature: float = 1.0,
        views: int = 1,
        overlapping: bool = False,
    ) -> None:
        self.classes = classes
        self.overlapping = overlapping
        self._channels = classes + (not overlapping)
        self.temperature = temperature
        self.siblings: tuple[Predictor, ...] = ()
        self.device = resolve_device(device)
        self.precision = precision
        self.mode = describe_mode(self.device, precision)
        self._forward = Forward(model, self.device, precision, overlapping=overlapping)
        self._window, self._overlap, self._batch_size = window, overlap, batch_size
        self._views = first_views(views)

    def probs(self, image: U8) -> F32:
        """Probabilities (K+1, H, W) float32 of one image, background first, summing to 1.

        Of labels that may overlap (K, H, W), each 0..1 for itself.
        """
        return next(self.probs_many([image]))

    def probs_many(self, images: Iterable[U8]) -> Iterator[F32]:
        """`probs` of each image in order; windows of equal size share forward passes.

        Images are taken lazily, a few batches of windows at a time.
        """
        for _, bands in groupby(self.bands_many(images), attrgetter("image")):
            whole_CHW: F32 = np.empty(0, np.float32)
            for _, size, y, probs_CHW in bands:
                if y == 0:
                    whole_CHW = np.empty((self._channels, *size), np.float32)
                whole_CHW[:, y : y + probs_CHW.shape[1]] = probs_CHW
            yield whole_CHW

    def bands(self, image: U8) -> Iterator[Band]:
        """`probs` of one image, the same numbers, as rows from top to bottom."""
        return self.bands_many([image])

    def bands_many(self, images: Iterable[U8]) -> Iterator[Band]:
        """`probs_many` in finished rows, image after image, never a whole large image's.

        Of an image of more than a few batches of windows it holds at a time three times the
        probabilities of a row of windows, 3 · (K+1) · window · W · 4 bytes, and a batch.
        """
        number = 0
        for group in self._groups((image, ()) for image in images):
            answered = self._answers(group, views=self._views)
            for (image, _), (windows, answers) in zip(group, answered, strict=True):
                size = image.shape[0], image.shape[1]
                for y, band in blend(windows, (seen.probs_TCHW[0] for seen in answers)):
                    # not the windows: the blend is what T was fitted on
                    told = temper(band, self.temperature, overlapping=self.overlapping)
                    yield Band(number, size, y, told)
                number += 1

    def see_many(self, images: Iterable[Asked], *, samples: int = 0) -> Iterator[Seen]:
        """One plain pass over each image, or `samples` passes that differ by dropout.

        Encoder and decoder run once, in evaluation mode; only what lies behind the dropout
        before the head is repeated. What is dropped depends on the image's seed alone, not on
        the images beside it. Raises `ConfigError` for samples of a network without dropout.
        """
        if samples:
            self._forward.check_dropout()
        for group in self._groups(images):
            answered = self._answers(group, samples=samples)
            for (image, _), (windows, answers) in zip(group, answered, strict=True):
                if samples and len(windows) == 1:  # nothing to blend, and tempered already
                    yield from answers
                else:
                    yield self._whole(image.shape[:2], windows, answers, max(samples, 1))

    def _whole(
        self, size: tuple[int, ...], windows: Sequence[Window], answers: Iterable[Seen], passes: int
    ) -> Seen:
        features: list[F32] = []

        def values() -> Iterator[F32]:
            for seen in answers:
                features.append(seen.features_D)
                yield seen.probs_TCHW.reshape(-1, *seen.probs_TCHW.shape[2:])

        flat = np.empty((passes * self._channels, *size), np.float32)
        for y, band in blend(windows, values()):
            flat[:, y : y + band.shape[1]] = band
        probs_TCHW = flat.reshape(passes, -1, *size)
        for probs_CHW in probs_TCHW:
            temper(probs_CHW, self.temperature, overlapping=self.overlapping)
        return Seen(probs_TCHW, np.mean(features, axis=0, dtype=np.float32))

    def _groups(self, images: Iterable[Asked]) -> Iterator[list[Asked]]:
        """Images whose windows fill a few batches together; one that does so itself goes alone."""
        group: list[Asked] = []
        count, enough = 0, _BATCHES_AHEAD * self._batch_size
        for image, seed in images:
            own = len(self._cut(image))
            if own >= enough and group:
                yield group
                group, count = [], 0
            group.append((image, seed))
            count += own
            if count >= enough:
                yield group
                group, count = [], 0
        if group:
            yield group

    def _cut(self, image: U8) -> list[Window]:
        return cut(image.shape[0], image.shape[1], self._window, self._overlap)

    def _answers(
        self, group: Sequence[Asked], *, samples: int = 0, views: Sequence[str] = PLAIN
    ) -> Iterator[tuple[list[Window], Iterable[Seen]]]:
        """Each image's windows and what is seen in them, in the order of the windows."""
        stats = [image_stats(image) for image, _ in group]
        cuts = [self._cut(image) for image, _ in group]
        by_size: dict[tuple[int, int], list[_Job]] = defaultdict(list)
        for index, windows in enumerate(cuts):
            for number, window in enumerate(windows):
                by_size[window.height, window.width].append(_Job(index, number, window))
        seen = (
            answer
            for jobs in by_size.values()
            for answer in self._see(group, stats, jobs, samples, views)
        )
        if len(group) == 1:  # its windows come in order, and need not be held
            yield cuts[0], (answer for _, answer in seen)
            return
        answers: list[list[Seen]] = [[] for _ in group]
        for index, answer in seen:
            answers[index].append(answer)
        yield from zip(cuts, answers, strict=True)

    def _see(
        self,
        group: Sequence[Asked],
        stats: Sequence[tuple[float, float]],
        jobs: Sequence[_Job],
        samples: int,
        views: Sequence[str],
    ) -> Iterator[tuple[int, Seen]]:
        """The number of the image and what is seen in it, for windows of one size."""
        for start in range(0, len(jobs), self._batch_size):
            batch = jobs[start : start + self._batch_size]
            pixels = np.stack([group[job.image][0][job.window.slices] for job in batch])
            known = np.array([stats[job.image] for job in batch])
            if samples:
                seeds = [(*group[job.image][1], job.number) for job in batch]
                whole = [pixels.shape[1:3] == group[job.image][0].shape[:2] for job in batch]
                # what is not blended is tempered at once, without taking its logarithms again
                temperatures = [self.temperature if alone else 1.0 for alone in whole]
                answers = self._forward.sample(pixels, known, seeds, temperatures, samples)
            else:
                answers = self._forward.look(pixels, known, views)
            for job, answer in zip(batch, answers, strict=True):
                yield job.image, answer


def predictor_from_state(
    state: Mapping[str, Tensor],
    network: Network,
    classes: int,
    prediction: Prediction,
    device: str = "cpu",
    temperature: float = 1.0,
    precision: str = "float32",
    *,
    overlapping: bool = False,
) -> Predictor:
    """The predictor of stored weights. Raises `ModelFileError` when they do not fit."""
    model = restore_network(state, network, classes, overlapping=overlapping)
    return Predictor(
        merge_norms(model, 2 * network.multiple),
        classes,
        window=prediction.window,
        overlap=prediction.overlap,
        batch_size=prediction.batch_size,
        device=device,
        precision=precision,
        temperature=temperature,
        views=prediction.views,
        overlapping=overlapping,
    )
