"""Batch normalisation of a network that only predicts, computed into the convolutions before it.

With its running statistics it multiplies each channel and adds to it: the weights of a convolution
can do both. A U-Net in bfloat16 takes a tenth less time without that pass over every feature map.
"""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import BatchNorm2d, Conv2d
from torch.nn.utils.fusion import fuse_conv_bn_eval

_TOLERANCE = 1e-3  # of the largest logit; rounding alone stays a hundred times below


def merge_norms(model: nn.Module, side: int) -> nn.Module:
    """Merge what can be merged, in place; `model`, on the processor, only predicts from now on.

    A pair is what a run shows to be one: the only use of a normalisation is on the very output of
    the only use of a convolution. Whoever else reads that output, or changes it in place, would
    be noticed by the logits of the same input, `side` x `side` px; then nothing is changed.
    """
    model.eval()
    probe = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, pairs = _run(model, probe)
    names = {module: name for name, module in model.named_modules()}
    for conv, norm in pairs:
        model.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
        model.set_submodule(names[norm], nn.Identity())
    with torch.inference_mode():
        after = model(probe)
    if (after - before).abs().max() > _TOLERANCE * before.abs().max().clamp(min=1):
        for conv, norm in pairs:
            model.set_submodule(names[conv], conv)
            model.set_submodule(names[norm], norm)
    return model


def _run(model: nn.Module, probe: Tensor) -> tuple[Tensor, list[tuple[Conv2d, BatchNorm2d]]]:
    """The logits, and each convolution with the normalisation of its output."""
    outputs: list[tuple[Conv2d, Tensor]] = []  # held, so that no other tensor gets its place
    pairs: list[tuple[Conv2d, BatchNorm2d]] = []
    uses: Counter[nn.Module] = Counter()

    def convolved(conv: nn.Module, _given: object, output: Tensor) -> None:
        assert isinstance(conv, Conv2d)
        uses[conv] += 1
        outputs.append((conv, output))

    def normalised(norm: nn.Module, given: tuple[Tensor]) -> None:
        assert isinstance(norm, BatchNorm2d)
        uses[norm] += 1
        pairs.extend((conv, norm) for conv, output in outputs if output is given[0])

    hooks = [
        module.register_forward_hook(convolved)
        if isinstance(module, Conv2d)
        else module.register_forward_pre_hook(normalised)
        for module in model.modules()
        if isinstance(module, Conv2d)
        or (isinstance(module, BatchNorm2d) and module.running_mean is not None)
    ]
    try:
        logits: Tensor = model(probe)
    finally:
        for hook in hooks:
            hook.remove()
    readers = Counter(conv for conv, _ in pairs)
    return logits, [
        (conv, norm) for conv, norm in pairs if uses[conv] == uses[norm] == readers[conv] == 1
    ]
