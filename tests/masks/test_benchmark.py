"""The codec's benchmark measures what it says, in the form that it says."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/benchmark.py"


def test_rows_have_the_promised_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rle --json` prints a list of rows with the promised keys; ratios follow from the numbers."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "masks", lambda: {"square": np.eye(64, dtype=bool)})
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "rle", "--json"])
    benchmark.main()
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 5
    assert rows[-1]["case"] == "write JSON, a brush result of 2048²"
    for row in rows:
        assert list(row) == ["case", "ours", "other", "ratio", "unit", "target", "holds"]
        assert row["unit"] in {"ms", "MiB"}
        assert isinstance(row["holds"], bool)
