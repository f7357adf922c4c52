"""Which number format is quickest on a device, found out by trying."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ml_backend.learning.device import PRECISIONS, autocast
from ml_backend.learning.merging import merge_norms
from ml_backend.learning.networks import build_network, channels_last
from ml_backend.recipe import Network

_SIDE = 256  # px, the default window
_WINDOWS = 2
_GAIN = 1.15  # a coarser format must be so many times as fast: less may be chance
_HOPELESS = 2.0  # so many times slower at its first try, a format is emulated
_SECONDS = 0.5  # of trying, for predictions and for trainings each
_LEAST_TRIES = 2

Clock = Callable[[], float]


@dataclass(frozen=True)
class Precisions:
    """The quickest formats on a device, and what each took, milliseconds a window.

    `training` is never float16, whose small range would need the loss to be scaled.
    """

    prediction: str
    training: str
    prediction_ms: dict[str, float]
    training_ms: dict[str, float]


def measure(network: Network, device: torch.device, *, clock: Clock) -> Precisions:
    """Time forward passes, and training steps, of a network with random weights.

    Takes about a second, longer for networks of which three passes do. `clock` gives seconds.
    """
    bare = network.model_copy(update={"encoder_weights": None, "dropout": 0.0})
    model = channels_last(build_network(bare, 1, seed=0).to(device))
    merged = merge_norms(build_network(bare, 1, seed=0), 2 * network.multiple)  # as they predict
    predicting = channels_last(merged.to(device))
    side = math.ceil(_SIDE / network.multiple) * network.multiple
    draws = np.random.default_rng(0).standard_normal((_WINDOWS, side, side, 3), np.float32)
    images = torch.from_numpy(draws).permute(0, 3, 1, 2).to(device)

    def look(precision: str) -> bool:
        with torch.inference_mode(), autocast(device, precision):
            return bool(torch.isfinite(predicting(images)).all())  # which waits for the device

    def learn(precision: str) -> bool:
        with autocast(device, precision):
            cost = model(images).float().square().mean()
        found = torch.autograd.grad(cost, list(model.parameters()), allow_unused=True)
        sums: list[Tensor] = [gradient.sum() for gradient in found if gradient is not None]
        return bool(torch.isfinite(torch.stack(sums)).all())

    prediction = _race(look, list(PRECISIONS), clock)
    model.train()
    training = _race(learn, [name for name in PRECISIONS if name != "float16"], clock)
    return Precisions(_quickest(prediction), _quickest(training), prediction, training)


def _race(call: Callable[[str], bool], names: Sequence[str], clock: Clock) -> dict[str, float]:
    """The shortest of several turns of each format, ms a window; those without hope are left out.

    Turns alternate, so that whatever else the machine does hits all alike.
    """
    best: dict[str, float] = {}
    for name in names:
        try:
            if call(name):  # the first one prepares
                best[name] = _timed(call, name, clock)
        except RuntimeError:  # a format that this device has no kernels for
            if name == "float32":
                raise
        if best.get(name, 0) > _HOPELESS * best["float32"]:
            del best[name]
    until = clock() + _SECONDS
    tries = 1
    while len(best) > 1 and (tries < _LEAST_TRIES or clock() < until):
        best = {name: min(known, _timed(call, name, clock)) for name, known in best.items()}
        tries += 1
    return {name: round(1000 * seconds / _WINDOWS, 2) for name, seconds in best.items()}


def _timed(call: Callable[[str], bool], name: str, clock: Clock) -> float:
    started = clock()
    call(name)
    return clock() - started


def _quickest(milliseconds: dict[str, float]) -> str:
    """The quickest format, or float32 where that is hardly slower."""
    name = min(milliseconds, key=lambda key: milliseconds[key])
    return name if milliseconds[name] * _GAIN <= milliseconds["float32"] else "float32"
