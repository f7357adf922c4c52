"""`brushloop simulate`: from two folders to a report, by workers and in this process."""

from pathlib import Path

import pytest
import yaml
from support.commands import complaint, run
from support.simulation import QUICK, make_folders


@pytest.fixture
def words(tmp_path):
    """Give the words that name images, masks and a recipe of seconds."""
    make_folders(tmp_path, 4)
    Path("quick.yaml").write_text(yaml.safe_dump(QUICK))
    base = "simulate --images images --masks masks --recipe quick.yaml --seeds 1 --longer 1"
    return tuple(base.split())


def test_workers_begin_and_this_process_carries_on(words):
    """Redis and two workers come and go; more rounds add to the folder; nothing else changes."""
    output = run(*words, "--strategies", "top", "--rounds", "1", "--jobs", "2")
    assert "paired" in output
    assert [line.split(":")[0] for line in output.strip().splitlines()][-3:] == [
        "random",
        "top",
        "report",
    ]
    out = Path("simulation")
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        "curves.csv", "curves.png", "report.md", "simulation.json", "tiles.csv"
    }  # fmt: skip
    assert not (out / ".work" / "redis" / "redis.sock").exists()
    assert "BRUSHLOOP" not in (out / "simulation.json").read_text()
    before = {path: path.read_bytes() for path in out.rglob("units/**/*.json")}
    assert len(before) == 4
    run(*words, "--strategies", "top", "--rounds", "2", "--jobs", "1")
    assert all(path.read_bytes() == data for path, data in before.items())
    assert len((out / "curves.csv").read_text().splitlines()) == 1 + 6
    heading = "IoU is the mean of those images' own"
    assert heading not in (out / "report.md").read_text()
    run(*words, "--strategies", "top", "--rounds", "2", "--judge-by", "images")
    assert heading in (out / "report.md").read_text()
    assert "other recipe.selection.first" in complaint(*words, "--first", "clusters")
    assert "other recipe.training.steps" in complaint(*words, "--rounds", "2", "--steps", "3")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--strategies", "random,best"), "unknown selection strategy 'best'; choose one of:"),
        (("--test", "first"), "source.test_part"),
        (("--first", "best"), "selection.first"),
        (("--judge-by", "feeling"), "judged_by"),
        (("--masks", "none"), "none"),
        (("--label", "a", "--label", "b"), "0.png"),
        (("--start", "20"), "the pool has"),
    ],
)
def test_mistakes_are_answered_in_one_line(words, more, expected):
    """What is misspelt, missing, or too much for the pool."""
    assert expected in complaint(*words, *more)
