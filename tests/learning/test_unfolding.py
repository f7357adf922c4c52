"""The quick way through a head gives what its layers give."""

import pytest
import torch
from torch import nn

from ml_backend.learning.networks import build_network
from ml_backend.learning.unfolding import run_layers, unfold
from ml_backend.recipe import Network


def _last(values):
    """The same values with the channels last in memory."""
    return values.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_unfolding_is_the_pixel_shuffle(factor, kind):
    """To the bit, whatever is moved at a time, in either memory layout."""
    values = torch.randn(2, 3 * factor**2, 5, 7, generator=torch.manual_seed(0)).to(kind)
    expected = nn.functional.pixel_shuffle(values, factor)
    for given in (values, _last(values)):
        found = unfold(given, factor)
        assert found.is_contiguous()
        assert torch.equal(found, expected)


def _head(labels, fold):
    """The layers behind the dropout of a real network's head, with biases that are not zero."""
    torch.manual_seed(labels)
    network = Network(depth=3, decoder_width=4, fold=fold, dropout=0.2)
    dropout, *rest = build_network(network, labels, seed=0).eval().segmentation_head.children()
    assert isinstance(dropout, nn.Dropout)
    nn.init.normal_(rest[0].bias)
    return rest


@pytest.mark.parametrize("size", [(2, 2), (16, 10), (7, 6), (5, 1)])
@pytest.mark.parametrize("fold", [1, 2])
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_squares_answer_as_their_places_do(labels, fold, size):
    """Few channels or many, even sides or odd ones: the numbers of the layers one by one."""
    layers = _head(labels, fold)
    given = _last(torch.randn(3, 4, *size))
    with torch.inference_mode():
        expected = nn.Sequential(*layers)(given)
        found = run_layers(layers, given)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"padding_mode": "reflect"},
        {"groups": 2},
        {"bias": False},
        {"kernel_size": 5, "padding": 2},
        {"padding": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_convolutions_are_left_as_they_are(change):
    """What is no plain convolution by 3 x 3 is not taken for one."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, **({"kernel_size": 3, "padding": 1} | change))
    layers = [conv, nn.PixelShuffle(2)]
    given = _last(torch.randn(2, 4, 8, 8))
    with torch.inference_mode():
        torch.testing.assert_close(run_layers(layers, given), nn.Sequential(*layers)(given))


def test_an_activation_that_does_something_is_kept():
    """Layers between the convolution and the shuffle are run, unless they change nothing."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2)]
    given = _last(torch.randn(2, 4, 8, 8))
    with torch.inference_mode():
        found = run_layers(layers, given)
        torch.testing.assert_close(found, nn.Sequential(*layers)(given))
    assert found.min() == 0
