"""The comparisons with BYOL measure what they say, in the form that they say."""

import csv
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

SCRIPTS = Path(__file__).parents[2] / "scripts"
QUICK = ("--pretraining-steps", "2", "--steps", "2")


@pytest.fixture
def byol(monkeypatch, discs):
    """The script as a module, with three small sections of discs and a small recipe."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("benchmark_byol")
    found = []
    for number, sample in enumerate(discs(3, side=64)):
        image, mask = sample.load()
        side = "test" if number == 2 else "pool"
        found.append(module.Section(sample.name, side, image, {"membranes": mask}))
    whole = module.recipe_of

    def small(pretraining_steps, steps):
        return whole(pretraining_steps, steps).changed(
            {"training.patch": 32, "training.batch_size": 2, "training.epochs": 2,
             "pretraining.patch": 32, "pretraining.batch_size": 2, "prediction.window": 64,
             "network.depth": 3, "network.decoder_width": 4, "pretraining.epochs": 1}
        )  # fmt: skip

    monkeypatch.setattr(module, "sections", lambda: found)
    monkeypatch.setattr(module, "recipe_of", small)
    monkeypatch.setattr(module, "SIDE", 32)
    monkeypatch.setattr(module, "LABELLED", 3)
    return module


def test_rows_table_and_figure(byol, monkeypatch, capsys, tmp_path):
    """`byol --json` prints rows, and writes every point of the curves and a picture of them."""
    benchmark = importlib.import_module("benchmark")
    words = [
        "benchmark.py", "byol", "--json", "--seeds", "2", "--encoders", "1", "--tasks", "membranes",
        *QUICK, "--table", str(tmp_path / "t.csv"), "--figure", str(tmp_path / "f.png"),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert [row["case"].split(":")[0] for row in rows[:2]] == [
        "membranes, step 1", "membranes, step 2",
    ]  # fmt: skip
    assert rows[2]["unit"] == "s"
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    assert {(p["seed"], p["arm"], p["step"]) for p in points} == {
        (seed, arm, step) for seed in "01" for arm in byol.ARMS for step in "12"
    }
    with Picture.open(tmp_path / "f.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert printed.err.count("pretraining") == 1


def test_pool_and_test_never_meet(byol):
    """Tiles are cut from the sections of the pool alone."""
    assert len(byol.tiles(byol.sections())) == 8
    assert {section.side for section, _, _ in byol.tiles(byol.sections())} == {"pool"}


def test_an_interval_is_students(byol):
    """Of known differences; a single pair says nothing."""
    low, high = byol.interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert byol.interval(np.array([1.0])) == (-np.inf, np.inf)
