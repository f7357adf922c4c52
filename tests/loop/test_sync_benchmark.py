"""The benchmark of pulls measures what it says, in the form that it says."""

import importlib
import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("benchmark")


def test_rows_have_the_promised_form(benchmark, monkeypatch, capsys):
    """`sync --quick --json` pulls over HTTP; what is counted does not depend on the machine."""
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "sync", "--quick", "--json"])
    benchmark.main()
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 8
    for row in rows:
        assert list(row) == ["case", "ours", "other", "ratio", "unit", "target", "holds"]
    first, flat = rows[:2]
    assert (first["unit"], first["target"], first["holds"]) == ("MiB", 1, True)
    assert flat["ratio"] == pytest.approx(1, abs=0.25)
    counted = [row for row in rows if row["unit"] == "count"]
    assert [row["ratio"] for row in counted] == [pytest.approx(1, abs=0.05)] * 4
    assert counted[0]["ours"] == 6  # the project, the index, the tasks, who is gone, a page of all
