"""What a strategy is given, what it gives, and what holds for all of them.

A strategy is `f(pool, size, rng, settings)` and returns distinct row numbers of the pool, the
most wanted first: `min(size, N)` of them, fewer only where `selection.per_image` allows no more.
Rows that are equal in what it looks at are ordered by the generator, not by their place.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.recipe import Selection
from ml_backend.registry import Registry

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """One row an image or tile, with what is known of it; None where that is not known.

    scores_N: how uncertain the model is. foreground_N: share of predicted foreground.
    classes_NK: uncertainty about each of the K classes. embeddings_ND: what it looks like to the
    network, any real numbers, kept in the precision given. labelled_MD: the same of what has been
    asked about already. order_N: place in the source volume or sequence; the rows' own order if
    None. sources_N: number of the image that it was cut from. objects_N: how many objects
    somebody would outline in it. round: how many rounds a model has chosen, this one included.

    All finite; raises `DataError` naming the first bad row. Scores and the like are kept as
    float64.
    """

    scores_N: Floats  # noqa: N815
    foreground_N: Floats | None = None  # noqa: N815
    classes_NK: Floats | None = None  # noqa: N815
    embeddings_ND: Floats | None = None  # noqa: N815
    labelled_MD: Floats | None = None  # noqa: N815
    order_N: NDArray[Any] | None = None  # noqa: N815
    sources_N: Indices | None = None  # noqa: N815
    objects_N: Floats | None = None  # noqa: N815
    round: int = 1

    def __post_init__(self) -> None:
        for name, what in _COLUMNS.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _column(what, getattr(self, name)))
        for name in ("embeddings_ND", "labelled_MD"):
            if getattr(self, name) is not None:
                _check("embeddings", getattr(self, name), ndim=2)
        for name in _ROWS:
            values = getattr(self, name)
            if values is not None and len(values) != len(self):
                what = _COLUMNS.get(name, "embeddings")
                raise DataError(f"{len(self)} scores but {len(values)} {what}")

    def __len__(self) -> int:
        return len(self.scores_N)

    def take(self, rows: Indices, chosen: Indices) -> "Pool":
        """The pool of `rows`, to which the rows `chosen` have been asked about."""
        parts: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in _ROWS if getattr(self, name) is not None
        }
        if self.embeddings_ND is not None and len(chosen):
            known = [] if self.labelled_MD is None else [self.labelled_MD]
            parts["labelled_MD"] = np.concatenate([*known, self.embeddings_ND[chosen]])
        return replace(self, **parts)


_COLUMNS = {
    "scores_N": "scores",
    "foreground_N": "foreground shares",
    "classes_NK": "class scores",
    "order_N": "places",
    "sources_N": "source images",
    "objects_N": "numbers of objects",
}
_ROWS = [field.name for field in fields(Pool) if field.name not in {"labelled_MD", "round"}]
_MISSING = {
    "foreground_N": "predicted foreground",
    "classes_NK": "a score for each class",
    "embeddings_ND": "embeddings",
    "objects_N": "the number of objects to expect",
}

Strategy = Callable[[Pool, int, np.random.Generator, Selection], Indices]
STRATEGIES: Registry[Strategy] = Registry("selection strategy")
NEEDS: Registry[frozenset[str]] = Registry("selection strategy")
"""What each strategy looks at beyond the scores: fields of `Pool`."""


def strategy(name: str, *needs: str) -> Callable[[Strategy], Strategy]:
    """File a strategy, which may count on 1 ≤ size ≤ N and on the columns that it needs."""
    NEEDS.register(name)(frozenset(needs))

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
            for need in _MISSING.keys() & set(needs):
                if getattr(pool, need) is None:
                    raise DataError(f"{name} needs {_MISSING[need]}; score the pool first")
            if settings.per_image is not None:
                return _choose_capped(choose, pool, size, rng, settings)
            return choose(pool, size, rng, settings).astype(np.int64)

        return STRATEGIES.register(name)(within_pool)

    return file


def _choose_capped(
    choose: Strategy, pool: Pool, size: int, rng: np.random.Generator, settings: Selection
) -> Indices:
    """Let a strategy choose, strike out what is too much of one source, and ask again.

    Every turn keeps at least one row, so this ends; a batch of `top` equals the ranking of all
    rows with the surplus left out.
    """
    if pool.sources_N is None:
        raise DataError("selection.per_image needs to know the image that each tile is cut from")
    taken: Counter[int] = Counter()
    chosen: Indices = np.empty(0, np.int64)
    rows: Indices = np.arange(len(pool))
    while len(chosen) < size and len(rows):
        some = pool.take(rows, chosen)
        wanted = min(size - len(chosen), len(rows))
        kept = []
        for row in rows[choose(some, wanted, rng, settings)]:
            source = int(pool.sources_N[row])
            if taken[source] < (settings.per_image or 0):
                taken[source] += 1
                kept.append(row)
        chosen = np.append(chosen, kept).astype(np.int64)
        full = [source for source, count in taken.items() if count == settings.per_image]
        rows = rows[~np.isin(pool.sources_N[rows], full) & ~np.isin(rows, chosen)]
    return chosen


def lift(pool: Pool, chosen: Indices) -> float:
    """How far the mean score of `chosen` lies above the pool's, in its standard deviations.

    0 where the scores do not differ or nothing was chosen.
    """
    if not len(chosen) or np.ptp(pool.scores_N) == 0:
        return 0.0
    above = pool.scores_N[chosen].mean() - pool.scores_N.mean()
    return float(above / pool.scores_N.std())


def _column(what: str, values: NDArray[Any]) -> NDArray[Any]:
    column = np.asarray(values)
    if column.dtype.kind not in "iu":
        column = column.astype(np.float64, copy=False)
    _check(what, column, ndim=2 if what == "class scores" else 1)
    return column


def _check(what: str, values: NDArray[Any], *, ndim: int) -> None:
    if values.ndim != ndim:
        rule = "one number" if ndim == 1 else "one row of numbers"
        raise DataError(f"{what} must be {rule} an image; got the shape {values.shape}")
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))
        raise DataError(
            f"{len(bad)} of {len(values)} {what} are not finite, the first in row {bad[0]}: "
            "score the pool again with a model that has not diverged"
        )
