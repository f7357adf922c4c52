"""The last layers of a network, where channels become pixels: quick for many inputs at a time.

The head of `build_network` is a convolution to few channels, of which each square of pixels is
unfolded. Both are done here in the way that processors do well; the numbers are the same.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_FEW = 4  # channels: half of the lanes of a vector or more would idle
_AS_ONE = {4: torch.float32, 8: torch.float64, 16: torch.complex128}
"""Bytes → a type of number of that size, to move several numbers by one."""


def run_layers(layers: Sequence[nn.Module], given_NCHW: Tensor) -> Tensor:
    """What layers that only predict make of inputs whose channels lie last, one after the other."""
    answer = given_NCHW
    busy = [layer for layer in layers if not _idle(layer)]
    match busy:
        case [nn.Conv2d() as conv, nn.PixelShuffle() as shuffle] if _can_square(conv, answer):
            return _by_squares(conv, shuffle.upscale_factor, answer)
    for layer in busy:
        if isinstance(layer, nn.PixelShuffle):
            answer = unfold(answer, layer.upscale_factor)
        else:
            answer = layer(answer)
    return answer


def unfold(values_NCHW: Tensor, factor: int) -> Tensor:
    """`pixel_shuffle` of channels that lie last, a tenth of its time: whole runs of pixels move.

    (N, C f², H, W) → (N, C, f H, f W), contiguous.
    """
    one = _AS_ONE.get(factor * values_NCHW.element_size())
    if one is None:
        return nn.functional.pixel_shuffle(values_NCHW.contiguous(), factor)
    count, channels, height, width = values_NCHW.shape
    labels = channels // factor**2
    runs = values_NCHW.permute(0, 2, 3, 1).contiguous().view(-1).view(one)  # strides of 1 px too
    moved = runs.new_empty(count, labels, height, factor, width)
    moved.copy_(runs.view(count, height, width, labels, factor).permute(0, 3, 1, 4, 2))
    unfolded = moved.view(-1).view(values_NCHW.dtype)
    return unfolded.view(count, labels, factor * height, factor * width)


def _idle(layer: nn.Module) -> bool:
    """Whether a layer gives what it is given, as the activation of smp's heads by default."""
    return isinstance(getattr(layer, "activation", layer), nn.Identity)


def _can_square(conv: nn.Conv2d, given_NCHW: Tensor) -> bool:
    return (
        given_NCHW.shape[2] % 2 == given_NCHW.shape[3] % 2 == 0
        and conv.out_channels <= _FEW
        and (conv.kernel_size, conv.padding, conv.stride) == ((3, 3), (1, 1), (1, 1))
        and (conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), 1, "zeros")
    )


def _by_squares(conv: nn.Conv2d, fold: int, given_NCHW: Tensor) -> Tensor:
    """A convolution by 3 x 3 and its shuffle, for each square of 2 x 2 places in one go.

    One convolution by 4 x 4 at every other place answers for all four with four times as many
    channels, which fill a processor's vectors; their order lets one shuffle unfold all of it.
    """
    weight, labels, channels = conv.weight, conv.out_channels // fold**2, conv.in_channels
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias
    wide = weight.new_zeros(labels, 2, fold, 2, fold, channels, 4, 4)
    for row in range(2):
        for column in range(2):
            wide[:, row, :, column, ..., row : row + 3, column : column + 3] = weight.view(
                labels, fold, fold, channels, 3, 3
            )
    biases = bias.view(labels, 1, fold, 1, fold).expand(labels, 2, fold, 2, fold)
    answer = nn.functional.conv2d(
        given_NCHW,
        wide.view(-1, channels, 4, 4).contiguous(memory_format=torch.channels_last),
        biases.reshape(-1),
        stride=2,
        padding=1,
    )
    return unfold(answer, 2 * fold)
