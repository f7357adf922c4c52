"""Prediction of images of any size, in windows and batches."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ml_backend.errors import ConfigError
from ml_backend.learning import device as devices
from ml_backend.learning import networks
from ml_backend.learning.data import Sample
from ml_backend.learning.device import PRECISIONS
from ml_backend.learning.evaluation import evaluate
from ml_backend.learning.inference import Predictor, predictor_from_state
from ml_backend.learning.losses import make_loss
from ml_backend.learning.networks import build_network, image_stats
from ml_backend.learning.views import VIEWS, first_views
from ml_backend.masks.tiles import cut
from ml_backend.recipe import Network, Prediction, Training

SMALL = Network(depth=3, decoder_width=4)
STATE = build_network(SMALL, 2, seed=0).state_dict()
PREDICTION = Prediction(window=64, overlap=16, batch_size=4)


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


def test_large_images_come_in_rows_with_the_same_numbers():
    """Bands of images of any size, put together, are `probs` to the last bit, in order."""
    predictor = predictor_from_state(STATE, SMALL, 2, PREDICTION, temperature=1.7)
    sizes = [(40, 30), (250, 211), (64, 64), (33, 700), (700, 33), (1, 1), (64, 65)]
    images = [_image(*size, seed) for seed, size in enumerate(sizes)]
    found = [[] for _ in images]
    for band in predictor.bands_many(iter(images)):
        assert band.y == sum(part.shape[1] for part in found[band.image])
        found[band.image].append(band.probs_CHW.copy())
        band.probs_CHW[...] = -1  # the caller's own
    for bands, probs in zip(found, predictor.probs_many(images), strict=True):
        np.testing.assert_array_equal(np.concatenate(bands, axis=1), probs)
    assert len(found[1]) == len(cut(250, 1, 64, 16))
    whole = np.concatenate([band.probs_CHW for band in predictor.bands(images[1])], axis=1)
    np.testing.assert_array_equal(whole, predictor.probs(images[1]))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 5), st.integers(0, 63))
def test_rows_are_the_whole_however_it_is_cut(height, width, batch_size, overlap):
    """Whatever the sizes, batches and overlaps, rows and whole agree to the last bit."""
    predictor = Predictor(_Bright(), 1, window=64, overlap=overlap, batch_size=batch_size)
    image = _image(height, width)
    bands = [band.probs_CHW for band in predictor.bands(image)]
    np.testing.assert_array_equal(np.concatenate(bands, axis=1), predictor.probs(image))


class _Sliced:
    """An image that is never given out in more than `rows` rows at once."""

    def __init__(self, image, rows):
        self._image, self._rows = image, rows
        self.shape, self.ndim = image.shape, image.ndim

    def __len__(self):
        return len(self._image)

    def __getitem__(self, key):
        part = self._image[key]
        assert len(part) <= self._rows
        return part


def test_a_large_image_is_never_read_whole(monkeypatch):
    """Windows and strips are all that is read, and no array of the image's size is made."""
    monkeypatch.setattr(networks, "_STRIP", 32 * 3 * 300)
    image = _image(800, 300)
    predictor = _predictor(_Bright())
    expected = predictor.probs(image)
    tracemalloc.start()
    for band in predictor.bands(_Sliced(image, 64)):
        np.testing.assert_array_equal(
            band.probs_CHW, expected[:, band.y : band.y + band.probs_CHW.shape[1]]
        )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < expected.nbytes / 2


def test_statistics_do_not_depend_on_the_strips(monkeypatch):
    """Counted strip by strip, the range of an image is what it is at once; also of a view."""
    image = np.random.default_rng(0).integers(0, 200, (301, 47, 3), np.uint8)
    share = np.cumsum(np.bincount(image.ravel(), minlength=256)) / image.size
    low, high = np.searchsorted(share, 0.01), np.searchsorted(share, 0.998)
    for strip in (1, 5000, 1 << 22):
        monkeypatch.setattr(networks, "_STRIP", strip)
        assert image_stats(image) == ((low + high) / 2, (high - low) / 2)
        assert image_stats(image[::-1, ::2]) == image_stats(image[:, ::2].copy())
        grey = np.broadcast_to(image[..., :1], image.shape)
        assert image_stats(grey) == image_stats(grey.copy())


@pytest.mark.parametrize("views", [1, 2, 8])
def test_the_prediction_is_the_mean_of_the_views(views):
    """Each window is looked at in so many views, and their answers turned back are averaged."""
    recipe = PREDICTION.model_copy(update={"views": views})
    predictor = predictor_from_state(STATE, SMALL, 2, recipe)
    plain = predictor_from_state(STATE, SMALL, 2, PREDICTION)
    image = _image(50, 64)
    shown = [VIEWS[name] for name in first_views(views)]
    expected = np.mean([view.undo(plain.probs(view.apply(image))) for view in shown], axis=0)
    np.testing.assert_allclose(predictor.probs(image), expected, atol=1e-5)
    (band,) = predictor.bands(image)
    np.testing.assert_array_equal(band.probs_CHW, predictor.probs(image))
    (seen,) = predictor.see_many([(image, ())])  # the passes of scoring are views of their own
    np.testing.assert_array_equal(seen.probs_TCHW[0], plain.probs(image))
    assert len(set(first_views(views))) == views


def test_as_many_views_as_there_are():
    """Nine views do not exist, and the message names the key."""
    with pytest.raises(ConfigError, match=r"prediction\.views"):
        first_views(9)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_precision_is_the_one_asked_for(precision):
    """The network computes in it, the mode says so, and the answers are float32 all the same."""
    kinds = []
    model = build_network(SMALL, 1, seed=0)
    model.encoder.conv1.register_forward_hook(lambda _m, _i, out: kinds.append(out.dtype))
    predictor = Predictor(model, 1, window=64, overlap=16, batch_size=4, precision=precision)
    probs = predictor.probs(_image(32, 32))
    assert predictor.mode == f"cpu {precision} channels_last"
    assert kinds == [PRECISIONS[precision]]
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
