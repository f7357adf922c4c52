"""Pretraining a project's encoder: on what, how it is published, and that it may be repeated."""

import shutil

import numpy as np
import pytest
from PIL import Image as Picture
from support.house import TINY, save_picture

from ml_backend.errors import ConfigError, DataError, NothingToLearn
from ml_backend.learning import byol
from ml_backend.loop.context import silent
from ml_backend.loop.encoders import encoders_of
from ml_backend.loop.pretrain import pretrain_folder, unlabelled_tiles
from ml_backend.recipe import parse_recipe
from ml_backend.store.weights import list_models, load_model

QUICK = {"steps": 2, "epochs": 2, "batch_size": 2, "patch": 32, "hidden": 8, "projection": 4}


class _KilledError(Exception):
    """Stands in for a kill at the worst moment."""


@pytest.fixture
def tiny(house):
    """Give a house whose pretraining takes a second."""
    house.recipe({f"pretraining.{key}": value for key, value in QUICK.items()})
    return house


def published(house):
    """Version → (state, card) of every encoder there is."""
    keys = list_models(house.context.blobs, encoders_of(house.project_id))
    return {key.rsplit("/", 1)[-1]: load_model(house.context.blobs, key) for key in keys}


def test_validation_images_are_never_seen(tiny, monkeypatch):
    """Neither under their own name nor another; nor images that came with masks or are broken."""
    masks = tiny.folder / "masks"
    masks.mkdir()
    for number in range(2):
        mask = save_picture(tiny.images / f"{number}.png", number)
        Picture.fromarray(mask * 255).save(masks / f"{number}.png")
    (tiny.images / "broken.png").write_bytes(b"nothing")
    tiny.fill(10, masks=masks)
    images = tiny.catalog.pool.images(tiny.project_id)
    judges = {image.name for image in images if image.split == "val"}
    for number, name in enumerate(sorted(judges)):
        shutil.copy(tiny.images / name, tiny.images / f"z{number}.png")
    tiny.fill(0)
    tiny.labelled_round()
    seen = []
    whole = type(tiny.context).pixels
    monkeypatch.setattr(
        type(tiny.context), "pixels",
        lambda self, tile: seen.append(tile.image.name) or whole(self, tile),
    )  # fmt: skip
    tiny.recipe({"pretraining.batch_size": 32})
    tiny.step("pretrain")
    names = {tile.image.name for tile in unlabelled_tiles(tiny.context, tiny.project_id)}
    assert set(seen) == names
    assert not names & {*judges, "0.png", "1.png", "broken.png"}
    assert not any(name.startswith("z") and name[1:2].isdigit() for name in names)
    assert {image.name for image in images if image.role == "pool" and image.split == "train"
            and image.status == "ready"} == names  # fmt: skip


def test_it_is_published_once_and_again_when_something_changed(tiny):
    """Version, card and weights; a second call does nothing, another pool is another version."""
    tiny.fill(6)
    version = f"p{tiny.project_id}-byol1"
    said = []
    from ml_backend.loop.steps import STEPS

    report = STEPS["pretrain"](
        tiny.context, tiny.project_id, lambda done, total, text: said.append((done, total, text))
    )
    assert f"{version}: pretrained on 3 images, loss " in report.summary
    assert [line[:2] for line in said] == [(0, 1), (1, 2), (2, 2)]
    assert "loss" in said[-1][2]
    state, card = published(tiny)[version]
    assert state["conv1.weight"].shape[1] == 12
    assert card["tiles"] == card["images"] == 3
    assert card["encoder_start"]["used"] is None
    assert [row["epoch"] for row in card["epochs"]] == [1, 2]
    assert not list((tiny.context.settings.home / "runs").iterdir())
    assert tiny.step("pretrain").summary == f"nothing new since {version} was pretrained"
    tiny.fill(8)
    assert "byol2" in tiny.step("pretrain").summary
    tiny.recipe({"network.fold": 1})
    assert "byol3" in tiny.step("pretrain").summary
    assert published(tiny)[f"p{tiny.project_id}-byol3"][0]["conv1.weight"].shape[1] == 3
    tiny.recipe({"network.decoder_width": 8})
    assert "nothing new" in tiny.step("pretrain").summary


@pytest.mark.parametrize("where", ["epoch", "publishing"])
def test_a_kill_costs_an_epoch_at_most(tiny, monkeypatch, where):
    """The same step carries on to the same weights, under the same version."""
    tiny.fill(6)
    whole = byol.save_checkpoint if where == "epoch" else None

    def killed(*arguments):
        if whole:
            whole(*arguments)
        raise _KilledError

    target = (byol, "save_checkpoint") if whole else ("ml_backend.loop.pretrain.save_model",)
    with monkeypatch.context() as patch:
        patch.setattr(*target, killed)
        with pytest.raises(_KilledError):
            tiny.step("pretrain")
    assert published(tiny) == {}
    (left,) = (tiny.context.settings.home / "runs").iterdir()
    undisturbed = left.read_bytes()
    epochs = []
    monkeypatch.setattr(byol, "_learn", _counted(byol._learn, epochs))
    tiny.step("pretrain")
    assert len(epochs) == (1 if whole else 0)
    assert undisturbed
    first, _ = published(tiny)[f"p{tiny.project_id}-byol1"]
    tiny.recipe({"pretraining.epochs": 1})  # other bounds, the same steps
    tiny.step("pretrain")
    second, _ = published(tiny)[f"p{tiny.project_id}-byol2"]
    assert all(np.array_equal(first[name], second[name]) for name in first)


def _counted(function, calls):
    def counted(*arguments):
        calls.append(1)
        return function(*arguments)

    return counted


def test_an_image_that_broke_is_set_aside_and_the_rest_goes_on(tiny):
    """It is quarantined with its reason, and does not make the next call begin again."""
    tiny.fill(8)
    tiny.recipe({"pretraining.batch_size": 8})
    lost = unlabelled_tiles(tiny.context, tiny.project_id)[0].image
    (tiny.images / lost.name).unlink()
    assert "1 could not be read" in tiny.step("pretrain").summary
    after = {image.name: image for image in tiny.catalog.pool.images(tiny.project_id)}
    assert after[lost.name].status == "quarantined"
    assert "nothing new" in tiny.step("pretrain").summary


def test_an_empty_pool_is_said(tiny):
    """With the way out."""
    with pytest.raises(NothingToLearn, match="brushloop pool add"):
        tiny.step("pretrain")


def test_a_folder_needs_no_project(house, tmp_path):
    """Weights and card in the folder that was named; again, nothing; others are refused."""
    for number in range(3):
        save_picture(tmp_path / "scans" / f"{number}.png", number)
    (tmp_path / "scans" / "broken.png").write_bytes(b"nothing")
    recipe = parse_recipe(TINY | {"pretraining": QUICK | {"batch_size": 8}})
    settings, out = house.context.settings, tmp_path / "encoder"

    def go(recipe=recipe, folder="scans"):
        return pretrain_folder(settings, tmp_path / folder, out, recipe, silent).summary

    said = go()
    assert "weights.safetensors: pretrained on 3 images" in said
    assert "set aside 1: broken.png" in said
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "weights.safetensors"]
    assert "nothing new" in go()
    with pytest.raises(ConfigError, match="--out"):
        go(recipe.changed({"pretraining.seed": 1}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        go(folder="empty")


def test_a_collapse_is_said(tiny, monkeypatch):
    """All places in one point are no encoder to use, and the report says so."""
    tiny.fill(6)
    whole = byol._learn
    monkeypatch.setattr(byol, "_learn", lambda *arguments: (whole(*arguments)[0], 0.01))
    assert "collapse: do not use it" in tiny.step("pretrain").summary
