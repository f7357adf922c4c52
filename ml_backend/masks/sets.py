"""Labels that may overlap: the set of labels that each pixel has, in one byte.

A *set map* is (H, W) uint8 like a label map, but label k (1..K, in the labeling config's order) is
bit k, so that a pixel may have several. Bit 0 is no label's: 0 is background as ever, and 255,
which is odd, is no set and as ever an unknown pixel, unknown for all labels. Whatever cuts, turns,
stores, compares or lays over label maps does the same to set maps and need not know which it
holds; who asks for the pixels of a label does. The price is that a byte holds `MOST` labels.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import LabelConfigError

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

IGNORE = 255
MOST = 7
"""Labels that a byte holds beside the bit that tells sets from the unknown."""


def check_count(names: Sequence[str]) -> None:
    """Raise `LabelConfigError` for more labels than may overlap."""
    if len(names) > MOST:
        raise LabelConfigError(
            f"{len(names)} labels that may overlap ({', '.join(names)}); there may be {MOST}: set "
            "some aside (labels.ignore, labels.background in the recipe), or let the later region "
            "win where they overlap (labels.overlap: exclusive)"
        )


def code_of(labels: Iterable[int]) -> int:
    """The value of a pixel that has these labels (1..K)."""
    code = 0
    for label in labels:
        code |= 1 << label
    return code


def plane(set_map: U8, label: int) -> Bool:
    """The pixels of a label, of the shape of the map; unknown ones do not belong to it."""
    return np.asarray((set_map & np.uint8(1 << label) > 0) & (set_map != IGNORE))


def mask_of(mask: U8, label: int, *, overlapping: bool) -> Bool:
    """The pixels of a label in a set map (`overlapping`) or a label map."""
    return plane(mask, label) if overlapping else mask == label


def planes_of(set_map: U8, labels: int) -> Bool:
    """(H, W) → (K, H, W) bool, a plane a label; unknown pixels belong to none."""
    return np.stack([plane(set_map, label) for label in range(1, labels + 1)])


def from_planes(planes_KHW: Sequence[Bool] | Bool) -> U8:
    """(K, H, W) bool → the set map; the inverse of `planes_of`."""
    set_map: U8 = np.zeros(planes_KHW[0].shape, np.uint8)
    for label, mask in enumerate(planes_KHW, 1):
        set_map |= mask.astype(np.uint8) << label
    return set_map


def decided(probs_KHW: NDArray[np.floating]) -> U8:
    """Probabilities of the labels, each for itself → the set map of those above one half."""
    return from_planes(probs_KHW > 0.5)


def from_labels(label_map: U8) -> U8:
    """A label map of up to `MOST` labels as a set map: one label a pixel."""
    table = np.zeros(256, np.uint8)
    table[1 : MOST + 1] = 1 << np.arange(1, MOST + 1)
    table[IGNORE] = IGNORE
    return np.take(table, label_map)


def on_top(set_map: U8) -> U8:
    """A label map in which of several labels of a pixel the last one is seen."""
    codes = np.arange(256)
    table = np.zeros(256, np.uint8)
    for label in range(1, MOST + 1):
        table[codes & (1 << label) > 0] = label
    table[IGNORE] = IGNORE
    return np.take(table, set_map)


def renamed(written: Sequence[str], labels: Sequence[str]) -> U8:
    """The table (256,) from sets of the labels `written` to sets of `labels`, by their names.

    A pixel with a label that is not among them any more becomes unknown.
    """
    codes = np.arange(256)
    table = np.zeros(256, np.uint8)
    gone = np.zeros(256, np.bool_)
    for place, name in enumerate(written, 1):
        has = codes & (1 << place) > 0
        if name in labels:
            table[has] |= np.uint8(1 << (list(labels).index(name) + 1))
        else:
            gone |= has
    table[gone] = IGNORE
    table[IGNORE] = IGNORE
    return table


def strangers(set_map: U8, labels: int) -> list[int]:
    """The values in a set map that are neither unknown nor sets of 1..`labels`."""
    allowed = code_of(range(1, labels + 1))
    found = np.flatnonzero(np.bincount(set_map.reshape(-1), minlength=256)).tolist()
    return [value for value in found if value & ~allowed and value != IGNORE]


def dice(shown: U8, submitted: U8) -> float:
    """Dice of two set maps over all labels together, 0..1; 1.0 where both are empty.

    Pixels that are unknown in the submitted one do not count; equal maps give exactly 1.
    """
    known = submitted != IGNORE
    shown, submitted = shown[known], submitted[known]
    shown = np.where(shown == IGNORE, 0, shown).astype(np.uint8)
    total = int(_labels_in(shown)) + int(_labels_in(submitted))
    return 2 * int(_labels_in(shown & submitted)) / total if total else 1.0


def _labels_in(set_map: U8) -> int:
    """How many pairs of pixel and label there are."""
    return int(np.bitwise_count(set_map).sum(dtype=np.int64))


def vote(set_maps: Sequence[U8], minimum: int) -> U8:
    """Several people's set maps of one image → theirs by majority, label by label.

    A label is there, or is not, where more than half of those who know the pixel say so, if they
    are at least `minimum`; a pixel of which any label stays undecided is unknown. All of one shape.
    """
    known = sum((one != IGNORE).astype(np.uint16) for one in set_maps)
    merged: U8 = np.zeros(set_maps[0].shape, np.uint8)
    undecided = np.zeros(merged.shape, np.bool_)
    for label in range(1, MOST + 1):
        yes = sum(plane(one, label).astype(np.uint16) for one in set_maps)
        no = known - yes
        there = (yes >= minimum) & (2 * yes > known)
        undecided |= ~there & ~((no >= minimum) & (2 * no > known))
        merged |= there.astype(np.uint8) << label
    merged[undecided] = IGNORE
    return merged
