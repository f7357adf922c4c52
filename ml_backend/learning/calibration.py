"""Probabilities that mean what they say: one temperature, fitted on validation images.

Guo et al. 2017: a network's logits are divided by the temperature T that makes the labels of
held-out pixels likeliest. Above 1 it takes back overconfidence, below 1 it adds confidence. The
likeliest label of a pixel stays the likeliest, so no mask changes. Of labels that may overlap each
is a question of its own, answered yes or no: one temperature for all, and no answer changes.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from torch import Tensor

from ml_backend.learning.data import IGNORE, Sample
from ml_backend.learning.metrics import Reliability
from ml_backend.masks.sets import planes_of

if TYPE_CHECKING:
    from ml_backend.learning.inference import Predictor

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

PIXELS = 1 << 18
"""Pixels that a temperature is fitted on: plenty for one number, and little memory."""
RANGE = (0.2, 10.0)
"""Temperatures beyond come from too little data, such as one image without a wrong pixel."""
_LEAST = 1e-7  # a probability of 0 would have no logarithm
_NEXT = 1 + 2.0**-23  # times it, a float32 becomes the next one or the one after
_STRIP = 1 << 16  # pixels at a time, so that they stay in the processor's cache


@dataclass(frozen=True)
class Calibration:
    """A temperature and what it did to `pixels` pixels drawn from `images` images.

    ECE: expected calibration error of the likeliest label, 0..1. NLL: mean negative
    log-likelihood of the true label, nats. Both are of the images that the temperature was fitted
    on, which flatters it a little: it is one number. Where labels may overlap a pixel counts once
    for each of them.
    """

    temperature: float
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    pixels: int
    images: int


@dataclass(frozen=True)
class Drawn:
    """Pixels of images: probabilities (N, C), true labels (N,), and how many each stands for.

    Where labels may overlap, pairs of pixel and label: C = 2, and the truth is 0 or 1.
    """

    probs: F32
    labels: npt.NDArray[np.int64]
    weights: F64


def temper(probs_CHW: F32, temperature: float, *, overlapping: bool = False) -> F32:
    """Divide the logits of probabilities by a temperature, in place; returns the same array.

    The array must be C-contiguous. The likeliest label of every pixel remains it, strictly,
    whatever rounding does to near ties; `overlapping`: what is above one half remains above it.
    """
    if temperature == 1:
        return probs_CHW
    pixels = torch.from_numpy(probs_CHW).view(len(probs_CHW), -1)
    if overlapping:
        for values in pixels:
            for strip in values.split(_STRIP):
                _temper_each(strip, temperature)
        return probs_CHW
    for start in range(0, pixels.shape[1], _STRIP):
        strip = pixels[:, start : start + _STRIP]
        winner = _likeliest(strip)
        soft = strip.clamp_(min=_LEAST).log_().div_(temperature).softmax(dim=0)
        above = (soft.amax(dim=0) * _NEXT).clamp_(max=1)
        for label, values in enumerate(soft):
            # lerp picks one of the two exactly, five times as fast as where
            torch.lerp(values, above, (winner == label).float(), out=strip[label])
    return probs_CHW


def _temper_each(strip_N: Tensor, temperature: float) -> None:
    """Temper probabilities of yes, in place."""
    yes = strip_N > 0.5
    strip_N.logit_(_LEAST).div_(temperature).sigmoid_()
    torch.where(yes, strip_N.clamp(min=0.5 * _NEXT), strip_N.clamp(max=0.5), out=strip_N)


def _likeliest(probs_CN: Tensor) -> Tensor:
    """Give the first of the highest labels, as argmax does in twenty times the time."""
    highest, winner = probs_CN[0], torch.zeros(probs_CN.shape[1], dtype=torch.uint8)
    for label in range(1, len(probs_CN)):
        winner = torch.maximum(winner, (probs_CN[label] > highest).to(torch.uint8) * label)
        highest = torch.maximum(highest, probs_CN[label])
    return winner


def calibrate(
    predictor: "Predictor", samples: Sequence[Sample], *, seed: int = 0, pixels: int = PIXELS
) -> Calibration | None:
    """Fit the temperature of a predictor that has none yet; None without a known pixel.

    Images stream through; at most about `pixels` pixels are remembered.
    """
    drawn = draw_pixels(predictor, samples, seed=seed, pixels=pixels)
    if not drawn.labels.size:
        return None
    temperature = fit_temperature(drawn)
    before, after = _judge(drawn, 1.0), _judge(drawn, temperature)
    return Calibration(
        temperature, before[0], after[0], before[1], after[1], drawn.labels.size, len(samples)
    )


def draw_pixels(
    predictor: "Predictor", samples: Sequence[Sample], *, seed: int = 0, pixels: int = PIXELS
) -> Drawn:
    """Draw as many known pixels of each image, each weighted by how many it stands for."""
    rng = np.random.default_rng(seed)
    truths: deque[npt.NDArray[np.uint8]] = deque()
    share = max(1, pixels // max(1, len(samples)))

    def images() -> Iterator[npt.NDArray[np.uint8]]:
        for sample in samples:
            image, truth = sample.load()
            truths.append(truth)
            yield image

    sets = predictor.overlapping
    probs: list[F32] = [np.empty((0, 2 if sets else predictor.classes + 1), np.float32)]
    labels, weights = [np.empty(0, np.int64)], [np.empty(0)]
    for probs_CHW in predictor.probs_many(images()):
        truth = truths.popleft().reshape(-1)
        known = np.flatnonzero(truth != IGNORE)
        if known.size == 0:
            continue
        some = rng.choice(known, min(share, known.size), replace=False, shuffle=False)
        drawn, true = probs_CHW.reshape(len(probs_CHW), -1)[:, some], truth[some]
        if sets:
            yes = drawn.ravel()
            drawn = np.stack([1 - yes, yes])
            true = planes_of(true, predictor.classes).ravel()
        probs.append(drawn.T)
        labels.append(true.astype(np.int64))
        weights.append(np.full(true.size, known.size / some.size))
    return Drawn(np.concatenate(probs), np.concatenate(labels), np.concatenate(weights))


def fit_temperature(drawn: Drawn) -> float:
    """Find the temperature, within `RANGE`, that makes the true labels likeliest.

    The likelihood has one peak over the temperature (it is concave in 1/T), so that a search along
    the line finds it.
    """
    found = minimize_scalar(
        lambda log: _judge(drawn, float(np.exp(log)), ece=False)[1],
        bounds=(np.log(RANGE[0]), np.log(RANGE[1])),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(found.x))


def _judge(drawn: Drawn, temperature: float, *, ece: bool = True) -> tuple[float, float]:
    """ECE (nan unless asked for) and NLL of the drawn pixels at a temperature."""
    logits = np.log(np.maximum(drawn.probs, _LEAST)).astype(np.float64) / temperature
    logits -= logsumexp(logits, axis=1, keepdims=True)
    truth = logits[np.arange(len(logits)), drawn.labels]
    nll = -float(np.average(truth, weights=drawn.weights))
    if not ece:
        return float("nan"), nll
    reliability = Reliability()
    right = logits.argmax(axis=1) == drawn.labels
    reliability.add(np.exp(logits.max(axis=1)), right, drawn.weights)
    return reliability.ece(), nll
