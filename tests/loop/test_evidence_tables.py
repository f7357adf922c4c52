"""The tables of docs/evidence/selection.md are those of the trainings beside it."""

import importlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HEAD = "arm,seed,round,tiles,images,foreground_px,objects,steps,iou,lift,repeated"


@pytest.fixture
def tables(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("evidence_tables")


def write(path, rows):
    """A curves.csv of these (arm, seed, round, tiles, objects, IoU)."""
    lines = [
        f"{arm},{seed},{number},{tiles},1,9,{objects},5,{iou},{'' if arm == 'start' else 1},0.5"
        for arm, seed, number, tiles, objects, iou in rows
    ]
    path.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")


def test_the_page_shows_what_was_measured(tables):
    """Every line of every table stands in the page; no table of it is out of date."""
    page = (ROOT / "docs/evidence/selection.md").read_text(encoding="utf-8").splitlines()
    for title in tables.TABLES:
        start = page.index(f"## {title}")
        shown = [line for line in page[start + 1 :] if line.startswith("|")]
        expected = tables.table(title)
        assert len(expected) > 3
        assert shown[: len(expected)] == expected, f"run scripts/evidence_tables.py: {title}"
    start = page.index("## With twenty tiles a round")
    shown = [line for line in page[start + 1 :] if line.startswith("|")]
    assert shown[:5] == tables.larger()
    start = page.index("## Other starts, other scores")
    shown = [line for line in page[start + 1 :] if line.startswith("|")]
    assert shown[:8] == tables.variants()


def test_runs_on_one_set_count_together(tables, monkeypatch, tmp_path):
    """Seeds of a later run are added, each against the random of its own run."""
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    write(tmp_path / "nuclei.csv", [
        ("start", 0, 0, 2, 1, 0.2), ("random", 0, 1, 4, 3, 0.4), ("random-x2", 0, 1, 4, 3, 0.9),
        ("top", 0, 1, 4, 5, 0.6), ("power", 0, 1, 4, 5, 0.5), ("ceiling-x1", 0, 0, 9, 9, 0.9),
    ])  # fmt: skip
    write(tmp_path / "nuclei-8.csv", [
        ("start", 1, 0, 2, 1, 0.1), ("random", 1, 1, 4, 3, 0.7), ("power", 1, 1, 4, 3, 0.8),
    ])  # fmt: skip
    runs = tables.runs_of("nuclei")
    assert [list(run) for run in runs] == [["random", "top", "power"], ["random", "power"]]
    power, random = tables.paired(runs, "power")
    assert (power.iou - random.iou).round(6).tolist() == [[0, 0.1], [0, 0.1]]
    assert np.isnan(power.lift[:, 0]).all()
    top, random = tables.paired(runs, "top")
    assert (top.iou - random.iou).round(6).tolist() == [[0, 0.2]]
    monkeypatch.setattr(tables, "LARGER", ("nuclei",))
    assert [line.split(" | ")[:3] for line in tables.larger()[2:]] == [
        ["| nuclei", "`top`", "0.200, 0.400"],
        ["| nuclei", "`power`", "0.150, 0.550"],
    ]
    ends = tables.table("At the end, against random")
    assert ends == [
        "| strategy | nuclei |",
        "| --- | --: |",
        "| `top` | +0.200 |",
        "| `power` | +0.100 [+0.100, +0.100] |",
    ]
    assert tables.table("On the way, against random")[-1].endswith(", 2 of 2 |")
    assert tables.table("Objects, and the difference at equal objects")[2] == "| `random` | 3 |"


def test_a_measure_takes_the_runs_that_have_it(tables, monkeypatch, tmp_path):
    """By image: of those files alone that say it; the others count by pixels all the same."""
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    rows = [("start", 0, 0, 2, 1, 0.2), ("random", 0, 1, 4, 3, 0.4), ("power", 0, 1, 4, 5, 0.5)]
    write(tmp_path / "nuclei.csv", rows)
    write(tmp_path / "nuclei-more.csv", rows)
    text = (tmp_path / "nuclei-more.csv").read_text().splitlines()
    more = [f"{line},{end}" for line, end in zip(text, ["iou_by_image", 1, 0, 0.9], strict=True)]
    (tmp_path / "nuclei-more.csv").write_text("\n".join(more) + "\n", encoding="utf-8")
    assert len(tables.runs_of("nuclei")) == 2
    (only,) = tables.runs_of("nuclei", "iou_by_image")
    assert only["power"].iou.tolist() == [[1, 0.9]]
    assert tables.table("At the end, against random") == [
        "| strategy | nuclei | nuclei by image |",
        "| --- | --: | --: |",
        "| `power` | +0.100 [+0.100, +0.100] | +0.900 |",
    ]


def test_a_variant_is_held_against_the_same_seeds_and_rounds(tables, monkeypatch, tmp_path):
    """Whatever order the files are in, and however many rounds and seeds they have more."""
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    monkeypatch.setattr(tables, "VARIANTS", {"views": ("nuclei", "views", ("power",))})
    write(tmp_path / "nuclei-8.csv", [
        ("start", 8, 0, 2, 1, 0.1), ("power", 8, 1, 4, 3, 0.2), ("power", 8, 2, 6, 3, 0.9),
        ("start", 9, 0, 2, 1, 0.7), ("power", 9, 1, 4, 3, 0.7), ("power", 9, 2, 6, 3, 0.7),
        ("top", 8, 1, 4, 3, 0.2),  # which the other run has not played
    ])  # fmt: skip
    write(tmp_path / "nuclei-10.csv", [
        ("start", 10, 0, 2, 1, 0.3), ("power", 10, 1, 4, 3, 0.4),
    ])  # fmt: skip
    write(tmp_path / "views.csv", [
        ("start", 8, 0, 2, 1, 0.2), ("power", 8, 1, 4, 3, 0.3),
        ("start", 10, 0, 2, 1, 0.4), ("power", 10, 1, 4, 3, 0.5),
    ])  # fmt: skip
    for path in tmp_path.iterdir():  # by image the same, twice as good
        lines = path.read_text().splitlines()
        more = [
            f"{lines[0]},iou_by_image",
            *(f"{line},{2 * float(line.split(',')[8])}" for line in lines[1:]),
        ]
        path.write_text("\n".join(more) + "\n", encoding="utf-8")
    changed, plain = tables.against_plain("nuclei", "views", "power", "iou")
    assert (changed.iou - plain.iou).round(6).tolist() == [[0.1, 0.1], [0.1, 0.1]]
    (line,) = tables.variants()[2:]
    assert line.startswith(
        "| views | nuclei | `power` | 2 | 0.300, 0.400 | +0.100 [+0.100, +0.100] | "
    )
    assert line.endswith(" | +0.200 [+0.200, +0.200] | +0.200 [+0.200, +0.200] |")
