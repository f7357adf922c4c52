"""What may be tuned: read from text, refused with its key, put into recipes."""

import pytest

from ml_backend.errors import ConfigError
from ml_backend.learning.space import (
    Choices,
    Range,
    combinations,
    contains,
    keys_of,
    parse_space,
    with_values,
)
from ml_backend.recipe import Recipe


@pytest.mark.parametrize(
    ("key", "text", "values"),
    [
        ("training.learning_rate", "1e-4..1e-2:log", Range(1e-4, 1e-2, log=True, whole=False)),
        ("network.dropout", "0..0.5", Range(0, 0.5, log=False, whole=False)),
        ("training.steps", "100..400", Range(100, 400, log=False, whole=True)),
        ("training.batch_size", "4, 8,16", Choices((4, 8, 16))),
        ("training.loss", "dice,dice_bce", Choices(("dice", "dice_bce"))),
        ("training.warm_start", "true,False", Choices((True, False))),
        ("network.encoder_weights", "null,imagenet", Choices((None, "imagenet"))),
        ("training.seed", "3", Choices((3,))),
    ],
)
def test_values_are_read(key, text, values):
    """Lists, ranges, whole and logarithmic ones, words, numbers, true, false and null."""
    assert parse_space({key: text}, Recipe()) == {key: values}


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("training.depth", "3,4", r"no such key.*network\.depth.*training\.seed"),
        ("selection.batch", "3,4", "no such key"),
        ("training.learning_rate", "1e-2..1e-4", "smaller one first"),
        ("training.learning_rate", "low..high", "two numbers"),
        ("training.learning_rate", "0..1:log", "above 0"),
        ("training.learning_rate", "1e-4..1e-2:exp", ":log"),
        ("training.batch_size", "4,,8", "missing or said twice"),
        ("training.batch_size", "4,4", "missing or said twice"),
        ("training.batch_size", "", "missing"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(key, text, words):
    """Unknown keys list the known ones; bad values are repeated."""
    with pytest.raises(ConfigError, match=f"--over {key}.*{words}"):
        parse_space({key: text}, Recipe())


def test_nothing_to_tune_is_said():
    """An empty space is no question."""
    with pytest.raises(ConfigError, match="nothing to tune"):
        parse_space({}, Recipe())


def test_the_recipes_own_space_and_grid_are_valid():
    """The defaults parse; the grid has 2 architectures of 12 settings, all of them recipes."""
    recipe = Recipe()
    space = parse_space(recipe.tuning.over, recipe)
    assert contains(space, keys_of(recipe))
    grid = list(combinations(parse_space(recipe.tuning.grid, recipe)))
    assert len(grid) == 2 * 12
    assert len({str(row) for row in grid}) == len(grid)
    assert sum(row["network.architecture"] == "Unet" for row in grid) == 12
    for row in grid:
        changed = with_values(recipe, row)
        assert {key: keys_of(changed)[key] for key in row} == row


def test_a_grid_has_no_ranges():
    """Ranges have no end; the error shows a list."""
    space = parse_space({"network.dropout": "0.1..0.5"}, Recipe())
    with pytest.raises(ConfigError, match=r"--over network\.dropout.*list"):
        list(combinations(space))


def test_values_outside_are_not_contained():
    """Both kinds, and null in a range."""
    space = parse_space({"training.steps": "10..20", "training.batch_size": "4,8"}, Recipe())
    assert contains(space, {"training.steps": 10, "training.batch_size": 8})
    assert not contains(space, {"training.steps": 21, "training.batch_size": 8})
    assert not contains(space, {"training.steps": 10, "training.batch_size": 5})
    assert not contains(space, {"training.steps": None, "training.batch_size": 8})


def test_the_recipe_has_its_word_about_values():
    """A value that it refuses is an error with the key's path; null can be said."""
    with pytest.raises(ConfigError, match=r"training\.batch_size"):
        with_values(Recipe(), {"training.batch_size": 0})
    recipe = Recipe().changed({"network.encoder_weights": "imagenet"})
    assert with_values(recipe, {"network.encoder_weights": None}).network.encoder_weights is None
