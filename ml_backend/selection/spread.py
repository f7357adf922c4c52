"""Strategies that spread a batch over what the pool looks like, by its embeddings.

All go through the pool in blocks: beside a float32 copy of the embeddings they need memory for
a block and a few numbers a row. Rows are shuffled first, so that none of several equal ones is
preferred for its place.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.recipe import Selection
from ml_backend.selection.choosing import Indices, Pool, strategy
from ml_backend.selection.ranked import highest

F32 = NDArray[np.float32]

_BLOCK = 8192  # rows: a block's distances to a hundred points stay in the processor's cache
_TURNS = 25
_SEEDED = 10_000  # rows among which k-means looks for its first centres
_AT_ONCE = 16  # candidates whose gain is brought up to date in one walk through the pool


@strategy("kmeans", "embeddings_ND")
def kmeans(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:  # noqa: ARG001
    """Of each of k = B clusters of the embeddings, the image nearest to its centre.

    Roels & Saeys 2019; Lloyd's algorithm from k-means++ seeds (Arthur & Vassilvitskii 2007), at
    most 25 turns. The largest cluster comes first. Where the pool has fewer than B different
    images, the rest is drawn at random.
    """
    order = rng.permutation(len(pool))
    points_ND = np.asarray(pool.embeddings_ND)[order].astype(np.float32)
    return np.asarray(order[_middles(points_ND, size, rng)])


@strategy("diverse_batch", "embeddings_ND")
def diverse_batch(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:
    """Of the K most uncertain images one of each kind, the highest score first.

    Diverse mini-batches (Zhdanov 2019): k = B clusters of the candidates' embeddings, in which
    uncertain images weigh more, and of each the candidate nearest to its centre. K = 4 B unless
    `settings.candidates` says otherwise. Raises `DataError` for negative scores.
    """
    count = min(len(pool), max(size, settings.candidates or 4 * size))
    rows = rng.permutation(highest(pool.scores_N, count, rng))
    scores_K = pool.scores_N[rows]
    if scores_K.min() < 0:
        raise DataError(f"diverse_batch needs every score ≥ 0; the lowest is {scores_K.min()}")
    points_KD = np.asarray(pool.embeddings_ND)[rows].astype(np.float32)
    weights_K = scores_K / scores_K.max() if scores_K.any() else np.ones(count)
    chosen = rows[_middles(points_KD, size, rng, weights_K.astype(np.float32))]
    return np.asarray(chosen[np.argsort(-pool.scores_N[chosen], kind="stable")])


@strategy("core_set", "embeddings_ND", "labelled_MD")
def core_set(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:  # noqa: ARG001
    """Farthest first: each next image is the one farthest from all labelled and chosen ones.

    Sener & Savarese 2018 (k-centre greedy), as in Roels & Saeys 2019. Without labelled images
    the first one is drawn at random.
    """
    order = rng.permutation(len(pool))
    points_ND = np.asarray(pool.embeddings_ND)[order].astype(np.float32)
    nearest_N = np.full(len(points_ND), np.inf, np.float32)
    if pool.labelled_MD is not None:
        for start in range(0, len(pool.labelled_MD), 128):
            labelled = np.asarray(pool.labelled_MD[start : start + 128], np.float32)
            _approach(nearest_N, points_ND, labelled)
    chosen = []
    for _ in range(size):
        chosen.append(int(nearest_N.argmax()))
        _approach(nearest_N, points_ND, points_ND[chosen[-1:]])
        nearest_N[chosen[-1]] = -1
    return np.asarray(order[chosen])


@strategy("suggestive", "embeddings_ND")
def suggestive(pool: Pool, size: int, rng: np.random.Generator, settings: Selection) -> Indices:
    """Of the K most uncertain images, those that together resemble the pool most.

    Suggestive annotation (Yang et al. 2017; Max 2021): greedily the B that raise
    Σ_n max_chosen cos(n, chosen) most, over the whole pool. K = 2 B unless
    `settings.candidates` says otherwise. The papers' score is the variance of an ensemble.

    The sum has diminishing returns, so a gain that was worked out earlier is a bound: only
    candidates that may still lead are looked at again (Minoux 1978).
    """
    count = min(len(pool), max(size, settings.candidates or 2 * size))
    rows = highest(pool.scores_N, count, rng)
    points_ND = np.array(pool.embeddings_ND, np.float32)
    lengths_N = np.sqrt(np.einsum("nd,nd->n", points_ND, points_ND))
    points_ND /= np.maximum(lengths_N, 1e-12)[:, None]
    candidates_KD = points_ND[rows]
    best_N = np.full(len(points_ND), -1, np.float32)
    gains_K = candidates_KD @ points_ND.sum(axis=0, dtype=np.float64) + len(points_ND)
    chosen: list[int] = []
    for _ in range(size):
        known_K = np.zeros(count, bool) if chosen else np.ones(count, bool)
        while not known_K[gains_K.argmax()]:
            leaders = np.argsort(-gains_K, kind="stable")[:_AT_ONCE]
            leaders = leaders[~known_K[leaders]]
            gains_K[leaders] = _gains(points_ND, best_N, candidates_KD[leaders])
            gains_K[chosen] = -np.inf
            known_K[leaders] = True
        chosen.append(int(gains_K.argmax()))
        gains_K[chosen] = -np.inf
        np.maximum(best_N, points_ND @ candidates_KD[chosen[-1]], out=best_N)
    return rows[chosen]


def _middles(
    points_ND: F32, count: int, rng: np.random.Generator, weights_N: F32 | None = None
) -> Indices:
    """The point nearest to the centre of each of so many clusters, the largest cluster first.

    Where there are fewer different points, the first of the others fill up.
    """
    centres_KD = _seeds(points_ND[: max(_SEEDED, 4 * count)], count, rng)
    labels_N: NDArray[np.int32] = np.full(len(points_ND), -1, np.int32)
    for _ in range(_TURNS):
        before_N = labels_N
        labels_N, centres_KD = _lloyd(points_ND, centres_KD, weights_N)
        if np.count_nonzero(labels_N != before_N) <= len(points_ND) // 1000:
            break
    ranked = np.lexsort((_to_own(points_ND, centres_KD, labels_N), labels_N))
    present, firsts, counts = np.unique(labels_N[ranked], return_index=True, return_counts=True)
    nearest = ranked[firsts][np.argsort(-counts, kind="stable")]
    rest = np.delete(np.arange(len(points_ND)), nearest)[: count - len(present)]
    return np.concatenate([nearest, rest])


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def _distances(points_ND: F32, centres_KD: F32) -> F32:
    """Squared distances (N, K); to a single centre without the rounding of differences."""
    if len(centres_KD) == 1:
        away_ND = points_ND - centres_KD
        return np.asarray(np.einsum("nd,nd->n", away_ND, away_ND)[:, None])
    squares_N1 = np.einsum("nd,nd->n", points_ND, points_ND)[:, None]
    squares_K = np.einsum("kd,kd->k", centres_KD, centres_KD)
    return np.asarray(np.maximum(squares_N1 + squares_K - 2 * (points_ND @ centres_KD.T), 0))


def _approach(nearest_N: F32, points_ND: F32, centres_KD: F32) -> None:
    """Lower each point's squared distance to the nearest centre by that to these centres."""
    for block in _blocks(len(points_ND)):
        closest = _distances(points_ND[block], centres_KD).min(axis=1)
        np.minimum(nearest_N[block], closest, out=nearest_N[block])


def _seeds(points_ND: F32, count: int, rng: np.random.Generator) -> F32:
    """Centres to begin with: each is drawn in proportion to its squared distance to the others."""
    nearest_N = np.full(len(points_ND), np.inf, np.float32)
    chosen = [0]
    while len(chosen) < count:
        _approach(nearest_N, points_ND, points_ND[chosen[-1:]])
        sums_N = np.cumsum(nearest_N, dtype=np.float64)
        drawn = int(np.searchsorted(sums_N, rng.random() * sums_N[-1], side="right"))
        chosen.append(drawn if drawn < len(points_ND) else len(chosen))
    return points_ND[chosen]


def _lloyd(
    points_ND: F32, centres_KD: F32, weights_N: F32 | None = None
) -> tuple[NDArray[np.int32], F32]:
    """The nearest centre of each point, and the (weighted) means of the points of each.

    A centre that no point is nearest to, or none of any weight, stays where it is.
    """
    labels_N = np.empty(len(points_ND), np.int32)
    sums_KD = np.zeros(centres_KD.shape, np.float64)
    for block in _blocks(len(points_ND)):
        labels_N[block] = _distances(points_ND[block], centres_KD).argmin(axis=1)
        order = np.argsort(labels_N[block], kind="stable")
        present, starts = np.unique(labels_N[block][order], return_index=True)
        points_BD = points_ND[block][order]
        if weights_N is not None:
            points_BD *= weights_N[block][order][:, None]
        sums_KD[present] += np.add.reduceat(points_BD, starts, axis=0)
    counts_K1 = np.bincount(labels_N, weights_N, minlength=len(centres_KD))[:, None]
    there_K1 = counts_K1 > 0
    means_KD = np.where(there_K1, sums_KD / np.where(there_K1, counts_K1, 1), centres_KD)
    return labels_N, means_KD.astype(np.float32)


def _to_own(points_ND: F32, centres_KD: F32, labels_N: NDArray[np.int32]) -> F32:
    """Squared distance of each point to the centre of its own cluster."""
    away_N = np.empty(len(points_ND), np.float32)
    for block in _blocks(len(points_ND)):
        away_ND = points_ND[block] - centres_KD[labels_N[block]]
        away_N[block] = np.einsum("nd,nd->n", away_ND, away_ND)
    return away_N


def _gains(points_ND: F32, best_N: F32, candidates_KD: F32) -> NDArray[np.float64]:
    """By how much each candidate would raise the sum of the best similarities."""
    gains_K = np.zeros(len(candidates_KD))
    for block in _blocks(len(points_ND)):
        more_BK = points_ND[block] @ candidates_KD.T - best_N[block][:, None]
        gains_K += np.maximum(more_BK, 0).sum(axis=0, dtype=np.float64)
    return gains_K
