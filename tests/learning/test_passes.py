"""Passes over images: where they differ, where they must not, and what decides it."""

from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
import torch
from support.elsewhere import printed_here_and_elsewhere
from torch import nn

from ml_backend.errors import ConfigError
from ml_backend.learning.inference import Predictor, predictor_from_state
from ml_backend.learning.networks import build_network, normalise, to_probs
from ml_backend.learning.passes import PASSES, passes_many
from ml_backend.recipe import Network, Prediction, Scoring

NETWORK = Network(depth=3, decoder_width=4, dropout=0.3)
DIGEST = """
import numpy as np
from ml_backend.learning.inference import predictor_from_state
from ml_backend.learning.networks import build_network
from ml_backend.learning.passes import passes_many
from ml_backend.recipe import Network, Prediction, Scoring
network = Network(depth=3, decoder_width=4, dropout=0.3)
state = build_network(network, 2, seed=0).state_dict()
predictor = predictor_from_state(state, network, 2, Prediction(window=64, overlap=16))
image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
for kind in ("mc_dropout", "tta"):
    scoring = Scoring(passes=kind, samples=3)
    (seen,) = passes_many(predictor, [(image, (7, 1))], scoring)
    print(np.round(seen.probs_TCHW.astype(float), 3).sum().round(1), seen.probs_TCHW.shape)
"""


def _image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def _asked(sizes):
    return [(_image(*size, seed), (5, seed)) for seed, size in enumerate(sizes)]


@pytest.fixture(scope="module")
def predictor():
    """A real network with dropout before its head."""
    way = Prediction(window=64, overlap=16, batch_size=4)
    states = [build_network(NETWORK, 2, seed=seed).state_dict() for seed in range(3)]
    one, *siblings = (predictor_from_state(state, NETWORK, 2, way) for state in states)
    one.siblings = tuple(siblings)
    return one


@pytest.mark.parametrize(
    "scoring",
    [
        Scoring(passes="single"),
        Scoring(passes="tta", views=5),
        Scoring(passes="mc_dropout", samples=3),
        Scoring(passes="ensemble", members=3),
    ],
    ids=lambda scoring: scoring.passes,
)
class TestEveryKind:
    """What any kind of passes must give, whoever adds it."""

    def test_probabilities_of_every_size(self, predictor, scoring):
        """T passes that sum to one at each pixel of each image, in order, and its features."""
        count = {"single": 1, "tta": 5, "mc_dropout": 3, "ensemble": 3}[scoring.passes]
        sizes = [(64, 64), (30, 71), (1, 1), (150, 40), (64, 64)]
        found = list(passes_many(predictor, iter(_asked(sizes)), scoring))
        for (height, width), seen in zip(sizes, found, strict=True):
            assert seen.probs_TCHW.shape == (count, 3, height, width)
            assert seen.probs_TCHW.dtype == np.float32
            np.testing.assert_allclose(seen.probs_TCHW.sum(axis=1), 1, atol=1e-4)
            assert seen.features_D.shape == (128,)
            assert seen.features_D.dtype == np.float32

    def test_an_image_s_passes_do_not_depend_on_its_company(self, predictor, scoring):
        """Scoring that carries on elsewhere gives the numbers it would have given."""
        asked = _asked([(64, 64), (90, 64), (64, 64), (20, 30)])
        together = list(passes_many(predictor, asked, scoring))
        for one, seen in zip(asked, together, strict=True):
            (alone,) = passes_many(predictor, [one], scoring)
            np.testing.assert_allclose(alone.probs_TCHW, seen.probs_TCHW, atol=0.02)  # bfloat16
            np.testing.assert_allclose(alone.features_D, seen.features_D, rtol=0.05, atol=0.02)

    def test_features_are_those_of_the_plain_image(self, predictor, scoring):
        """However many passes there are, the features are of the image as it is."""
        asked = _asked([(64, 64), (100, 64)])
        plain = passes_many(predictor, asked, Scoring(passes="single"))
        for one, seen in zip(plain, passes_many(predictor, asked, scoring), strict=True):
            np.testing.assert_allclose(seen.features_D, one.features_D, rtol=0.05, atol=0.02)

    def test_images_are_taken_lazily(self, predictor, scoring):
        """The first answer comes before a long pool has been read."""
        taken = []

        def asked():
            for number in range(200):
                taken.append(number)
                yield _image(32, 32), (0, number)

        next(passes_many(predictor, asked(), scoring))
        assert len(taken) <= 16


def test_the_recipe_offers_what_there_is():
    """`scoring.passes` takes exactly the kinds that are registered."""
    assert sorted(get_args(Scoring.model_fields["passes"].annotation)) == sorted(PASSES)


class _Brightness(nn.Module):
    """A network whose answer at a pixel depends on that pixel's brightness alone."""

    def forward(self, images):
        return images.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("views", [1, 4, 8])
def test_views_of_an_equivariant_model_agree(views):
    """Where the model treats all views alike, every view is turned back to the same answer."""
    predictor = Predictor(_Brightness(), 1, window=64, overlap=16, batch_size=4)
    scoring = Scoring(passes="tta").model_copy(update={"views": views})
    for (image, _), seen in zip(
        _asked([(6, 10), (64, 64)]),
        passes_many(predictor, _asked([(6, 10), (64, 64)]), scoring),
        strict=True,
    ):
        assert seen.probs_TCHW.shape == (views, 2, *image.shape[:2])
        assert np.ptp(seen.probs_TCHW, axis=0).max() < 1e-6
        assert seen.features_D.shape == (0,)


def test_dropout_samples_are_those_of_the_layer(predictor):
    """Their mean and spread are those of the network's own dropout, BatchNorm in evaluation."""
    image = _image(64, 64)
    scoring = Scoring(passes="mc_dropout", samples=200)
    (seen,) = passes_many(predictor, [(image, (1,))], scoring)
    model = build_network(NETWORK, 2, seed=0).eval()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.train()
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = normalise(image[None].repeat(200, axis=0))
        expected = to_probs(model(images)).numpy()
    assert seen.probs_TCHW.std(axis=0).mean() > 0.01
    np.testing.assert_allclose(seen.probs_TCHW.mean(axis=0), expected.mean(axis=0), atol=0.06)
    assert abs(seen.probs_TCHW.mean() - expected.mean()) < 1e-3
    spread, own = seen.probs_TCHW.std(axis=0).mean(), expected.std(axis=0).mean()
    assert abs(spread / own - 1) < 0.03


@pytest.mark.parametrize("size", [(64, 64), (40, 30), (64, 150)])
def test_samples_mean_what_predictions_do(size):
    """A temperature changes samples as it changes predictions, in one window and in several."""
    state = build_network(NETWORK, 2, seed=0).state_dict()
    way = Prediction(window=64, overlap=16, batch_size=4)
    asked, scoring = [(_image(*size), (1,))], Scoring(passes="mc_dropout", samples=3)
    cool, warm = (
        next(passes_many(predictor_from_state(state, NETWORK, 2, way, "cpu", t), asked, scoring))
        for t in (1.0, 2.5)
    )
    expected = cool.probs_TCHW ** (1 / 2.5)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(warm.probs_TCHW, expected, atol=1e-4)
    assert np.abs(warm.probs_TCHW - cool.probs_TCHW).max() > 0.01


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_something_is_dropped_and_something_kept(share):
    """Shares that are no whole 256ths still sample, and keep the mean."""
    network = NETWORK.model_copy(update={"dropout": share})
    state = build_network(network, 1, seed=0).state_dict()
    predictor = predictor_from_state(state, network, 1, Prediction(window=64, overlap=16))
    scoring = Scoring(passes="mc_dropout", samples=4)
    (seen,) = passes_many(predictor, [(_image(64, 64), (1,))], scoring)
    assert np.isfinite(seen.probs_TCHW).all()
    assert np.ptp(seen.probs_TCHW, axis=0).max() > 0


def test_an_ensemble_is_the_answers_of_its_models(predictor):
    """The model's own first, then each sibling's, pixel for pixel; images are not kept."""
    asked = _asked([(64, 64), (150, 40), (30, 30)])
    seen = list(passes_many(predictor, iter(asked), Scoring(passes="ensemble", members=3)))
    for number, model in enumerate((predictor, *predictor.siblings)):
        for (image, _), one in zip(asked, seen, strict=True):
            np.testing.assert_allclose(one.probs_TCHW[number], model.probs(image), atol=0.02)
    assert np.ptp(seen[0].probs_TCHW, axis=0).max() > 0.05


def test_a_model_alone_is_no_ensemble():
    """Without siblings it is refused, with the key to change."""
    predictor = Predictor(_Brightness(), 1, window=64, overlap=16, batch_size=4)
    with pytest.raises(ConfigError, match=r"no siblings.*scoring\.passes"):
        next(passes_many(predictor, _asked([(8, 8)]), Scoring(passes="ensemble")))


def test_sampling_leaves_the_model_as_it_was(predictor):
    """A prediction after the samples is the one before them."""
    image = _image(64, 64)
    before = predictor.probs(image)
    list(passes_many(predictor, [(image, (1,))], Scoring(passes="mc_dropout")))
    np.testing.assert_array_equal(predictor.probs(image), before)


def test_the_seed_decides_what_is_dropped(predictor):
    """Same seed, same passes; another seed or another window, others."""
    image = np.tile(_image(16, 16), (4, 10, 1))  # windows that look alike
    scoring = Scoring(passes="mc_dropout", samples=2)
    one, again, other = (
        next(passes_many(predictor, [(image, seed)], scoring)).probs_TCHW
        for seed in ((3, 4), (3, 4), (3, 5))
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01
    assert np.abs(one[..., 16:32] - one[..., 112:128]).max() > 0.01  # alone in their windows
    assert np.abs(one[0] - one[1]).max() > 0.01


def test_another_process_draws_the_same():
    """Nothing but the seed decides, in any process."""
    here, elsewhere = printed_here_and_elsewhere(DIGEST)
    assert here == elsewhere
    assert len(here.splitlines()) == 2


def test_threads_do_not_see_each_other(predictor):
    """A prediction that is asked for while the pool is scored changes neither."""
    scoring = Scoring(passes="mc_dropout", samples=2)
    asked = _asked([(64, 64)] * 6)
    expected = [seen.probs_TCHW for seen in passes_many(predictor, asked, scoring)]
    other = _image(96, 40, seed=50)
    plain = predictor.probs(other)
    with ThreadPoolExecutor(2) as threads:
        scored = threads.submit(lambda: list(passes_many(predictor, asked, scoring)))
        served = threads.submit(lambda: [predictor.probs(other) for _ in range(8)])
        for seen, probs in zip(scored.result(), expected, strict=True):
            np.testing.assert_array_equal(seen.probs_TCHW, probs)
        for probs in served.result():
            np.testing.assert_array_equal(probs, plain)


@pytest.mark.parametrize("model", [_Brightness(), build_network(Network(depth=3), 1, seed=0)])
def test_a_model_without_dropout_has_nothing_to_sample(model):
    """A model that was trained without dropout is refused, with the keys to change."""
    predictor = Predictor(model, 1, window=64, overlap=16, batch_size=4)
    with pytest.raises(ConfigError, match=r"network\.dropout.*train again.*scoring\.passes"):
        next(passes_many(predictor, _asked([(8, 8)]), Scoring(passes="mc_dropout")))
