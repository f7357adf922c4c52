"""What an image is like, in a few numbers: small enough to keep one row for every image."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 64


def embed(features_D: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """The network's features as a unit vector of at most 64 numbers, float16.

    Longer features are projected at random (Johnson & Lindenstrauss 1984), always by the same
    matrix: distances and angles change by about a tenth. Features that are all zero stay so.
    """
    vector = np.asarray(features_D, np.float32)
    if len(vector) > DIMENSIONS:
        vector = vector @ _projection(len(vector))
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > 0 else vector, np.float16)


@cache
def _projection(dimensions: int) -> NDArray[np.float32]:
    rng = np.random.default_rng([DIMENSIONS, dimensions])
    return rng.standard_normal((dimensions, DIMENSIONS), np.float32)
