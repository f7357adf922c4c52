"""BatchNorm that is given a single value a channel, and cannot tell its mean from its spread.

Decoders that pool the whole image (DeepLab, PAN, UPerNet) end at one pixel, and so does any
encoder whose last stage is one pixel of a small patch. Where one patch goes through such a network
at a time, by the recipe, as the last part of a batch that did not fit into memory or as a process'
share, that layer goes by the mean and spread it has seen so far, as it will when it predicts, and
learns its scale and shift from there. All other layers are as ever.
"""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def steady(model: nn.Module) -> nn.Module:
    """Have every BatchNorm of `model` do so; from two values on nothing changes."""
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            rest = _Rest()
            layer.register_forward_pre_hook(rest.begin)
            layer.register_forward_hook(rest.end, always_call=True)
    return model


class _Rest:
    """Puts a layer into evaluation mode for one call, if that has one value a channel."""

    def __init__(self) -> None:
        self._resting = False

    def begin(self, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        if layer.training and inputs[0].numel() == inputs[0].shape[1]:
            layer.training, self._resting = False, True

    def end(self, layer: nn.Module, _inputs: tuple[Tensor], _output: Tensor) -> None:
        if self._resting:
            layer.training, self._resting = True, False
