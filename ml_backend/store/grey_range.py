"""Which number of a picture is black and which is white: one rule, whatever the type.

`docs/files.md`, *Grey range*, says it in words. The rule holds for a picture and for the same
picture times 16 or 257: it knows numbers only by their shares of the format's scale and by their
noise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

SENTINELS = (-9999.0, -32768.0, -32767.0, float(np.finfo(np.float32).min))
"""Numbers that stand for no data where nothing else is near them."""

BLOCK = 8
_SHARE_OF_BLOCKS = 1e-4  # the most extreme blocks are dust
_PIXELS = (1.0, 99.0)
_TAILS = (0.1, 99.9)
_SAMPLE = 2**18
_SENSIBLE = 1 / 3  # of the scale: a picture that uses so much of it stays as it is
_COLOUR = 1 / 8
_MOST_POWER = 255
_NOISE = 24.0  # noise's standard deviations from black to white in a picture of nothing else


@dataclass(frozen=True)
class Measure:
    """What is known of the numbers of one channel, of a picture or of several together.

    Attributes:
        low: Where the picture begins, without single pixels that stand out.
        high: Where it ends.
        noise: Standard deviation of a picture that shows nothing but noise; else 0.
        least: The smallest number a picture of this type may hold, or -inf.
        most: The largest, or inf.
        whole: Whether numbers are whole.
        found: The number that means no data, where it was found by its distance to all others.

    """

    low: float
    high: float
    noise: float = 0.0
    least: float = -np.inf
    most: float = np.inf
    whole: bool = True
    found: float | None = None


Parts = Iterable[tuple[int, NDArray[Any]]]
"""(first row, (h, w) numbers) from above downwards."""


def measure(
    parts: Callable[[], Parts],
    shape: tuple[int, int],
    nodata: Sequence[float] = (),
    percentiles: tuple[float, float] | None = None,
) -> Measure | None:
    """Measure a channel; None if it holds no number. `parts` is called a second time if need be."""
    collected = _Collected(shape, tuple(nodata), SENTINELS)
    for row, values in parts():
        collected.add(row, values)
    if collected.real_sentinel():
        collected = _Collected(shape, tuple(nodata), ())
        for row, values in parts():
            collected.add(row, values)
    return collected.measure(percentiles)


def merge(measures: Sequence[Measure]) -> Measure:
    """One measure of several pictures that share a range; those of mere noise do not count."""
    seen = [one for one in measures if not one.noise] or measures
    noise = [one.noise for one in seen]
    return replace(
        seen[0],
        low=min(one.low for one in seen),
        high=max(one.high for one in seen),
        noise=float(np.median(noise)),
        found=next((one.found for one in measures if one.found is not None), None),
    )


def grey_range(one: Measure, *, colour: bool = False, exact: bool = False) -> tuple[float, float]:
    """The numbers that become black and white. `exact`: as measured, such as by percentiles."""
    low, high = one.low, one.high
    scale = _scale(high, whole=one.whole)
    if exact:
        return low, high
    if one.noise and high - low < _NOISE * one.noise:
        if low >= 0:
            return 0.0, min(max(scale, _NOISE * one.noise), one.most)
        middle, half = (low + high) / 2, _NOISE * one.noise / 2
        return max(middle - half, one.least), min(middle + half, one.most)
    if low >= 0 and (high - low) >= (_COLOUR if colour else _SENSIBLE) * scale:
        return 0.0, scale
    if high <= low:  # one number all over
        return (0.0, scale) if low >= 0 else (low, low + 1)
    return low, high


def _scale(high: float, *, whole: bool) -> float:
    """The largest number of the format that holds `high`: of 4, 8, 12, 16 … bits, or 1.0.

    Each is 16 times the one before, but for a grey, so that a picture times 16 has its own.
    """
    if high <= 0:
        return 255.0 if whole else 1.0
    power = 0 if whole else -8
    while high >= 16.0**power * (1 if whole and power else 1.0001) and power < _MOST_POWER:
        power += 1
    if power >= 2:
        return 16.0**power - 1
    return 16 * 255 / 256 if power == 1 else 16.0**power


class _Collected:
    """Pixels of a regular grid, and the extremes of all blocks of 8 x 8."""

    def __init__(
        self, shape: tuple[int, int], nodata: tuple[float, ...], sentinels: tuple[float, ...]
    ) -> None:
        self._step = max(1, int((shape[0] * shape[1] / _SAMPLE) ** 0.5))
        self._nodata, self._sentinels = nodata, sentinels
        self._sample: list[Numbers] = []
        self._tops: list[Numbers] = []
        self._bottoms: list[Numbers] = []
        self._means: list[Numbers] = []
        self._deviations: list[Numbers] = []
        self._above: list[Numbers] = []
        self._below: list[Numbers] = []
        self._dtype = np.dtype(np.uint8)
        self._found: dict[float, int] = {}
        self._span = (np.inf, -np.inf)

    def add(self, row: int, values: NDArray[Any]) -> None:
        """Take the rows from `row` on; a multiple of 8 of them unless they are the last."""
        self._dtype = values.dtype
        numbers = values.astype(np.float64)
        valid = self._valid(numbers)
        if valid is not None and not valid.any():
            return
        if self._dtype.kind in "if":
            inside = numbers if valid is None else numbers[valid]
            span = float(inside.min()), float(inside.max())
            self._span = min(self._span[0], span[0]), max(self._span[1], span[1])
        first = -row % self._step
        grid = np.s_[first :: self._step, :: self._step]
        self._sample.append(numbers[grid] if valid is None else numbers[grid][valid[grid]])
        self._add_blocks(numbers, valid)

    def _valid(self, numbers: Numbers) -> NDArray[np.bool_] | None:
        """Where there are data; None if all are. Numbers that may mean none are counted."""
        valid = None
        if self._dtype.kind == "f":
            valid = np.isfinite(numbers)
        for number in self._nodata:
            valid = (numbers != number) if valid is None else valid & (numbers != number)
        if self._dtype.kind in "if":
            for number in self._sentinels:
                is_it = numbers == number
                if is_it.any():
                    self._found[number] = self._found.get(number, 0) + int(is_it.sum())
                    valid = ~is_it if valid is None else valid & ~is_it
        return valid if valid is None or not valid.all() else None

    def _add_blocks(self, numbers: Numbers, valid: NDArray[np.bool_] | None) -> None:
        """Extremes of what at least four neighbours share, so that single pixels do not count."""
        low = numbers if valid is None else np.where(valid, numbers, -np.inf)
        high = numbers if valid is None else np.where(valid, numbers, np.inf)
        for axis in (0, 1):
            if numbers.shape[axis] > 1:
                a, b = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
                low, high = np.minimum(low[a], low[b]), np.maximum(high[a], high[b])
        rows, columns = (np.arange(0, length, BLOCK) for length in low.shape)
        tops = np.maximum.reduceat(np.maximum.reduceat(low, rows, axis=0), columns, axis=1)
        bottoms = np.minimum.reduceat(np.minimum.reduceat(high, rows, axis=0), columns, axis=1)
        self._tops.append(tops[np.isfinite(tops)])
        self._bottoms.append(bottoms[np.isfinite(bottoms)])
        height, width = (length // BLOCK * BLOCK for length in numbers.shape)
        if not height or not width or valid is not None:
            return
        blocks = numbers[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
        means = blocks.mean(axis=(1, 3))
        part = np.s_[: height // BLOCK, : width // BLOCK]
        self._means.append(np.diff(means, axis=1).ravel())
        self._deviations.append(blocks.std(axis=(1, 3)).ravel())
        self._above.append((tops[part] - means[: tops.shape[0], : tops.shape[1]]).ravel())
        self._below.append((means[: tops.shape[0], : tops.shape[1]] - bottoms[part]).ravel())

    def real_sentinel(self) -> bool:
        """Whether a number taken for none is near the others, and so one of them."""
        low, high = self._span
        return any(low - number < 0.05 * (high - low) for number in self._found)

    def measure(self, percentiles: tuple[float, float] | None) -> Measure | None:
        """What was collected, as a measure."""
        sample = np.concatenate([part.ravel() for part in self._sample] or [np.empty(0)])
        tops = np.concatenate(self._tops or [np.empty(0)])
        if not sample.size:
            return None
        low, high = (float(n) for n in np.percentile(sample, percentiles or _PIXELS))
        if percentiles is None and tops.size:
            dust = int(_SHARE_OF_BLOCKS * tops.size)
            bottoms = np.concatenate(self._bottoms)
            high = max(high, float(np.partition(tops, tops.size - 1 - dust)[tops.size - 1 - dust]))
            low = min(low, float(np.partition(bottoms, dust)[dust]))
        kind, whole = self._dtype, self._dtype.kind in "uib"
        known = np.iinfo(kind) if whole and kind.kind != "b" else None
        return Measure(
            low,
            high,
            self._noise(sample),
            least=float(known.min) if known else -np.inf,
            most=float(known.max) if known else np.inf,
            whole=whole,
            found=min(self._found, default=None),
        )

    def _noise(self, sample: Numbers) -> float:
        """Standard deviation of a picture that is noise and nothing else; else 0."""
        deviations = np.concatenate(self._deviations or [np.empty(0)])
        steps = np.concatenate(self._means or [np.empty(0)])
        if deviations.size < 16 or not steps.size:
            return 0.0
        noise = float(np.median(deviations))
        if not noise:
            return 0.0
        spread = float(np.subtract(*np.percentile(steps, (99, 1)))) / 2**0.5
        dust = int(_SHARE_OF_BLOCKS * deviations.size)
        above, below = np.concatenate(self._above), np.concatenate(self._below)
        objects = float(np.sort(above)[-1 - dust] + np.sort(below)[-1 - dust])
        tails = float(np.subtract(*np.percentile(sample, _TAILS[::-1])))
        blank = spread < noise and objects < 6 * noise and tails > 4.5 * noise
        return noise if blank else 0.0
