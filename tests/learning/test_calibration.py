"""Temperatures: found where they are known, and no mask changed by any of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from torch import nn

from ml_backend.learning.calibration import (
    RANGE,
    Drawn,
    calibrate,
    draw_pixels,
    fit_temperature,
    temper,
)
from ml_backend.learning.data import Sample
from ml_backend.learning.evaluation import evaluate
from ml_backend.learning.inference import Predictor
from ml_backend.learning.metrics import Reliability


class _Says(nn.Module):
    """A network that says what the images hold: their grey values are its logits' tenths."""

    def forward(self, images):
        return (images[:, :1] + 1) / 2 * 25.5 - 12.75


def _predictor(temperature=1.0, **options):
    window = {"window": 64, "overlap": 16, "batch_size": 4} | options
    return Predictor(_Says(), 1, temperature=temperature, **window)


def _image(seed, factor, side=96, ignored=0):
    """An image whose pixels say logits `factor` times as large as those its mask is drawn by."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, (side, side)).clip(-12.7 / factor, 12.7 / factor)
    mask = (rng.random((side, side)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    mask[:ignored] = 255
    grey = np.round(factor * logits * 10 + 127.5).astype(np.uint8)
    # the range by which an image is normalised: its 1st and 99.8th percentile
    grey.ravel()[: side**2 // 90], grey.ravel()[-side * side // 400 :] = 0, 255
    mask[(grey == 0) | (grey == 255)] = 255
    return np.repeat(grey[..., None], 3, axis=2), mask


def _samples(count, factor, **options):
    return [
        Sample(str(seed), lambda seed=seed: _image(seed, factor, **options))
        for seed in range(count)
    ]


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_the_miscalibration(classes, factor):
    """Labels drawn by softmax(z), logits said to be z times a factor: the factor is found."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (40_000, classes + 1))
    true = softmax(logits, axis=1)
    labels = (rng.random((len(true), 1)) > true.cumsum(axis=1)).sum(axis=1)
    said = softmax(factor * logits, axis=1).astype(np.float32)
    drawn = Drawn(said, labels, np.ones(len(labels)))
    assert fit_temperature(drawn) == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("factor", [0.6, 2.0])
def test_an_over_or_underconfident_network_is_calibrated(factor):
    """From images to the temperature; the calibration error nearly vanishes, on others too."""
    found = calibrate(_predictor(), _samples(4, factor), pixels=1 << 15)
    assert found.temperature == pytest.approx(factor, rel=0.1)
    assert found.ece_before > 0.04
    assert found.ece_after < 0.015
    assert found.nll_after < found.nll_before
    assert (found.pixels, found.images) == (1 << 15, 4)
    others = [Sample(str(seed), lambda seed=seed: _image(seed, factor)) for seed in (50, 51)]
    plain = evaluate(_predictor(), others, 1)
    tempered = evaluate(_predictor(found.temperature), others, 1)
    assert tempered.ece < 0.02 < plain.ece
    assert tempered.mean_iou == plain.mean_iou


@settings(max_examples=60, deadline=None)
@given(
    probs=arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=32)),
    nearly=st.booleans(),
    temperature=st.floats(*RANGE),
)
def test_no_mask_changes(probs, nearly, temperature):
    """The likeliest label stays it, near ties, zeros and ones included; sums stay 1."""
    probs = probs + np.float32(1e-3)
    if nearly:  # two labels apart by the last bit
        probs[2] = np.nextafter(probs[1], np.float32(2))
    probs /= probs.sum(axis=0)
    before = probs.argmax(axis=0)
    after = temper(probs, temperature)
    assert after is probs
    np.testing.assert_array_equal(after.argmax(axis=0), before)
    np.testing.assert_allclose(after.sum(axis=0), 1, atol=1e-5)


def test_certain_pixels_stay_certain_and_one_is_nothing():
    """0 and 1 survive every temperature as numbers; temperature 1 changes no bit."""
    probs = np.array([0.0, 1.0, 0.3], np.float32)
    both = np.stack([1 - probs, probs])[:, None]
    np.testing.assert_array_equal(temper(both.copy(), 1.0), both)
    for temperature in RANGE:
        soft = temper(both.copy(), temperature)
        assert np.isfinite(soft).all()
        assert (soft <= 1).all()
        assert soft[1, 0, 0] < soft[1, 0, 2] < soft[1, 0, 1]


def test_where_windows_overlap_masks_stay_the_same():
    """The temperature acts on the blended probabilities, strip by strip on large images."""
    image, _ = _image(0, 1.0, side=600)
    plain = _predictor().probs(image)
    soft = _predictor(4.0).probs(image)
    np.testing.assert_array_equal(soft.argmax(axis=0), plain.argmax(axis=0))
    sure = plain[1] > 0.9
    assert (soft[1][sure] < plain[1][sure]).all()
    expected = softmax(np.log(plain.clip(1e-7)) / 4, axis=0)
    np.testing.assert_allclose(soft, expected, atol=1e-5)


def test_pixels_are_drawn_evenly_from_what_is_known():
    """Each image gives as many; unknown pixels give none; weights bring the sizes back."""
    samples = [
        *_samples(1, 1.0, side=96, ignored=48),
        *_samples(1, 1.0, side=160),
        Sample("unknown", lambda: (_image(0, 1.0)[0], np.full((96, 96), 255, np.uint8))),
    ]
    drawn = draw_pixels(_predictor(), samples, pixels=3000)
    assert drawn.probs.shape == (2000, 2)
    assert set(drawn.labels) == {0, 1}
    known = [np.count_nonzero(sample.load()[1] != 255) for sample in samples[:2]]
    np.testing.assert_allclose(drawn.weights[[0, -1]], np.divide(known, 1000))
    again = draw_pixels(_predictor(), samples, pixels=3000)
    np.testing.assert_array_equal(again.probs, drawn.probs)


def test_nothing_known_is_no_calibration():
    """Without a known pixel there is no temperature, and no error."""
    assert calibrate(_predictor(), []) is None
    unknown = Sample("u", lambda: (_image(0, 1.0)[0], np.full((96, 96), 255, np.uint8)))
    assert calibrate(_predictor(), [unknown]) is None


def test_a_flawless_validation_set_does_not_make_oracles():
    """Where no pixel is wrong the likelihood has no peak, and the range stops the search."""
    labels = np.array([0, 1] * 50)
    probs = np.where(labels[:, None] == [0, 1], 0.9, 0.1).astype(np.float32)
    found = fit_temperature(Drawn(probs, labels, np.ones(100)))
    assert found == pytest.approx(RANGE[0], rel=0.01)


def test_calibration_error_by_hand():
    """Two bins: 0.9 said and 3 of 4 right, 0.6 said and all right; weights count."""
    reliability = Reliability()
    assert math.isnan(reliability.ece())
    reliability.add(np.full(4, 0.9), np.array([True, True, True, False]))
    reliability.add(np.array([0.6]), np.array([True]), np.array([4.0]))
    assert reliability.ece() == pytest.approx((4 * 0.15 + 4 * 0.4) / 8)
    certain = Reliability()
    certain.add(np.array([1.0, 1.0], np.float32), np.array([True, False]))
    assert certain.ece() == 0.5
