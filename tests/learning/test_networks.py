"""Building networks by name, their weights, and what goes in and comes out."""

import subprocess
import sys

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

from ml_backend.errors import ConfigError, ModelFileError, UnknownName, WeightsUnavailable
from ml_backend.learning.data import Sample
from ml_backend.learning.networks import (
    build_network,
    image_stats,
    load_fitting,
    normalise,
    restore_network,
    to_logits,
    to_probs,
)
from ml_backend.learning.training import train
from ml_backend.recipe import Network, parse_recipe

SMALL = Network(depth=3, decoder_width=4)


@pytest.mark.parametrize(("classes", "channels"), [(1, 1), (3, 4)])
def test_one_channel_for_one_label_else_one_more(classes, channels):
    """Binary is a sigmoid, several labels are a softmax with the background."""
    model = build_network(SMALL, classes, seed=0).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 32, 64)).shape == (1, channels, 32, 64)


@pytest.mark.parametrize("architecture", ["FPN", "DeepLabV3Plus", "UnetPlusPlus", "Linknet"])
def test_other_architectures(architecture):
    """Names of segmentation-models-pytorch work without further settings."""
    model = build_network(Network(architecture=architecture), 1, seed=0).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_every_parameter_learns():
    """Nothing that is stored is dead weight: each parameter receives a gradient."""
    model = build_network(Network(), 1, seed=0)
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_seed_decides_weights_and_nothing_else():
    """The same seed gives the same weights, and torch's own generator is left alone."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, three = (build_network(SMALL, 1, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.rand(1) == expected
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], three[name]) for name in one)


def test_dropout_keeps_the_names_of_weights():
    """A model trained without dropout can be loaded with it."""
    plain = build_network(SMALL, 1, seed=0).state_dict()
    dropping = restore_network(plain, SMALL.model_copy(update={"dropout": 0.5}), 1)
    assert any(isinstance(part, torch.nn.Dropout) and part.p == 0.5 for part in dropping.modules())


@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnext_atto"])
def test_restoring_draws_no_random_numbers_and_forgets_nothing(encoder):
    """A restored network answers as the one it was, and its random start was not computed."""
    network = SMALL.model_copy(update={"encoder": encoder})
    model = build_network(network, 2, seed=3).eval()
    drawn = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            # what torch.nn.init dispatches as a whole hides the filling inside it
            if func in (
                torch.Tensor.uniform_,
                torch.Tensor.normal_,
                torch.nn.init.kaiming_uniform_,
            ):
                drawn.append(kwargs.get("tensor", args[0] if args else None).numel())
            return func(*args, **kwargs)

    with Watch():
        restored = restore_network(model.state_dict(), network, 2).eval()
    assert sum(drawn) < 1000
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), restored(x))


@pytest.mark.parametrize("key", ["architecture", "encoder"])
def test_unknown_names_list_the_choices(key):
    """A wrong name is answered with the right ones."""
    with pytest.raises(UnknownName, match=r"no-such.*choose one of: .*(Unet|resnet18)"):
        build_network(Network(**{key: "no-such"}), 1, seed=0)


def test_impossible_combination_is_named():
    """What smp refuses is said with the recipe's words."""
    with pytest.raises(ConfigError, match="UnetPlusPlus with encoder mit_b0 at depth 4"):
        build_network(Network(architecture="UnetPlusPlus", encoder="mit_b0"), 1, seed=0)


def _encoder_state():
    return smp.encoders.get_encoder("resnet18", depth=5, weights=None).state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_encoder_weights_from_a_local_file(tmp_path, suffix):
    """A state dictionary in either format ends up in the encoder; a classifier's head may be in."""
    state = _encoder_state() | {"fc.weight": torch.zeros(2, 2)}
    path = tmp_path / f"encoder{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    network = SMALL.model_copy(update={"encoder_weights": str(path)})
    encoder = build_network(network, 1, seed=0).encoder
    assert torch.equal(encoder.conv1.weight, _spread(state["conv1.weight"]))
    assert torch.equal(encoder.layer2[1].bn2.running_var, state["layer2.1.bn2.running_var"])


@pytest.mark.parametrize("content", [None, b"not weights", {"conv1.weight": torch.zeros(1)}])
def test_unusable_weight_files_say_the_way_out(tmp_path, content):
    """A missing, broken or foreign file is one clear error."""
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    network = SMALL.model_copy(update={"encoder_weights": str(path)})
    with pytest.raises(WeightsUnavailable, match=r"weights\.pth.*or null to start from random"):
        build_network(network, 1, seed=0)


def _spread(weight):
    """What a first convolution for 3 channels becomes when squares of 2 px are folded into them."""
    return weight.repeat_interleave(4, dim=1) / 4


def test_folded_pretrained_weights_see_a_smaller_image(tmp_path):
    """An image of constant squares gives the features of the image at half the resolution."""
    path = tmp_path / "encoder.safetensors"
    save_file(_encoder_state(), path)
    given = {"encoder_weights": str(path)}
    plain = build_network(SMALL.model_copy(update=given | {"fold": 1}), 1, seed=0).eval()
    folded = build_network(SMALL.model_copy(update=given | {"fold": 2}), 1, seed=0).eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        small = plain.encoder(image)[1:]
        large = folded.encoder(image.repeat_interleave(2, 2).repeat_interleave(2, 3))[1:]
    for expected, features in zip(small, large, strict=True):
        assert torch.allclose(expected, features, atol=1e-5)


def test_pixels_that_unfold_from_one_start_alike():
    """A fresh network shows no chequers: each square of the fold holds one value."""
    model = build_network(SMALL, 2, seed=0).eval()
    with torch.inference_mode():
        logits = model(torch.rand(1, 3, 32, 32))
    squares = torch.nn.functional.pixel_unshuffle(logits, 2).reshape(1, 3, 4, 16, 16)
    torch.testing.assert_close(squares, squares[:, :, :1].expand_as(squares))


def test_a_patch_that_does_not_fit_the_network_names_both_keys():
    """The error says which patch sides would do."""
    recipe = parse_recipe({"network": {"architecture": "FPN"}, "training": {"patch": 96}})
    sample = Sample("a", lambda: (np.zeros((96, 96, 3), np.uint8), np.ones((96, 96), np.uint8)))
    with pytest.raises(ConfigError, match=r"training\.patch is 96.*network\.fold 2.*of 64"):
        train([sample], [], recipe=recipe, classes=1)


def test_unreachable_hub_says_the_way_out(monkeypatch):
    """Whatever the hub's client raises becomes one error that names the alternatives."""

    def unreachable(*_args, **_options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", unreachable)
    network = SMALL.model_copy(update={"encoder_weights": "imagenet"})
    with pytest.raises(WeightsUnavailable, match=r"'imagenet'.*no route.*local \.safetensors"):
        build_network(network, 1, seed=0)


def test_weights_from_the_hub_reach_the_encoder(monkeypatch, tmp_path):
    """What smp downloads is what the encoder starts from; the decoder stays with its seed."""
    state, path = _encoder_state(), tmp_path / "model.safetensors"
    save_file(state, path)
    monkeypatch.setattr(smp.encoders, "hf_hub_download", lambda *_args, **_options: str(path))
    network = SMALL.model_copy(update={"encoder_weights": "imagenet"})
    with_weights = build_network(network, 1, seed=0)
    assert torch.equal(with_weights.encoder.conv1.weight, _spread(state["conv1.weight"]))
    plain = build_network(SMALL, 1, seed=0).decoder.state_dict()
    for name, value in with_weights.decoder.state_dict().items():
        assert torch.equal(value, plain[name])


def test_foreign_weights_are_refused():
    """Weights of another network are a clear error, not a wrong model."""
    state = build_network(SMALL, 3, seed=0).state_dict()
    with pytest.raises(ModelFileError, match="Unet/resnet18 for 1 labels"):
        restore_network(state, SMALL, 1)


def test_fitting_weights_survive_a_new_label():
    """When a label is added only the head begins anew."""
    old = build_network(SMALL, 2, seed=0).state_dict()
    model = build_network(SMALL, 3, seed=1)
    missing = load_fitting(model, old)
    assert missing
    assert all(name.startswith("segmentation_head") for name in missing)
    assert torch.equal(model.encoder.conv1.weight, old["encoder.conv1.weight"])


def test_normalise_takes_out_brightness_and_contrast():
    """Dimmed and brightened copies of an image become the same tensor, channels last."""
    rng = np.random.default_rng(0)
    image = rng.integers(50, 90, (32, 48, 3)).astype(np.uint8)
    copies = np.stack([image, image * 2, image + 100])
    tensor = normalise(copies)
    assert tensor.shape == (3, 3, 32, 48)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    for other in tensor[1:]:
        torch.testing.assert_close(other, tensor[0])
    low, high = np.percentile(image, [1, 99.8])
    assert image_stats(image) == pytest.approx(((low + high) / 2, (high - low) / 2), abs=1)


def test_background_looks_alike_in_crowded_and_nearly_empty_images():
    """How much of an image is foreground hardly moves the values of its background."""
    values = []
    for share in (0.01, 0.5):
        image = np.full((100, 100, 3), 20, np.uint8)
        image.reshape(-1, 3)[: int(share * 10_000)] = 200
        values.append(float(normalise(image[None])[0, 0, -1, -1]))
    assert values[0] == pytest.approx(values[1], abs=0.05)


def test_noise_of_an_empty_image_is_not_blown_up():
    """A nearly constant image stays nearly constant."""
    image = np.full((1, 32, 32, 3), 7, np.uint8)
    image[0, ::2] = 8
    tensor = normalise(image)
    assert tensor.max() - tensor.min() < 0.1


@pytest.mark.parametrize("channels", [1, 4])
def test_probabilities_and_logits(channels):
    """Probabilities sum to 1 with the background first, and lead back to themselves."""
    logits = torch.linspace(-5, 5, 2 * channels * 6).reshape(2, channels, 2, 3)
    probs = to_probs(logits)
    assert probs.shape[1] == max(channels, 2)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(2, 2, 3))
    torch.testing.assert_close(to_probs(to_logits(probs)), probs)


def test_torchvision_shim_in_a_fresh_process():
    """Importing the networks works whether or not torchvision's operators load."""
    code = "import ml_backend.learning.networks, torchvision; torchvision.ops.nms"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_normalising_is_arithmetic_to_the_last_bit():
    """The table that values are looked up in holds (value - centre) / half-width, float32."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 5, 7, 3), np.uint8)
    stats = np.array([[100.5, 16.0], [3.25, 77.0], [200.0, 33.3]], np.float32)
    expected = (images.astype(np.float32) - stats[:, :1, None, None]) / stats[:, 1:, None, None]
    for shown in (images, images[:, :1, :1]):
        found = normalise(shown, stats)
        assert found.dtype == torch.float32
        assert found.is_contiguous(memory_format=torch.channels_last)
        part = expected[:, : shown.shape[1], : shown.shape[2]]
        np.testing.assert_array_equal(found.permute(0, 2, 3, 1).numpy(), part)
