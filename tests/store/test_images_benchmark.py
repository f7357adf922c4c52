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


def test_rows_of_decoding(monkeypatch):
    """Every type has its row; one that is decoded keeps to three times its size in RGB."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    decoding = importlib.import_module("benchmark_decoding")
    everything = decoding.cases(64)
    cases = {case for case, *_ in everything}
    for dtype in ("uint8", "uint16", "int16", "float32", "float64"):
        assert {dtype, f"{dtype} RGB", f"{dtype}, deflate in strips"} <= cases
    kept = [one for one in decoding.cases(2048) if one[0] in {"float64 RGB", "16-bit RGBA PNG"}]
    monkeypatch.setattr(decoding, "cases", lambda _: kept)
    for row in decoding.rows(quick=False, side=2048):
        assert row["unit"] == "MiB"
        assert row["target"] == 3
        assert row["holds"], row
