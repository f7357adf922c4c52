"""What trainings share: the optimizer and its state, the learning rate's course, the average."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_WARM_UP = 0.05


def build_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW that decays weights, but neither biases nor the scales of normalisation."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=learning_rate,
        foreach=True,
    )


def warm_cosine(step: int, steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up, then half a cosine down to zero."""
    warm_up = max(1.0, _WARM_UP * steps)
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))


class Follower:
    """An average of a model's weights (and running statistics) that moves towards them.

    It holds on to the tensors of both, since looking them up by name takes as long as a step of a
    small network: for as long as neither is given other tensors, an epoch, say.
    """

    def __init__(self, average: nn.Module, model: nn.Module) -> None:
        own, other = average.state_dict(), model.state_dict()
        names = [name for name, value in own.items() if value.is_floating_point()]
        self._moved = [own[name] for name in names], [other[name] for name in names]
        self._copied = [(own[name], other[name]) for name in own.keys() - names]

    @torch.no_grad()
    def move(self, decay: float) -> None:
        """Move by 1 - decay of the way; counters are copied."""
        torch._foreach_lerp_(*self._moved, 1 - decay)
        for own, other in self._copied:
            own.copy_(other)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state by `<number of the parameter>.<name>`."""
    return {
        f"{index}.{key}": value
        for index, parameter in enumerate(model.parameters())
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Take up what `optimizer_tensors` gave."""
    parameters = list(model.parameters())
    for name, saved in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        # In the parameter's own memory layout, which decides the order of rounding.
        value = torch.empty_like(parameter) if saved.shape == parameter.shape else saved
        optimizer.state[parameter][key] = value.detach().copy_(saved)
