"""Scores of one image against the papers' formulas written out by hand."""

import math

import numpy as np
import pytest

from ml_backend.errors import LearningError, UnknownName
from ml_backend.selection.uncertainty import (
    CEILINGS,
    REDUCTIONS,
    SCORES,
    Passes,
    confidence,
    score_image,
)

PASSES = np.array([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]])  # three passes over one binary pixel

ENTROPY = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3))
DIVERGENCE = ENTROPY + sum(p * math.log(p) + (1 - p) * math.log(1 - p) for p in (0.9, 0.5, 0.7)) / 3


def _pixel(passes_TC, **options):
    return Passes(np.asarray(passes_TC)[:, :, None, None], **options)


def _random_probs(seed=0, shape=(3, 4, 9, 11)):
    passes, channels, height, width = shape
    drawn = np.random.default_rng(seed).dirichlet(np.full(channels, 0.4), (passes, height, width))
    return drawn.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("entropy", ENTROPY),
        ("least_confidence", 0.3),
        ("margin", 1 - 0.4),
        ("variance", ((0.9 - 0.7) ** 2 + (0.5 - 0.7) ** 2) / 3),
        ("weighted_entropy", ENTROPY),
        ("bald", DIVERGENCE),
        ("jsd", DIVERGENCE),
    ],
)
def test_a_score_is_its_formula(name, expected):
    """Each score of one binary pixel equals the formula worked out by hand."""
    assert SCORES[name](_pixel(PASSES)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", list(SCORES))
class TestEveryScore:
    """What any score must do, whoever adds it."""

    def test_map_has_the_image_s_shape_and_stays_within_its_range(self, name):
        """A finite H x W map between zero and the ceiling that `confidence` divides by."""
        map_HW = SCORES[name](Passes(_random_probs()))
        assert map_HW.shape == (9, 11)
        assert np.isfinite(map_HW).all()
        assert map_HW.min() >= -1e-12
        assert map_HW.max() <= CEILINGS[name](4) + 1e-12

    def test_certain_and_unanimous_is_zero(self, name):
        """Ones and zeros in every pass give exactly no uncertainty, and no NaN from log 0."""
        probs = np.zeros((2, 3, 4, 4), np.float32)
        probs[:, 1] = 1
        assert not SCORES[name](Passes(probs)).any()

    def test_order_of_passes_does_not_matter(self, name):
        """Passes are a set."""
        probs = _random_probs()
        turned, map_HW = (SCORES[name](Passes(p)) for p in (probs[::-1], probs))
        np.testing.assert_allclose(turned, map_HW, atol=1e-12)

    def test_float32_is_as_good_as_float64(self, name):
        """Single precision input costs no more than single precision."""
        probs = _random_probs()
        np.testing.assert_allclose(
            SCORES[name](Passes(probs.astype(np.float32))), SCORES[name](Passes(probs)), atol=2e-6
        )

    def test_doubt_scores_higher(self, name):
        """Passes that waver between the classes score above passes that agree."""
        doubt = SCORES[name](_pixel([[0.9, 0.1], [0.1, 0.9]])).item()
        assert doubt > SCORES[name](_pixel([[0.99, 0.01], [0.98, 0.02]])).item()

    def test_confidence_turns_the_order_round(self, name):
        """Confidence runs from one (certain) down to zero, strictly decreasing in the score."""
        ceiling = CEILINGS[name](3)
        values = [confidence(f"{name}:mean", share * ceiling, 2) for share in (0, 0.3, 0.6, 1)]
        assert values == sorted(set(values), reverse=True)
        assert (values[0], values[-1]) == (1, 0)


def test_weights_say_where_entropy_counts():
    """Each pixel's entropy counts as much as the classes that it may be of."""
    probs = _random_probs()
    plain = SCORES["entropy"](Passes(probs))
    for weights in ([3, 3, 3, 3], [1, 0.5, 0, 2]):
        expected = plain * np.tensordot(weights, probs.mean(axis=0), axes=1) / max(weights)
        found = SCORES["weighted_entropy"](Passes(probs, weights))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert found.max() <= CEILINGS["weighted_entropy"](4)


def _spot():
    """A map that is 8 at one pixel of 400, the only one that is predicted as foreground."""
    map_HW = np.zeros((20, 20))
    map_HW[10, 10] = 8
    probs = np.stack([np.ones((20, 20)), np.zeros((20, 20))])
    probs[:, 10, 10] = 0, 1
    return map_HW, probs[None]


def test_reductions_by_hand():
    """Mean over all, over the dilated foreground, and over the most uncertain tenth."""
    map_HW, probs = _spot()
    values = {name: REDUCTIONS[name](map_HW, Passes(probs)) for name in REDUCTIONS}
    assert values["mean"] == 8 / 400
    assert values["top"] == 8 / 40
    assert 8 / 49 <= values["foreground"] <= 8 / 25  # a disc of radius 3


@pytest.mark.parametrize(("share", "pixels"), [(1, 400), (0.5, 200), (0.01, 4), (1e-9, 1)])
def test_the_share_of_the_top_can_be_set(share, pixels):
    """`top` looks at this share of the pixels, at one at least."""
    map_HW, probs = _spot()
    assert REDUCTIONS["top"](map_HW, Passes(probs, top_share=share)) == 8 / pixels


def test_foreground_without_foreground_is_the_mean():
    """An image where nothing is predicted keeps a comparable, finite score."""
    probs = np.broadcast_to(np.array([0.8, 0.2])[None, :, None, None], (2, 2, 5, 5))
    row = score_image(Passes(probs))
    assert row["foreground"] == 0
    assert row["entropy:foreground"] == row["entropy:mean"] > 0


def test_one_pass_scores_too():
    """A single plain pass has entropy, and no disagreement."""
    row = score_image(Passes(_random_probs(shape=(1, 2, 8, 8))))
    assert row["entropy:mean"] > 0
    assert row["variance:mean"] == row["bald:mean"] == row["jsd:mean"] == 0


@pytest.mark.parametrize("channels", [2, 4])
def test_a_row_holds_every_score_under_every_reduction(channels):
    """The row is plain floats, none negative: each pair, foreground, objects and the classes."""
    probs = _random_probs(shape=(3, channels, 9, 11))
    row = score_image(Passes(probs.astype(np.float32)))
    pairs = {f"{score}:{reduction}" for score in SCORES for reduction in REDUCTIONS}
    classes = {f"class:{number}" for number in range(1, channels)}
    assert set(row) == pairs | {"foreground", "objects"} | classes
    assert all(type(value) is float and value >= 0 for value in row.values())
    assert row["foreground"] == np.mean(probs.mean(axis=0).argmax(axis=0) > 0)
    passes = Passes(probs)
    for name in SCORES:
        map_HW = SCORES[name](passes)
        assert row[f"{name}:mean"] == pytest.approx(map_HW.mean(), rel=1e-4)
        for how in REDUCTIONS:
            assert row[f"{name}:{how}"] == pytest.approx(REDUCTIONS[how](map_HW, passes), rel=1e-4)


def _painted(*boxes, labels=1, sure=0.8):
    """One pass over 40 x 40 px; each box is (label, rows, columns) of probability `sure`."""
    probs = np.zeros((1, labels + 1, 40, 40))
    probs[:, 0] = 1
    for label, rows, columns in boxes:
        probs[0, :, slice(*rows), slice(*columns)] = 0
        probs[0, 0, slice(*rows), slice(*columns)] = 1 - sure
        probs[0, label, slice(*rows), slice(*columns)] = sure
    return Passes(probs)


def test_objects_are_counted_as_far_as_the_model_is_sure():
    """Each component counts with its mean probability; specks and the background do not."""
    assert score_image(_painted())["objects"] == 0
    two = _painted((1, (2, 8), (2, 8)), (1, (20, 30), (20, 30)))
    assert score_image(two)["objects"] == pytest.approx(2 * 0.8)
    assert score_image(_painted((1, (2, 5), (2, 5)), (1, (9, 13), (9, 13))))[
        "objects"
    ] == pytest.approx(0.8)  # of 9 px and of 16
    corner = _painted((1, (2, 8), (2, 8)), (1, (8, 14), (8, 14)))
    assert score_image(corner)["objects"] == pytest.approx(0.8)  # they touch by a corner
    doubtful = _painted((1, (2, 8), (2, 8)), sure=0.4)
    assert score_image(doubtful)["objects"] == 0  # background is likelier


def test_objects_of_different_classes_are_different():
    """What touches and is of another class is outlined for itself."""
    touching = [(1, (2, 12), (2, 12)), (2, (2, 12), (12, 22))]
    assert score_image(_painted(*touching, labels=2))["objects"] == pytest.approx(1.6)


def test_classes_share_the_entropy():
    """Background and classes together have all of it; a class that is not there has none."""
    probs = _random_probs()
    probs[:, 0] += probs[:, 2]
    probs[:, 2] = 0
    passes = Passes(probs)
    row = score_image(passes)
    background = (passes.entropy_HW * passes.mean_CHW[0]).mean()
    parts = [row[f"class:{number}"] for number in (1, 2, 3)]
    assert parts[1] == 0 < min(parts[0], parts[2])
    assert sum(parts) + background == pytest.approx(row["entropy:mean"], rel=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, -0.1, -1e-30, 1.5, 1.002])
def test_what_is_no_probability_is_refused(bad, kind):
    """A diverged model is named as the cause, instead of a NaN that wins every comparison."""
    probs = _random_probs().astype(kind)
    probs[0, 0, 0, 0] = bad
    with pytest.raises(LearningError, match="diverged"):
        Passes(probs)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("good", [0.0, -0.0, 1e-30, 1.0, 1.0005])
def test_what_is_a_probability_is_taken(good, kind):
    """Both zeros and what rounding makes of one."""
    probs = _random_probs().astype(kind)
    probs[0, 0, 0, 0] = good
    assert Passes(probs).probs_TCHW is probs


@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 1, 4, 4), (0, 2, 4, 4), (1, 2, 0, 4)])
def test_wrong_shapes_are_refused(shape):
    """Missing passes, channels or pixels are said with the shape."""
    with pytest.raises(LearningError, match="passes x channels"):
        Passes(np.ones(shape))


def test_unknown_score_lists_the_choices():
    """A misspelt score names those there are."""
    with pytest.raises(UnknownName, match="entropy"):
        confidence("entropie:mean", 0.5, 1)
