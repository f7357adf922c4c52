"""The benchmark of scoring and choosing measures what it says, in the form that it says."""

import importlib
import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def select(monkeypatch: pytest.MonkeyPatch):
    """The script as a module, with pools small enough for a test."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("benchmark_select")
    small = {"ranked": (200,), "naive": (120,), "growth": (300,), "scoring": (2, 32), "flat": (4,)}
    for name, sizes in small.items():
        whole = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *_, whole=whole, sizes=sizes: whole(*sizes))
    monkeypatch.setattr(module, "BATCH", 5)
    monkeypatch.setattr(module, "SEEDS", 1)
    return module


def test_rows_have_the_promised_form(select, monkeypatch, capsys):
    """`select --json` prints rows; ratios follow from the numbers, and naive ways choose alike."""
    benchmark = importlib.import_module("benchmark")
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "select", "--quick", "--json"])
    benchmark.main()
    rows = json.loads(capsys.readouterr().out)
    cases = " ".join(row["case"] for row in rows)
    for name in [*select.RANKED, *select.SPREAD, "dropout", "views", "BaaL", "tiles, memory"]:
        assert name in cases
    for row in rows:
        assert list(row) == ["case", "ours", "other", "ratio", "unit", "target", "holds"]
        assert row["unit"] in {"ms", "MiB", "kinds"}
        assert row["ours"] > 0 < row["other"]


@pytest.mark.parametrize("count", [50, 300])
def test_the_naive_ways_are_the_definitions(select, count):
    """What the strategies are timed against chooses the same; a difference stops the benchmark."""
    pool = select.clustered(count)
    points = pool.embeddings_ND.astype("float32")
    chosen = select.farthest_first(points, points[:3])
    assert len(set(chosen)) == len(set(select.most_like(points, pool.scores_N))) == 5
    assert not set(chosen) & {0, 1, 2}
