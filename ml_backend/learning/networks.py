"""Networks of segmentation-models-pytorch by name, and what goes into them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ml_backend.errors import ConfigError, ModelFileError, UnknownName, WeightsUnavailable
from ml_backend.learning import _torchvision as _torchvision  # noqa: PLC0414  before smp
from ml_backend.recipe import UNETS, Network

import segmentation_models_pytorch as smp  # isort: skip

STRIDE = 32
"""Sides of an input must be multiples of this, unless the network has a `stride` of its own."""

_LEAST_HALF_WIDTH = 16.0
_STRIP = 1 << 22  # values counted at a time; their float32 counts are exact below 2^24
_FILLERS = (Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_)  # the last hides the first
_WAY_OUT = (
    "give weights of this encoder at the same network.depth and network.fold, or null to start "
    "from random weights"
)


def image_stats(image: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Centre and half-width of the range of values in one (H, W, 3) image, in grey values.

    The range goes from the 1st to the 99.8th percentile, over pixels and channels together: a
    colour cast is information. Unlike mean and deviation it hardly depends on how much of the
    image is foreground, so background looks alike in crowded and in nearly empty images. The
    half-width has a floor, so that the noise of an empty image is not blown up into structure.
    """
    rows = max(1, _STRIP // max(1, image[:1].size))
    counts = np.zeros(256)
    for start in range(0, len(image), rows):  # an image may be larger than the memory
        strip = np.ascontiguousarray(image[start : start + rows]).reshape(-1, 1)
        counts += cv2.calcHist([strip], [0], None, [256], [0, 256]).astype(np.float64)[:, 0]
    share = np.cumsum(counts) / counts.sum()
    low, high = (float(np.searchsorted(share, limit)) for limit in (0.01, 0.998))
    half = max((high - low) / 2, _LEAST_HALF_WIDTH)
    return low + half, half  # a dark background stays at -1 where the floor widens the range


def normalise(
    images_NHWC: npt.NDArray[np.uint8], stats_N2: npt.NDArray[np.floating] | None = None
) -> Tensor:
    """(N, H, W, 3) uint8 → (N, 3, H, W) float32 in channels-last layout, about -1..1 per image.

    `stats_N2` holds `image_stats` of the whole images of which these are patches; by default
    they are taken from the arrays themselves, and one row may stand for all.
    """
    if stats_N2 is None:
        stats_N2 = np.array([image_stats(image) for image in images_NHWC])
    values = np.empty(images_NHWC.shape, np.float32)
    stats_N2 = np.broadcast_to(np.asarray(stats_N2, np.float32), (len(values), 2))
    for image, (centre, half), out in zip(images_NHWC, stats_N2, values, strict=True):
        table = (np.arange(256, dtype=np.float32) - centre) / half  # a third of the time
        out[...] = cv2.LUT(np.ascontiguousarray(image), table).reshape(out.shape)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def out_channels(classes: int, *, overlapping: bool = False) -> int:
    """Channels of the logits of a head.

    One (sigmoid) for a single label, K + 1 (softmax, the background first) for several of which a
    pixel has one, K (each its sigmoid) for several that may overlap.
    """
    return classes if classes == 1 or overlapping else classes + 1


def to_probs(logits_NCHW: Tensor, *, overlapping: bool = False) -> Tensor:
    """Logits → float32 probabilities (N, K+1, H, W) with the background at channel 0.

    Of labels that may overlap (N, K, H, W), each for itself.
    """
    logits = logits_NCHW.float()
    if overlapping:
        return logits.sigmoid()
    if logits.shape[1] > 1:
        return logits.softmax(dim=1)
    probs = logits.new_empty(len(logits), 2, *logits.shape[2:])
    probs[:, 1:] = logits.sigmoid()
    torch.sub(1, probs[:, 1:], out=probs[:, :1])  # two thirds of the time of joining both
    return probs


def to_logits(probs_NCHW: Tensor, *, overlapping: bool = False) -> Tensor:
    """The inverse of `to_probs` up to a constant; probabilities are kept off 0 and 1."""
    probs = probs_NCHW.clamp(1e-6, 1 - 1e-6)
    if overlapping:
        return probs.logit()
    if probs.shape[1] == 2:
        return probs[:, 1:].logit()
    return probs.log()


def build_network(
    network: Network, classes: int, *, seed: int, overlapping: bool = False
) -> nn.Module:
    """A fresh network for `classes` labels: (N, 3, H, W) → (N, `out_channels`, H, W) logits.

    The same seed gives the same weights and leaves torch's own generator alone.
    Raises `UnknownName`, `ConfigError` (a combination smp refuses), `WeightsUnavailable`.
    """
    weights, file = network.encoder_weights, network.weights_file
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _create(network, out_channels(classes, overlapping=overlapping))
        if weights is not None and file is None:
            model.encoder.load_state_dict(_folded(_hub_weights(network, weights), model.encoder))
    for stage in range(network.stages, 5):  # smp keeps the residual stages that it never runs
        if hasattr(model.encoder, f"layer{stage}"):
            setattr(model.encoder, f"layer{stage}", nn.Identity())
    if file is not None:
        fill_encoder(model, _read_weights(file), f"encoder weights {file}")
    _even_out(model.segmentation_head, network.fold)
    model.segmentation_head = nn.Sequential(
        nn.Dropout(network.dropout),
        *model.segmentation_head.children(),
        nn.PixelShuffle(network.fold),
    )
    model.encoder.register_forward_pre_hook(partial(_fold, network.fold))
    model.stride = network.multiple
    return channels_last(model)


def _even_out(head: nn.Module, fold: int) -> None:
    """Let all pixels that unfold from one start alike (ICNR, Aitken et al. 2017): no chequers."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            first = layer.weight.detach()[:: fold**2]
            layer.weight.data.copy_(first.repeat_interleave(fold**2, dim=0))


def _fold(fold: int, _encoder: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Fold squares of pixels into channels (Shi et al. 2016, backwards); the head unfolds them."""
    folded = nn.functional.pixel_unshuffle(inputs[0], fold)
    return (folded.contiguous(memory_format=torch.channels_last),)


def channels_last(model: nn.Module) -> nn.Module:
    """`model` with its convolutions in the memory layout in which processors are fastest."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _create(network: Network, channels: int) -> Any:  # smp is untyped: Any spares casts
    architecture = network.architecture.lower()
    if architecture not in smp.MODEL_ARCHITECTURES_MAPPING:
        choices = ", ".join(kind.__name__ for kind in smp.MODEL_ARCHITECTURES_MAPPING.values())
        raise UnknownName(
            f"unknown architecture {network.architecture!r}; choose one of: {choices}"
        )
    if not network.encoder.startswith("tu-") and network.encoder not in smp.encoders.encoders:
        choices = ", ".join(sorted(smp.encoders.encoders))
        raise UnknownName(f"unknown encoder {network.encoder!r}; choose one of: {choices}")
    options: dict[str, object] = {"encoder_depth": network.stages}
    if architecture in UNETS:
        options["decoder_channels"] = [
            network.decoder_width << level for level in reversed(range(network.depth))
        ]
    try:
        return smp.create_model(
            architecture,
            network.encoder,
            encoder_weights=None,
            in_channels=3 * network.fold**2,
            classes=channels * network.fold**2,
            **options,
        )
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"network: {network.architecture} with encoder {network.encoder} at depth "
            f"{network.stages} cannot be built: {error}"
        ) from error


def _hub_weights(network: Network, weights: str) -> dict[str, Tensor]:
    """The encoder's weights as smp fetches them; whatever goes wrong is `WeightsUnavailable`."""
    try:
        encoder = smp.encoders.get_encoder(
            network.encoder, in_channels=3, depth=network.stages, weights=weights
        )
    except Exception as error:  # the hub's client raises a dozen unrelated kinds of exception
        raise WeightsUnavailable(
            f"encoder weights {weights!r} of {network.encoder} cannot be loaded "
            f"({type(error).__name__}: {error}); set network.encoder_weights to a local "
            ".safetensors or .pth file, or to null to start from random weights"
        ) from error
    return dict(encoder.state_dict())


def _read_weights(path: Path) -> dict[str, Tensor]:
    """A state dictionary from a local file; nothing in it is executed."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors document no closed set
        raise WeightsUnavailable(
            f"encoder weights {path} cannot be read ({type(error).__name__}); {_WAY_OUT}"
        ) from error
    return state


def fill_encoder(model: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load the encoder of `model` from its own state dictionary or that of a whole network.

    A decoder and a classifier's head are ignored. `what` is being loaded, for the error:
    `WeightsUnavailable` unless every tensor of the encoder is there and fits.
    """
    encoder, whole = model.get_submodule("encoder"), "encoder."
    if any(name.startswith(whole) for name in state):
        state = {
            name.removeprefix(whole): value
            for name, value in state.items()
            if name.startswith(whole)
        }
    missing = load_fitting(encoder, _folded(state, encoder))
    if missing:
        raise WeightsUnavailable(
            f"{what} do not fit: {len(missing)} tensors are missing or of another shape, "
            f"such as {missing[0]!r}; {_WAY_OUT}"
        )


def _folded(state: Mapping[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """Weights made for 3 channels, spread over the pixels that are folded into each of them.

    At first the network then sees the mean of each square of pixels, as on a smaller image.
    """
    own = encoder.state_dict()

    def spread(name: str, value: Tensor) -> Tensor:
        wanted = own[name].shape if name in own else value.shape
        squares = wanted[1] // 3 if value.ndim == 4 and value.shape[1] == 3 else 1
        return value.repeat_interleave(squares, dim=1) / squares if squares > 1 else value

    return {name: spread(name, value) for name, value in state.items()}


def load_fitting(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load the tensors whose names and shapes fit; returns the names that were not filled."""
    own = model.state_dict()
    fits = {
        name: value for name, value in state.items()
        if name in own and own[name].shape == value.shape
    }  # fmt: skip
    model.load_state_dict(fits, strict=False)
    return [name for name in own if name not in fits]


class _Unfilled(TorchFunctionMode):
    """Parameters made here are not filled with random numbers: a whole state follows.

    Those numbers are most of what building a network costs.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLERS:
            tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **kwargs)


def restore_network(
    state: Mapping[str, Tensor], network: Network, classes: int, *, overlapping: bool = False
) -> nn.Module:
    """The network that `state` belongs to. Raises `ModelFileError` when it does not fit."""
    bare = network.model_copy(update={"encoder_weights": None})
    with _Unfilled():
        model = build_network(bare, classes, seed=0, overlapping=overlapping)
    try:
        model.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise ModelFileError(
            f"the weights do not fit {network.architecture}/{network.encoder} for {classes} "
            f"labels: {error}"
        ) from None
    return model
