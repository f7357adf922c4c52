"""Scores of labels that may overlap are the means of the labels' binary scores."""

import numpy as np
import pytest

from ml_backend.errors import LearningError
from ml_backend.selection.overlapping import score_sets
from ml_backend.selection.uncertainty import SCORES, Passes, score_image

RNG = np.random.default_rng(5)
PROBS = RNG.random((3, 4, 9, 11)).astype(np.float32)  # passes, labels, rows, columns


def _alone(label, weights=None):
    """The scores of one label as if there were no other."""
    probs = PROBS[:, label]
    return score_image(Passes(np.stack([1 - probs, probs], axis=1), weights))


@pytest.mark.parametrize("score", list(SCORES))
def test_an_image_s_score_is_the_mean_of_the_labels(score):
    """For every score, where all pixels count; the other reductions stay in its range."""
    row = score_sets(PROBS)
    each = [_alone(label)[f"{score}:mean"] for label in range(4)]
    assert row[f"{score}:mean"] == pytest.approx(np.mean(each), rel=1e-5)
    assert 0 <= row[f"{score}:mean"] <= row[f"{score}:top"] <= np.log(2) + 1e-6 or score == "margin"


def test_the_keys_are_those_of_labels_that_exclude_each_other():
    """So that strategies, tables and pages need not know."""
    exclusive = RNG.dirichlet(np.ones(5), (1, 3, 3)).transpose(0, 3, 1, 2)
    assert score_sets(PROBS).keys() == score_image(Passes(exclusive)).keys()


def test_foreground_is_any_label_and_classes_are_their_own():
    """A pixel is foreground where any label is likelier than not."""
    row = score_sets(PROBS)
    mean = PROBS.mean(axis=0)
    assert row["foreground"] == pytest.approx((mean > 0.5).any(axis=0).mean())
    for label in range(4):
        assert row[f"class:{label + 1}"] == pytest.approx(_alone(label)["class:1"], rel=1e-5)
    assert row["objects"] == pytest.approx(sum(_alone(label)["objects"] for label in range(4)))
    sure = np.zeros((1, 2, 8, 8), np.float32)
    sure[0, 1, 2:4, 2:4] = 1
    assert score_sets(sure)["entropy:foreground"] == 0
    sure[0, 0, 2, 2] = 0.5
    doubtful = score_sets(sure)
    assert doubtful["entropy:foreground"] > doubtful["entropy:mean"] > 0


def test_heavy_labels_count_more():
    """One of weight 0 beside a background of weight 0 has no say; equal weights change nothing."""
    plain = score_sets(PROBS)["entropy:mean"]
    alike = score_sets(PROBS, [2, 2, 2, 2, 2])
    assert alike["weighted_entropy:mean"] == pytest.approx(plain, rel=1e-5)
    only = score_sets(PROBS, [0, 0, 0, 3, 0])["weighted_entropy:mean"]
    assert only == pytest.approx(_alone(2)["class:1"] / 4, rel=1e-5)
    half = score_sets(PROBS, [0, 1, 0, 2, 0])["weighted_entropy:mean"]
    expected = (_alone(0)["class:1"] / 2 + _alone(2)["class:1"]) / 4
    assert half == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("probs", [PROBS[0], np.full((1, 2, 3, 3), np.nan), PROBS + 1])
def test_what_are_no_probabilities_is_refused(probs):
    """A diverged model's answers are an error, not the highest uncertainty."""
    with pytest.raises(LearningError):
        score_sets(probs)
