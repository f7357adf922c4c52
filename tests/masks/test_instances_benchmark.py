"""The benchmark of touching nuclei compares what it says, in the form that it says."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def instances(monkeypatch, tmp_path):
    """The script as a module, with few drawn images and a tiny network."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("benchmark_instances")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "network: {depth: 3, decoder_width: 8, fold: 1}\n"
        "training: {batch_size: 2, patch: 64, learning_rate: 0.01}\n"
        "instances: {enabled: true}\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(module, "SEEDS", 1)
    monkeypatch.setattr(module, "SMALL", {"training.steps": 30, "training.epochs": 1})
    for name, value in {"RECIPE": recipe, "DATA": tmp_path, "DRAWN": 8, "CUT": 64}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_rows_have_the_promised_form(instances, monkeypatch, capsys, tmp_path):
    """`instances --json --out` compares both ways on true and predicted masks, and draws them."""
    benchmark = importlib.import_module("benchmark")
    monkeypatch.setattr(
        sys, "argv", ["benchmark.py", "instances", "--json", "--out", str(tmp_path)]
    )
    benchmark.main()
    rows = json.loads(capsys.readouterr().out)
    assert [row["unit"] for row in rows] == ["PQ", "AP50", "share"] * 2
    for row in rows:
        assert list(row) == ["case", "ours", "other", "ratio", "unit", "target", "holds"]
    assert rows[0]["ours"] > 1.2 * rows[0]["other"] > 0  # discs that touch are told apart
    for name in ("instances-true.png", "instances.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 4 * instances.CELL


def test_no_image_is_on_two_sides(instances):
    """Learned from, validated and tested on: all images, each once."""
    sides = instances.split(instances.pictures())
    names = [one.sample.name for side in sides for one in side]
    assert [len(side) for side in sides] == [4, 2, 2]
    assert len(set(names)) == 8


def test_what_was_cut_is_shown(instances):
    """All pixels of a component of several objects, and none of one that stayed whole."""
    whole, parts = np.zeros((2, 4, 9), np.int32)
    whole[1:3, 1:4], whole[1:3, 5:8] = 1, 2
    parts[1:3, 1:4], parts[1:3, 5:6], parts[1:3, 6:8] = 1, 2, 3
    np.testing.assert_array_equal(instances.cut_apart(whole, parts), whole == 2)


def test_the_busiest_place_is_inside_and_the_fullest(instances, monkeypatch):
    """The square shown has the size it says, wherever the foreground lies."""
    monkeypatch.setattr(instances, "CUT", 16)
    for y, x in ((0, 0), (24, 33), (10, 20)):
        mask = np.zeros((40, 50), bool)
        mask[y : y + 16, x : x + 16] = True
        place = instances.busiest(mask)
        assert mask[place].shape == (16, 16)
        assert mask[place].all()
