"""What goes on inside a network that predicts: its deepest features, and its dropout."""

import math
from contextlib import suppress
from threading import local

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ml_backend.errors import ConfigError
from ml_backend.learning.unfolding import run_layers

F32 = npt.NDArray[np.float32]
Seed = tuple[int, ...]

_STEPS = 1 << 8  # a mask is drawn with 8 random bits an element


class _AtHead(Exception):
    """Ends a run where the head begins; it never leaves this module."""


class Inside:
    """Runs a network of `build_network` and remembers what its head was given.

    Every thread remembers its own run, so that one network may serve several of them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._seen = local()
        self._head: nn.Module | None = getattr(model, "segmentation_head", None)
        encoder = getattr(model, "encoder", None)
        if isinstance(encoder, nn.Module):
            encoder.register_forward_hook(self._keep_features)
        if self._head is not None:
            self._head.register_forward_pre_hook(self._keep_input)

    def run(self, images_NCHW: Tensor) -> tuple[Tensor, F32]:
        """Logits, and the mean over the pixels of the deepest feature map (N, D)."""
        self._seen.features_ND = torch.empty(len(images_NCHW), 0)
        self._seen.ends = False
        logits = self._model(images_NCHW)
        return logits, self._seen.features_ND.cpu().numpy()

    def run_to_head(self, images_NCHW: Tensor) -> F32:
        """The same features (N, D), without the head: for `sample`, which runs it itself."""
        self._seen.ends = True
        with suppress(_AtHead):
            self._model(images_NCHW)
        features_ND: F32 = self._seen.features_ND.cpu().numpy()
        return features_ND

    def sample(self, index: int, count: int, seed: Seed) -> Tensor:
        """Logits (`count`, …) of one image of this thread's last run, each with other dropout.

        Everything but the dropout before the head stays in evaluation mode. The masks come from
        the seed alone and are the same on every device. What is dropped is a whole number of
        256ths, at least one.
        """
        share, rest = self._layers()
        given_HWC = self._seen.input_NCHW[index].permute(1, 2, 0).contiguous()
        steps = min(max(1, round(share * _STEPS)), _STEPS - 1)
        kept = torch.from_numpy(_draw((count, *given_HWC.shape), steps, seed))
        masked = kept.to(given_HWC.device).to(given_HWC.dtype)
        masked.mul_(given_HWC / (1 - steps / _STEPS))
        return run_layers(rest, masked.permute(0, 3, 1, 2))

    def check_dropout(self) -> None:
        """Raise `ConfigError` if there is nothing to sample."""
        if not self._layers()[0]:
            raise ConfigError(
                "scoring.passes: mc_dropout samples the network's dropout, and this model was "
                "trained without: set network.dropout to 0.2, say, and train again, or set "
                "scoring.passes to single"
            )

    def _layers(self) -> tuple[float, list[nn.Module]]:
        """The share that the head's dropout drops, and the layers behind it."""
        layers = list(self._head.children()) if self._head is not None else []
        if layers and isinstance(layers[0], nn.Dropout):
            return layers[0].p, layers[1:]
        return 0.0, layers

    def _keep_features(self, _encoder: nn.Module, _images: object, features: list[Tensor]) -> None:
        self._seen.features_ND = features[-1].float().mean(dim=(2, 3))

    def _keep_input(self, _head: nn.Module, inputs: tuple[Tensor]) -> None:
        if self._seen.ends:  # else it would only hold memory that the next run could use
            self._seen.input_NCHW = inputs[0]
            raise _AtHead


def _draw(shape: tuple[int, ...], steps: int, seed: Seed) -> npt.NDArray[np.uint8]:
    """Zeros, about `steps` in 256, and ones.

    nn.Dropout draws from torch's global generator: neither repeatable nor a tenth as fast.
    """
    size = math.prod(shape)
    raw = np.random.SFC64(np.random.SeedSequence(seed)).random_raw(-(-size // 8))
    return (raw.view(np.uint8)[:size].reshape(shape) >= steps).view(np.uint8)
