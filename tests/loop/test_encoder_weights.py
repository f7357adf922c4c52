"""What an encoder starts from: every kind of name, and what is recorded where it cannot be had."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ml_backend.errors import WeightsUnavailable
from ml_backend.learning import training
from ml_backend.learning.networks import build_network
from ml_backend.loop.encoders import encoders_of, start_of, weights_for, weights_of
from ml_backend.store.weights import load_model, model_key, save_model


@pytest.fixture
def labelled(house):
    """Give a house with answers to learn from, in which a training goes nowhere."""
    house.recipe({"training.learning_rate": 1e-12, "training.average": 0.0})
    house.fill(8)
    house.labelled_round()
    return house


def publish(house, number, value):
    """An encoder of the house's network, all of whose first weights are `value`."""
    bare = house.project.recipe.network.model_copy(update={"encoder_weights": None})
    state = build_network(bare, 1, seed=0).encoder.state_dict()
    state["conv1.weight"] = torch.full_like(state["conv1.weight"], value)
    version = f"p{house.project_id}-byol{number}"
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    save_model(
        house.context.blobs, f"{encoders_of(house.project_id)}/{version}", arrays,
        {"version": version, "fingerprint": str(number)},
    )  # fmt: skip
    return version


def newest(house):
    """The card of the newest model, and the mean of its encoder's first weights."""
    model = house.catalog.models.all(house.project_id)[-1]
    state, card = load_model(house.context.blobs, model_key(house.project_id, model.version))
    assert card["encoder_start"] == model.card["encoder_start"]
    return card["encoder_start"], float(state["encoder.conv1.weight"].mean())


def ask(house, name, **others):
    """Change what the recipe asks for."""
    house.recipe({"network.encoder_weights": name, **others})


def test_random_weights_are_a_fact_too(labelled):
    """The card says that nothing was asked for and nothing used."""
    labelled.step("train")
    start, _ = newest(labelled)
    nothing = dict.fromkeys(("asked", "used", "sha256", "reason", "warm"))
    assert start == nothing


def test_byol_is_the_newest_encoder_and_a_newer_one_is_used(labelled):
    """It is trained from anew, though nothing was annotated since; a version stays that version."""
    house = labelled
    first = publish(house, 9, 0.25)
    ask(house, "byol")
    house.step("train")
    start, mean = newest(house)
    assert (start["asked"], start["used"], start["reason"]) == ("byol", first, None)
    assert mean == pytest.approx(0.25)
    assert "nothing new" in house.step("train").summary
    second = publish(house, 10, 0.5)
    house.step("train")
    start, mean = newest(house)
    assert (start["used"], start["warm"]) == (second, None)
    assert mean == pytest.approx(0.5)
    ask(house, first)
    house.step("train")
    start, mean = newest(house)
    assert (start["used"], mean) == (first, pytest.approx(0.25))


def test_a_warm_start_remembers_where_the_line_began(labelled):
    """The next model goes on from the current one, and its card names both."""
    house = labelled
    version = publish(house, 1, 0.25)
    ask(house, "byol")
    house.step("train")
    current = house.catalog.models.current(house.project_id).version
    house.recipe({"training.seed": 1})
    house.step("train")
    start, mean = newest(house)
    assert (start["used"], start["warm"]) == (version, current)
    assert mean == pytest.approx(0.25)
    ask(house, "byol", **{"network.require_weights": True})
    house.step("train")
    assert newest(house)[0]["warm"] is not None


def test_a_model_of_any_project_and_a_file_of_one(labelled, tmp_path):
    """The encoder is taken from the whole network; its decoder is not."""
    house = labelled
    house.step("train")
    version = house.catalog.models.current(house.project_id).version
    before = newest(house)[1]
    house.recipe({"training.seed": 5, "training.warm_start": False})
    ask(house, version)
    house.step("train")
    start, mean = newest(house)
    assert (start["used"], mean) == (version, pytest.approx(before))
    model = build_network(house.project.recipe.network.model_copy(
        update={"encoder_weights": None}), 3, seed=0)  # fmt: skip
    state = model.state_dict()
    state["encoder.conv1.weight"] = torch.full_like(state["encoder.conv1.weight"], 0.125)
    whole = {name: value.contiguous() for name, value in state.items()}
    save_file(whole, tmp_path / "whole.safetensors")
    ask(house, str(tmp_path / "whole.safetensors"))
    house.step("train")
    start, mean = newest(house)
    assert start["used"] == str(tmp_path / "whole.safetensors")
    assert start["sha256"]
    assert mean == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("byol", "run `brushloop pretrain`"),
        ("p9-byol3", "p9-byol3"),
        ("p9-v1", "p9-v1"),
        ("nowhere.safetensors", "nowhere.safetensors"),
        ("foreign.pth", "conv1.weight"),
        ("imagenet", "no route to host"),
    ],
)
def test_what_cannot_be_had_is_said_and_recorded(
    labelled, monkeypatch, tmp_path, caplog, name, words
):
    """The training goes on from random weights, unless the recipe requires the others."""
    house = labelled

    def unreachable(*_args, **_options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", unreachable)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    path = str(tmp_path / name) if "." in name else name
    ask(house, path, **{"network.require_weights": True})
    with pytest.raises(WeightsUnavailable, match=r"network\.require_weights"):
        house.step("train")
    ask(house, path)
    data = house.project.recipe.model_dump()
    data["network"]["require_weights"] = False
    house.catalog.projects.save(house.project_id, recipe=type(house.project.recipe)(**data))
    summary = house.step("train").summary
    assert "the encoder started from random weights" in summary
    assert words in summary
    assert "starts from random weights" in caplog.text
    start, _ = newest(house)
    assert (start["asked"], start["used"]) == (path, None)
    assert words in start["reason"]


def test_weights_that_come_later_are_used_then(labelled):
    """A model that had to do without is not gone on from."""
    house = labelled
    ask(house, "byol")
    house.step("train")
    assert newest(house)[0]["used"] is None
    version = publish(house, 1, 0.5)
    house.step("train")
    start, mean = newest(house)
    assert (start["used"], start["warm"]) == (version, None)
    assert mean == pytest.approx(0.5)


def test_damaged_weights_are_not_used(labelled):
    """A file that is not what its card says counts as not there."""
    house = labelled
    version = publish(house, 1, 0.5)
    home = house.context.settings.home / encoders_of(house.project_id)
    (home / version / "weights.safetensors").write_bytes(b"x" * 64)
    ask(house, "byol")
    network = house.project.recipe.network
    start = start_of(house.context.blobs, network, house.project_id)
    assert start.used == version
    bare, encoder, start = weights_of(house.context.blobs, network, start)
    assert (bare.encoder_weights, encoder, start.used) == (None, None, None)
    assert "damaged" in start.reason


def test_in_a_folder_there_is_no_newest(house):
    """It says to name the file."""
    network = house.project.recipe.network.model_copy(update={"encoder_weights": "byol"})
    _, encoder, start = weights_for(house.context.blobs)(network)
    assert encoder is None
    assert "brushloop pretrain" in start.reason


def test_the_training_is_handed_the_arrays(labelled, monkeypatch):
    """Not a path into the store: the same weights are the same training on every machine."""
    house = labelled
    publish(house, 1, 0.5)
    ask(house, "byol")
    heard = {}

    class StopError(Exception):
        """Ends the training before it begins."""

    def listen(_train, _val, **options):
        heard.update(options)
        raise StopError

    monkeypatch.setattr(training, "train", listen)
    with pytest.raises(StopError):
        house.step("train")
    assert heard["recipe"].network.encoder_weights is None
    assert np.all(heard["encoder"]["conv1.weight"].numpy() == np.float32(0.5))
