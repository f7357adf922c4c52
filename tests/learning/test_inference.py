"""Prediction of images of any size, in windows and batches."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ml_backend.errors import ConfigError
from ml_backend.learning import device as devices
from ml_backend.learning.data import Sample
from ml_backend.learning.inference import Predictor, evaluate, predictor_from_state
from ml_backend.learning.losses import make_loss
from ml_backend.learning.networks import build_network
from ml_backend.recipe import Network, Prediction, Training

SMALL = Network(depth=3, decoder_width=4)


class _Bright(nn.Module):
    """A network that calls a pixel foreground when it is brighter than its image's mean."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        return images.mean(dim=1, keepdim=True) * 20


def _predictor(model, window=64, batch_size=4):
    return Predictor(model, 1, window=window, overlap=window // 4, batch_size=batch_size)


def _image(height, width, seed=0):
    """A random image that no pixel of which has exactly the mean value."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.choice([20, 230], (height, width, 1)), 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (5, 200), (65, 64), (150, 31), (130, 170)])
def test_any_size_gives_its_own_pixels_back(size):
    """Padding, windows and blending neither move nor lose a pixel."""
    image = _image(*size)
    probs = _predictor(_Bright()).probs(image)
    assert probs.shape == (2, *size)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(probs[1] > 0.5, image[..., 0] > image.mean())


def test_sides_are_multiples_of_the_stride_and_no_larger_than_needed():
    """A small image is predicted at its own padded size, not at the window's."""
    model = _Bright()
    _predictor(model, window=256).probs(_image(40, 70))
    assert model.shapes == [(1, 3, 64, 96)]


def test_windows_share_forward_passes_across_images():
    """Equal windows of several images fill batches, and the answers come in order."""
    model = _Bright()
    predictor = _predictor(model, batch_size=3)
    images = [_image(64, 64, seed) for seed in range(5)] + [_image(32, 64, 9)]
    many = list(predictor.probs_many(iter(images)))
    assert sorted(shape[0] for shape in model.shapes) == [1, 2, 3]
    for image, probs in zip(images, many, strict=True):
        np.testing.assert_allclose(probs, predictor.probs(image), atol=1e-6)


def test_images_are_taken_lazily():
    """The first answer comes before a long sequence has been read."""
    taken = []

    def images():
        for seed in range(100):
            taken.append(seed)
            yield _image(32, 32, seed)

    next(_predictor(_Bright(), batch_size=1).probs_many(images()))
    assert len(taken) < 10


def test_no_images_no_answers():
    """An empty sequence is not an error."""
    assert list(_predictor(_Bright()).probs_many([])) == []


def test_batching_does_not_change_a_real_network():
    """Evaluation mode: what else is in the batch has no influence."""
    state = build_network(SMALL, 2, seed=0).state_dict()
    predictor = predictor_from_state(state, SMALL, 2, Prediction(window=64, overlap=16))
    images = [_image(64, 64, seed) for seed in range(3)]
    together = list(predictor.probs_many(images))
    assert together[1].shape == (3, 64, 64)
    np.testing.assert_allclose(together[1], predictor.probs(images[1]), atol=1e-5)


def test_evaluate_counts_pixels_and_costs():
    """A perfect predictor scores 1; ignored pixels have no say; no foreground is nan."""
    image = _image(40, 50)
    truth = (image[..., 0] > image.mean()).astype(np.uint8)
    wrong = np.where(np.arange(50) < 10, 255, truth).astype(np.uint8)
    samples = [Sample("a", lambda: (image, truth)), Sample("b", lambda: (image, wrong))]
    metrics = evaluate(_predictor(_Bright()), samples, 1, make_loss(Training(), 1))
    assert (metrics.mean_iou, metrics.mean_dice, metrics.accuracy) == (1, 1, 1)
    assert metrics.iou_by_class == (1.0,)
    assert metrics.images == 2
    assert metrics.loss < 0.01
    nothing = evaluate(_predictor(_Bright()), [], 1)
    assert math.isnan(nothing.mean_iou)
    assert math.isnan(nothing.loss)


def test_mode_follows_the_hardware(monkeypatch):
    """bfloat16 is used exactly where the processor has it, and the mode says so."""
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert _predictor(_Bright()).mode == "cpu float32 channels_last"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert _predictor(_Bright()).mode == "cpu bfloat16 channels_last"
    with devices.autocast(cpu):
        assert torch.is_autocast_enabled("cpu")


def test_bfloat16_probabilities_are_float32_and_sum_to_one(monkeypatch):
    """Reduced precision stays inside the network."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    probs = _predictor(build_network(SMALL, 1, seed=0)).probs(_image(32, 32))
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_absent_devices_say_the_way_out(name):
    """A device that is not there is refused before any work is done."""
    with pytest.raises(ConfigError, match=f"{name}.*auto"):
        devices.resolve_device(name)


def test_auto_is_always_there():
    """`auto` finds a device on every machine."""
    torch.zeros(1, device=devices.resolve_device("auto"))
