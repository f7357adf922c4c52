"""Early stopping: when, why, and the same after a restart."""

import math

import pytest
from support.networks import PatchNorm
from torch import nn

from ml_backend.learning.stopping import out_of_patience
from ml_backend.learning.training import train

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    [
        ([0.5, 0.4, 0.4], 2, True),
        ([0.5, 0.4, 0.4], 3, False),
        ([0.5, 0.4, 0.4], None, False),
        ([0.5, 0.5, 0.5], 2, True),  # as good is not better
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.6, 0.5], 1, True),
        ([0.5], 1, False),
        ([], 1, False),
        ([NAN, NAN, NAN, NAN], 1, False),
        ([0.9] * 10, 3, False),  # all are done: nothing to stop
    ],
)
def test_when_patience_ends(scores, patience, stops):
    """After so many epochs without a higher IoU, never without validation, never at the end."""
    reason = out_of_patience(scores, patience, 10)
    assert (reason is not None) == stops
    if reason:
        assert f"after epoch {len(scores)} of 10" in reason
        assert f"training.patience {patience}" in reason


def test_a_training_stops_early_and_stays_stopped(recipe, discs, tmp_path, monkeypatch):
    """The last record says why; started again, nothing is trained that patience had ended."""
    path = tmp_path / "state.safetensors"
    # nothing ever moves, so no epoch is better than the first
    monkeypatch.setattr(nn, "BatchNorm2d", PatchNorm)
    still = recipe(steps=6, epochs=6, learning_rate=1e-30, patience=2)

    class KilledError(Exception):
        pass

    def kill(record):
        if record.epoch == 2:
            raise KilledError

    def go(**options):
        return train(discs(2), discs(1, first=9), recipe=still, classes=1, **options)

    with pytest.raises(KilledError):
        go(checkpoint=path, on_epoch=kill)
    ends = [go(checkpoint=path) for _ in range(2)]
    whole = go()
    for trained in (*ends, whole):
        *_, before, last = trained.epochs
        assert (last.epoch, len(trained.epochs), last.epochs) == (3, 3, 6)
        assert before.stopped is None
        assert "no better validation IoU" in last.stopped
