"""`brushloop tune`: from a folder to a recipe file."""

from pathlib import Path

import pytest
import yaml
from PIL import Image as Picture
from support.commands import complaint, run
from support.house import TINY, save_picture

from ml_backend.recipe import load_recipe


@pytest.fixture
def scans(tmp_path):
    """Give the words that name a folder of images, masks and a tiny recipe."""
    (tmp_path / "masks").mkdir()
    for number in range(4):
        mask = save_picture(tmp_path / "scans" / f"{number}.png", number)
        Picture.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    return "scans", "--masks", "masks", "--recipe", "tiny.yaml"


def test_tune_writes_the_best_recipe(scans, monkeypatch, tmp_path):
    """Table, score and file; a second call only prints them again; `--over` is heard."""
    monkeypatch.setenv("BRUSHLOOP_HOME", str(tmp_path / "home"))
    words = ("tune", *scans, "--trials", "2", "--over", "training.batch_size=2")
    output = run(*words)
    assert "2 trials, 0 cut short, 0 failed" in output
    assert "learning_rate" in output
    assert "tuned.yaml" in output.splitlines()[-1]
    recipe = load_recipe(Path("tuned.yaml"))
    assert recipe.training.batch_size == 2
    assert recipe.training.steps == TINY["training"]["steps"]
    assert run(*words, "--out", "again.yaml").splitlines()[:-1] == output.splitlines()[:-1]
    assert load_recipe(Path("again.yaml")) == recipe


def test_tune_instances_of_a_folder_and_of_a_project(scans, house):
    """A recipe with objects switched on and the quality in its head; no model is said."""
    output = run("tune", *scans, "--instances", "--out", "cut.yaml")
    assert output.strip().splitlines()[-1].startswith("PQ ")
    recipe = load_recipe(Path("cut.yaml"))
    assert recipe.instances.enabled
    assert not recipe.instances.tune
    assert recipe.training.steps == TINY["training"]["steps"]
    assert "# PQ 0." in Path("cut.yaml").read_text()
    house.fill(8)
    assert "run `brushloop train` first" in complaint("tune", "--instances")
    house.labelled_round()
    house.step("train")
    assert "objects of the validation images: own.yaml" in run(
        "tune", "--instances", "--out", "own.yaml"
    )
    assert "goes without --over" in complaint("tune", "--instances", "--grid")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("scans",), "--masks"),
        (("scans", "--masks", "masks", "--over", "training.batch_size"), "write KEY=VALUES"),
        (("scans", "--masks", "masks", "--over", "training.depth=3"), "no such key"),
        (("scans", "--masks", "scans/none"), "none"),
        ((), "there are: none yet"),
    ],
)
def test_mistakes_are_answered_in_one_line(scans, words, expected):  # noqa: ARG001
    """What is missing, misspelt or not there."""
    assert expected in complaint("tune", *words)
