"""One patch at a time through networks that pool it down to a single pixel."""

import copy

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from ml_backend.errors import ConfigError
from ml_backend.learning import gradient
from ml_backend.learning.data import Sample
from ml_backend.learning.inference import predictor_from_state
from ml_backend.learning.networks import build_network
from ml_backend.learning.steady import steady
from ml_backend.learning.training import train
from ml_backend.recipe import parse_recipe

SIDE = {"pan": 128}  # the rest pool patches of 64 px to one pixel
ARCHITECTURES = sorted(smp.MODEL_ARCHITECTURES_MAPPING.keys() - {"dpt"})  # that needs a ViT


def recipe_of(architecture, **training):
    """A recipe of two steps with a tiny encoder."""
    network = {
        "architecture": architecture, "encoder": "tu-test_resnet", "depth": 5, "decoder_width": 4,
        "fold": 1,
    }  # fmt: skip
    small = {"steps": 2, "epochs": 1, "batch_size": 1, "patch": SIDE.get(architecture, 64)}
    return parse_recipe({"network": network, "training": small | training})


def sample_of(side):
    """An image whose left half is the label."""
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[:, : side // 2] = 1
    return Sample("half", lambda: (image, mask))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_trains_one_patch_at_a_time(architecture):
    """By the recipe's batch size; what it learned predicts an image of any size."""
    recipe = recipe_of(architecture)
    trained = train([sample_of(128)], [], recipe=recipe, classes=1)
    assert np.isfinite(trained.epochs[0].train_loss)
    predictor = predictor_from_state(trained.state, recipe.network, 1, recipe.prediction)
    for side in (40, 200):
        probs = predictor.probs(sample_of(side).load()[0])
        assert probs.shape == (2, side, side)
        assert np.isfinite(probs).all()


@pytest.mark.parametrize("architecture", ["deeplabv3", "deeplabv3plus", "upernet"])
def test_the_last_part_of_a_batch_may_be_one_patch(architecture, monkeypatch):
    """Memory for two of three patches: parts of two and of one."""
    parts, whole = [], gradient.backward

    def short(model, forward, images, target, loss, *, at_once, team):
        if at_once > 2:
            raise torch.OutOfMemoryError
        parts.append([len(part) for part in torch.split(images, at_once)])
        return whole(model, forward, images, target, loss, at_once=2, team=team)

    monkeypatch.setattr(gradient, "backward", short)
    recipe = recipe_of(architecture, batch_size=5)
    trained = train([sample_of(128)], [], recipe=recipe, classes=1)
    assert parts == [[2, 2, 1]] * 2
    assert np.isfinite(trained.epochs[0].train_loss)


def test_a_share_of_one_patch_is_enough_for_a_process():
    """Two processes, each with one of two patches."""
    recipe = recipe_of("deeplabv3plus", batch_size=2)
    trained = train([sample_of(64)], [], recipe=recipe, classes=1, processes=2)
    assert np.isfinite(trained.epochs[0].train_loss)
    assert trained.epochs[0].processes == 2


def test_from_two_values_on_nothing_changes():
    """The same answers and the same running statistics, to the last bit."""
    torch.manual_seed(0)
    plain = build_network(recipe_of("deeplabv3plus").network, 1, seed=0).train()
    kept = steady(copy.deepcopy(plain))
    images = torch.randn(2, 3, 64, 64)
    torch.manual_seed(1)  # DeepLab drops out
    expected = plain(images)
    torch.manual_seed(1)
    assert torch.equal(kept(images), expected)
    for name, value in plain.state_dict().items():
        assert torch.equal(kept.state_dict()[name], value), name


def test_a_single_value_is_judged_by_what_was_seen_before():
    """As in evaluation; the statistics stay, scale and shift learn, and the mode comes back."""
    layer = steady(nn.BatchNorm2d(4)).train()
    layer(torch.randn(8, 4, 5, 5) * 3 + 1)
    before = copy.deepcopy(layer.state_dict())
    one = torch.randn(1, 4, 1, 1)
    answer = layer(one)
    assert layer.training
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert torch.equal(answer, layer.eval()(one))
    answer.sum().backward()
    assert layer.weight.grad.abs().min() > 0
    assert layer.bias.grad.abs().min() > 0
    layer.train()
    layer(torch.randn(8, 4, 5, 5))
    assert not torch.equal(layer.running_mean, before["running_mean"])


def test_a_layer_that_fails_is_left_as_it_was():
    """Memory may run out inside; the next try must not go by old statistics."""
    layer = steady(nn.BatchNorm2d(4)).train()
    with pytest.raises(RuntimeError):
        layer(torch.randn(1, 5, 1, 1))  # another number of channels
    assert layer.training


def test_pan_says_which_patches_it_needs():
    """Before a step is taken, with both keys; twice as large where pixels are folded."""
    recipe = recipe_of("pan", patch=64)
    with pytest.raises(ConfigError, match=r"training\.patch is 64 px, but pan .*multiple of 128"):
        train([sample_of(128)], [], recipe=recipe, classes=1)
    assert recipe.changed({"network.fold": 2}).network.multiple == 256
    assert recipe.changed({"network.fold": 2}).network.stride == 64
