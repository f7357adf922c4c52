"""Batch normalisation merged into convolutions: the same answers, in fewer passes."""

import copy

import pytest
import torch
from torch import nn

from ml_backend.learning.merging import merge_norms
from ml_backend.learning.networks import build_network
from ml_backend.recipe import Network


def lived_in(model: nn.Module) -> nn.Module:
    """`model` with statistics, scales and shifts as a training leaves them."""
    draws = torch.Generator().manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight.data, norm.running_var):
                values.copy_(0.5 + torch.rand(len(values), generator=draws))
            for values in (norm.bias.data, norm.running_mean):
                values.copy_(0.2 * torch.randn(len(values), generator=draws))
    return model.eval()


def norms(model: nn.Module) -> int:
    """How many normalisations are left."""
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (Network(), 0),
        (Network(fold=1, depth=5), 0),
        (Network(architecture="UnetPlusPlus"), 0),
        (Network(architecture="DeepLabV3Plus", encoder="mobilenet_v2"), 0),
        (Network(encoder="densenet121", fold=1, depth=5), None),  # half of its come first
        (Network(architecture="Segformer", encoder="mit_b0", fold=1), None),
    ],
)
def test_the_answers_are_the_same(network, left):
    """Logits of an input that was not the probe differ by rounding; nothing that fits is left."""
    model = lived_in(build_network(network, 2, seed=0))
    before = norms(model)
    image = torch.randn(2, 3, 2 * network.multiple, 2 * network.multiple)
    with torch.inference_mode():
        expected = model(image)
        merged = merge_norms(model, 2 * network.multiple)
        torch.testing.assert_close(merged(image), expected, rtol=1e-3, atol=1e-3)
    assert norms(merged) < before
    assert left is None or norms(merged) == left


class Odd(nn.Module):
    """A convolution and a normalisation, used as a pair, or in another way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.way = way

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The pair, and what `way` says."""
        made = self.conv(images)
        if self.way == "changed in place":
            made = made.relu_()
        answer = self.norm(made)
        match self.way:
            case "read twice":
                return answer + made
            case "convolves twice":
                return answer + self.conv(images.flip(3))
            case "normalises twice":
                return self.norm(answer)
        return answer


@pytest.mark.parametrize(
    "way", ["changed in place", "read twice", "convolves twice", "normalises twice"]
)
def test_what_is_not_a_pair_is_left_alone(way):
    """Whoever uses either half for something else gets the network back as it was."""
    model = lived_in(Odd(way))
    plain = copy.deepcopy(model)
    merged = merge_norms(model, 16)
    assert norms(merged) == 1
    image = torch.randn(1, 3, 9, 9)
    assert torch.equal(merged(image), plain(image))


def test_a_pair_is_merged():
    """The class above is a pair when nothing odd is done with it."""
    assert norms(merge_norms(lived_in(Odd("as a pair")), 16)) == 0


def test_own_statistics_are_not_merged():
    """A normalisation without running statistics depends on what it is given."""
    model = Odd("as a pair")
    model.norm = nn.BatchNorm2d(4, track_running_stats=False)
    assert norms(merge_norms(model, 16)) == 1
