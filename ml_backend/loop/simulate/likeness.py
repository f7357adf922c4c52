"""Which tiles of a pool nearly repeat each other, whatever any network makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from ml_backend.loop.simulate.material import Material

_CLOSEST = 0.01
"""The share of all pairs of a pool, those that look most alike, that count as near-duplicates."""

_MOST = 2000  # tiles of whose pairs the limit is taken: two million


@dataclass(frozen=True)
class Likeness:
    """What each tile looks like, and up to which Euclidean distance two are near-duplicates."""

    looks_ND: NDArray[np.float32]  # noqa: N815
    limit: float

    def repeated(self, chosen: Sequence[int]) -> float:
        """The share, 0..1, of the tiles of a batch that have a near-duplicate in the same batch."""
        if len(chosen) < 2:
            return 0.0
        near_BB = squareform(pdist(self.looks_ND[list(chosen)]) <= self.limit)  # diagonal: False
        return float(near_BB.any(axis=1).mean())


def looks_of(material: Material) -> NDArray[np.float32]:
    """(N, D) colours and texture of the tiles of a pool."""
    from ml_backend.selection.appearance import appearance, comparable

    looks_ND = np.stack([appearance(sample.load()[0]) for sample in material.samples])
    return comparable(looks_ND)


def likeness_of(material: Material) -> Likeness:
    """Compare the tiles of a pool by colours and texture."""
    return closest(looks_of(material))


def closest(looks_ND: NDArray[np.float32]) -> Likeness:
    """Draw the limit where a hundredth of all pairs lies below; of a large pool, of some pairs."""
    some = np.random.default_rng(0).permutation(len(looks_ND))[:_MOST]
    distances_P = pdist(looks_ND[some])
    return Likeness(looks_ND, float(np.quantile(distances_P, _CLOSEST, method="lower")))
