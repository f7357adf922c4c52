"""The recipe: defaults for everything, and every mistake named by its path."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_backend.errors import ConfigError
from ml_backend.recipe import Recipe, load_recipe, parse_recipe
from ml_backend.selection.uncertainty import Passes, score_image


def test_an_empty_file_is_the_default(tmp_path: Path):
    """Nothing said means nothing changed."""
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_recipe(path) == parse_recipe({}) == Recipe()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"trainig": {}}, "trainig"),
        ({"training": {"stepz": 3}}, "training.stepz"),
        ({"training": {"patch": 100}}, "training.patch"),
        ({"training": {"steps": 0}}, "training.steps"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate"),
        ({"validation": {"share": 0}}, "validation.share"),
        ({"validation": {"share": 1}}, "validation.share"),
        ({"prediction": {"window": 64, "overlap": 64}}, "prediction"),
        ({"selection": {"variant": "other"}}, "selection.variant"),
        ({"pool": {"tile": 8}}, "pool.tile"),
        ({"network": {"depth": 6}}, "network.depth"),
        ({"scoring": {"passes": "mc"}}, "scoring.passes"),
        ({"scoring": {"weights": {"cell": -1}}}, "scoring.weights.cell"),
        ({"scoring": {"top_share": 0}}, "scoring.top_share"),
        ({"scoring": {"passes": "mc_dropout"}}, "the whole"),
        ({"selection": {"beta": 0}}, "selection.beta.*"),
        ({"selection": {"beta": [1]}}, "selection.beta.*"),
        ({"selection": {"per_image": 0}}, "selection.per_image"),
        (["a list"], "the whole"),
        ("text", "the whole"),
    ],
)
def test_mistakes_are_named_by_their_path(data: object, path: str):
    """Unknown keys, wrong types, wrong ranges and impossible combinations."""
    with pytest.raises(ConfigError, match=rf"here: .*{path}: "):
        parse_recipe(data, where="here")


def test_all_mistakes_are_told_at_once():
    """Two mistakes are two entries of one message."""
    with pytest.raises(ConfigError, match=r"training\.steps.*pool\.tile"):
        parse_recipe({"training": {"steps": -1}, "pool": {"tile": 1}})


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    """A missing file, a folder, and what is no YAML."""
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="directory"):
        load_recipe(tmp_path)
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not YAML"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\xff")
    with pytest.raises(ConfigError, match=r"latin\.yaml"):
        load_recipe(tmp_path / "latin.yaml")


def test_changes_by_path_are_checked_too():
    """`changed` replaces what is given, leaves what is None, and refuses what cannot be."""
    recipe = Recipe().changed({"pool.tile": 256, "selection.batch": None})
    assert (recipe.pool.tile, recipe.selection.batch) == (256, Recipe().selection.batch)
    assert Recipe().pool.tile is None
    with pytest.raises(ConfigError, match=r"selection\.batch"):
        Recipe().changed({"selection.batch": 0})


def test_a_recipe_is_frozen():
    """Nobody changes a recipe that others hold."""
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().training.steps = 3


@given(
    steps=st.integers(1, 10**6),
    tile=st.none() | st.integers(32, 4096),
    share=st.floats(0.01, 0.99),
    warm=st.booleans(),
)
def test_recipes_survive_the_catalog(steps: int, tile: int | None, share: float, warm: bool):
    """Written as JSON without defaults, as the catalog does, and read back: the same."""
    recipe = parse_recipe(
        {
            "training": {"steps": steps, "warm_start": warm},
            "pool": {"tile": tile},
            "validation": {"share": share},
        }
    )
    assert parse_recipe(recipe.model_dump(mode="json", exclude_defaults=True)) == recipe


def test_mc_dropout_wants_dropout():
    """Passes by dropout and a network without it are refused with both keys named."""
    with pytest.raises(ConfigError, match=r"scoring\.passes: mc_dropout.*network\.dropout"):
        parse_recipe({"scoring": {"passes": "mc_dropout"}})
    recipe = parse_recipe({"scoring": {"passes": "mc_dropout"}, "network": {"dropout": 0.2}})
    assert recipe.scoring.key.startswith("mc_dropout-10-")


@pytest.mark.parametrize("score", ["bald", "jsd", "variance"])
def test_scores_that_compare_passes_want_several(score: str):
    """With a single pass they are 0, and batches would be random: both keys are named."""
    with pytest.raises(ConfigError, match=rf"scoring: .*score {score} .*set passes to tta"):
        parse_recipe({"scoring": {"score": score}})
    scoring = parse_recipe({"scoring": {"score": score, "passes": "tta"}}).scoring
    passes = Passes(np.array([[[[0.9]], [[0.1]]]]), None, scoring.top_share)
    assert score_image(passes)[f"{score}:mean"] == 0
    assert score_image(passes)["entropy:mean"] > 0


def test_scores_are_kept_apart_where_their_numbers_differ():
    """The key changes with what changes the numbers, and with nothing else."""

    def key(**keys: object) -> str:
        return parse_recipe({"scoring": {"passes": "tta"} | keys}).scoring.key

    same = [{"score": "bald"}, {"reduction": "top"}, {"samples": 4}, {"weights": {}}]
    others = [{"views": 5}, {"passes": "single"}, {"weights": {"a": 2}}, {"top_share": 0.2}]
    assert {key(**keys) for keys in same} == {key()}
    keys = {key(**keys) for keys in others} | {key()}
    assert len(keys) == 5
    assert max(map(len, keys)) <= 40


def test_a_pair_of_betas_survives_the_catalog():
    """A recipe written down as JSON comes back as it was."""
    recipe = parse_recipe({"selection": {"beta": [1, 50]}})
    assert recipe.selection.beta == (1, 50)
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe
