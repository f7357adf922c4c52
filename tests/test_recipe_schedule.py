"""Settings that change with the rounds: exactly as said, and never to what cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.errors import ConfigError
from ml_backend.recipe import Recipe, parse_recipe


def scheduled(path, **data):
    """A recipe in which one setting changes."""
    return parse_recipe({"schedule": {path: data}})


def over(recipe, name, rounds):
    """The setting's values."""
    return [getattr(recipe.at_round(number).training, name) for number in rounds]


def test_it_begins_and_ends_where_it_is_said():
    """From round 3 on, and up to most; the other settings stay."""
    recipe = scheduled("training.epochs", **{"from": 3, "step": 2, "most": 11})
    assert over(recipe, "epochs", range(7)) == [6, 6, 6, 8, 10, 11, 11]
    grown = recipe.at_round(5)
    assert grown.training.model_copy(update={"epochs": 6}) == Recipe().training
    assert grown.model_copy(update={"training": Recipe().training}) == Recipe()
    assert Recipe().at_round(9) == Recipe()


def test_settings_may_shrink():
    """Down to least; a base beyond the end stays where it is."""
    recipe = scheduled("training.learning_rate", **{"from": 1, "step": -4e-4, "least": 1e-4})
    assert over(recipe, "learning_rate", range(4)) == pytest.approx([1e-3, 6e-4, 2e-4, 1e-4])
    assert over(scheduled("training.epochs", **{"from": 1, "step": 2, "most": 3}),
                "epochs", range(3)) == [6, 6, 6]  # fmt: skip


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({}, [192, 192, 224, 224, 256, 256]),
        ({"fold": 1, "depth": 3}, [192, 192, 224, 224, 256, 256]),
        ({"depth": 5}, [192, 192, 192, 192, 256, 256]),
        ({"architecture": "FPN"}, [192, 192, 192, 192, 256, 256]),
    ],
)
def test_patches_stay_what_the_network_can_take(network, expected):
    """Sixteen pixels a round are whole steps of the network's stride every few rounds."""
    recipe = parse_recipe(
        {"network": network, "schedule": {"training.patch": {"from": 1, "step": 16, "most": 256}}}
    )
    assert over(recipe, "patch", range(6)) == expected
    assert all(patch % recipe.network.stride == 0 for patch in expected)


def test_whole_numbers_stay_whole():
    """Half a patch more a round is a patch more every second one."""
    recipe = scheduled("training.batch_size", **{"from": 1, "step": 0.5})
    values = over(recipe, "batch_size", range(5))
    assert values == [8, 8, 9, 9, 10]
    assert all(isinstance(value, int) for value in values)


@pytest.mark.parametrize(
    ("path", "data", "message"),
    [
        ("training.warm_start", {"from": 1, "step": 1}, "warm_start is no number"),
        ("training.loss", {"from": 1, "step": 1}, "such are: training.steps, training.epochs"),
        ("training.nothing", {"from": 1, "step": 1}, r"nothing is no number"),
        ("selection.batch", {"from": 1, "step": 1}, r"selection\.batch is no number of the train"),
        ("epochs", {"from": 1, "step": 1}, "epochs is no number of the training"),
        ("training.foreground_share", {"from": 1, "step": 0.1}, "less than or equal to 1; say"),
        ("training.learning_rate", {"from": 1, "step": -1e-5}, "learning_rate would become -"),
        ("training.steps", {"from": 1, "step": -10}, "steps would become"),
        ("training.average", {"from": 1, "step": 0.1, "most": 1}, "less than 1"),
        ("training.steps", {"from": 0, "step": 1}, r"schedule\.training\.steps\.from"),
        ("training.steps", {"step": 1}, r"from: Field required"),
        ("training.steps", {"from": 1, "step": "much"}, r"training\.steps\.step"),
        ("training.steps", {"from": 1, "step": 1, "max": 3}, r"training\.steps\.max"),
    ],
)
def test_what_cannot_be_is_refused_at_once(path, data, message):
    """Strange settings and ends that a setting cannot have, however many rounds away."""
    with pytest.raises(ConfigError, match=message):
        scheduled(path, **data)


@given(
    number=st.integers(1, 100),
    step=st.integers(1, 50),
    most=st.none() | st.integers(1, 5000),
    at=st.integers(0, 200),
)
def test_a_schedule_survives_the_catalog(number, step, most, at):
    """Written as JSON without defaults, as the catalog does, and read back: the same rounds."""
    recipe = scheduled("training.steps", **{"from": number, "step": step, "most": most})
    again = parse_recipe(recipe.model_dump(mode="json", exclude_defaults=True))
    assert again == recipe
    assert again.at_round(at) == recipe.at_round(at)
    assert again.at_round(at).training.steps <= again.at_round(at + 1).training.steps
