"""The benchmark of learning compares like with like, and says what it says it says."""

import importlib
import json
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from ml_backend.recipe import parse_recipe

SCRIPTS = Path(__file__).parents[2] / "scripts"
RECIPE = """
network: {depth: 3, decoder_width: 8, fold: 2}
training: {steps: 4, epochs: 2, patch: 32, batch_size: 2}
prediction: {window: 64, overlap: 16}
"""


@pytest.fixture
def learn(monkeypatch: pytest.MonkeyPatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("benchmark_learn")


@pytest.fixture
def data(learn):  # noqa: ARG001  for its path
    """What the script learns from."""
    return importlib.import_module("benchmark_learn_data")


@pytest.fixture
def folders(tmp_path: Path, draw) -> list[str]:
    """Nine images of two labels, and the options that name them."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(9):
        image, mask = draw(number, side=40, classes=2)
        for kind, plane in (("images", image), ("masks", mask)):
            cv2.imwrite(str(tmp_path / kind / f"{number}.png"), plane)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    given = {"--images": "images", "--masks": "masks", "--recipe": "recipe.yaml", "--out": "out"}
    options = [part for name, file in given.items() for part in (name, str(tmp_path / file))]
    return [*options, "--label", "small", "large", "--seeds", "2"]


def run(options, monkeypatch, capsys):
    """Rows that the command prints."""
    benchmark = importlib.import_module("benchmark")
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "learn", "--json", *options])
    benchmark.main()
    return json.loads(capsys.readouterr().out)


def test_rows_have_the_promised_form(learn, folders, tmp_path, monkeypatch, capsys):
    """A row a case with means, deviations and times; figures in hand are not measured again."""
    [row] = run(folders, monkeypatch, capsys)
    first = ["case", "ours", "other", "ratio", "unit", "target", "holds"]
    assert list(row)[:7] == first
    assert (row["case"], row["unit"], row["target"], row["seeds"]) == ("images", "IoU", 1, 2)
    assert row["holds"] == (row["ours"] > row["other"])
    scores = learn.read_scores(tmp_path / "out")
    assert [(s.seed, s.side) for s in scores] == [(n, s) for n in (0, 1) for s in ("ours", "other")]
    for ours, other in zip(scores[::2], scores[1::2], strict=True):
        assert other.cpu_seconds >= ours.cpu_seconds > 0
        assert other.steps >= 1
    own = [score.iou for score in scores if score.side == "ours"]
    assert row["ours"] == pytest.approx(np.mean(own), abs=1e-3)
    assert row["ours_sd"] == pytest.approx(np.std(own, ddof=1), abs=1e-3)
    for name in ("learn.png", "images.png"):
        assert cv2.imread(str(tmp_path / "out" / name)).size
    before = (tmp_path / "out/learn.csv").read_bytes()
    assert run(folders, monkeypatch, capsys) == [row]
    assert (tmp_path / "out/learn.csv").read_bytes() == before


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize(("count", "test", "val"), [(18, 4, 4), (12, 3, 2), (15, 3, 0)])
def test_sides_are_disjoint_and_seeds_hold_out_others(data, count, test, val, stack):
    """No image is on two sides; three seeds hold out different images; a stack's are neighbours."""
    case = data.Case("any", Path(), Path(), stack=stack, test=test, val=val)
    held = []
    for seed in range(3):
        sides = data.split(count, case, seed)
        assert sorted(index for side in sides for index in side) == list(range(count))
        assert [len(side) for side in sides[1:]] == [val, test]
        held += sides[2]
        if stack:
            assert all((b - a) % count == 1 for a, b in pairwise(sides[2]))
        if stack and val:
            assert {(sides[2][0] - 1) % count, (sides[2][-1] + 1) % count} <= set(sides[1])
    assert len(set(held)) == 3 * test


def test_tiles_show_every_label_and_come_from_many_images(data, tmp_path):
    """A dozen tiles of large images: from as many as possible, and all labels among them."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(8):
        mask = np.zeros((128, 128), np.uint8)
        mask[:64] = 1
        mask[100:110, 100 : 110 + number] = 2
        for kind in ("images", "masks"):
            cv2.imwrite(str(tmp_path / kind / f"{number}.png"), mask)
    places = tmp_path / "images", tmp_path / "masks"
    case = data.Case("two", *places, ("a", "b"), tile=64, test=2, val=2, crop=100)
    material = data.material_of(case, 0)
    assert [len(side) for side in material] == [12, 4, 2]
    assert len({sample.name.split()[0] for sample in material.train}) == 4
    for sample in material.train:
        image, mask = sample.load()
        assert image.shape == (64, 64, 3)
        assert (image[..., 0] == mask).all()
    assert {int(label) for s in material.train for label in np.unique(s.load()[1])} == {0, 1, 2}
    assert {sample.load()[1].shape for sample in material.test} == {(100, 100)}


@pytest.mark.parametrize("classes", [1, 2])
def test_sides_do_without_validation_and_with_small_images(learn, data, draw, classes):  # noqa: ARG001
    """Images smaller than a patch, none to validate by: both sides answer for every pixel."""
    sides = importlib.import_module("benchmark_learn_sides")
    pair = draw(0, side=40, classes=classes)
    samples = [data.Sample("a", lambda: (pair[0][:30], pair[1][:30]))]
    recipe = parse_recipe(yaml.safe_load(RECIPE)).changed({"training.patch": 64})
    material = data.Material(samples, [], samples)
    ours = sides.product(material, ["a", "b"][:classes], recipe)
    other = sides.plain(material, classes, recipe, 0.01)
    for learned in (ours, other):
        assert [one.shape for one in learned.maps] == [(30, 40)]
        counts = sides.count_pixels(learned.maps, samples, classes)
        assert counts.counts.sum() == 30 * 40
    assert (ours.steps, other.steps) == (4, 1)


def test_drawn_pictures_stand_in(learn, data, monkeypatch, tmp_path, capsys):
    """Without ../shared the package's own pictures are learned from, and that is said."""
    monkeypatch.setattr(learn, "real_cases", list)
    monkeypatch.setattr(data, "DRAWN", 3)
    [case] = learn.chosen([], tmp_path)
    assert case.name == "drawn plankton"
    assert len(case.files) == 3
    assert "drawn by the package" in capsys.readouterr().err


def test_a_table_shows_what_people_compare(learn, capsys):  # noqa: ARG001
    """Means with their deviation, and yes or no; the other fields are left to JSON."""
    benchmark = importlib.import_module("benchmark")
    plain = benchmark.row("plain", 2.0, 1.0, 2.0, "ms", 1, holds=True)
    benchmark.print_table([plain, plain | {"ours_sd": 0.1, "other_sd": None, "seeds": 77}])
    text = capsys.readouterr().out
    assert "2.0 ± 0.1" in text
    assert "yes" in text
    assert "77" not in text
    assert "None" not in text


def test_verdicts_count_cases_and_weigh_the_worst(learn):
    """Better in five of six holds; a loss counts by the smaller deviation of the two sides."""
    fields = ("case", "ours", "other", "ratio", "unit", "target", "holds")
    rows = [
        dict(zip(fields, (str(n), 0.8, 0.7, 1.14, "IoU", 1, True), strict=True))
        | {"ours_sd": 0.02, "other_sd": 0.01, "seeds": 3}
        for n in range(5)
    ]
    worse = rows[0] | {"case": "worst", "ours": 0.69, "other": 0.7, "holds": False}
    count, gap = learn.verdicts([*rows, worse | {"ours_sd": 0.02, "other_sd": 0.02}])
    assert (count["ours"], count["target"], count["holds"]) == (5, 5, True)
    assert (gap["ratio"], gap["holds"]) == (-0.5, True)
    assert "worst" in gap["case"]
    count, gap = learn.verdicts([*rows[:4], worse, worse | {"other_sd": 0.005}])
    assert (count["holds"], gap["holds"]) == (False, False)
    assert list(count) == list(gap) == list(rows[0])
