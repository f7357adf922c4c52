"""The export benchmark measures what it says, in the form that it says."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


pytestmark = pytest.mark.filterwarnings(  # pycocotools' decoder against NumPy 2
    "ignore:__array__ implementation:DeprecationWarning"
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    """The script as a module, with small masks in place of the data's."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    export = importlib.import_module("benchmark_export")
    square = np.zeros((48, 48), bool)
    square[4:20, 4:20] = True
    monkeypatch.setattr(export, "real_pairs", lambda: [(square, square.T[::-1])])
    return importlib.import_module("benchmark")


def test_rows_have_the_promised_form(benchmark, monkeypatch, capsys):
    """`export --quick --json` converts by both sides; everything that is counted holds."""
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "export", "--quick", "--json"])
    benchmark.main()
    speed, memory, *counted = json.loads(capsys.readouterr().out)
    for row in (speed, memory, *counted):
        assert list(row) == ["case", "ours", "other", "ratio", "unit", "target", "holds"]
    assert (speed["unit"], speed["target"]) == ("ms", 10)
    assert (memory["unit"], memory["target"]) == ("MiB", 1)
    assert len(counted) == 12
    assert all(row["holds"] and row["ratio"] == 1 for row in counted)
    found = {row["case"]: row["other"] for row in counted}
    assert found["COCO's area of a 10 x 10 square"] == 81
    assert found["COCO's annotations of a stroke of 1 px"] == 0
