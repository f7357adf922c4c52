"""Tuning with real trainings, tiny ones: on a folder of images with masks and on a project."""

import fcntl

import pytest
from PIL import Image as Picture
from support.house import TINY, save_picture

from ml_backend.errors import ConfigError, DataError, NothingToLearn, StoreError
from ml_backend.loop.context import silent
from ml_backend.loop.material import material_in, material_of
from ml_backend.loop.tune import tune, write_tuned
from ml_backend.recipe import Recipe, load_recipe, parse_recipe

OVER = {"training.learning_rate": "1e-3..1e-2:log", "training.batch_size": "2"}


@pytest.fixture
def folders(tmp_path):
    """Give six images and their masks."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(6):
        mask = save_picture(tmp_path / "images" / f"{number}.png", number)
        Picture.fromarray(mask * 255).save(masks / f"{number}.png")
    return tmp_path / "images", masks


@pytest.fixture
def recipe():
    """Give a recipe of seconds."""
    return parse_recipe(TINY)


def test_a_folder_is_tuned_and_the_best_written_as_a_recipe(house, folders, recipe):
    """Split as a project's images would be; the file loads, and its head tells the score."""
    material = material_in(*folders, recipe)
    assert (len(material.train), len(material.val)) == (3, 3)
    settings = house.context.settings
    tuned = tune(settings, material, recipe, over=OVER, trials=3, progress=silent)
    assert len(tuned.tried) == 3
    assert 0 <= tuned.score <= 1
    path = house.folder / "tuned.yaml"
    write_tuned(tuned, path)
    text = path.read_text()
    assert text.startswith("# Tuned with brushloop")
    assert f"validation IoU {tuned.score:.4f} (as it was: {tuned.before:.4f})" in text
    loaded = load_recipe(path)
    assert loaded == tuned.recipe
    assert loaded.training.learning_rate == tuned.best.values["training.learning_rate"]
    assert loaded.network == recipe.network
    assert not list(house.folder.glob(".tuned*"))
    again = tune(settings, material, recipe, over=OVER, trials=3, progress=silent)
    assert again == tuned
    with pytest.raises(StoreError, match="cannot be written"):
        write_tuned(tuned, house.folder / "nowhere" / "tuned.yaml")


def test_the_same_question_is_one_study(folders, recipe):
    """Other masks, classes, values or sides are another question."""
    images, masks = folders
    one = material_in(images, masks, recipe).fingerprint
    assert material_in(images, masks, recipe).fingerprint == one
    others = [
        material_in(images, masks, recipe, labels=("a", "b")),
        material_in(images, masks, recipe, values={range(255, 256): 1}),
        material_in(images, masks, recipe.changed({"validation.share": 0.25})),
        material_in(images, masks, recipe.changed({"labels.ignore": ("b",)}), labels=("a", "b")),
    ]
    assert others[-1].labels == ("a",)
    save_picture(masks / "5.png", 0)
    others.append(material_in(images, masks, recipe))
    assert len({one, *(other.fingerprint for other in others)}) == 6


def test_a_project_is_tuned_on_its_frozen_split(house):
    """The project's masks and recipe, with its own `tuning` section."""
    house.fill(8)
    house.labelled_round()
    material = material_of(house.context, house.project)
    assert (len(material.train), len(material.val), material.labels) == (2, 2, ("cell",))
    data = house.project.recipe.model_dump()
    data["tuning"] = {"trials": 2, "over": OVER}
    tuned = tune(house.context.settings, material, parse_recipe(data), progress=silent)
    assert len(tuned.tried) == 2
    assert tuned.recipe.tuning.trials == 2


def test_grids_come_from_the_recipe_or_the_command(house, folders, recipe):
    """`--over` alone makes the grid; without it the recipe's is tried."""
    data = recipe.model_dump() | {"tuning": {"grid": {"training.seed": "1,2"}}}
    recipe = parse_recipe(data)
    settings, material = house.context.settings, material_in(*folders, recipe)
    tuned = tune(settings, material, recipe, grid=True, progress=silent)
    assert [row.values for row in tuned.tried] == [{"training.seed": 1}, {"training.seed": 2}]
    over = {"training.freeze_encoder": "true"}
    tuned = tune(settings, material, recipe, grid=True, over=over, progress=silent)
    assert [row.values for row in tuned.tried] == [{"training.freeze_encoder": True}]


def test_what_cannot_be_tuned_is_said(house, folders, recipe, tmp_path):
    """No pairs, one side only, no object to judge by, a file that is gone."""
    images, masks = folders
    settings = house.context.settings
    with pytest.raises(DataError, match="has the name of an image"):
        material_in(images, tmp_path / "home", recipe)
    for number in range(1, 6):
        (masks / f"{number}.png").unlink()
    with pytest.raises(NothingToLearn, match=r"[01] training and [01] validation"):
        tune(settings, material_in(images, masks, recipe), recipe, progress=silent)
    material = material_in(*folders, recipe)
    (masks / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png"):
        [sample.load() for sample in (*material.train, *material.val)]


def test_validation_masks_without_objects_cannot_judge(house, folders, recipe):
    """An IoU that is no number ends the tuning with the reason."""
    images, masks = folders
    for sample in material_in(images, masks, recipe).val:
        Picture.new("L", (32, 32)).save(masks / sample.name)
    material = material_in(images, masks, recipe)
    with pytest.raises(NothingToLearn, match="an object in at least one validation mask"):
        tune(house.context.settings, material, recipe, over=OVER, trials=1, progress=silent)


def test_one_tuning_at_a_time(house, folders):
    """A second one in the same home is refused at once."""
    home = house.context.settings.home
    home.mkdir(exist_ok=True)
    with (home / "tuning.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another `brushloop tune`"):
            tune(
                house.context.settings, material_in(*folders, Recipe()), Recipe(), progress=silent
            )  # fmt: skip
