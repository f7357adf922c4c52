"""What goes on inside a network that predicts: its deepest features, and its dropout."""

import math
from threading import local

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ml_backend.errors import ConfigError

F32 = npt.NDArray[np.float32]
Seed = tuple[int, ...]

_STEPS = 1 << 16  # a mask is drawn with 16 random bits an element


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
        logits = self._model(images_NCHW)
        return logits, self._seen.features_ND.cpu().numpy()

    def sample(self, index: int, count: int, seed: Seed) -> Tensor:
        """Logits (`count`, …) of one image of this thread's last run, each with other dropout.

        Everything but the dropout before the head stays in evaluation mode. The masks come from
        the seed alone and are the same on every device.
        """
        share, rest = self._layers()
        given_HWC = self._seen.input_NCHW[index].permute(1, 2, 0).contiguous()
        steps = round(share * _STEPS)
        kept = torch.from_numpy(_draw((count, *given_HWC.shape), steps, seed))
        # Numbers times 0 or 1 are their bits times 0 or 1, and only that multiplication is fast.
        whole = torch.int16 if given_HWC.element_size() == 2 else torch.int32
        bits = (given_HWC / (1 - steps / _STEPS)).view(whole)
        masked = (kept.to(given_HWC.device, whole) * bits).view(given_HWC.dtype)
        answer: Tensor = masked.permute(0, 3, 1, 2)
        for layer in rest:
            if isinstance(layer, nn.PixelShuffle):  # which is slow on channels that lie last
                answer = answer.contiguous()
            answer = layer(answer)
        return answer

    def check_dropout(self) -> None:
        """Raise `ConfigError` if there is nothing to sample."""
        if not self._layers()[0]:
            raise ConfigError(
                "scoring.passes: mc_dropout samples the network's dropout, and this model was "
                "trained without: set network.dropout to 0.2, say, and train again, or set "
                "scoring.passes to tta"
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
        self._seen.input_NCHW = inputs[0]


def _draw(shape: tuple[int, ...], steps: int, seed: Seed) -> npt.NDArray[np.bool_]:
    """Booleans of which about `steps` in 65,536 are false.

    nn.Dropout draws from torch's global generator: neither repeatable nor a tenth as fast.
    """
    size = math.prod(shape)
    raw = np.random.SFC64(np.random.SeedSequence(seed)).random_raw(-(-size // 4))
    return np.asarray(raw.view(np.uint16)[:size].reshape(shape) >= steps)
