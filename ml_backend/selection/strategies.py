"""Which images of a pool to ask for next.

A strategy is `f(pool, size, rng, settings)` and returns distinct row numbers of the pool,
`min(size, N)` of them. Equal scores are ordered by the generator, not by their place in the
pool. All of them handle 10⁶ scores well within a second.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.recipe import Selection
from ml_backend.registry import Registry

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_POWER_BETA = 5.0  # 1 is nearly random, 100 nearly `top`
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Pool:
    """One row an image: its score, and its share of predicted foreground where known.

    Both (N,) and finite; kept as float64. Raises `DataError` naming the first bad row.
    """

    scores_N: Floats  # noqa: N815
    foreground_N: Floats | None = None  # noqa: N815

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores_N", _column("scores", self.scores_N))
        if self.foreground_N is not None:
            shares_N = _column("foreground shares", self.foreground_N)
            if len(shares_N) != len(self):
                raise DataError(f"{len(self)} scores but {len(shares_N)} foreground shares")
            object.__setattr__(self, "foreground_N", shares_N)

    def __len__(self) -> int:
        return len(self.scores_N)


Strategy = Callable[[Pool, int, np.random.Generator, Selection], Indices]
STRATEGIES: Registry[Strategy] = Registry("selection strategy")


def _strategy(name: str) -> Callable[[Strategy], Strategy]:
    """File a strategy that may count on 1 ≤ size ≤ N."""

    def file(choose: Strategy) -> Strategy:
        @wraps(choose)
        def within_pool(
            pool: Pool, size: int, rng: np.random.Generator, settings: Selection
        ) -> Indices:
            if size < 0:
                raise ValueError(f"cannot choose {size} images")
            size = min(size, len(pool))
            if size == 0:
                return np.empty(0, np.int64)
            return choose(pool, size, rng, settings).astype(np.int64)

        return STRATEGIES.register(name)(within_pool)

    return file


@_strategy("random")
def random(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:  # noqa: ARG001
    """Uniform: the baseline."""
    return rng.choice(len(pool), size, replace=False)


@_strategy("foreground_random")
def foreground_random(
    pool: Pool,
    size: int,
    rng: np.random.Generator,
    settings: Selection,  # noqa: ARG001
) -> Indices:
    """Half drawn in proportion to predicted foreground, the rest uniformly (nnActive, 2025).

    Images without foreground come into the first half only when no others are left. Raises
    `DataError` without foreground shares.
    """
    if pool.foreground_N is None:
        raise DataError("foreground_random needs predicted foreground; score the pool first")
    weights_N = _logs("foreground_random", "foreground share", pool.foreground_N)
    drawn = _highest(weights_N + rng.gumbel(size=len(pool)), size // 2)
    rest = np.delete(np.arange(len(pool)), drawn)
    return np.concatenate([drawn, rng.choice(rest, size - len(drawn), replace=False)])


@_strategy("top")
def top(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:  # noqa: ARG001
    """The highest scores, highest first (Roels & Saeys 2019)."""
    shuffled = rng.permutation(len(pool))
    return shuffled[_highest(pool.scores_N[shuffled], size)]


@_strategy("stochastic_batch")
def stochastic_batch(
    pool: Pool, size: int, rng: np.random.Generator, settings: Selection
) -> Indices:
    """Of Q batches drawn at random, the one with the highest mean score (Gaillochet et al. 2023).

    `partition` permutes the pool and cuts it into its Q = ⌊N/B⌋ batches; the remainder sits
    this one out. `resample` draws Q = `settings.draws` batches, each without replacement, so
    that one image may stand in several.
    """
    if settings.variant == "partition":
        count = len(pool) // size
        batches_QB = rng.permutation(len(pool))[: count * size].reshape(count, size)
        return np.asarray(batches_QB[pool.scores_N[batches_QB].mean(axis=1).argmax()])
    batches = (rng.choice(len(pool), size, replace=False) for _ in range(settings.draws))
    return max(batches, key=lambda batch: pool.scores_N[batch].mean())


@_strategy("power")
def power(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:  # noqa: ARG001
    """The highest log s + Gumbel(0, 1/β), β = 5: scores blurred by noise (Kirsch et al. 2023).

    Scores of zero come last. Raises `DataError` for negative ones.
    """
    noise_N = rng.gumbel(scale=1 / _POWER_BETA, size=len(pool))
    return _highest(_logs("power", "score", pool.scores_N) + noise_N, size)


def lift(pool: Pool, chosen: Indices) -> float:
    """How far the mean score of `chosen` lies above the pool's, in its standard deviations.

    0 where the scores do not differ or nothing was chosen.
    """
    if not len(chosen) or np.ptp(pool.scores_N) == 0:
        return 0.0
    above = pool.scores_N[chosen].mean() - pool.scores_N.mean()
    return float(above / pool.scores_N.std())


def _highest(keys_N: Floats, size: int) -> Indices:
    """Row numbers of the `size` largest keys, largest first."""
    if size == 0:
        return np.empty(0, np.int64)
    rows = np.argpartition(-keys_N, size - 1)[:size]
    return rows[np.argsort(-keys_N[rows], kind="stable")]


def _logs(strategy: str, what: str, values_N: Floats) -> Floats:
    """Logarithms, with zero far below every other value instead of -∞."""
    if values_N.min() < 0:
        raise DataError(f"{strategy} needs every {what} ≥ 0; the lowest is {values_N.min()}")
    return np.asarray(np.log(np.maximum(values_N, _TINY)))


def _column(what: str, values: Floats) -> Floats:
    column_N = np.asarray(values, np.float64)
    if column_N.ndim != 1:
        raise DataError(f"{what} must be one number an image; got the shape {column_N.shape}")
    bad = np.flatnonzero(~np.isfinite(column_N))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(column_N)} {what} are not finite, the first in row {bad[0]}: "
            "score the pool again with a model that has not diverged"
        )
    return column_N
