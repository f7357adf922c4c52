"""What labels cover of the masks, and the warning where that is implausible."""

import numpy as np

from ml_backend.store.label_shares import LabelShares, numbers_of
from ml_backend.store.summary import Summary

NUMBERS = numbers_of(["cell", "nucleus"])


def warnings(shares):
    """What a summary is told, label → why."""
    summary = Summary()
    shares.warn(summary)
    return {name: group.detail for group in summary.groups("warnings") for name in group.names}


def test_shares_are_of_the_known_pixels():
    """Pixels of all masks together, without those that are unknown; masks that have a label."""
    shares = LabelShares()
    shares.add(np.uint8([[1, 1, 255, 0]]), NUMBERS, overlapping=False)
    shares.add(np.uint8([[2, 0, 0, 0, 0]]), NUMBERS, overlapping=False)
    assert shares.as_json() == {
        "cell": {"share": 0.25, "masks": 1, "of": 2},
        "nucleus": {"share": 0.125, "masks": 1, "of": 2},
    }
    assert next(iter(shares.lines())) == "cell: 25.00% of the pixels, in 1 of 2 masks"
    assert warnings(shares) == {}


def test_labels_that_overlap():
    """In a set map a pixel counts for each of its labels."""
    shares = LabelShares()
    shares.add(np.uint8([[6, 2, 0, 255]]), NUMBERS, overlapping=True)
    assert [shares.share(name) for name in NUMBERS] == [2 / 3, 1 / 3]


def test_implausible_labels_are_told():
    """A label of no pixel at all, or of more than 95 % of all of them."""
    shares = LabelShares()
    assert warnings(shares) == {}
    shares.add(np.ones((9, 9), np.uint8), NUMBERS, overlapping=False)
    told = warnings(shares)
    assert told["label cell"].startswith("covers 100.0% of 1 masks")
    assert told["label nucleus"].startswith("covers no pixel of 1 masks")
    shares.add(np.zeros((9, 9), np.uint8) + np.uint8(2), NUMBERS, overlapping=False)
    assert warnings(shares) == {}
    unknown = LabelShares()
    unknown.add(np.full((2, 2), 255, np.uint8), NUMBERS, overlapping=False)
    assert set(warnings(unknown)) == {"label cell", "label nucleus"}
