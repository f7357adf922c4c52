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
_SENSIBLE = 1 / 2  # of the scale: a picture that uses so much of it stays as it is
_DOUBT = 8  # greys by which percentiles of a sample and of all pixels may differ
_COLOUR = 1 / 8
_MOST_POWER = 255
_STEPS = 0.8  # of the noise; the means of blocks of mere noise differ by 0.6
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


Parts = Iterable[tuple[int, Sequence[NDArray[Any]]]]
"""(first row, (h, w) numbers of each channel) from above downwards."""


def measure(
    parts: Callable[[], Parts],
    shape: tuple[int, int],
    channels: int,
    nodata: Sequence[float] = (),
    percentiles: tuple[float, float] | None = None,
) -> list[Measure | None]:
    """Measure each channel of a picture; None is one that holds no number.

    `parts` is called a second time if numbers that were taken for no data prove to be some.
    """
    found = _collect(parts(), shape, channels, nodata, SENTINELS)
    if any(one.real_sentinel() for one in found):
        found = _collect(parts(), shape, channels, nodata, ())
    return [one.measure(percentiles) for one in found]


def measure_bytes(parts: Parts, channels: int) -> list[Measure] | None:
    """Measure 8-bit channels by their percentiles alone; None unless each takes half of the scale.

    What takes so much of it keeps its bytes, whatever else the rule looks at could only add to it.
    That is most of a usual pool, and a histogram costs a twentieth of the rest.
    """
    counts = np.zeros((channels, 256), np.int64)
    for _, values in parts:
        counts += [np.bincount(numbers.ravel(), minlength=256) for numbers in values]
    shares = counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True)
    found = []
    for share in shares:
        low, high = (float(np.searchsorted(share, limit / 100)) for limit in _PIXELS)
        if high - low < _SENSIBLE * 255 + _DOUBT:
            return None
        found.append(Measure(low, high, least=0.0, most=255.0))
    return found


def _collect(
    parts: Parts,
    shape: tuple[int, int],
    channels: int,
    nodata: Sequence[float],
    sentinels: tuple[float, ...],
) -> "list[_Collected]":
    found = [_Collected(shape, tuple(nodata), sentinels) for _ in range(channels)]
    for row, values in parts:
        for one, numbers in zip(found, values, strict=True):
            one.add(row, numbers)
    return found


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
    """Pixels of a regular grid, and the extremes of all blocks of 8 x 8.

    The room for them is made at once: many small pieces between the large ones of each strip
    would keep the memory of those.
    """

    def __init__(
        self, shape: tuple[int, int], nodata: tuple[float, ...], sentinels: tuple[float, ...]
    ) -> None:
        self._step = max(1, int((shape[0] * shape[1] / _SAMPLE) ** 0.5))
        self._nodata, self._sentinels = nodata, sentinels
        rows, columns = (-(-length // self._step) for length in shape)
        self._sample = np.empty(rows * columns)
        self._count = 0
        blocks = -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)
        self._tops, self._bottoms = np.full(blocks, -np.inf), np.full(blocks, np.inf)
        self._means, self._deviations = np.full(blocks, np.nan), np.full(blocks, np.nan)
        self._dtype = np.dtype(np.uint8)
        self._found: dict[float, int] = {}
        self._span = (np.inf, -np.inf)

    def add(self, row: int, values: NDArray[Any]) -> None:
        """Take the rows from `row`, a multiple of 8, on; so many of them unless they end it."""
        self._dtype = values.dtype
        valid = self._valid(values)
        if valid is not None and not valid.any():
            return
        if self._sentinels and self._dtype.kind in "if":
            inside = values if valid is None else values[valid]
            span = float(inside.min()), float(inside.max())
            self._span = min(self._span[0], span[0]), max(self._span[1], span[1])
        grid = np.s_[-row % self._step :: self._step, :: self._step]
        sample = values[grid].ravel() if valid is None else values[grid][valid[grid]]
        self._sample[self._count : self._count + sample.size] = sample
        self._count += sample.size
        self._add_extremes(row // BLOCK, values, valid)
        if valid is None:
            self._add_means(row // BLOCK, values)

    def _valid(self, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Where there are data; None if all are. Numbers that may mean none are counted."""
        valid = np.isfinite(values) if self._dtype.kind == "f" else np.ones(values.shape, np.bool_)
        for number in self._nodata:
            valid &= values != number
        if self._dtype.kind in "if":
            for number in self._sentinels:
                is_it = values == values.dtype.type(number) if _fits(number, values) else None
                if is_it is not None and is_it.any():
                    self._found[number] = self._found.get(number, 0) + int(is_it.sum())
                    valid &= ~is_it
        return None if valid.all() else valid

    def _add_extremes(
        self, row: int, values: NDArray[Any], valid: NDArray[np.bool_] | None
    ) -> None:
        """Extremes of what at least four neighbours share, so that single pixels do not count."""
        low = values if valid is None else np.where(valid, values.astype(np.float64), -np.inf)
        high = values if valid is None else np.where(valid, values.astype(np.float64), np.inf)
        for axis in (0, 1):
            if values.shape[axis] > 1:
                a, b = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
                low, high = np.minimum(low[a], low[b]), np.maximum(high[a], high[b])
        rows, columns = (np.arange(0, length, BLOCK) for length in low.shape)
        part = np.s_[row : row + len(rows), : len(columns)]
        self._tops[part] = np.maximum.reduceat(
            np.maximum.reduceat(low, rows, axis=0), columns, axis=1
        )
        self._bottoms[part] = np.minimum.reduceat(
            np.minimum.reduceat(high, rows, axis=0), columns, axis=1
        )

    def _add_means(self, row: int, values: NDArray[Any]) -> None:
        height, width = (length // BLOCK for length in values.shape)
        if not height or not width:
            return
        blocks = values[: height * BLOCK, : width * BLOCK].astype(np.float64)
        blocks = blocks.reshape(height, BLOCK, width, BLOCK)
        part = np.s_[row : row + height, :width]
        means = blocks.mean(axis=(1, 3))
        self._means[part] = means
        blocks -= means[:, None, :, None]
        np.multiply(blocks, blocks, out=blocks)
        self._deviations[part] = np.sqrt(blocks.mean(axis=(1, 3)))

    def real_sentinel(self) -> bool:
        """Whether a number taken for none is near the others, and so one of them."""
        low, high = self._span
        return any(low - number < 0.05 * (high - low) for number in self._found)

    def measure(self, percentiles: tuple[float, float] | None) -> Measure | None:
        """What was collected, as a measure."""
        sample = self._sample[: self._count]
        if not sample.size:
            return None
        low, high = (float(n) for n in np.percentile(sample, percentiles or _PIXELS))
        tops, bottoms = (a[np.isfinite(a)] for a in (self._tops, self._bottoms))
        if percentiles is None and tops.size:
            high, low = max(high, _extreme(tops)), min(low, -_extreme(-bottoms))
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
        known = np.isfinite(self._means) & np.isfinite(self._tops)
        steps = np.diff(self._means, axis=1)
        steps = steps[np.isfinite(steps)]
        if known.sum() < 16 or not steps.size:
            return 0.0
        noise = float(np.median(self._deviations[known]))
        if not noise:
            return 0.0
        spread = float(np.subtract(*np.percentile(steps, (99, 1)))) / 2**0.5
        means = self._means[known]
        objects = _extreme(self._tops[known] - means) + _extreme(means - self._bottoms[known])
        tails = float(np.subtract(*np.percentile(sample, _TAILS[::-1])))
        blank = spread < _STEPS * noise and objects < 6 * noise and tails > 4.5 * noise
        return noise if blank else 0.0


def _extreme(numbers: Numbers) -> float:
    """The largest number but for dust."""
    place = numbers.size - 1 - int(_SHARE_OF_BLOCKS * numbers.size)
    return float(np.partition(numbers, place)[place])


def _fits(number: float, values: NDArray[Any]) -> bool:
    if values.dtype.kind == "f":
        return abs(number) <= float(np.finfo(values.dtype).max)
    return np.iinfo(values.dtype).min <= number <= np.iinfo(values.dtype).max
