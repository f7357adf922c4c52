"""BYOL learns from images alone, repeats itself, survives being killed, and does not collapse."""

import numpy as np
import pytest
import torch

from ml_backend.errors import ConfigError, DataError, LearningError, NothingToLearn
from ml_backend.learning import byol
from ml_backend.learning.byol import momentum, pretrain
from ml_backend.learning.networks import build_network
from ml_backend.learning.optimizing import Follower
from ml_backend.learning.references import Reference
from ml_backend.learning.training import train
from ml_backend.learning.twins import Twins
from ml_backend.recipe import Pretraining, parse_recipe

SMALL = {
    "steps": 2, "epochs": 2, "batch_size": 3, "patch": 32, "hidden": 16, "projection": 8,
    "augmentation": "affine",
}  # fmt: skip


class _KilledError(Exception):
    """Stands in for a kill at the worst moment."""


def make(network=None, **changes):
    """A recipe whose pretraining takes a second."""
    network = {"depth": 3, "decoder_width": 4} | (network or {})
    return parse_recipe({"network": network, "pretraining": SMALL | changes})


@pytest.fixture
def pictures(discs):
    """Function (count) → unlabelled images with discs."""

    def make_some(count=4):
        return [
            Reference(sample.name, lambda sample=sample: sample.load()[0])
            for sample in discs(count)
        ]

    return make_some


def same(one, two):
    """Whether two state dictionaries are equal to the last bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_the_loss_falls_and_nothing_collapses(pictures):
    """In seconds views are foretold better, and different places still lie apart."""
    recipe = make(steps=32, batch_size=6, epochs=4, learning_rate=3e-3)
    done = pretrain(pictures(8), recipe=recipe)
    losses = [record.loss for record in done.epochs]
    assert [record.epoch for record in done.epochs] == [1, 2, 3, 4]
    assert losses[-1] < 0.7 * losses[0]
    assert all(0.3 < record.spread <= 1.1 for record in done.epochs)
    assert done.faults == {}


def test_the_target_follows_as_an_average(pictures, monkeypatch):
    """After a step it is momentum x its own weights + the rest of the online ones."""
    seen = []

    class Watched(Follower):
        def __init__(self, target, online):
            super().__init__(target, online)
            self.target, self.online = target, online

        def move(self, decay):
            before = self.target.projector[0].weight.clone()
            super().move(decay)
            seen.append((before, self.online.projector[0].weight.detach().clone(),
                         self.target.projector[0].weight.clone(), decay))  # fmt: skip

    monkeypatch.setattr(byol, "Follower", Watched)
    pretrain(pictures(), recipe=make(momentum=0.9, steps=3, epochs=1))
    assert len(seen) == 3
    for before, online, after, decay in seen:
        torch.testing.assert_close(after, decay * before + (1 - decay) * online)
        assert not torch.equal(before, after)
        assert not torch.equal(after, online)


def test_momentum_rises_to_one():
    """From the recipe's value, along half a cosine."""
    settings = Pretraining(steps=100, momentum=0.9)
    values = [momentum(step, settings) for step in range(101)]
    assert values[0] == pytest.approx(0.9)
    assert values[50] == pytest.approx(0.95)
    assert values[100] == pytest.approx(1.0)
    assert values == sorted(values)


def test_same_seed_same_weights_and_torch_is_left_alone(pictures):
    """The generator of the process is as it was; another seed gives others."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, three = (pretrain(pictures(), recipe=make(seed=s)).state for s in (1, 1, 2))
    assert torch.rand(1) == expected
    assert same(one, two)
    assert not same(one, three)


@pytest.mark.parametrize("killed_after", [1, 2])
def test_killed_pretraining_ends_where_an_undisturbed_one_does(pictures, tmp_path, killed_after):
    """Killed after any epoch and started again, the weights are the same to the last bit."""
    path = tmp_path / "runs" / "state.safetensors"

    def kill(record):
        if record.epoch == killed_after:
            raise _KilledError

    with pytest.raises(_KilledError):
        pretrain(pictures(), recipe=make(), checkpoint=path, on_epoch=kill)
    epochs = []
    resumed = pretrain(
        pictures(), recipe=make(), checkpoint=path, on_epoch=lambda row: epochs.append(row.epoch)
    )
    undisturbed = pretrain(pictures(), recipe=make())
    assert epochs == [1, 2][killed_after:]
    assert same(resumed.state, undisturbed.state)
    assert [r.loss for r in resumed.epochs] == [r.loss for r in undisturbed.epochs]


def test_a_checkpoint_of_other_images_means_a_fresh_start(pictures, tmp_path):
    """What was learned from others is not carried on."""
    path = tmp_path / "state.safetensors"
    pretrain(pictures(), recipe=make(), checkpoint=path)
    epochs = []
    pretrain(pictures(3), recipe=make(), checkpoint=path, on_epoch=epochs.append)
    assert [record.epoch for record in epochs] == [1, 2]


@pytest.mark.parametrize(
    "network",
    [{"fold": 1}, {"fold": 2}, {"encoder": "efficientnet-b0"}, {"architecture": "FPN"}],
    ids=str,
)
def test_weights_load_into_the_network_of_the_recipe_and_change_it(pictures, network):
    """The encoder that was pretrained is the one that is used, folded, of the same depth."""
    recipe = make(network, steps=1, epochs=1, patch=64)
    state = pretrain(pictures(), recipe=recipe).state
    fresh = build_network(recipe.network, 1, seed=0)
    assert fresh.encoder.state_dict().keys() == state.keys()
    assert not same(state, fresh.encoder.state_dict())
    fresh.encoder.load_state_dict(state, strict=True)


def test_a_training_starts_from_them(pictures, recipe, discs):
    """A training that cannot move ends with the encoder handed in, and with its own decoder."""
    still = recipe(steps=1, epochs=1, learning_rate=1e-12, average=0.0)
    still = still.model_copy(update={"pretraining": Pretraining(**SMALL)})
    given = pretrain(pictures(), recipe=still).state
    with_it = train(discs(2), [], recipe=still, classes=1, encoder=given).state
    without = train(discs(2), [], recipe=still, classes=1).state
    for name, value in with_it.items():
        if "running" in name or "num_batches" in name:
            continue
        of_encoder = name.removeprefix("encoder.")
        expected = given[of_encoder] if name.startswith("encoder.") else without[name]
        torch.testing.assert_close(value, expected, msg=name)


def test_views_differ_but_show_the_same_place():
    """A batch depends on its step alone; views overlap, so twins are alike and others are not."""
    ramp = np.broadcast_to(np.arange(0, 256)[:, None, None], (256, 256, 3)).astype(np.uint8)
    settings = Pretraining(**SMALL | {"augmentation": "none", "batch_size": 32})
    twins = Twins([Reference("ramp", lambda: ramp)], settings)
    batch = twins.batch(3)
    assert batch.one.shape == batch.two.shape == (32, 32, 32, 3)
    again = Twins([Reference("ramp", lambda: ramp)], settings).batch(3)
    assert all(np.array_equal(one, two) for one, two in zip(batch, again, strict=True))
    apart = batch.one.mean(axis=(1, 2, 3)) - batch.two.mean(axis=(1, 2, 3))
    assert 0 < np.abs(apart).max() <= 16
    assert batch.one.mean(axis=(1, 2, 3)).std() > 30


def test_broken_images_are_passed_over_and_said(pictures):
    """The others are learned from; where none can be read, or there is none, it is an error."""

    def broken():
        raise DataError("a.png is broken")

    images = [*pictures(2), Reference("a.png", broken)]
    assert pretrain(images, recipe=make()).faults == {"a.png": "a.png is broken"}
    with pytest.raises(DataError, match=r"none of the 1 images.*a\.png is broken"):
        pretrain(images[2:], recipe=make())
    with pytest.raises(NothingToLearn, match="no images"):
        pretrain([], recipe=make())


def test_what_cannot_be_is_said(pictures):
    """A patch that the network cannot take, and a loss that is no number."""
    with pytest.raises(ConfigError, match=r"pretraining\.patch is 96.*fold 2.*of 64"):
        pretrain(pictures(), recipe=make({"architecture": "FPN"}, patch=96))
    with pytest.raises(LearningError, match=r"pretraining\.learning_rate"):
        pretrain(pictures(), recipe=make(learning_rate=1e30, steps=4, epochs=1))
