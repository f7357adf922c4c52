"""Siblings of a model: trained and published with it or not at all, and asked beside it."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from ml_backend.errors import ConfigError, ModelFileError, NothingToLearn
from ml_backend.learning import training
from ml_backend.loop import ensemble
from ml_backend.loop.models import Models
from ml_backend.store.weights import list_models, model_key, read_card

ENSEMBLE = {"scoring.passes": "ensemble", "scoring.members": 3, "scoring.score": "bald"}


@pytest.fixture
def asked(house):
    """Give a house whose first batch is answered, and whose recipe wants three models."""
    house.recipe(ENSEMBLE)
    house.fill(20)
    house.labelled_round()
    return house


def files(house, version):
    """What is published of a version, and what its training left behind."""
    home = house.context.settings.home
    published = home / "models" / str(house.project_id) / version
    left = home / "runs"
    return sorted(path.name for path in published.glob("*")), sorted(left.glob("*.safetensors"))


def test_siblings_are_published_with_their_model(asked):
    """The card lists them, the pool is scored by all, and by none whose file has changed."""
    asked.step("train")
    version = f"p{asked.project_id}-v1"
    card = read_card(asked.context.blobs, model_key(asked.project_id, version))
    assert [seal["seed"] for seal in card["ensemble"]] == [ensemble.STRIDE, 2 * ensemble.STRIDE]
    names = ["card.json", "sibling-1.safetensors", "sibling-2.safetensors", "weights.safetensors"]
    assert files(asked, version) == (names, [])
    place = asked.context.settings.home / "models" / str(asked.project_id) / version / names[2]
    whole = place.read_bytes()
    place.write_bytes(b"other")
    with pytest.raises(ModelFileError, match=r"sibling-2\.safetensors.*is damaged"):
        asked.step("score")
    place.write_bytes(whole)
    assert asked.step("select").numbers["pushed"] == 4
    record = asked.catalog.rounds.all(asked.project_id)[-1]
    assert all(item.score > 0 for item in record.chosen if item.why == "strategy")
    serving = Models(asked.context).current(asked.project)
    ensemble.join_siblings(asked.context, asked.project, serving)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    answers = [one.probs(image) for one in (serving.predictor, *serving.predictor.siblings)]
    assert len({answer.tobytes() for answer in answers}) == 3
    parent = asked.catalog.models.current(asked.project_id)
    start = ensemble._initial(asked.context, asked.project, parent, 1)
    own = load_file(place.with_name(names[1]))
    assert all(np.array_equal(start[name], own[name]) for name in start)
    assert "nothing new" in asked.step("train").summary
    asked.recipe({"scoring.members": 2})
    with pytest.raises(ConfigError, match=r"asks 2 models.*has 2 siblings.*brushloop train"):
        asked.step("score")


def test_a_training_killed_between_siblings_carries_on(asked, monkeypatch):
    """No version is published before all are there; what was trained is not trained again."""
    fit, fitted = training.train, []

    def killed(*given, **options):
        fitted.append(options["recipe"].training.seed)
        done = fit(*given, **options)
        if len(fitted) == 2:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(training, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        asked.step("train")
    assert list_models(asked.context.blobs) == []
    epochs = []

    def counted(*given, **options):
        say = options["on_epoch"]
        options["on_epoch"] = lambda record: (epochs.append(record.epoch), say(record))
        return fit(*given, **options)

    monkeypatch.setattr(training, "train", counted)
    asked.step("train")
    assert len(epochs) == 2  # those of the last sibling alone
    assert len(list_models(asked.context.blobs)) == 1
    assert files(asked, f"p{asked.project_id}-v1")[1] == []


def test_without_the_recipe_there_are_no_siblings(house):
    """They are trained only when asked for, and a model without them says what to do."""
    house.fill(12)
    house.labelled_round()
    house.step("train")
    version = f"p{house.project_id}-v1"
    assert files(house, version)[0] == ["card.json", "weights.safetensors"]
    house.recipe(ENSEMBLE)
    with pytest.raises(ConfigError, match=r"has none beside it: `brushloop train`"):
        house.step("score")
    house.step("train")
    assert len(files(house, f"p{house.project_id}-v2")[0]) == 4


def test_tiles_are_drawn_until_some_hold_a_label():
    """Half of the draws in vain are no matter; where all are, all tiles are learned from."""
    tried = []

    def train_on(tiles, useful):
        tried.append(tuple(tiles))
        if not useful(tiles):
            raise NothingToLearn("empty")
        return "trained"

    tiles = tuple(range(6))
    found = ensemble.on_a_draw(tiles, 5, lambda drawn: train_on(drawn, lambda some: 3 in some))
    assert found == "trained"
    assert all(len(drawn) == 6 for drawn in tried)
    assert len(set(tried[-1])) < 6  # with replacement
    tried.clear()
    ensemble.on_a_draw(tiles, 5, lambda drawn: train_on(drawn, lambda some: some == tiles))
    assert len(tried) == ensemble.DRAWS + 1
    assert len(set(tried[:-1])) == ensemble.DRAWS
