"""Votes of several people about one image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml_backend.errors import RegionError
from ml_backend.masks.consensus import vote

MAPS = st.integers(1, 5).flatmap(
    lambda count: arrays(np.uint8, (count, 2, 3), elements=st.sampled_from([0, 1, 2, 255]))
)


def expected(votes: list[int], minimum: int) -> int:
    """The rule, for one pixel."""
    known = [value for value in votes if value != 255]
    for value in set(known):
        if known.count(value) >= minimum and known.count(value) * 2 > len(known):
            return value
    return 255


@given(maps=MAPS, minimum=st.integers(1, 4))
def test_every_pixel_is_decided_by_the_rule(maps: np.ndarray, minimum: int) -> None:
    """The majority of those who know, if it is large enough; unknown otherwise, ties too."""
    merged = vote(list(maps), minimum)
    assert merged.dtype == np.uint8
    for place in np.ndindex(2, 3):
        assert merged[place] == expected(maps[(slice(None), *place)].tolist(), minimum)


@given(maps=MAPS, minimum=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_order_of_the_people_does_not_matter(maps: np.ndarray, minimum: int, seed: int) -> None:
    """A vote is not a discussion."""
    shuffled = np.random.default_rng(seed).permutation(maps)
    np.testing.assert_array_equal(vote(list(maps), minimum), vote(list(shuffled), minimum))


def test_many_votes_do_not_overflow() -> None:
    """300 people are more than a byte counts."""
    assert (vote([np.full((2, 2), 1, np.uint8)] * 300, 257) == 1).all()


def test_masks_of_several_sizes_are_refused() -> None:
    """They are not of one image."""
    with pytest.raises(RegionError, match="2 sizes"):
        vote([np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)], 1)
