"""The number format is measured once for a network and a machine, and then stays."""

import json
import threading
from dataclasses import asdict

import pytest

from ml_backend.errors import StoreError
from ml_backend.learning import precision as learning
from ml_backend.learning.precision import Precisions
from ml_backend.loop.precision import FILE, precisions_of
from ml_backend.recipe import Network
from ml_backend.settings import Settings


@pytest.fixture
def measured(monkeypatch):
    """The networks that were measured; every measurement comes to another answer."""
    asked = []

    def measure(network, _device, *, clock):
        assert clock() <= clock()
        asked.append(network)
        kind = ("bfloat16", "float32")[len(asked) % 2]
        return Precisions(kind, kind, {"float32": 3.0}, {"float32": 9.0})

    monkeypatch.setattr(learning, "measure", measure)
    return asked


def test_it_is_measured_once(measured, tmp_path):
    """Another process, another day, another answer of the stopwatch: the format stays."""
    settings = Settings(home=tmp_path / "home", threads=1, device="cpu")
    first = precisions_of(settings, Network())
    assert precisions_of(settings, Network()) == first
    assert precisions_of(settings, Network(dropout=0.5)) == first
    assert len(measured) == 1
    assert precisions_of(settings, Network(depth=3)) != first
    assert precisions_of(settings, Network()) == first
    kept = json.loads((tmp_path / "home" / FILE).read_text())
    assert asdict(first) in kept.values()


def test_two_processes_agree(measured, tmp_path):
    """Who comes second waits for the first one's measurement and takes it."""
    settings = Settings(home=tmp_path / "home", threads=1, device="cpu")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(precisions_of(settings, Network())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(measured) == 1
    assert len(found) == 4
    assert len({precisions.prediction for precisions in found}) == 1


@pytest.mark.parametrize(
    ("asked", "prediction", "training"),
    [
        ("float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float16", "float16", "float32"),
    ],
)
def test_what_the_setting_names_is_not_measured(measured, tmp_path, asked, prediction, training):
    """A format by name is taken as it is; trainings never take float16."""
    found = precisions_of(Settings(home=tmp_path / "home", precision=asked), Network())
    assert (found.prediction, found.training) == (prediction, training)
    assert not measured
    assert not (tmp_path / "home").exists()


def test_a_damaged_file_is_measured_again(measured, tmp_path):
    """What cannot be read is as good as not there."""
    (tmp_path / FILE).write_text("{")
    settings = Settings(home=tmp_path, device="cpu", threads=1)
    assert precisions_of(settings, Network()) == precisions_of(settings, Network())
    assert len(measured) == 1


@pytest.mark.usefixtures("measured")
def test_a_home_that_cannot_be_written_is_named(tmp_path):
    """The error names the file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"precision\.json"):
        precisions_of(Settings(home=tmp_path / "file", device="cpu"), Network())
