"""One conformance suite over every strategy, and what each one promises beyond it."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2
from support.elsewhere import printed_here_and_elsewhere

from ml_backend.errors import DataError
from ml_backend.recipe import Selection
from ml_backend.selection import spread
from ml_backend.selection.strategies import NEEDS, STRATEGIES, Pool, lift

CASES = [
    (name, variant)
    for name in STRATEGIES
    for variant in (("partition", "resample") if name == "stochastic_batch" else ("resample",))
]
BY_SCORE_ALONE = {"top", "suggestive"}  # without ties there is nothing to draw
DIGEST = """
import numpy as np
from ml_backend.recipe import Selection
from ml_backend.selection import spread
from ml_backend.selection.strategies import STRATEGIES, Pool
draw = np.random.default_rng(3)
pool = Pool(
    draw.random(400), draw.random(400), draw.random((400, 3)), draw.normal(size=(400, 5)),
    order_N=draw.random(400), sources_N=draw.integers(0, 90, 400), objects_N=draw.random(400),
)
for name, variant in {cases!r}:
    settings = Selection(strategy=name, variant=variant, per_image=2)
    print(STRATEGIES[name](pool, 23, np.random.default_rng(11), settings).tolist())
"""


def _pool(count, seed=0):
    """A pool of which everything is known, at random."""
    draw = np.random.default_rng(seed)
    return Pool(
        draw.random(count),
        draw.random(count),
        draw.random((count, 3)),
        draw.normal(size=(count, 5)),
        order_N=draw.random(count),
        sources_N=draw.integers(0, max(count // 4, 1), count),
        objects_N=draw.integers(0, 9, count).astype(float),
    )


def _alike(count, value=0.5):
    """A pool of images that differ in nothing."""
    same = np.full(count, value)
    classes, embeddings = np.full((count, 2), value), np.full((count, 4), value)
    return Pool(same, same, classes, embeddings, objects_N=same)


def _choose(case, pool, size, seed=0, **settings):
    name, variant = case
    chosen = Selection(strategy=name, variant=variant, **settings)
    return STRATEGIES[name](pool, size, np.random.default_rng(seed), chosen)


def _select(name, pool, size, seed=0, **settings):
    return _choose((name, "resample"), pool, size, seed, **settings)


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

    def test_equal_rows_are_drawn_uniformly(self, case):
        """Without a reason to prefer one, every row gets its turn, not just the first ones."""
        pool = _alike(12)
        turns = Counter(
            row for seed in range(300) for row in _choose(case, pool, 4, seed, draws=3).tolist()
        )
        assert len(turns) == 12
        assert min(turns.values()) > 60  # 100 expected, standard deviation 8

    def test_zeros_are_numbers(self, case):
        """A pool where nothing is uncertain, foreground or like anything still yields a batch."""
        assert len(set(_choose(case, _alike(9, 0.0), 5).tolist())) == 5

    def test_seed_decides(self, case):
        """Same seed, same batch; another seed, another one (save for scores without ties)."""
        pool = _pool(200)
        first = _choose(case, pool, 10, seed=1).tolist()
        assert first == _choose(case, pool, 10, seed=1).tolist()
        same = first == _choose(case, pool, 10, seed=2).tolist()
        assert same == (case[0] in BY_SCORE_ALONE)

    def test_pool_is_left_alone(self, case):
        """Choosing changes nothing of what it is given."""
        pool, before = _pool(30), _pool(30)
        _choose(case, pool, 10)
        _choose(case, pool, 10, per_image=1)
        for field in fields(Pool):
            np.testing.assert_array_equal(getattr(pool, field.name), getattr(before, field.name))

    @pytest.mark.parametrize("limit", [1, 2, 3])
    @pytest.mark.parametrize("size", [1, 12, 40])
    def test_no_image_gives_more_than_its_share(self, case, limit, size):
        """`per_image` holds; the batch is as full as it allows."""
        pool = _pool(60)
        chosen = _choose(case, pool, size, per_image=limit)
        counts = np.bincount(pool.sources_N[chosen])
        possible = np.minimum(np.bincount(pool.sources_N), limit).sum()
        assert counts.max() <= limit
        assert len(chosen) == len(set(chosen.tolist())) == min(size, possible)

    def test_what_is_missing_is_named(self, case):
        """A strategy that needs more than scores says so and what to do."""
        bare = Pool(np.random.default_rng(0).random(9))
        if NEEDS[case[0]] <= {"order_N", "labelled_MD"}:
            assert len(_choose(case, bare, 4)) == 4
            return
        with pytest.raises(DataError, match=f"{case[0]} needs .*; score the pool first"):
            _choose(case, bare, 4)

    def test_negative_sizes_are_a_mistake(self, case):
        """A size below zero is refused, not read as `all but`."""
        with pytest.raises(ValueError, match="-1"):
            _choose(case, _pool(5), -1)


def test_another_process_chooses_the_same():
    """The seed alone decides, not the hash seed or anything else of the process."""
    here, elsewhere = printed_here_and_elsewhere(DIGEST.format(cases=CASES))
    assert len(here.splitlines()) == len(CASES)
    assert here == elsewhere


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_none_are_refused(bad):
    """NaN and infinities are refused with their number and the first row."""
    scores = np.arange(9.0)
    scores[[4, 7]] = bad
    with pytest.raises(DataError, match=r"2 of 9 scores .* row 4"):
        Pool(scores)
    with pytest.raises(DataError, match=r"2 of 9 foreground shares .* row 4"):
        Pool(np.arange(9.0), scores)
    with pytest.raises(DataError, match=r"2 of 9 embeddings .* row 4"):
        Pool(np.arange(9.0), embeddings_ND=np.stack([scores, scores], axis=1))


def test_pools_of_the_wrong_shape_are_refused():
    """A table of scores or columns of different lengths cannot be a pool."""
    with pytest.raises(DataError, match="one number an image"):
        Pool(np.zeros((3, 2)))
    with pytest.raises(DataError, match="3 scores but 2"):
        Pool(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="3 scores but 2 embeddings"):
        Pool(np.zeros(3), embeddings_ND=np.zeros((2, 4)))
    with pytest.raises(DataError, match="one row of numbers an image"):
        Pool(np.zeros(3), embeddings_ND=np.zeros(3))


def test_a_limit_needs_to_know_the_images():
    """`per_image` without source images is refused rather than ignored."""
    with pytest.raises(DataError, match=r"selection\.per_image"):
        _select("top", Pool(np.arange(4.0)), 2, per_image=1)


def test_a_limited_top_is_the_ranking_without_the_surplus():
    """With a limit `top` passes over tiles of images that have had their share."""
    pool = _pool(400)
    taken, expected = Counter(), []
    for row in np.argsort(-pool.scores_N):
        taken[pool.sources_N[row]] += 1
        if taken[pool.sources_N[row]] <= 2:
            expected.append(row)
    assert _select("top", pool, 60, per_image=2).tolist() == expected[:60]


def test_top_is_the_highest_in_order():
    """The highest scores come, the highest first."""
    pool = _pool(1000)
    chosen = _select("top", pool, 17)
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
    chosen = _select("stochastic_batch", pool, 10, 5, draws=6)
    np.testing.assert_array_equal(chosen, best)


def test_more_draws_lift_the_batch():
    """One draw is random; many draws lie above the pool's mean, and below the top."""
    pool = _pool(500)
    one, many = (
        np.mean(
            [lift(pool, _select("stochastic_batch", pool, 10, seed, draws=q)) for seed in range(30)]
        )
        for q in (1, 50)
    )
    assert abs(one) < 0.25
    assert 0.4 < many < lift(pool, _select("top", pool, 10))


def test_power_prefers_high_scores_but_not_only():
    """High scores are likelier, zero comes last, and negative scores are refused."""
    pool = Pool(np.concatenate([np.zeros(50), np.full(50, 0.1), np.full(50, 0.2)]))
    chosen = np.concatenate([_select("power", pool, 20, s) for s in range(20)])
    assert chosen.min() >= 50
    assert 0.6 < np.mean(chosen >= 100) < 1
    with pytest.raises(DataError, match="score ≥ 0"):
        _select("power", Pool(np.array([0.1, -0.1])), 1)


def test_beta_is_how_little_noise_there_is():
    """A small β is nearly random, a large one nearly the top; a pair goes from one to the other."""
    pool = _pool(500)

    def lifted(number, beta):
        batches = [
            _select("power", replace(pool, round=number), 10, seed, beta=beta, beta_rounds=3)
            for seed in range(20)
        ]
        return np.mean([lift(pool, batch) for batch in batches])

    low, usual, high = lifted(1, 0.1), lifted(1, None), lifted(1, 1000)
    assert abs(low) < 0.4 < usual < high
    assert high > lift(pool, _select("top", pool, 10)) - 0.01
    pair = [lifted(number, (0.1, 1000)) for number in (1, 2, 3, 4)]
    assert pair[0] == low < pair[1] < pair[2] == pair[3] == high


def test_per_object_is_the_score_by_the_work():
    """Without noise the highest score / (objects + look_cost) come first, in this order."""
    pool = _pool(300)
    for look in (0.1, 1.0, 30.0):
        worth = pool.scores_N / (pool.objects_N + look)
        chosen = _select("per_object", pool, 12, beta=1e9, look_cost=look)
        assert chosen.tolist() == np.argsort(-worth)[:12].tolist()
    dear = _select("per_object", pool, 12, beta=1e9, look_cost=1e9)
    assert dear.tolist() == _select("top", pool, 12).tolist()


def test_per_object_asks_for_fewer_objects_than_power():
    """Where scores rise with the objects, a batch costs less and its score an object is higher."""
    pool = _pool(400)
    pool = replace(pool, scores_N=0.02 * pool.objects_N + 0.1 * pool.scores_N)

    def spent(name):
        rows = np.concatenate([_select(name, pool, 20, seed) for seed in range(10)])
        return pool.objects_N[rows].sum(), pool.scores_N[rows].sum()

    (less, gained), (more, other) = spent("per_object"), spent("power")
    assert less < 0.7 * more
    assert gained / less > 1.3 * other / more


def test_per_object_refuses_what_is_no_number_of_objects():
    """Fewer objects than none are named, and so are negative scores."""
    with pytest.raises(DataError, match="number of objects ≥ 0; got -1"):
        _select("per_object", Pool(np.ones(2), objects_N=np.array([0.0, -1.0])), 1)
    with pytest.raises(DataError, match="score ≥ 0"):
        _select("per_object", Pool(np.array([0.1, -0.1]), objects_N=np.ones(2)), 1)
    with pytest.raises(DataError, match="3 scores but 2 numbers of objects"):
        Pool(np.zeros(3), objects_N=np.zeros(2))


def test_class_power_shares_the_batch_out_among_the_classes():
    """Two thirds of the batch by the classes' own scores, a third by the plain one."""
    classes = np.zeros((400, 3))
    plain = np.zeros(400)
    for number in range(3):
        classes[100 * number : 100 * (number + 1), number] = 0.5
    plain[300:] = 0.5
    chosen = _select("class_power", Pool(plain, classes_NK=classes), 30, beta=5)
    counts = np.bincount(chosen // 100).tolist()
    assert (sorted(counts[:3]), counts[3]) == ([6, 7, 7], 10)


def test_class_power_grows_sharper_over_the_rounds():
    """Without a β of one's own it goes from 1 to 100 in `beta_rounds` rounds."""
    draw = np.random.default_rng(0)
    pool = Pool(draw.random(500), classes_NK=draw.random((500, 1)))

    def mean_of(number):
        rows = [_select("class_power", replace(pool, round=number), 20, s) for s in range(10)]
        return pool.classes_NK[np.concatenate([row[:13] for row in rows])].mean()

    assert mean_of(1) < mean_of(3) < mean_of(5) == mean_of(9)


def test_strided_is_even_along_the_order():
    """Neighbours in the batch are N / B places apart in the source's order, give or take one."""
    pool = _pool(103)
    chosen = _select("strided", pool, 10)
    places = np.argsort(np.argsort(pool.order_N))[chosen]
    assert set(np.diff(places).tolist()) <= {10, 11}
    plain = _select("strided", Pool(np.zeros(103)), 10)
    np.testing.assert_array_equal(plain, places)


def _clusters(count=5, size=40, spread=0.05):
    """Embeddings in well separated clusters, the n-th `size` + 10 n rows."""
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(count, 6)) * 5
    labels = np.repeat(np.arange(count), size + 10 * np.arange(count))
    labels = draw.permutation(labels)
    return labels, centres[labels] + draw.normal(size=(len(labels), 6)) * spread


def test_kmeans_takes_the_middle_of_every_cluster():
    """One image a cluster, the nearest to its mean, the largest cluster first."""
    labels, points = _clusters()
    chosen = _select("kmeans", Pool(np.zeros(len(points)), embeddings_ND=points), 5)
    assert labels[chosen].tolist() == [4, 3, 2, 1, 0]
    for row in chosen:
        own = np.flatnonzero(labels == labels[row])
        away = np.linalg.norm(points[own] - points[own].mean(axis=0), axis=1)
        assert row == own[away.argmin()]


def test_kmeans_agrees_with_scipy():
    """From the same centres Lloyd's algorithm ends at the same means."""
    points = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    centres = expected = points[:7]
    for _ in range(40):
        _, centres = spread._lloyd(points, centres)
    expected, _ = kmeans2(points.astype(np.float64), expected.astype(np.float64), iter=40)
    np.testing.assert_allclose(centres, expected, atol=1e-5)


def _farthest_first(points, labelled, size):
    """The definition, written out: distances to all that is labelled or chosen, every time."""
    known, chosen = [*labelled], []
    for _ in range(size):
        away = [min(np.linalg.norm(point - other) for other in known) for point in points]
        chosen.append(int(np.argmax(away)))
        known.append(points[chosen[-1]])
    return chosen


def test_core_set_is_farthest_first():
    """The order is that of the definition, starting from what is labelled."""
    points = np.random.default_rng(0).normal(size=(80, 4))
    labelled = np.random.default_rng(1).normal(size=(150, 4))
    pool = Pool(np.zeros(80), embeddings_ND=points, labelled_MD=labelled)
    assert _select("core_set", pool, 9).tolist() == _farthest_first(points, labelled, 9)
    bare = _select("core_set", replace(pool, labelled_MD=None), 9).tolist()
    assert bare[1:] == _farthest_first(points, [points[bare[0]]], 8)


def test_core_set_passes_over_what_it_has_seen():
    """An image like a labelled one comes only when nothing else is left."""
    labels, points = _clusters()
    known = points[[np.flatnonzero(labels == n)[0] for n in (0, 1, 2)]]
    pool = Pool(np.zeros(len(points)), embeddings_ND=points, labelled_MD=known)
    assert set(labels[_select("core_set", pool, 2)].tolist()) == {3, 4}
    limited = replace(pool, sources_N=np.arange(len(points)))
    assert set(labels[_select("core_set", limited, 2, per_image=1)].tolist()) == {3, 4}


def test_a_limited_core_set_is_far_from_what_it_has_chosen():
    """What stands in for the surplus of an image is far from the part of the batch that stays."""
    places = np.array([[10.0], [-9.0], [8.0], [-5.0]])
    pool = Pool(
        np.zeros(4),
        embeddings_ND=places,
        labelled_MD=np.zeros((1, 1)),
        sources_N=np.array([1, 1, 2, 3]),
    )
    assert _select("core_set", pool, 2).tolist() == [0, 1]
    assert _select("core_set", pool, 2, per_image=1).tolist() == [0, 3]


@pytest.mark.parametrize("candidates", [None, 25, 3])
def test_suggestive_is_the_greedy_maximum(candidates):
    """Of the K most uncertain, step by step the one that raises the pool's similarity most."""
    pool = _pool(300)
    size = 8
    rows = np.argsort(-pool.scores_N)[: max(size, candidates or 2 * size)]
    unit = pool.embeddings_ND / np.linalg.norm(pool.embeddings_ND, axis=1, keepdims=True)
    similar = unit @ unit[rows].T
    chosen = []
    for _ in range(size):
        sums = [similar[:, [*chosen, k]].max(axis=1).sum() for k in range(len(rows))]
        chosen.append(int(np.argmax([-np.inf if k in chosen else s for k, s in enumerate(sums)])))
    found = _select("suggestive", pool, size, candidates=candidates)
    assert found.tolist() == rows[chosen].tolist()


def test_diverse_batch_takes_one_of_each_kind_of_the_uncertain():
    """Of the K most uncertain images one of every cluster, the highest score first."""
    labels, points = _clusters()
    draw = np.random.default_rng(2)
    scores = draw.random(len(points)) + (labels != 3)  # the fourth kind is not uncertain
    pool = Pool(scores, embeddings_ND=points)
    doubtful = int((labels != 3).sum())
    chosen = _select("diverse_batch", pool, 4, candidates=doubtful)
    assert sorted(labels[chosen]) == [0, 1, 2, 4]
    assert np.all(np.diff(scores[chosen]) <= 0)
    for candidates in (None, 6, 3):
        best = np.argsort(-scores)[: max(4, candidates or 16)]
        assert set(_select("diverse_batch", pool, 4, candidates=candidates)) <= set(best)
    assert set(_select("diverse_batch", pool, 4, candidates=3)) == set(np.argsort(-scores)[:4])


def test_diverse_batch_leans_to_the_uncertain():
    """The middle of a cluster is drawn towards what is uncertain in it, without noise."""
    points = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    first = Pool(np.array([9, 0.1, 0.1, 0.1, 0.1, 9]), embeddings_ND=points)
    assert _select("diverse_batch", first, 2, candidates=6).tolist() in ([0, 5], [5, 0])
    even = Pool(np.ones(6), embeddings_ND=points)
    assert set(_select("diverse_batch", even, 2, candidates=6).tolist()) == {1, 4}
    with pytest.raises(DataError, match=r"diverse_batch needs every score ≥ 0; the lowest is -9"):
        _select("diverse_batch", Pool(-9 * np.ones(6), embeddings_ND=points), 2)


@pytest.mark.parametrize("name", ["kmeans", "core_set", "suggestive", "diverse_batch"])
def test_blocks_change_nothing(name, monkeypatch):
    """A pool that is walked through in many blocks is the same pool."""
    pool = _pool(500)
    whole = _select(name, pool, 20)
    monkeypatch.setattr(spread, "_BLOCK", 37)
    assert _select(name, pool, 20).tolist() == whole.tolist()


@pytest.mark.parametrize("name", ["kmeans", "core_set", "suggestive", "diverse_batch"])
def test_half_precision_is_enough(name):
    """Embeddings may come as float16, as the catalog keeps them."""
    labels, points = _clusters()
    pool = Pool(np.ones(len(points)), embeddings_ND=points.astype(np.float16))
    chosen = _select(name, pool, 5, candidates=len(points))
    assert len(set(labels[chosen].tolist())) == 5


def test_foreground_random_draws_half_by_foreground():
    """Half of the batch comes from the images with foreground, the rest from anywhere."""
    shares = np.zeros(1000)
    shares[:20] = 0.3
    pool = Pool(np.zeros(1000), shares)
    with_foreground = (_select("foreground_random", pool, 20) < 20).sum()
    assert 10 <= with_foreground <= 13
    with pytest.raises(DataError, match="score the pool first"):
        _select("foreground_random", Pool(np.zeros(5)), 2)


def test_lift_counts_standard_deviations():
    """The batch's mean above the pool's, in the pool's standard deviations; 0 without spread."""
    pool = Pool(np.array([0.0, 0.0, 2.0, 2.0]))
    assert lift(pool, np.array([2, 3])) == 1
    assert lift(pool, np.array([0, 2])) == 0
    assert lift(Pool(np.full(7, 0.1)), np.array([1])) == 0
    assert lift(pool, np.empty(0, np.int64)) == lift(Pool(np.empty(0)), np.empty(0, np.int64)) == 0
