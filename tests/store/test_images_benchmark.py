"""The benchmark of images measures what it says, in the form that it says."""

import importlib
import json
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_rows_of_matching(monkeypatch, capsys):
    """`images --quick --json` pairs every file, in a time that grows with their number."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "images", "--quick", "--json"])
    importlib.import_module("benchmark").main()
    rows = {row["case"]: row for row in json.loads(capsys.readouterr().out)}
    matching = [row for case, row in rows.items() if case.startswith("match ")]
    assert len(matching) == 3
    assert all(row["unit"] == "ms" and row["target"] == 20 for row in matching)
    assert all(row["ratio"] < 60 for row in matching)  # a square has 100
    assert "pair 1,000 images and masks, against listing both" in rows
