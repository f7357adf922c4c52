"""Windows and tiles cover images; blending is exact where it can be."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.masks.tiles import Window, blend, cut, cut_tiles

LENGTHS = st.integers(1, 70)


def coverage(windows: list[Window], height: int, width: int) -> np.ndarray:
    """Count how many windows cover each pixel; none may leave the image."""
    counts = np.zeros((height, width), int)
    for window in windows:
        assert 0 <= window.x <= window.x + window.width <= width
        assert 0 <= window.y <= window.y + window.height <= height
        counts[window.slices] += 1
    return counts


@settings(deadline=None)
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


@settings(deadline=None)
@given(LENGTHS, LENGTHS, st.integers(1, 40))
def test_tiles_partition_the_image(height: int, width: int, side: int) -> None:
    """Every pixel belongs to exactly one tile, and no tile is a sliver unless the image is."""
    tiles = cut_tiles(height, width, side)
    assert (coverage(tiles, height, width) == 1).all()
    for tile in tiles:
        assert 4 * tile.width >= min(side, 4 * width)
        assert 4 * tile.height >= min(side, 4 * height)
        assert max(tile.width, tile.height) < 1.25 * side


def blended(windows: list[Window], values: list[np.ndarray]) -> np.ndarray:
    """The whole, put together from rows that follow one another without a gap."""
    rows = []
    for y, band in blend(windows, iter(values)):
        assert y == sum(part.shape[1] for part in rows)
        rows.append(band.copy())
        band[...] = np.nan  # the caller's own: what follows must not depend on it
    return np.concatenate(rows, axis=1)


@settings(deadline=None)
@given(LENGTHS, LENGTHS, st.integers(6, 40), st.floats(0, 1, width=32))
def test_constant_windows_blend_to_the_constant(
    height: int, width: int, side: int, value: float
) -> None:
    """Where all windows agree, the blend is what they say, exactly."""
    windows = cut(height, width, side, side // 3)
    found = blended(windows, [np.full((2, w.height, w.width), value, np.float32) for w in windows])
    assert found.shape == (2, height, width)
    assert (found == np.float32(value)).all()


@settings(max_examples=40, deadline=None)
@given(LENGTHS, LENGTHS, st.integers(2, 40), st.integers(0, 39), st.integers(0, 2**32 - 1))
def test_blend_is_the_mean_by_weights_that_fall_to_the_edges(
    height: int, width: int, side: int, overlap: int, seed: int
) -> None:
    """What is made row by row is the mean over all windows; one window alone keeps its values."""
    rng = np.random.default_rng(seed)
    windows = cut(height, width, side, min(overlap, side - 1))
    values = [rng.random((2, w.height, w.width), np.float32) for w in windows]
    total, weights = np.zeros((2, height, width)), np.zeros((height, width))
    for window, part in zip(windows, values, strict=True):
        hann = [np.sin((np.arange(n) + 0.5) * np.pi / n) ** 2 for n in part.shape[1:]]
        total[:, *window.slices] += part * np.outer(*hann)
        weights[window.slices] += np.outer(*hann)
    found = blended(windows, values)
    np.testing.assert_allclose(found, total / weights, atol=1e-5)
    alone = coverage(windows, height, width) == 1
    for window, part in zip(windows, values, strict=True):
        own = alone[window.slices]
        np.testing.assert_array_equal(found[:, *window.slices][:, own], part[:, own])


def test_there_is_no_seam() -> None:
    """Between a window of zeros and one of ones the blend rises without a jump."""
    values = [np.full((1, 64, 64), value, np.float32) for value in range(2)]
    for windows in (cut(64, 96, 64, 32), cut(96, 64, 64, 32)):
        whole = blended(windows, values)[0]
        profile = whole[32] if whole.shape[1] == 96 else whole[:, 32]
        assert (profile[0], profile[-1]) == (0, 1)
        assert (np.diff(profile) >= 0).all()
        assert np.diff(profile).max() < 0.06


def test_rows_are_given_out_as_soon_as_they_are_finished() -> None:
    """A row of windows is asked for only when the rows above it have been taken."""
    windows = cut(200, 100, 40, 10)
    across = len({window.x for window in windows})
    taken: list[Window] = []

    def values() -> Iterator[np.ndarray]:
        for window in windows:
            taken.append(window)
            yield np.zeros((1, window.height, window.width), np.float32)

    for number, (y, band) in enumerate(blend(windows, values())):
        assert len(taken) <= across * (number + 2)
        assert y + band.shape[1] <= taken[-1].y + 40
    assert taken == windows


def test_what_cannot_be_is_refused() -> None:
    """Overlaps as wide as the window and tiles of no size raise."""
    with pytest.raises(ValueError, match="overlap by 8"):
        cut(10, 10, 8, 8)
    with pytest.raises(ValueError, match="tiles of 0"):
        cut_tiles(10, 10, 0)
