"""Numbers of objects: whether a mask's codes are some."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml_backend.masks.instances import connected
from ml_backend.store.mask_values.codes import Codes

MANY = 6
"""As many numbers are no labels any more, where each lies in a piece of its own."""

_PIECES = 2
_LARGEST_CODE = 255


def ranks_of(codes: Codes) -> NDArray[np.int32]:
    """Number the values above 0 from 1 in their order, (H, W); what is 0 stays 0."""
    found, _ = codes.count()
    above = int(found.size > 0 and found[0] > 0)
    if found.size and found[-1] < 2**16:
        table = np.zeros(int(found[-1]) + 1, np.int32)
        table[found] = np.arange(len(found)) + above
        return np.take(table, codes.plane.astype(np.intp))
    ranks = np.searchsorted(found, codes.plane) + above
    return ranks.astype(np.int32)


def in_pieces(ranks: NDArray[np.int32]) -> bool:
    """Whether numbers lie in pieces, each its own, rather than scattered as soft edges are."""
    several = int(ranks.max(initial=0))
    return several > 0 and int(connected(ranks).max()) <= _PIECES * several


Sign = Literal["sure", "likely"]


def sign_of_numbers(codes: Codes, *, wanted: bool) -> Sign | None:
    """Whether codes number objects; None where they do not.

    `wanted`: objects are to be told apart, so that two of them are enough. Else it is sure of many,
    and in files of more than 8 bits of numbers beyond 8 bits; and likely there where numbers lie in
    a piece each, of which none encloses another as classes do.
    """
    if codes.kind not in {"greys", "indices"} or (codes.kind == "indices" and not wanted):
        return None
    values = codes.count()[0]
    found = values[values > 0]
    if len(found) < 2 or (len(found) < MANY and len(found) == len(values)):
        return None
    if not codes.deep and int(found[-1] - found[0]) + 1 > _PIECES * len(found):
        return None  # greys rather than numbers, which are counted up
    ranks = ranks_of(codes)
    if wanted or len(found) >= MANY or (codes.deep and found[-1] > _LARGEST_CODE):
        return "sure" if in_pieces(ranks) else None
    return "likely" if codes.deep and _are_apart(ranks, len(found)) else None


def _are_apart(ranks: NDArray[np.int32], count: int) -> bool:
    """Whether each number is in one piece, and none around another."""
    if int(connected(ranks).max()) != count:
        return False
    boxes = ndimage.find_objects(ranks)
    corners = np.array([(r.start, c.start, -r.stop, -c.stop) for r, c in boxes])
    encloses = (corners[:, None] < corners[None]).all(axis=2)
    return not encloses.any()
