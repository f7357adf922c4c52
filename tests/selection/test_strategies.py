"""One conformance suite over every strategy, and what each one promises beyond it."""

import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from ml_backend.errors import DataError
from ml_backend.recipe import Selection
from ml_backend.selection.strategies import STRATEGIES, Pool, lift

CASES = [
    (name, variant)
    for name in STRATEGIES
    for variant in (("partition", "resample") if name == "stochastic_batch" else ("resample",))
]
DIGEST = """
import numpy as np
from ml_backend.recipe import Selection
from ml_backend.selection.strategies import STRATEGIES, Pool
draw = np.random.default_rng(3)
pool = Pool(draw.random(400), draw.random(400))
for name, variant in {cases!r}:
    settings = Selection(strategy=name, variant=variant)
    print(STRATEGIES[name](pool, 23, np.random.default_rng(11), settings).tolist())
"""


def _pool(count, seed=0):
    draw = np.random.default_rng(seed)
    return Pool(draw.random(count), draw.random(count))


def _choose(case, pool, size, seed=0, **settings):
    name, variant = case
    chosen = Selection(strategy=name, variant=variant, **settings)
    return STRATEGIES[name](pool, size, np.random.default_rng(seed), chosen)


@pytest.mark.parametrize("case", CASES, ids="-".join)
class TestEveryStrategy:
    """What any strategy must do, whoever adds it."""

    @pytest.mark.parametrize(
        ("count", "size"), [(0, 5), (1, 1), (7, 0), (7, 7), (7, 20), (10, 3), (50, 49)]
    )
    def test_distinct_rows_of_the_right_number(self, case, count, size):
        """min(size, N) distinct integer row numbers of the pool."""
        chosen = _choose(case, _pool(count), size)
        assert chosen.dtype == np.int64
        assert len(chosen) == len(set(chosen.tolist())) == min(size, count)
        assert all(0 <= row < count for row in chosen)

    def test_equal_scores_are_drawn_uniformly(self, case):
        """Without a reason to prefer one, every row gets its turn, not just the first ones."""
        pool = Pool(np.full(12, 0.5), np.full(12, 0.5))
        turns = Counter(
            row for seed in range(300) for row in _choose(case, pool, 4, seed, draws=3).tolist()
        )
        assert len(turns) == 12
        assert min(turns.values()) > 60  # 100 expected, standard deviation 8

    def test_scores_of_zero_are_scores(self, case):
        """A pool where nothing is uncertain or foreground still yields a batch."""
        assert len(set(_choose(case, Pool(np.zeros(9), np.zeros(9)), 5).tolist())) == 5

    def test_seed_decides(self, case):
        """Same seed, same batch; another seed, another one (save for the top without ties)."""
        pool = _pool(200)
        first = _choose(case, pool, 10, seed=1).tolist()
        assert first == _choose(case, pool, 10, seed=1).tolist()
        assert (first == _choose(case, pool, 10, seed=2).tolist()) == (case[0] == "top")

    def test_pool_is_left_alone(self, case):
        """Choosing changes neither the scores nor the foreground shares."""
        pool = _pool(30)
        before = pool.scores_N.copy(), pool.foreground_N.copy()
        _choose(case, pool, 10)
        np.testing.assert_array_equal(pool.scores_N, before[0])
        np.testing.assert_array_equal(pool.foreground_N, before[1])

    def test_a_million_scores(self, case):
        """A pool of a million costs well under a second (two here: the machine may be busy)."""
        pool = _pool(10**6)
        start = time.process_time()
        assert len(_choose(case, pool, 100)) == 100
        assert time.process_time() - start < 2

    def test_negative_sizes_are_a_mistake(self, case):
        """A size below zero is refused, not read as `all but`."""
        with pytest.raises(ValueError, match="-1"):
            _choose(case, _pool(5), -1)


def test_another_process_chooses_the_same():
    """The seed alone decides, not the hash seed or anything else of the process."""
    code = DIGEST.format(cases=CASES)
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    draw = np.random.default_rng(3)
    pool = Pool(draw.random(400), draw.random(400))
    here = [str(_choose(case, pool, 23, seed=11).tolist()) for case in CASES]
    assert there.stdout.splitlines() == here


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_none_are_refused(bad):
    """NaN and infinities are refused with their number and the first row."""
    scores = np.arange(9.0)
    scores[[4, 7]] = bad
    with pytest.raises(DataError, match=r"2 of 9 scores .* row 4"):
        Pool(scores)
    with pytest.raises(DataError, match=r"2 of 9 foreground shares .* row 4"):
        Pool(np.arange(9.0), scores)


def test_pools_of_the_wrong_shape_are_refused():
    """A table of scores or columns of different lengths cannot be a pool."""
    with pytest.raises(DataError, match="one number an image"):
        Pool(np.zeros((3, 2)))
    with pytest.raises(DataError, match="3 scores but 2"):
        Pool(np.zeros(3), np.zeros(2))


def test_top_is_the_highest_in_order():
    """The highest scores come, the highest first."""
    pool = _pool(1000)
    chosen = _choose(("top", "resample"), pool, 17)
    np.testing.assert_array_equal(chosen, np.argsort(-pool.scores_N)[:17])


def test_partition_takes_the_best_of_disjoint_batches():
    """The batch equals the best block of the permutation that the same generator gives."""
    pool = _pool(43)
    blocks = np.random.default_rng(5).permutation(43)[:40].reshape(4, 10)
    best = max(blocks, key=lambda block: pool.scores_N[block].mean())
    np.testing.assert_array_equal(_choose(("stochastic_batch", "partition"), pool, 10, 5), best)


def test_resample_takes_the_best_of_its_draws():
    """The batch equals the best of Q draws without replacement by the same generator."""
    pool, rng = _pool(43), np.random.default_rng(5)
    draws = [rng.choice(43, 10, replace=False) for _ in range(6)]
    best = max(draws, key=lambda batch: pool.scores_N[batch].mean())
    chosen = _choose(("stochastic_batch", "resample"), pool, 10, 5, draws=6)
    np.testing.assert_array_equal(chosen, best)


def test_more_draws_lift_the_batch():
    """One draw is random; many draws lie above the pool's mean, and below the top."""
    pool = _pool(500)
    case = ("stochastic_batch", "resample")
    one, many = (
        np.mean([lift(pool, _choose(case, pool, 10, seed, draws=q)) for seed in range(30)])
        for q in (1, 50)
    )
    assert abs(one) < 0.25
    assert 0.4 < many < lift(pool, _choose(("top", "resample"), pool, 10))


def test_power_prefers_high_scores_but_not_only():
    """High scores are likelier, zero comes last, and negative scores are refused."""
    pool = Pool(np.concatenate([np.zeros(50), np.full(50, 0.1), np.full(50, 0.2)]))
    chosen = np.concatenate([_choose(("power", "resample"), pool, 20, s) for s in range(20)])
    assert chosen.min() >= 50
    assert 0.6 < np.mean(chosen >= 100) < 1
    with pytest.raises(DataError, match="score ≥ 0"):
        _choose(("power", "resample"), Pool(np.array([0.1, -0.1])), 1)


def test_foreground_random_draws_half_by_foreground():
    """Half of the batch comes from the images with foreground, the rest from anywhere."""
    shares = np.zeros(1000)
    shares[:20] = 0.3
    pool = Pool(np.zeros(1000), shares)
    with_foreground = (_choose(("foreground_random", "resample"), pool, 20) < 20).sum()
    assert 10 <= with_foreground <= 13
    with pytest.raises(DataError, match="score the pool first"):
        _choose(("foreground_random", "resample"), Pool(np.zeros(5)), 2)


def test_lift_counts_standard_deviations():
    """The batch's mean above the pool's, in the pool's standard deviations; 0 without spread."""
    pool = Pool(np.array([0.0, 0.0, 2.0, 2.0]))
    assert lift(pool, np.array([2, 3])) == 1
    assert lift(pool, np.array([0, 2])) == 0
    assert lift(Pool(np.full(7, 0.1)), np.array([1])) == 0
    assert lift(pool, np.empty(0, np.int64)) == lift(Pool(np.empty(0)), np.empty(0, np.int64)) == 0
