"""Predictions are kept as long as they are what the recipe asks for."""

import numpy as np
import pytest

from ml_backend.loop.context import silent
from ml_backend.loop.export import export
from ml_backend.loop.models import Models
from ml_backend.loop.predict import predictions_for


@pytest.fixture
def trained(house):
    """Give a house with a model."""
    house.fill(8)
    house.labelled_round()
    house.step("train")
    return house


def made(house):
    """What is predicted of the open tasks, by tile."""
    serving = Models(house.context).current(house.project)
    tasks = house.catalog.work.tasks(house.project_id, open_only=True)
    tiles = [house.catalog.pool.tile(task.tile_id) for task in tasks]
    return predictions_for(house.context, house.project, serving, tiles)


def test_a_changed_way_to_predict_makes_predictions_anew(trained):
    """Each key of `prediction` that decides what people see; others change nothing."""
    trained.step("select")
    first = made(trained)
    assert first
    assert made(trained) == first
    trained.recipe({"prediction.batch_size": 3, "scoring.views": 3})
    assert made(trained) == first
    for change in ({"prediction.minimum_area": 1000}, {"prediction.views": 4}):
        trained.recipe(change)
        changed = made(trained)
        assert all(changed[tile] != first[tile] for tile in first)
        assert made(trained) == changed
        first = changed


def test_the_step_shows_them_again(trained):
    """Tasks that show what was made otherwise are shown what is made today, once."""
    trained.step("select")
    assert trained.step("predict").numbers["shown"] == 0
    trained.recipe({"prediction.minimum_area": 3})
    count = trained.step("predict").numbers["shown"]
    assert count == len(trained.catalog.work.tasks(trained.project_id, open_only=True)) > 0
    assert trained.step("predict").numbers["shown"] == 0


def test_a_model_in_memory_predicts_as_the_recipe_says_today(trained):
    """A running backend takes up a changed recipe with the next request, and loads once for it."""
    models = Models(trained.context)
    one = models.current(trained.project)
    assert models.current(trained.project) is one
    trained.recipe({"prediction.views": 8})
    other = models.current(trained.project)
    assert models.current(trained.project) is other
    image = trained.context.whole(trained.catalog.pool.images(trained.project_id)[0])
    assert np.abs(one.predictor.probs(image) - other.predictor.probs(image)).max() > 1e-4
    assert one.key != other.key


def test_an_export_follows_the_recipe(trained):
    """What changed since the last export are also images that are predicted otherwise now."""
    options = {"source": "model", "formats": ("png",), "progress": silent}
    folder = trained.folder / "out"
    assert export(trained.context, trained.project_id, folder, **options).images == 8
    again = {"changed_since": "last", **options}
    assert export(trained.context, trained.project_id, folder, **again).images == 0
    trained.recipe({"prediction.minimum_area": 3})
    assert export(trained.context, trained.project_id, folder, **again).images == 0
    trained.recipe({"prediction.overlap": 4})
    assert export(trained.context, trained.project_id, folder, **again).images == 8
