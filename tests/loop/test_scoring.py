"""Scores of the pool: carried on where they stopped, never mixed, enough for every strategy."""

import numpy as np
import pytest

from ml_backend.errors import ConfigError
from ml_backend.loop import score as score_module
from ml_backend.selection.strategies import STRATEGIES


@pytest.fixture
def trained(house):
    """Give a house with a model after its first round, and a second batch pushed."""
    house.fill(20)
    house.labelled_round()
    house.step("train")
    house.step("select")
    return house


def test_scoring_carries_on_where_it_stopped(trained, monkeypatch):
    """A crash costs a chunk at most; validation and asked tiles are never scored."""
    version = trained.promote_copy()
    monkeypatch.setattr(score_module, "CHUNK", 2)
    look_at = score_module.look_at
    seen = []

    def counted(*given):
        for tile, look in look_at(*given):
            seen.append(tile.id)
            if len(seen) == 4:
                raise MemoryError
            yield tile, look

    monkeypatch.setattr(score_module, "look_at", counted)
    with pytest.raises(MemoryError):
        trained.step("score")
    key = trained.project.recipe.scoring.key
    assert len(trained.catalog.rounds.scores(trained.project_id, version, key)) == 2
    trained.step("score")
    rows = trained.catalog.rounds.scores(trained.project_id, version, key)
    train = {
        tile.id
        for tile in trained.catalog.pool.unasked(trained.project_id)
        if tile.image.split == "train"
    }
    assert set(rows) == train
    assert len(seen) == 4 + len(train) - 2
    assert all(np.isfinite(list(row.values())).all() for row in rows.values())
    assert set(trained.catalog.rounds.embeddings(trained.project_id, version)) == train
    assert trained.step("score").numbers["scored"] == 0


def test_a_changed_way_of_scoring_scores_again(trained):
    """Numbers made in another way are never mixed with the old ones; going back costs nothing."""
    trained.step("score")
    trained.recipe({"scoring.views": 3})
    count = trained.step("score").numbers["scored"]
    assert count > 0
    trained.recipe({"scoring.reduction": "top"})
    assert trained.step("score").numbers["scored"] == 0
    trained.recipe({"scoring.weights": {"cell": 2, "background": 0}})
    assert trained.step("score").numbers["scored"] == count
    trained.recipe({"scoring.weights": {"nucleus": 2}})
    with pytest.raises(ConfigError, match=r"\['nucleus'\].*its labels are cell"):
        trained.step("score")
    trained.recipe({"scoring.weights": {"cell": 0, "background": 0}})
    with pytest.raises(ConfigError, match="all weights are 0"):
        trained.step("score")
    trained.recipe({"scoring.views": 2, "scoring.weights": {}})
    assert trained.step("score").numbers["scored"] == 0


def test_dropout_scores_the_pool(house):
    """With dropout in the network its passes disagree; a model without is named as the cause."""
    house.recipe({"network.dropout": 0.3, "scoring.passes": "mc_dropout", "scoring.score": "bald"})
    house.fill(16)
    house.labelled_round()
    house.step("train")
    assert house.step("select").numbers["pushed"] == 4
    record = house.catalog.rounds.all(house.project_id)[-1]
    assert all(item.score > 0 for item in record.chosen if item.why == "strategy")


def test_a_model_trained_without_dropout_is_not_sampled(trained):
    """Passes by dropout wait for a model that has it, and the message says what to do."""
    trained.recipe({"network.dropout": 0.3, "scoring.passes": "mc_dropout"})
    with pytest.raises(ConfigError, match=r"trained without: set network\.dropout"):
        trained.step("score")


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_chooses_in_the_house(trained, name):
    """With what scoring leaves in the catalog each strategy has all that it needs."""
    trained.answer_open()
    trained.step("sync")
    trained.recipe({"selection.strategy": name, "selection.per_image": 1})
    assert trained.step("select").numbers["pushed"] == 4
    record = trained.catalog.rounds.all(trained.project_id)[-1]
    assert record.strategy == name
    tiles = [row["data"]["tile"] for row in trained.studio.tasks.values()]
    assert len(set(tiles)) == len(tiles) == 12


def test_core_set_knows_what_was_asked(trained):
    """What was asked about is looked at by the current model too, once."""
    trained.recipe({"selection.strategy": "core_set"})
    version = trained.promote_copy()
    trained.answer_open()
    trained.step("sync")
    asked = {tile.id for tile in trained.catalog.pool.asked(trained.project_id)}
    trained.step("select")
    assert asked <= set(trained.catalog.rounds.embeddings(trained.project_id, version))
