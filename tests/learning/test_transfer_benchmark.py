"""The benchmark of the transfer compares what it says, in the form that it says."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def transfer(monkeypatch, tmp_path):
    """The script as a module, with few images, a tiny network, and no data beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("benchmark_transfer")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("network: {depth: 3, decoder_width: 4}\n", encoding="utf-8")
    small = {"RECIPE": recipe, "DATA": tmp_path / "none", "SEEDS": 1, "STEPS": 1}
    monkeypatch.setattr(module, "SMALL", {"training.batch_size": 2, "training.patch": 64})
    counts = {"CLEAN": 3, "POOL": 5, "TEST": 2, "ANNOTATED": 2, "SHOWN": 1}
    for name, value in (small | counts).items():
        monkeypatch.setattr(module, name, value)
    return module


def test_rows_have_the_promised_form(transfer, monkeypatch, capsys, tmp_path):
    """`transfer --json --out` prints a row a comparison, tells every Dice, and draws a picture."""
    benchmark = importlib.import_module("benchmark")
    arguments = ["benchmark.py", "transfer", "--json", "--out", str(tmp_path / "pictures")]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert len(rows) == 6
    for row in rows:
        assert list(row) == ["case", "ours", "other", "ratio", "unit", "target", "holds"]
        assert row["unit"] in {"IoU", "Dice"}
    assert rows[0]["ratio"] > 0.8  # thresholding undoes what was drawn on white
    assert "specialized by basic" in rows[1]["case"]
    assert len(printed.err.splitlines()) == len(transfer.ARMS)
    with Image.open(tmp_path / "pictures/transfer.png") as picture:
        assert picture.width > 4 * transfer.CELL


def test_arms_differ_in_nothing_else(transfer, tmp_path):
    """Equal steps, patches and seeds; and no image of the test is in the pool."""
    recipes = {arm: transfer.recipe_of(arm, 1, 7) for arm in transfer.ARMS}
    looks = {arm: recipe.training.augmentation for arm, recipe in recipes.items()}
    assert sorted(set(looks.values())) == ["basic", "domain", "specialized"]
    alike = {str(recipe.changed({"training.augmentation": "basic"})) for recipe in recipes.values()}
    assert len(alike) == 1
    domains = transfer.make_domains(tmp_path / "domains", 2)
    pool, test = (
        {sample.load()[0].tobytes() for sample in side} for side in (domains.pool, domains.test)
    )
    assert (len(pool), len(test), len(pool & test)) == (5, 2, 0)


def test_right_wrong_and_missed_keep_their_colours(transfer):
    """However few pixels there are of one."""
    found, truth = np.zeros((2, 40, 40), bool)
    found[0, :2], truth[0, 1:3] = True, True
    picture = transfer.errors(found, truth)
    kept = Image.fromarray(picture).quantize(palette=transfer.palette(), dither=Image.Dither.NONE)
    np.testing.assert_allclose(np.asarray(kept.convert("RGB"), int), picture.astype(int), atol=8)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 4


def test_a_row_holds_only_with_every_seed(monkeypatch):
    """The mean of the seeds is reported, but one seed below the target is enough for a no."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    learning = importlib.import_module("benchmark_learning")
    row = learning.paired("Dice", [0.6, 0.8], [0.5, 0.5], "Dice", 1)
    assert (row["ours"], row["other"], row["ratio"], row["holds"]) == (0.7, 0.5, 1.4, True)
    assert "difference +0.200 ± 0.141, 2 seeds" in row["case"]
    assert not learning.paired("Dice", [0.4, 1.0], [0.5, 0.5], "Dice", 1)["holds"]
