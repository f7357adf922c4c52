"""Windows and tiles cover images; blending is exact where it can be."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.masks.tiles import Blend, Window, cut, cut_tiles

LENGTHS = st.integers(1, 70)


def coverage(windows: list[Window], height: int, width: int) -> np.ndarray:
    """Count how many windows cover each pixel; none may leave the image."""
    counts = np.zeros((height, width), int)
    for window in windows:
        assert 0 <= window.x <= window.x + window.width <= width
        assert 0 <= window.y <= window.y + window.height <= height
        counts[window.slices] += 1
    return counts


@given(LENGTHS, LENGTHS, st.integers(1, 40), st.integers(0, 39))
def test_windows_cover_the_image(height: int, width: int, side: int, overlap: int) -> None:
    """Windows cover every pixel, never leave the image, share one size and occur once."""
    windows = cut(height, width, side, min(overlap, side - 1))
    assert coverage(windows, height, width).min() >= 1
    assert {window[2:] for window in windows} == {(min(side, width), min(side, height))}
    assert len(set(windows)) == len(windows)


@given(st.integers(1, 300), st.integers(2, 60), st.integers(0, 30))
def test_neighbours_overlap_as_asked(length: int, side: int, overlap: int) -> None:
    """Neighbouring windows share at least the overlap that was asked for."""
    overlap = min(overlap, side - 1)
    starts = [window.x for window in cut(1, length, side, overlap)]
    assert all(0 < b - a <= side - overlap for a, b in pairwise(starts))


@given(LENGTHS, LENGTHS, st.integers(1, 40))
def test_tiles_partition_the_image(height: int, width: int, side: int) -> None:
    """Every pixel belongs to exactly one tile, and no tile is a sliver unless the image is."""
    tiles = cut_tiles(height, width, side)
    assert (coverage(tiles, height, width) == 1).all()
    for tile in tiles:
        assert 4 * tile.width >= min(side, 4 * width)
        assert 4 * tile.height >= min(side, 4 * height)
        assert max(tile.width, tile.height) < 1.25 * side


@settings(deadline=None)
@given(LENGTHS, LENGTHS, st.integers(6, 40), st.floats(0, 1, width=32))
def test_constant_windows_blend_to_the_constant(
    height: int, width: int, side: int, value: float
) -> None:
    """Where all windows agree, the blend is what they say, exactly."""
    blend = Blend(2, height, width)
    for window in cut(height, width, side, side // 3):
        blend.add(window, np.full((2, window.height, window.width), value, np.float32))
    assert (blend.result() == np.float32(value)).all()


@settings(deadline=None)
@given(LENGTHS, LENGTHS, st.integers(6, 40), st.integers(0, 2**32 - 1))
def test_blend_is_exact_under_one_window_and_a_mean_elsewhere(
    height: int, width: int, side: int, seed: int
) -> None:
    """A pixel under one window keeps its value; others lie between those of their windows."""
    rng = np.random.default_rng(seed)
    windows = cut(height, width, side, side // 4)
    values = [rng.random((1, w.height, w.width), np.float32) for w in windows]
    blend = Blend(1, height, width)
    lowest, highest = np.full((height, width), 2.0), np.full((height, width), -1.0)
    for window, part in zip(windows, values, strict=True):
        blend.add(window, part)
        lowest[window.slices] = np.minimum(lowest[window.slices], part[0])
        highest[window.slices] = np.maximum(highest[window.slices], part[0])
    result = blend.result()[0]
    alone = coverage(windows, height, width) == 1
    np.testing.assert_array_equal(result[alone], lowest[alone])
    assert (result >= lowest - 1e-6).all()
    assert (result <= highest + 1e-6).all()


def test_there_is_no_seam() -> None:
    """Between a window of zeros and one of ones the blend rises without a jump."""
    blend = Blend(1, 64, 96)
    for value, window in enumerate(cut(64, 96, 64, 32)):
        blend.add(window, np.full((1, 64, 64), value, np.float32))
    profile = blend.result()[0, 32]
    assert (profile[0], profile[-1]) == (0, 1)
    assert (np.diff(profile) >= 0).all()
    assert np.diff(profile).max() < 0.06


def test_what_cannot_be_is_refused() -> None:
    """Overlaps as wide as the window, tiles of no size and uncovered pixels raise."""
    with pytest.raises(ValueError, match="overlap by 8"):
        cut(10, 10, 8, 8)
    with pytest.raises(ValueError, match="tiles of 0"):
        cut_tiles(10, 10, 0)
    with pytest.raises(ValueError, match="4 pixels are covered by no window"):
        Blend(1, 2, 2).result()
