"""The report's numbers against such as were worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ml_backend.loop.simulate import drawing
from ml_backend.loop.simulate.figures import (
    Curve,
    Result,
    at_equal_cost,
    interval,
    mean_until,
    null_area,
    reach,
    tiles_to,
)
from ml_backend.loop.simulate.likeness import closest


def curve(iou, objects=None, tiles=(10, 20, 40)):
    """A strategy's curve over three numbers of tiles."""
    iou = np.array(iou, np.float64)
    tiles = np.broadcast_to(np.array(tiles, np.float64), iou.shape)
    objects = tiles if objects is None else np.array(objects, np.float64)
    return Curve("any", iou, tiles, tiles, tiles * 100, objects, tiles * 0, tiles * 0)


def test_area_is_the_mean_height_by_tiles():
    """(10·0.3 + 20·0.5) / 30 for 0.2, 0.4, 0.6 at 10, 20 and 40 tiles."""
    assert curve([[0.2, 0.4, 0.6], [0.5, 0.5, 0.5]]).area.tolist() == pytest.approx([13 / 30, 0.5])


def test_area_ends_where_it_is_told():
    """Between two points the line is cut; nothing spent is no number."""
    x, y = np.array([0.0, 10, 20]), np.array([0.0, 1, 0])
    assert mean_until(x, y, 5) == pytest.approx(0.25)
    assert mean_until(x, y, 15) == pytest.approx((5 + 3.75) / 15)
    assert math.isnan(mean_until(x, y, 0))
    assert mean_until(np.array([0.0, 0, 2]), np.array([5.0, 1, 1]), 2) == pytest.approx(1)


def test_differences_at_equal_objects():
    """Both up to the 10 objects of the cheaper: 0.3 against 0.2 + 0.1·(10/20)/2."""
    costly = curve([[0.2, 0.2, 0.4]], objects=[[0, 10, 30]])
    cheap = curve([[0.2, 0.3, 0.4]], objects=[[0, 5, 10]])
    other = curve([[0.2, 0.4, 0.6]], objects=[[0, 10, 10]])
    assert at_equal_cost(cheap, costly, lambda row: row.objects).tolist() == pytest.approx(
        [(5 * 0.25 + 5 * 0.35) / 10 - 0.2]
    )
    assert at_equal_cost(other, costly, lambda row: row.objects).tolist() == pytest.approx([0.1])


def test_near_duplicates_are_the_closest_pairs():
    """Of 15 tiles, 105 pairs, the two closest; a batch repeats what has its mate in it."""
    looks = np.arange(15, dtype=np.float32)[:, None] ** 2
    looks[9], looks[4] = looks[8] + 0.5, looks[3] + 0.25
    near = closest(looks)
    assert near.limit == 0.5
    assert near.repeated([3, 4, 8, 0]) == pytest.approx(0.5)
    assert near.repeated([8, 9]) == 1
    assert near.repeated([3, 8, 0]) == 0
    assert near.repeated([4]) == 0


def test_first_crossing_is_interpolated():
    """Between 20 and 40 tiles, at the first, or never."""
    x, y = np.array([10.0, 20, 40]), np.array([0.2, 0.4, 0.6])
    assert tiles_to(x, y, 0.5) == pytest.approx(30)
    assert tiles_to(x, y, 0.1) == 10
    assert tiles_to(x, y, 0.6) == 40
    assert tiles_to(x, y, 0.7) == math.inf
    assert tiles_to(x, np.array([0.2, 0.6, 0.4]), 0.5) == pytest.approx(17.5)


def test_the_target_is_what_the_other_seeds_end_with():
    """Seeds ending at 1/2 and 3/4: targets 3/4 and 1/2; the first never gets there by itself."""
    random = curve([[0.25, 0.375, 0.5], [0.25, 0.375, 0.75]])
    null = reach(random, random)
    assert null.tiles_S.tolist() == pytest.approx([40, 20 + 20 / 3])
    assert null.reached == 1
    better = reach(curve([[0.25, 0.75, 0.75], [0.25, 0.75, 0.75]]), random)
    assert better.tiles_S.tolist() == pytest.approx([20, 15])
    assert better.reached == 2


def test_intervals_are_students():
    """As scipy has them; a single seed has none, and unknown values do not count."""
    values = np.array([0.1, 0.3, 0.2, 0.5])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = interval(np.append(values, np.nan))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.mean == pytest.approx(0.275)
    assert math.isnan(interval(np.array([0.4])).low)
    assert math.isnan(interval(np.array([np.nan])).mean)


def test_the_null_has_mean_zero():
    """Random against random of the next seed: its width is what luck does."""
    null = null_area(curve([[0.2, 0.2, 0.2], [0.3, 0.3, 0.3], [0.7, 0.7, 0.7]]))
    assert null.mean == pytest.approx(0)
    spread = stats.t.ppf(0.975, 2) * stats.sem([0.1, 0.4, -0.5])
    assert null.high == pytest.approx(spread)


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_nobody_beats_random_at_being_random(first, second):
    """A strategy with random's own curves saves nothing, and differs by nothing at any cost."""
    random = curve([first, second], objects=[[1, 4, 9], [2, 2, 7]])
    same = reach(random, random)
    assert (same.tiles_S == reach(random, random).tiles_S).all()
    assert not at_equal_cost(random, random, lambda row: row.objects).any()
    assert (same.tiles_S <= 40).all()


@pytest.mark.parametrize("count", [3, 6, 7, 15])
def test_every_strategy_has_a_colour_of_its_own(count):
    """As many as there are to play, with random black; bands only where they can be told apart."""
    names = ["random", *(f"strategy-{number}" for number in range(count - 1))]
    rows = {name: curve([[0.2, 0.4, 0.6], [0.3, 0.3, 0.5]]) for name in names}
    curves = {name: replace(row, name=name) for name, row in rows.items()}
    figure = drawing.figure_of(Result(curves, {"ceiling-x1": np.array([0.7])}), "title", "measure")
    left = figure.axes[0]
    lines = {line.get_label(): line.get_color() for line in left.lines}
    assert list(lines) == [*names, "whole pool, steps x1"]
    assert lines["random"] == "black"
    assert len(set(lines.values())) == count + 1
    assert len(left.collections) == (count if count <= 6 else 1)
    assert left.get_ylabel() == "measure"
    assert ("interval of random" in figure.get_suptitle()) == (count > 6)
