"""`brushloop runs`: the table, the JSON and the picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from support.commands import complaint, run

from ml_backend.cli.drawing import draw_curves, draw_effort
from ml_backend.cli.effort import tables_of
from ml_backend.errors import ConfigError, NotFound, StoreError
from ml_backend.loop.advice import Advice, Audit
from ml_backend.loop.curves import Training
from ml_backend.loop.effort import Effort, RoundEffort, Work
from ml_backend.loop.gains import Gains, Interval, Measured


def training(version="p1-v1", epochs=3, **overrides):
    """A training whose numbers are told apart."""
    rows = tuple(
        {"epoch": epoch, "seconds": 1.0}
        | {f"train_{name}": 0.5 / epoch for name in ("loss", "iou", "dice", "accuracy")}
        | {f"val_{name}": 0.9 / epoch for name in ("loss", "iou", "dice", "accuracy")}
        | overrides
        for epoch in range(1, epochs + 1)
    )
    return Training(version, "current", None, "", min(2, epochs), rows)


def test_pictures_are_drawn_for_few_and_many(tmp_path):
    """PNG and SVG; a training without validation, one epoch, more versions than colours."""
    few = [training(), training("p1-v2", 1), training("p1-v3", val_iou=None, val_loss=None)]
    draw_curves(few, tmp_path / "few.png", title="A $name$ of 5 cells")
    with Picture.open(tmp_path / "few.png") as picture:
        assert picture.size == (1200, 540)
        assert np.asarray(picture.convert("L")).std() > 5
    many = [training(f"p1-v{number}") for number in range(12)]
    for name in ("many.svg", "again.svg"):
        draw_curves(many, tmp_path / name, title="Cells")
    drawn = (tmp_path / "many.svg").read_text()
    assert drawn == (tmp_path / "again.svg").read_text()
    assert drawn.startswith("<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.svg", "few.png", "many.svg"]


@pytest.mark.parametrize(
    ("name", "count", "error", "words"),
    [
        ("curves.jpeg", 1, ConfigError, r"\.png or \.svg"),
        ("curves.png", 0, NotFound, "no finished epoch"),
        ("nowhere/curves.png", 1, StoreError, "nowhere"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, name, count, error, words):
    """Another format, no epoch, a folder that is not there."""
    with pytest.raises(error, match=words):
        draw_curves([training()] * count, tmp_path / name, title="Cells")


def test_runs_lists_plots_and_prints(house):
    """The star marks the epoch that was kept; JSON holds the catalog's numbers; `--last` cuts."""
    models = house.catalog.models
    assert "no finished epoch yet" in run("runs")
    assert json.loads(run("runs", "--json")) == []
    assert "no finished epoch" in complaint("runs", "--plot", "curves.png")
    for number, ious in enumerate(([0.25, 0.75, 0.5], [0.125])):
        version = models.add(house.project_id, parent=None, fingerprint=str(number)).version
        for epoch, iou in enumerate(ious, 1):
            row = {"epoch": epoch, "val_iou": iou, "seconds": 61.2, "waited": 0.034}
            if number == 1:
                row["stopped"] = "stopped after epoch 1 of 9: no better"
            models.save_epoch(version, epoch, row)
    output = run("runs", "--plot", "curves.svg")
    starred = [line.split() for line in output.splitlines() if line.strip().startswith("*")]
    assert [row[0] for row in starred] == ["*2", "*1"]
    assert starred[0][-5:] == ["0.750", "-", "-", "61", "3%"]
    assert "stopped after epoch 1 of 9: no better" in output
    assert Path("curves.svg").exists()
    (newest,) = json.loads(run("runs", "--last", "1", "--json"))
    assert newest["version"] == f"p{house.project_id}-v2"
    assert newest["epochs"][0]["val_iou"] == 0.125
    assert newest["epochs"][0]["waited"] == 0.034
    assert newest["stopped"] == "stopped after epoch 1 of 9: no better"


def test_effort_is_shown_printed_and_drawn(house):
    """The table names what was redone, JSON holds the same, the picture is written."""
    assert "advice: cannot tell" in run("effort")
    assert "no effort to draw" in complaint("effort", "--plot", "effort.png")
    house.fill(4)
    house.labelled_round()
    output = run("effort", "--plot", "effort.png")
    assert "4/4" in output
    assert "missing: 3 more rounds" in output
    found = json.loads(run("effort", "--json"))
    assert found["rounds"][0]["work"]["redone"] == found["total"]["redone"] == 4
    assert found["advice"]["verdict"] == "cannot tell"
    with Picture.open("effort.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert "advice: cannot tell" in run("status")


def test_a_curve_has_its_band(tmp_path):
    """IoU with its interval, and the share redone of every round, as SVG."""
    work = Work(20, 20, 12, 0.9, 300, 10.0)
    none = Work(0, 0, 0, None, None, 0.0)
    rows = tuple(RoundEffort(n, 20 * n, work, none, None, None, None, None) for n in (1, 2))
    models = tuple(
        Measured(f"p1-v{n}", n, 20 * n, "promoted", 9, Interval(0.5 + n / 9, 0.4, 0.9), None)
        for n in (1, 2)
    )
    found = Effort(
        rows, work, Gains(models, (), None), Audit(0, 0, None), Advice("cannot tell", "few")
    )
    draw_effort(found, tmp_path / "effort.svg", title="A $name$")
    assert (tmp_path / "effort.svg").read_text().startswith("<?xml")
    (work_table, curve) = tables_of(found)
    assert list(work_table.columns[2].cells) == ["8/20", "8/20", "8/20"]
    assert next(iter(curve.columns[4].cells)) == "0.611 (0.400 to 0.900)"
