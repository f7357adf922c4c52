"""How many objects an image would have somebody outline, as far as the model can tell."""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SPECK = 10  # px: what is smaller nobody outlines


def expected_objects(
    labels: Iterable[tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]],
) -> float:
    """The number of objects that is to be expected, from each label's (p̄_HW, said_HW).

    Every 8-connected component of what is `said` to be of a label counts as much as the model is
    sure of it: with its mean probability. Components of fewer than 10 px are specks.
    """
    return sum((_of_label(probs_HW, said_HW) for probs_HW, said_HW in labels), start=0.0)


def _of_label(probs_HW: NDArray[np.floating[Any]], said_HW: NDArray[np.bool_]) -> float:
    if not said_HW.any():
        return 0.0
    _, numbers_HW = cv2.connectedComponents(said_HW.astype(np.uint8), connectivity=8)
    numbers_P = numbers_HW[said_HW]
    areas = np.bincount(numbers_P)
    sums = np.bincount(numbers_P, weights=probs_HW[said_HW])
    counted = areas >= _SPECK
    return float((sums[counted] / areas[counted]).sum())
