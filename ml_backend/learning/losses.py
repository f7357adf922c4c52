"""Losses: logits (N, C, H, W) and targets (N, H, W) int64, 255 ignored → a scalar.

C = 1 is a sigmoid against label 1, C = K + 1 a softmax with the background at 0. A batch without
a known pixel costs exactly nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ml_backend.registry import Registry

IGNORE = 255

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: Registry[Loss] = Registry("loss")


@LOSSES.register("cross_entropy")
def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean (binary) cross-entropy over the known pixels, ≥ 0."""
    logits = logits.float()
    known = target != IGNORE
    if logits.shape[1] == 1:
        truth = (target == 1).to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
    else:
        losses = functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


@LOSSES.register("dice")
def dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice, 0..1, mean of the foreground classes that the batch contains.

    Pooled over the batch, so that patches without foreground count through their false
    positives (Milletari et al. 2016, with plain instead of squared sums).
    """
    logits = logits.float()
    probs = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)[:, 1:]
    known = (target != IGNORE).to(probs.dtype)
    labels = torch.arange(1, probs.shape[1] + 1, device=target.device)
    truth = (target[:, None] == labels[:, None, None]).to(probs.dtype)
    probs = probs * known[:, None]
    overlap = (probs * truth).sum(dim=(0, 2, 3))
    total = probs.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    present = (truth.sum(dim=(0, 2, 3)) > 0).to(probs.dtype)
    losses = (1 - (2 * overlap + 1) / (total + 1)) * present
    return losses.sum() / present.sum().clamp(min=1)


@LOSSES.register("dice_bce")
def dice_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Dice plus (binary) cross-entropy: the overlap that is judged, and a smooth gradient."""
    return dice(logits, target) + cross_entropy(logits, target)
