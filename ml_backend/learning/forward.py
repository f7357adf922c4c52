"""Windows of one size → what a network makes of them, in one forward pass for all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ml_backend.learning.device import autocast
from ml_backend.learning.inside import Inside, Seed
from ml_backend.learning.networks import STRIDE, channels_last, normalise, to_probs
from ml_backend.learning.views import VIEWS

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Stats = npt.NDArray[np.floating]
"""(N, 2): the `image_stats` of the images of which N windows are parts."""

PLAIN = ("identity",)


class Seen(NamedTuple):
    """T passes over one image (T, C, H, W), and what the encoder made of it in the end.

    `features_D`: float32 mean of the deepest feature map, over pixels and windows; empty for a
    network without an encoder.
    """

    probs_TCHW: F32  # noqa: N815
    features_D: F32  # noqa: N815


class Forward:
    """A network that looks at windows (N, h, w, 3) uint8, of any sides.

    It is moved to `device`, put into evaluation mode once and never changed, so that threads may
    share it; `precision` is what it computes in. `overlapping`: labels have a probability each for
    itself.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, precision: str, *, overlapping: bool
    ) -> None:
        self.model = channels_last(model.to(device)).eval()
        self._device, self._precision, self._overlapping = device, precision, overlapping
        self._inside = Inside(self.model)
        self._stride = int(getattr(model, "stride", STRIDE))

    def check_dropout(self) -> None:
        """Raise `ConfigError` where there is no dropout for `sample`."""
        self._inside.check_dropout()

    def look(self, pixels_NHWC: U8, stats_N2: Stats, views: Sequence[str] = PLAIN) -> list[Seen]:
        """One answer a window: the mean over `views`, and the features of the first."""
        total_NCHW, features_ND = self._plain(pixels_NHWC, stats_N2)
        for view in map(VIEWS.__getitem__, views[1:]):
            shown_NHWC = np.stack([view.apply(pixels) for pixels in pixels_NHWC])
            total_NCHW += [view.undo(probs) for probs in self._plain(shown_NHWC, stats_N2)[0]]
        if len(views) > 1:
            total_NCHW /= len(views)
        return [Seen(*seen) for seen in zip(total_NCHW[:, None], features_ND, strict=True)]

    def sample(
        self,
        pixels_NHWC: U8,
        stats_N2: Stats,
        seeds_N: Sequence[Seed],
        temperatures_N: Sequence[float],
        samples: int,
    ) -> list[Seen]:
        """`samples` answers a window that differ by dropout, by the window's seed alone.

        The logits of each window are divided by its temperature.
        """
        height, width = pixels_NHWC.shape[1:3]
        seen = []
        with torch.inference_mode(), autocast(self._device, self._precision):
            features_ND = self._inside.run_to_head(self._padded(pixels_NHWC, stats_N2))
            drawn = zip(seeds_N, temperatures_N, features_ND, strict=True)
            for index, (seed, temperature, features_D) in enumerate(drawn):
                logits = self._inside.sample(index, samples, seed).float()
                if temperature != 1:
                    logits /= temperature
                probs = self._probs(logits[..., :height, :width])
                seen.append(Seen(probs, features_D))
        return seen

    def _plain(self, pixels_NHWC: U8, stats_N2: Stats) -> tuple[F32, F32]:
        """Probabilities (N, K+1, H, W) and features (N, D) of windows."""
        height, width = pixels_NHWC.shape[1:3]
        with torch.inference_mode(), autocast(self._device, self._precision):
            logits, features_ND = self._inside.run(self._padded(pixels_NHWC, stats_N2))
            probs_NCHW = self._probs(logits)[..., :height, :width]
        return probs_NCHW, features_ND

    def _probs(self, logits_NCHW: Tensor) -> F32:
        probs: F32 = to_probs(logits_NCHW, overlapping=self._overlapping).cpu().numpy()
        return probs

    def _padded(self, pixels_NHWC: U8, stats_N2: Stats) -> Tensor:
        """What the network is given: padded by reflection to sides that it can halve."""
        rows, columns = (-side % self._stride for side in pixels_NHWC.shape[1:3])
        if rows or columns:
            padding = ((0, 0), (0, rows), (0, columns), (0, 0))
            pixels_NHWC = np.pad(pixels_NHWC, padding, mode="reflect")
        return normalise(pixels_NHWC, stats_N2).to(self._device)
