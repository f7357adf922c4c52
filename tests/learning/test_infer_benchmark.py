"""The benchmark of inference measures what it says, in the form that it says."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ml_backend.learning.precision import Precisions
from ml_backend.recipe import Network, Prediction

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def infer(monkeypatch: pytest.MonkeyPatch):
    """The script as a module, with a network and images small enough for a test."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("benchmark_infer")
    monkeypatch.setattr(module, "NETWORK", Network(depth=3, decoder_width=4))
    monkeypatch.setattr(module, "PREDICTION", Prediction(window=64, overlap=16, batch_size=4))
    monkeypatch.setattr(module, "TURNS", 1)
    fixed = Precisions("float32", "float32", {}, {})
    monkeypatch.setattr("ml_backend.learning.precision.measure", lambda *_, **__: fixed)
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    pair = image, (image[..., 0] > 99).astype(np.uint8)
    monkeypatch.setattr(module, "section", lambda _number: pair)
    monkeypatch.setattr(module, "learned", lambda _steps, learned=module.learned: learned(1))
    monkeypatch.setattr(
        module, "peak_of_stream", lambda side: {"peak": 3 << 20, "added": 1 << 19, "side": side}
    )
    return module


def test_rows_have_the_promised_form(infer, monkeypatch, capsys):
    """`infer --json` prints rows for cost, speed, sides, seams and memory."""
    benchmark = importlib.import_module("benchmark")
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "infer", "--quick", "--json"])
    benchmark.main()
    rows = json.loads(capsys.readouterr().out)
    cases = " ".join(row["case"] for row in rows)
    for words in ("bare forward passes", "MONAI", "change side", "largest jump", "memory"):
        assert words in cases
    for row in rows:
        assert list(row) == ["case", "ours", "other", "ratio", "unit", "target", "holds"]
    assert infer.PREDICTION.window == 64


def test_windows_laid_side_by_side_would_be_seen(infer, monkeypatch):
    """The rows about seams fail for a prediction that jumps where windows meet."""
    image = np.zeros((112, 112, 3), np.uint8)
    foreground = np.repeat(np.linspace(0, 0.1, 112, dtype=np.float32)[None], 112, axis=0)
    foreground[:, 48:] += 0.5

    class Jumping:
        def probs(self, _image):
            return np.stack([1 - foreground, foreground])

    monkeypatch.setattr(infer, "predictor_of", lambda *_: Jumping())
    rows = list(infer.seams(infer.Material({}, image, "float32", infer.NETWORK, infer.PREDICTION)))
    assert [row["holds"] for row in rows] == [False, False]


def test_streaming_is_measured_in_a_process_of_its_own(infer, tmp_path):
    """A memory map is predicted to its last row, and memory is looked at meanwhile."""
    path = tmp_path / "image.raw"
    np.zeros((70, 70, 3), np.uint8).tofile(path)
    found = infer.stream(str(path), 70)
    assert found["peak"] > 10 << 20
    with pytest.raises(SystemExit, match="rows"):
        infer.consume(type("Lazy", (), {"bands": lambda *_: iter(())})(), np.zeros((3, 3, 3)))
