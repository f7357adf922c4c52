"""What a recipe says about learning reaches the training, with what the project knows."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Picture
from pydantic import SecretStr
from support.house import picture, save_picture

from ml_backend.errors import ConfigError
from ml_backend.learning import training
from ml_backend.loop.connect import connect
from ml_backend.loop.dataset import references_of
from ml_backend.recipe import Recipe, parse_recipe


@pytest.fixture
def heard(monkeypatch):
    """Give what the last training was called with; it trains nothing."""
    calls = {}

    class StopError(Exception):
        """Ends the training before it begins."""

    def listen(train, val, **options):
        calls.update(options, train=train, val=val)
        raise StopError

    monkeypatch.setattr(training, "train", listen)
    calls["stop"] = StopError
    return calls


def test_looks_are_borrowed_from_training_images_of_the_pool(house):
    """Not from validation images, sources or broken ones; else, not at all."""
    masks = house.folder / "masks"
    masks.mkdir()
    for number in range(4):
        mask = save_picture(house.images / f"{number}.png", number)
        Picture.fromarray(mask * 255).save(masks / f"{number}.png")
    (house.images / "broken.png").write_bytes(b"nothing")
    house.fill(12, masks=masks)
    assert references_of(house.context, house.project) == []
    house.recipe({"training.augmentation": "specialized"})
    found = {reference.name: reference for reference in references_of(house.context, house.project)}
    images = house.catalog.pool.images(house.project_id)
    assert {image.split for image in images if image.role == "pool"} == {"train", "val"}
    assert set(found) == {
        image.name for image in images
        if image.role == "pool" and image.split == "train" and image.status == "ready"
    }  # fmt: skip
    name = min(found)
    assert np.array_equal(found[name].load()[..., 0], house.context.images.pixels(
        str(house.images / name))[..., 0])  # fmt: skip


def test_a_specialized_training_runs(house):
    """From the pool through the loop to a promoted model."""
    house.recipe({"training.augmentation": "specialized"})
    house.fill(12)
    house.labelled_round()
    assert "promoted" in house.step("train").summary


@pytest.mark.parametrize(
    ("wanted", "applied"), [("specialized", "specialized"), ("domain", "domain"), (None, "affine")]
)
def test_sources_alone_are_learned_in_the_looks_of_the_pool(house, wanted, applied):
    """Until people have annotated; then the recipe's own augmentation is back."""
    masks = house.folder / "masks"
    masks.mkdir()
    for number in range(8):
        mask = save_picture(house.images / f"{number}.png", number)
        Picture.fromarray(mask * 255).save(masks / f"{number}.png")
    house.fill(12, masks=masks)
    house.recipe({"training.augmentation": "affine"})
    recipe = house.project.recipe.model_dump(mode="json")
    recipe["training"]["source_augmentation"] = wanted
    house.catalog.projects.save(house.project_id, recipe=parse_recipe(recipe))
    house.step("train")
    house.labelled_round()
    house.step("train")
    used = [
        m.card["recipe"]["training"]["augmentation"]
        for m in house.catalog.models.all(house.project_id)
    ]
    assert used == [applied, "affine"]


def test_weights_go_by_the_projects_labels(two_labels):
    """Labels' names reach the loss; a name that is no label is refused with those there are."""
    house = two_labels
    house.recipe({"training.class_weights": {"nucleus": 4.0}})
    house.fill(12)
    house.labelled_round()
    assert "promoted" in house.step("train").summary
    house.recipe({"training.class_weights": {"nukleus": 4.0}})
    words = r"training\.class_weights names 'nukleus'.* learns background, cell, nucleus"
    with pytest.raises(ConfigError, match=words):
        house.step("train")


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("training.class_weights", {"nucleus": 2.0, "background": 1.0}, True),
        ("training.class_weights", {"nukleus": 2.0}, False),
        ("training.class_weights", "balanced", True),
        ("scoring.weights", {"nucleus": 2.0, "background": 0.0}, True),
        ("scoring.weights", {"nukleus": 2.0}, False),
        ("validation.floors", {"nucleus": 0.5}, True),
        ("validation.floors", {"nukleus": 0.5}, False),
        ("validation.floors", {"background": 0.5}, False),  # it is no label that is judged
    ],
)
def test_labels_in_a_recipe_are_checked_when_it_is_handed_over(two_labels, key, value, fits):
    """`connect` names the key, and the recipe that was there stays; later it is not asked again."""
    house = two_labels
    recipe = Recipe().changed({key: value})
    settings = house.context.settings.model_copy(
        update={"password": SecretStr("p"), "webhook_secret": SecretStr("s")}
    )
    context = replace(house.context, settings=settings)
    context.__dict__["studio"] = house.studio
    before = house.project.recipe
    if fits:
        connect(context, house.project_id, recipe)
        assert house.project.recipe == recipe
        return
    with pytest.raises(ConfigError, match=rf"{key} names '.*', but project {house.project_id}"):
        connect(context, house.project_id, recipe)
    assert house.project.recipe == before
    house.catalog.projects.save(house.project_id, recipe=recipe)
    connect(context, house.project_id)


def test_the_training_hears_names_and_pool(house, heard):
    """The loop hands over labels, references, and over how many processes to train."""
    house.recipe({"training.augmentation": "specialized"})
    house.fill(12)
    house.labelled_round()
    with pytest.raises(heard["stop"]):
        house.step("train")
    assert heard["labels"] == ("cell",)
    assert heard["processes"] is None
    assert len(heard["pool"]) == len(references_of(house.context, house.project)) > 0


def test_rounds_change_the_training_as_scheduled(house):
    """The newest answered round decides, whatever else was pushed; the card says both."""
    recipe = house.project.recipe.model_dump(mode="json")
    recipe["schedule"] = {"training.steps": {"from": 2, "step": 3, "most": 9}}
    house.catalog.projects.save(house.project_id, recipe=parse_recipe(recipe))
    house.fill(20)

    def trained():
        house.step("train")
        card = house.catalog.models.all(house.project_id)[-1].card
        assert card["recipe"]["schedule"] == {}
        return card["version"][-1], card["round"], card["recipe"]["training"]["steps"]

    house.labelled_round()
    assert trained() == ("1", 1, 4)
    house.labelled_round()
    assert trained() == ("2", 2, 7)
    house.step("select")
    house.recipe({"training.seed": 1})
    assert trained() == ("3", 2, 7)
    house.answer_open()
    house.step("sync")
    assert trained() == ("4", 3, 9)
    assert "nothing new" in house.step("train").summary
    assert house.project.recipe.training.steps == 4


def test_sources_alone_are_round_0(house):
    """Before anybody was asked nothing has grown yet."""
    recipe = house.project.recipe.model_dump(mode="json")
    recipe["schedule"] = {"training.steps": {"from": 1, "step": 3}}
    house.catalog.projects.save(house.project_id, recipe=parse_recipe(recipe))
    masks = house.folder / "masks"
    masks.mkdir()
    for number in range(4):
        Picture.fromarray(picture(number)[1] * 255).save(masks / f"{number}.png")
    house.fill(4, masks=masks)
    house.step("train")
    card = house.catalog.models.current(house.project_id).card
    assert (card["round"], card["recipe"]["training"]["steps"]) == (0, 4)


@pytest.mark.parametrize("weight", [10.0, 3.5])
def test_annotations_are_drawn_more_often_than_sources(house, heard, weight):
    """Ten times by default, whatever the recipe says else; sources weigh 1."""
    masks = house.folder / "masks"
    masks.mkdir()
    for number in range(4):
        Picture.fromarray(picture(number)[1] * 255).save(masks / f"{number}.png")
    assert house.project.recipe.training.target_weight == 10
    house.recipe({"training.target_weight": weight})
    house.fill(12, masks=masks)
    house.labelled_round()
    with pytest.raises(heard["stop"]):
        house.step("train")
    sources = {f"{number}.png" for number in range(4)}
    weights = {sample.name: sample.weight for sample in heard["train"]}
    assert {weights[name] for name in sources} == {1}
    assert {value for name, value in weights.items() if name not in sources} == {weight}
