"""Strategies that go by one number an image: its score, its foreground or its place.

All of them handle 10⁶ images well within a second.
"""

import numpy as np

from ml_backend.errors import DataError
from ml_backend.recipe import Selection
from ml_backend.selection.choosing import Floats, Indices, Pool, strategy

_TINY = np.finfo(np.float64).tiny
_POWER_BETA = 5.0  # 1 is nearly random, 100 nearly `top`
_CLASS_BETAS = (1.0, 100.0)
_ANY_CLASS = 0.34  # share of a class_power batch that goes by the plain score


@strategy("random")
def random(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:  # noqa: ARG001
    """Uniform: the baseline."""
    return rng.choice(len(pool), size, replace=False)


@strategy("foreground_random", "foreground_N")
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
    weights_N = _logs("foreground_random", "foreground share", pool.foreground_N)
    drawn = highest(weights_N + _gumbel(rng, len(pool)), size // 2, rng)
    rest = np.delete(np.arange(len(pool)), drawn)
    return np.concatenate([drawn, rng.choice(rest, size - len(drawn), replace=False)])


@strategy("strided", "order_N")
def strided(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:  # noqa: ARG001
    """Evenly spaced along the source volume or sequence, from a random start.

    Systematic sampling (Madow & Madow 1944), the baseline for stacks: every image is equally
    likely, and neighbours, which look alike, are never taken together.
    """
    places = np.floor((np.arange(size) + rng.random()) * (len(pool) / size)).astype(np.int64)
    places = np.minimum(places, len(pool) - 1)  # rounding may reach the end
    if pool.order_N is None:
        return np.asarray(places)
    return np.asarray(np.argsort(pool.order_N, kind="stable")[places])


@strategy("top")
def top(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:  # noqa: ARG001
    """The highest scores, highest first (Roels & Saeys 2019)."""
    return highest(pool.scores_N, size, rng)


@strategy("stochastic_batch")
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
        return np.asarray(batches_QB[pool.scores_N.take(batches_QB).mean(axis=1).argmax()])
    batches = (rng.choice(len(pool), size, replace=False) for _ in range(settings.draws))
    return max(batches, key=lambda batch: pool.scores_N[batch].mean())


@strategy("power")
def power(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:
    """The highest log s + Gumbel(0, 1/β): scores blurred by noise (Kirsch et al. 2023).

    β is 5 unless `settings.beta` says otherwise. Scores of zero come last. Raises `DataError`
    for negative ones.
    """
    beta = _beta(settings, (_POWER_BETA, _POWER_BETA), pool.round)
    return highest(_noisy("power", "score", pool.scores_N, beta, rng), size, rng)


@strategy("per_object", "objects_N")
def per_object(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:
    """The most score for the work of annotating, blurred by noise as in `power`.

    The highest log(s / cost) + Gumbel(0, 1/β). The cost is the number of objects that somebody
    would outline, plus `settings.look_cost` for looking at the image: return on investment, as
    Settles, Craven & Friedland 2008 have it. Scores of zero come last. Raises `DataError` for
    negative scores and numbers.
    """
    beta = _beta(settings, (_POWER_BETA, _POWER_BETA), pool.round)
    objects_N = np.asarray(pool.objects_N)
    if len(objects_N) and objects_N.min() < 0:
        raise DataError(f"per_object needs every number of objects ≥ 0; got {objects_N.min()}")
    keys_N = _noisy("per_object", "score", pool.scores_N, beta, rng)
    return highest(keys_N - np.log(settings.look_cost + objects_N), size, rng)


@strategy("class_power", "classes_NK")
def class_power(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:
    """Two thirds shared out among the classes, a third by the plain score (ClaSP-PE, 2026).

    66 % of the batch is divided among the K classes; each takes its part by its own scores,
    H(p̄) p̄_k, so that rare classes are asked about too. The other 34 % go by the pool's score,
    which is the entropy in the paper. All of them are blurred as in `power`, with β from 1 to
    100 over `settings.beta_rounds` rounds unless `settings.beta` says otherwise. Raises
    `DataError` for negative scores.
    """
    classes_KN = np.asarray(pool.classes_NK).T
    beta = _beta(settings, _CLASS_BETAS, pool.round)
    plain = round(_ANY_CLASS * size) if len(classes_KN) else size
    shares = np.full(len(classes_KN), (size - plain) // max(len(classes_KN), 1))
    shares[rng.permutation(len(shares))[: size - plain - shares.sum()]] += 1
    columns = [*zip(classes_KN, shares, strict=True), (pool.scores_N, plain)]
    free_N = np.ones(len(pool), bool)
    parts = []
    for scores_N, count in columns:
        rows = np.flatnonzero(free_N)
        keys = _noisy("class_power", "score", scores_N[rows], beta, rng)
        parts.append(rows[highest(keys, int(count), rng)])
        free_N[parts[-1]] = False
    return np.concatenate(parts)


def highest(keys_N: Floats, size: int, rng: np.random.Generator) -> Indices:
    """Row numbers of the `size` largest keys, largest first, equal ones in random order."""
    if size == 0:
        return np.empty(0, np.int64)
    rows = np.argpartition(keys_N, len(keys_N) - size)[len(keys_N) - size :]
    last = keys_N[rows].min()
    above = rows[keys_N[rows] > last]
    level = np.flatnonzero(keys_N == last)  # which of these were taken depends on their places
    drawn = rng.choice(level, size - len(above), replace=False)
    rows = np.concatenate([rng.permutation(above), drawn])
    return np.asarray(rows[np.argsort(-keys_N[rows], kind="stable")])


def _beta(settings: Selection, usual: tuple[float, float], number: int) -> float:
    """β of the n-th round that a model chooses: from the first to the last, exponentially."""
    first, last = usual
    if settings.beta is not None:
        first, last = settings.beta if isinstance(settings.beta, tuple) else (settings.beta,) * 2
    passed = min(1.0, (number - 1) / max(1, settings.beta_rounds - 1))
    return float(first * (last / first) ** passed)


def _noisy(
    strategy: str, what: str, values_N: Floats, beta: float, rng: np.random.Generator
) -> Floats:
    return _logs(strategy, what, values_N) + _gumbel(rng, len(values_N)) / beta


def _gumbel(rng: np.random.Generator, count: int) -> Floats:
    """Draws of Gumbel(0, 1), in half the time of numpy's own."""
    return np.asarray(-np.log(rng.standard_exponential(count)))


def _logs(strategy: str, what: str, values_N: Floats | None) -> Floats:
    """Logarithms, with zero far below every other value instead of -∞."""
    values_N = np.asarray(values_N)
    if len(values_N) and values_N.min() < 0:
        raise DataError(f"{strategy} needs every {what} ≥ 0; the lowest is {values_N.min()}")
    return np.asarray(np.log(np.maximum(values_N, _TINY)))
