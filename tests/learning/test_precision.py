"""The quickest number format is found by trying, whatever the device can do."""

import math

import pytest
import torch

from ml_backend.learning import precision as module
from ml_backend.learning.device import describe_hardware
from ml_backend.learning.precision import measure
from ml_backend.recipe import Network

SMALL = Network(depth=3, decoder_width=4)
CPU = torch.device("cpu")


class _Race:
    """Stands for a device: formats take the given seconds, some give nan or are not there."""

    def __init__(self, monkeypatch, seconds, failing=()):
        self.now, self.calls = 0.0, []
        self._seconds, self._failing = seconds, failing
        self._kind = "float32"
        monkeypatch.setattr(module, "autocast", self._autocast)
        monkeypatch.setattr(module, "build_network", lambda *_, **__: self)
        monkeypatch.setattr(module, "merge_norms", lambda *_: self)

    def _autocast(self, _device, name):
        self._kind = name
        return torch.no_grad() if not torch.is_grad_enabled() else torch.enable_grad()

    def to(self, *_, **__):
        return self

    def eval(self):
        return self

    def train(self):
        return self

    def parameters(self):
        self._weight = getattr(self, "_weight", torch.ones(1, requires_grad=True))
        return [self._weight]

    def __call__(self, images):
        self.calls.append(self._kind)
        if self._kind in self._failing:
            raise RuntimeError("no kernel")
        self.now += self._seconds[self._kind]
        scale = math.nan if self._seconds[self._kind] == NAN_SECONDS else 1.0
        return images * self.parameters()[0] * scale

    def clock(self):
        return self.now


NAN_SECONDS = 0.0123


@pytest.mark.parametrize(
    ("seconds", "failing", "prediction", "training"),
    [
        ((0.1, 0.04, 0.03), (), "float16", "bfloat16"),
        ((0.1, 0.04, 0.05), (), "bfloat16", "bfloat16"),
        ((0.1, 0.09, 0.095), (), "float32", "float32"),
        ((0.1, 5.0, 5.0), (), "float32", "float32"),
        ((0.1, 0.04, NAN_SECONDS), (), "bfloat16", "bfloat16"),
        ((0.1, 0.01, 0.01), ("bfloat16",), "float16", "float32"),
    ],
)
def test_the_quickest_usable_format_wins(monkeypatch, seconds, failing, prediction, training):
    """By a margin, if its numbers are finite; trainings never take float16."""
    names = ("float32", "bfloat16", "float16")
    race = _Race(monkeypatch, dict(zip(names, seconds, strict=True)), failing)
    found = measure(SMALL, CPU, clock=race.clock)
    assert (found.prediction, found.training) == (prediction, training)
    assert "float16" not in found.training_ms
    assert found.prediction_ms["float32"] == 50  # ms a window


def test_what_is_emulated_is_tried_hardly_at_all(monkeypatch):
    """A format that takes seconds costs two passes, and the others alternate."""
    race = _Race(monkeypatch, {"float32": 0.05, "bfloat16": 1.0, "float16": 0.04})
    measure(SMALL, CPU, clock=race.clock)
    assert race.calls.count("bfloat16") == 4
    assert race.now < 7


def test_float32_that_fails_is_an_error(monkeypatch):
    """Where nothing works, what torch says is said, and no format is made up."""
    race = _Race(monkeypatch, dict.fromkeys(("float32", "bfloat16", "float16"), 0.1), ("float32",))
    with pytest.raises(RuntimeError, match="no kernel"):
        measure(SMALL, CPU, clock=race.clock)


def test_a_real_network_is_measured_and_leaves_no_trace(monkeypatch):
    """Predictions and trainings are timed; torch's own random numbers go on as they would have."""
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    monkeypatch.setattr(module, "_SIDE", 32)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ticks = iter(range(10**6))
    found = measure(Network(depth=3, decoder_width=4, dropout=0.5), CPU, clock=lambda: next(ticks))
    assert torch.equal(torch.rand(3), expected)
    assert found.prediction == found.training == "float32"  # every turn takes one tick
    assert set(found.prediction_ms) >= {"float32"}


def test_the_hardware_is_named_with_what_decides(monkeypatch):
    """Another torch, thread count or processor is another measurement."""
    before = describe_hardware(CPU)
    assert torch.__version__ in before
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    other = describe_hardware(CPU)
    assert other != before
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert "amx_bf16" in describe_hardware(CPU) != other
