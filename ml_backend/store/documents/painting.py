"""Regions painted over each other, and what is covered counted."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ml_backend.masks.labels import IGNORE
from ml_backend.masks.sets import code_of
from ml_backend.masks.shapes import Patch
from ml_backend.store.documents.labels import LEFT_OUT


class Canvas:
    """The mask of an image while its regions are painted."""

    def __init__(self, shape: tuple[int, int], *, overlapping: bool) -> None:
        self.numbers = np.zeros(shape, np.int32)
        self._values = np.zeros(shape, np.uint8)
        self._is_painted = np.zeros(shape, np.bool_)
        self._overlapping = overlapping
        self._names: dict[int, str] = {}
        self._objects: set[int] = set()
        self._covered: dict[tuple[str, str], None] = {}  # in order
        self._empty: dict[str, None] = {}

    def paint(self, patch: Patch, value: int, number: int, name: str) -> None:
        """Add a region: what its pixels become, its object's number or 0, its label's name."""
        box = patch.rows, patch.columns
        if not patch.mask.any():
            self._empty[name] = None
            return
        if value == LEFT_OUT:
            self._is_painted[box] |= patch.mask
            return
        self._names[value] = name
        below = self._values[box][patch.mask]
        if self._overlapping and value not in {0, IGNORE}:
            below[below == IGNORE] = 0
            self._values[box][patch.mask] = below | np.uint8(code_of([value]))
        else:
            others = below[(below != value) & (below != 0)]
            for other in np.unique(others).tolist():
                self._covered[self._names.get(other, "other labels"), name] = None
            self._values[box][patch.mask] = value
        self._is_painted[box] |= patch.mask
        is_object = value not in {0, IGNORE} and number > 0
        self.numbers[box][patch.mask] = number if is_object else 0
        self._objects |= {number} if is_object else set()

    def mask(self, rest: int) -> NDArray[np.uint8]:
        """The label map or set map; `rest` where no region lies."""
        return np.where(self._is_painted, self._values, np.uint8(rest))

    def notes(self) -> Iterator[str]:
        """Say what of the regions is not in the mask, in the same words for every image."""
        for lower, upper in self._covered:
            yield f"pixels of {lower!r} lie under a later region of {upper!r}, which has them"
        hidden = (
            0 if self._overlapping else len(self._objects - set(np.unique(self.numbers).tolist()))
        )
        if hidden:
            yield "objects lie wholly under later ones of the document"
        for name in self._empty:
            yield f"regions of {name!r} cover no pixel's centre"
