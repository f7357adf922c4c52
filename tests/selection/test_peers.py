"""Our numbers are those of two independent implementations: scikit-activeml and BaaL.

All of them take logarithms to the base e, so nothing is rescaled: entropies in bits would be 1.44
times as large and fail. BaaL's certainty and margin fall with doubt where ours rise, up to 1.
"""

import importlib
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from ml_backend.recipe import Selection
from ml_backend.selection import spread
from ml_backend.selection.strategies import STRATEGIES, Pool
from ml_backend.selection.uncertainty import SCORES, Passes, score_image

PASSES, SIDE, IMAGES = 5, 12, 9


@pytest.fixture(scope="module")
def peers():
    """BaaL's heuristics and scikit-activeml's functions of their query strategies."""
    importlib.import_module("ml_backend.learning._torchvision")  # which BaaL's metrics import
    with warnings.catch_warnings():
        # BaaL 2.1 sets up structlog in a way that structlog calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        baal = importlib.import_module("baal.active.heuristics")
    activeml = importlib.import_module("skactiveml.pool")
    committee = importlib.import_module("skactiveml.pool._query_by_committee")
    return SimpleNamespace(
        baal=baal,
        KMeans=importlib.import_module("sklearn.cluster").KMeans,
        CoreSet=activeml.CoreSet,
        uncertainty=activeml.uncertainty_scores,
        divergence=committee.average_kl_divergence,
    )


def _images(channels):
    """Seeded probabilities (images, T, C, H, W), doubtful images and sure ones in turn.

    In every image one pixel is certain in all passes, and another in some of them only.
    """
    rng = np.random.default_rng([7, channels])
    images = []
    for doubt in rng.permutation(np.geomspace(0.1, 5, IMAGES)):
        drawn = rng.dirichlet(np.full(channels, doubt), (PASSES, SIDE, SIDE))
        drawn[:, 0, 0], drawn[:2, 0, 1] = np.eye(channels)[0], np.eye(channels)[1]
        images.append(drawn.transpose(0, 3, 1, 2))
    return np.stack(images)


def _for_baal(images_NTCHW):
    """The same in BaaL's order of axes: images, classes, rows, columns, passes."""
    return np.moveaxis(images_NTCHW, 1, -1)


BAAL = {
    "entropy": lambda baal: baal.Entropy(),
    "least_confidence": lambda baal: baal.Certainty(),
    "margin": lambda baal: baal.Margin(),
    "variance": lambda baal: baal.Variance(reduction=lambda map_NCHW: map_NCHW.mean(axis=1)),
    "bald": lambda baal: baal.BALD(),
    "jsd": lambda baal: baal.BALD(),
}
FALLING = {"least_confidence", "margin"}
"""What BaaL gives the other way round: 1 minus our score."""


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("name", list(BAAL))
def test_maps_are_those_of_baal(peers, name, channels):
    """Pixel by pixel, to the last digits, where all passes are sure as well."""
    images = _images(channels)
    theirs = BAAL[name](peers.baal).get_uncertainties(_for_baal(images))
    expected = 1 - theirs if name in FALLING else theirs
    assert np.ptp(expected) > 0.1  # the images differ, so that a constant would not pass
    for image, map_HW in zip(images, expected, strict=True):
        np.testing.assert_allclose(SCORES[name](Passes(image)), map_HW, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("name", ["entropy", "margin", "bald"])
def test_top_asks_in_the_order_of_baal(peers, name, channels):
    """The images' mean scores rank them as BaaL ranks them: the most uncertain first."""
    images = _images(channels)
    heuristic = BAAL[name](peers.baal)
    heuristic.reduction = lambda map_NHW: map_NHW.mean(axis=(1, 2))
    expected, _ = heuristic.get_ranks(_for_baal(images))
    scores = np.array([score_image(Passes(image))[f"{name}:mean"] for image in images])
    rng = np.random.default_rng(0)
    chosen = STRATEGIES["top"](Pool(scores), IMAGES, rng, Selection(strategy="top"))
    assert chosen.tolist() == list(expected)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("entropy", "entropy"),
        ("least_confidence", "least_confident"),
        ("margin", "margin_sampling"),
    ],
)
def test_maps_are_those_of_scikit_activeml(peers, name, method, channels):
    """Each pixel's mean probabilities as a sample of its own; both rise with doubt."""
    for image in _images(channels):
        samples = np.moveaxis(image.mean(axis=0), 0, -1).reshape(-1, channels)
        expected = peers.uncertainty(samples, method=method)
        found = SCORES[name](Passes(image)).ravel()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("channels", [2, 4])
def test_bald_is_the_mean_divergence_of_a_committee(peers, channels):
    """H(p̄) - mean H(p_t) is the mean of KL(p_t, p̄), as scikit-activeml has it.

    It keeps probabilities above 1e-7, which the certain pixels feel in the sixth digit.
    """
    for image in _images(channels):
        members = np.moveaxis(image, 1, -1).reshape(PASSES, -1, channels)
        expected = peers.divergence(members.copy())
        for name in ("bald", "jsd"):
            found = SCORES[name](Passes(image)).ravel()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("labelled", "dimensions"), [(1, 3), (40, 16)])
def test_core_set_goes_in_the_order_of_scikit_activeml(peers, labelled, dimensions):
    """From the same labelled images the same next ones, one after the other."""
    rng = np.random.default_rng([11, labelled])
    pool, known = rng.normal(size=(200, dimensions)), rng.normal(size=(labelled, dimensions))
    marks = np.concatenate([np.full(len(pool), np.nan), np.zeros(labelled)])
    expected = peers.CoreSet(random_state=0).query(
        np.concatenate([pool, known]), marks, batch_size=25
    )
    chosen = STRATEGIES["core_set"](
        Pool(np.zeros(len(pool)), embeddings_ND=pool, labelled_MD=known),
        25,
        np.random.default_rng(0),
        Selection(strategy="core_set"),
    )
    assert chosen.tolist() == expected.tolist()


def test_weighted_clusters_are_those_of_scikit_learn(peers):
    """From the same centres Lloyd's algorithm with weights ends at the same centres."""
    rng = np.random.default_rng(3)
    points, weights = rng.normal(size=(300, 4)).astype(np.float32), rng.random(300, np.float32)
    centres = points[:6]
    theirs = peers.KMeans(6, init=centres, n_init=1, max_iter=100, tol=0, algorithm="lloyd")
    theirs.fit(points, sample_weight=weights)
    for _ in range(theirs.n_iter_ + 1):
        labels, centres = spread._lloyd(points, centres, weights)
    np.testing.assert_array_equal(labels, theirs.labels_)
    np.testing.assert_allclose(centres, theirs.cluster_centers_, atol=1e-5)
    _, plain = spread._lloyd(points, centres)
    assert np.abs(plain - centres).max() > 0.01
