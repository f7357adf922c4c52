"""The gradient of a batch's loss, though the batch is computed in parts.

Losses are of the whole batch: Dice and Lovász, and every mean over known pixels, are no mean of
what their parts would give. So the loss is taken of the logits of all parts together, and its
slope at the logits goes back through each part by itself. The gradient is the whole batch's, to
rounding, for every loss; only BatchNorm sees the patches that go through the network at a time
(of all processes on CUDA, where SyncBatchNorm joins them). What it does with a single one of them
is in `steady.py`.

The parts of one process cost a second forward pass, without which all activations would have to
be kept (Gao et al. 2021 do the same for contrastive losses): a third more time, and only where
memory is short.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ml_backend.errors import LearningError
from ml_backend.learning.losses import Loss
from ml_backend.learning.team import Team

log = logging.getLogger(__name__)

Forward = Callable[[Tensor], Tensor]


class MemoryShort(Exception):
    """A process of a team cannot compute so many patches at once; `fewer` may fit."""

    def __init__(self, fewer: int) -> None:
        super().__init__(fewer)
        self.fewer = fewer


class _Before:
    """What a forward pass changes, as it was: running statistics, and the random numbers."""

    def __init__(self, model: nn.Module, place: torch.device) -> None:
        self._buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        self._module = None if place.type == "cpu" else torch.get_device_module(place)
        self._here = torch.get_rng_state()
        self._there = self._module.get_rng_state() if self._module else None

    def restore(self) -> None:
        with torch.no_grad():
            for buffer, value in self._buffers:
                buffer.copy_(value)
        torch.set_rng_state(self._here)
        if self._module:
            self._module.set_rng_state(self._there)


def backward(
    model: nn.Module,
    forward: Forward,
    images: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    at_once: int,
    team: Team,
) -> tuple[Tensor, Tensor, Tensor]:
    """Put the gradient of the whole batch's loss into the parameters of `model`.

    `images` (N, 3, H, W) and `target` (N, H, W) are this process' part of the batch, of which
    `at_once` patches go through the network at a time. Returns the loss, and logits and target of
    the whole batch, on every process the same.
    """
    parts = torch.split(images, at_once)
    if len(parts) == 1:
        own = forward(images)
    else:
        before = _Before(model, images.device)
        with torch.no_grad():
            own = torch.cat([forward(part) for part in parts])
        before.restore()  # the second pass drops out and counts as the first did
    whole, truth = team.joined(own.detach()).requires_grad_(), team.joined(target)
    cost = loss(whole, truth)
    (slope,) = torch.autograd.grad(cost, whole)
    slopes = team.own(slope)
    model.zero_grad(set_to_none=True)
    if len(parts) == 1:
        torch.autograd.backward(own, slopes)
    else:
        for part, of_part in zip(parts, torch.split(slopes, at_once), strict=True):
            torch.autograd.backward(forward(part), of_part)
    team.add_up([one.grad for one in model.parameters() if one.grad is not None])
    return cost.detach(), whole.detach(), truth


def backward_that_fits(
    model: nn.Module,
    forward: Forward,
    images: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    at_once: int,
    team: Team,
) -> tuple[int, Tensor, Tensor, Tensor]:
    """Do `backward`, with half as many patches at once as often as memory runs out.

    Returns how many fit, and what `backward` does. Raises `LearningError` where one patch does
    not, and in a team `MemoryShort`: its processes wait for each other, so they begin anew
    together.
    """
    while True:
        before = _Before(model, images.device)
        try:
            found = backward(model, forward, images, target, loss, at_once=at_once, team=team)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fewer = fewer_than(at_once, images)
        else:
            return at_once, *found
        # Here, because the exception's frames held on to the activations.
        before.restore()
        model.zero_grad(set_to_none=True)
        if images.device.type == "cuda":
            torch.cuda.empty_cache()
        if team.size > 1:
            raise MemoryShort(fewer)
        say_short(at_once, fewer)
        at_once = fewer


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an accelerator's or the processor's allocator gave up."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    from accelerate.utils.memory import should_reduce_batch_size  # slow to import, seldom needed

    return bool(should_reduce_batch_size(error)) or "can't allocate memory" in str(error)


def fewer_than(at_once: int, images: Tensor) -> int:
    """Half of `at_once`. Raises `LearningError` with the ways out where there is no half."""
    if at_once == 1:
        raise LearningError(
            f"not even one patch of {images.shape[-1]} px fits into the memory of "
            f"{images.device}: choose a smaller training.patch, network.fold 2, a smaller "
            "network (network.encoder, network.decoder_width), or another device"
        ) from None
    return at_once // 2


def say_short(at_once: int, fewer: int) -> None:
    """Log that a training goes on with fewer patches at once."""
    log.warning(
        "out of memory with %d patches at once: going on with %d, and the batch as large as it was",
        at_once,
        fewer,
    )
