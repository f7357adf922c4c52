"""The training loop learns, repeats itself, and survives being killed."""

import hashlib
import math
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from ml_backend.errors import LearningError, NothingToLearn, StoreError
from ml_backend.learning.data import Sample
from ml_backend.learning.evaluation import evaluate
from ml_backend.learning.inference import predictor_from_state
from ml_backend.learning.training import train


class _KilledError(Exception):
    """Stands in for a kill at the worst moment."""


def _digest(state):
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("classes", [1, 2])
def test_learns_bright_discs(recipe, discs, classes):
    """In seconds, on images it has not seen, and the stored weights predict what was measured."""
    chosen = recipe(steps=20 + 30 * classes, patch=64, batch_size=4, learning_rate=3e-3)
    val = discs(3, first=100, classes=classes)
    records = []
    trained = train(
        discs(8, classes=classes), val, recipe=chosen, classes=classes, on_epoch=records.append
    )
    assert trained.epochs == records
    assert [record.epoch for record in records] == [1, 2]
    best = records[trained.best_epoch - 1]
    assert best.val_iou == max(record.val_iou for record in records)
    assert best.val_iou > 0.8
    assert best.val_dice > best.val_iou
    assert best.val_accuracy > 0.95
    predictor = predictor_from_state(trained.state, chosen.network, classes, chosen.prediction)
    assert evaluate(predictor, val, classes).mean_iou == pytest.approx(best.val_iou)


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_killed_training_ends_where_an_undisturbed_one_does(recipe, discs, tmp_path, killed_after):
    """Killed after any epoch and started again, the weights are the same to the last bit.

    Also where another number format is quicker by then: it goes on in the one it began in.
    """
    path = tmp_path / "runs" / "state.safetensors"
    recipe = recipe(steps=6, epochs=3, augmentation="affine")
    recipe = recipe.model_copy(
        update={"network": recipe.network.model_copy(update={"dropout": 0.2})}
    )

    def go(**options):
        return train(discs(3), discs(1, first=50), recipe=recipe, classes=1, **options)

    def kill(record):
        if record.epoch == killed_after:
            raise _KilledError

    with pytest.raises(_KilledError):
        go(checkpoint=path, on_epoch=kill, precision="bfloat16")
    epochs = []
    resumed = go(checkpoint=path, on_epoch=lambda record: epochs.append(record.epoch))
    undisturbed = go(precision="bfloat16")
    assert resumed.precision == undisturbed.precision == "bfloat16"
    assert epochs == [1, 2, 3][killed_after:]
    assert _digest(resumed.state) == _digest(undisturbed.state)
    assert resumed.best_epoch == undisturbed.best_epoch
    losses = [[r.train_loss for r in run.epochs] for run in (resumed, undisturbed)]
    assert losses[0] == losses[1]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("spoil", ["damage", "other seed", "other images"])
def test_unusable_checkpoints_mean_a_fresh_start(recipe, discs, tmp_path, spoil):
    """A damaged checkpoint, or one of another training, is never carried on with."""
    path = tmp_path / "state.safetensors"
    train(discs(2), [], recipe=recipe(), classes=1, checkpoint=path)
    if spoil == "damage":
        path.write_bytes(path.read_bytes()[:-100])
    changed = recipe(seed=3) if spoil == "other seed" else recipe()
    samples = discs(2, first=7) if spoil == "other images" else discs(2)
    epochs = []
    train(
        samples, [], recipe=changed, classes=1, checkpoint=path,
        on_epoch=lambda record: epochs.append(record.epoch),
    )  # fmt: skip
    assert epochs == [1, 2]


def test_checkpoint_that_cannot_be_written(recipe, discs, tmp_path):
    """A place where nothing can be written is a store error that names it."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"state\.safetensors"):
        train(
            discs(2), [], recipe=recipe(), classes=1,
            checkpoint=tmp_path / "file" / "state.safetensors",
        )  # fmt: skip


_SCRIPT = """
import sys; sys.path.insert(0, sys.argv[1])
import torch; torch.set_num_threads(1)
from conftest import draw_discs
from test_training import _digest
from ml_backend.learning.data import Sample
from ml_backend.learning.training import train
from ml_backend.recipe import parse_recipe
samples = [Sample(f"discs-{s}", lambda s=s: draw_discs(s)) for s in range(2)]
print(_digest(train(samples, [], recipe=parse_recipe(eval(sys.argv[2])), classes=1).state))
"""


def test_same_seed_same_weights_in_another_process(recipe, discs):
    """Weights depend on seed and data, not on the process; another seed gives others."""
    here = _digest(train(discs(2), [], recipe=recipe(), classes=1).state)
    answer = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(Path(__file__).parent), repr(recipe().model_dump())],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert answer.stdout.strip() == here
    assert _digest(train(discs(2), [], recipe=recipe(seed=1), classes=1).state) != here


def test_leaves_torchs_generator_alone(recipe, discs):
    """Training is a function of its arguments, not of global state, which it leaves as it was."""
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    train(discs(2), [], recipe=recipe(), classes=1)
    assert torch.rand(1) == expected


def test_warm_start_begins_where_the_other_model_ended(recipe, discs):
    """With initial weights the first loss is lower; weights that do not fit are passed over."""
    first = train(discs(8), [], recipe=recipe(steps=20, patch=64, learning_rate=3e-3), classes=1)
    cold = train(discs(8), [], recipe=recipe(steps=2), classes=1)
    warm = train(discs(8), [], recipe=recipe(steps=2), classes=1, initial=first.state)
    assert warm.epochs[0].train_loss < cold.epochs[0].train_loss - 0.2
    other = train(discs(2, classes=2), [], recipe=recipe(), classes=2, initial=first.state)
    assert other.state["segmentation_head.1.weight"].shape[0] == 3


def test_without_validation_the_last_epoch_wins(recipe, discs):
    """Validation values are nan, and training goes on all the same."""
    trained = train(discs(2), [], recipe=recipe(), classes=1)
    assert trained.best_epoch == 2
    assert math.isnan(trained.epochs[0].val_iou)
    assert all(value.is_contiguous() for value in trained.state.values())


def test_the_training_side_is_measured_too(recipe, discs):
    """Running IoU, Dice and accuracy of the patches rise as they are learned, within 0..1."""
    chosen = recipe(steps=40, patch=64, batch_size=4, learning_rate=3e-3)
    first, last = train(discs(8), [], recipe=chosen, classes=1).epochs
    assert 0 < first.train_iou < first.train_dice < first.train_accuracy < 1
    assert first.train_iou + 0.05 < last.train_iou < last.train_dice < 1
    assert last.train_accuracy > 0.9


def test_seconds_come_from_the_callers_clock(recipe, discs):
    """The room has no clock of its own; waiting for data is a share of the time of the steps."""
    ticks = count(0, 5)
    trained = train(discs(2), [], recipe=recipe(), classes=1, clock=lambda: next(ticks))
    # an epoch looks once at each end, its two steps twice each and once at each end
    assert [record.seconds for record in trained.epochs] == [35, 35]
    assert [record.waited for record in trained.epochs] == [10 / 25, 10 / 25]


def test_nothing_to_learn_comes_through(recipe):
    """Empty annotations are refused before anything is written."""
    empty = Sample("e", lambda: (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)))
    with pytest.raises(NothingToLearn):
        train([empty], [], recipe=recipe(), classes=1)


def test_a_loss_that_is_no_number_is_an_error(recipe, discs):
    """Divergence stops the training and names the key to change."""
    with pytest.raises(LearningError, match=r"training\.learning_rate"):
        train(discs(2), [], recipe=recipe(learning_rate=1e30, steps=8, epochs=1), classes=1)


def test_a_frozen_encoder_stays_as_it_came(recipe, discs):
    """Its weights and its running statistics; the decoder and the head learn."""
    first = train(discs(2), [], recipe=recipe(), classes=1)
    frozen = recipe(freeze_encoder=True)
    second = train(discs(2), [], recipe=frozen, classes=1, initial=first.state)
    for name, value in second.state.items():
        same = torch.equal(value, first.state[name])
        assert same == name.startswith("encoder."), name
