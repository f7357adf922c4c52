"""Epochs told to TensorBoard and MLflow where they are installed, never at a training's cost."""

import logging
import sys
from pathlib import Path

import pytest

from ml_backend.errors import ConfigError, UnknownName
from ml_backend.learning.training import EpochRecord
from ml_backend.loop.tracking import TRACKERS, Tracked, tracked
from ml_backend.recipe import Recipe


@pytest.fixture
def training(tmp_path):
    """Give a version in an empty home folder."""
    return Tracked(tmp_path, "Cells", "p1-v1", Recipe())


def record(epoch, iou):
    """An epoch without validation images, but for its IoU."""
    nan = float("nan")
    return EpochRecord(epoch, 2, 0.5 / epoch, nan, iou, nan, nan, 1.0)


def scalars(folder):
    """Tag → values by step, of all event files of a TensorBoard folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_shows_both_sides_of_a_measure_together(training):
    """Every number has its step; nan is left out; a second run of the version adds to it."""
    pytest.importorskip("tensorboard")
    for epoch in (1, 2):
        with tracked("tensorboard", training) as tell:
            tell(epoch, record(epoch, 0.25 * epoch))
    found = scalars(training.home / "tensorboard" / "p1-v1")
    assert found["loss/train"] == {1: 0.5, 2: 0.25}
    assert found["iou/val"] == {1: 0.25, 2: 0.5}
    assert "dice/val" not in found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_mlflow_keeps_one_run_a_version(training, monkeypatch):
    """A training that was broken off carries on in its run; the recipe's values are parameters."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def broken_off():
        with tracked("mlflow", training) as tell:
            tell(1, record(1, 0.25))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    client = mlflow.MlflowClient(f"sqlite:///{training.home / 'mlflow.sqlite3'}")
    experiment = client.get_experiment_by_name("Cells").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FAILED"
    with tracked("mlflow", training) as tell:
        tell(2, record(2, 0.5))
    (run,) = client.search_runs([experiment])
    assert (run.info.run_name, run.info.status) == ("p1-v1", "FINISHED")
    history = client.get_metric_history(run.info.run_id, "val_iou")
    assert [(row.step, row.value) for row in history] == [(1, 0.25), (2, 0.5)]
    assert run.data.params["training.learning_rate"] == "0.001"


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_what_is_not_installed_is_said_before_the_training(training, monkeypatch, name):
    """The error names the setting and the command that installs it."""
    monkeypatch.setitem(sys.modules, name, None)
    command = rf"BRUSHLOOP_TRACK names {name}.*pip install 'brushloop\[{name}\]'"
    with pytest.raises(ConfigError, match=command), tracked(name, training):
        pytest.fail("the training began")


def test_unknown_trackers_list_the_choices(training):
    """A typing error is answered by the names there are."""
    choices = pytest.raises(UnknownName, match=r"'wandb'; choose one of: mlflow, tensorboard")
    with choices, tracked("wandb", training):
        pytest.fail("the training began")


class _Sieve:
    """A tracker that keeps what it is told, and breaks at epoch 2."""

    def __init__(self, _training):
        self.told = []

    def log(self, epoch, numbers):
        if epoch == 2:
            raise OSError("the server is gone")
        self.told.append((epoch, numbers))

    def close(self, *, whole):
        self.told.append(whole)


@pytest.fixture
def sieve(monkeypatch):
    """Register two sieves, and give what they are made into."""
    made = {}

    def make(name):
        def factory(training):
            made[name] = _Sieve(training)
            return made[name]

        return factory

    monkeypatch.setattr(TRACKERS, "_members", {"one": make("one"), "two": make("two")})
    return made


def test_a_tracker_that_breaks_is_given_up(training, sieve, caplog):
    """The training goes on; the warning says which tool misses what."""
    with caplog.at_level(logging.WARNING), tracked("one, two", training) as tell:
        sieve["two"].log = lambda epoch, numbers: sieve["two"].told.append((epoch, numbers))
        for epoch in (1, 2, 3):
            tell(epoch, record(epoch, 0.5))
    assert [row[0] for row in sieve["one"].told] == [1]
    assert [row[0] for row in sieve["two"].told[:-1]] == [1, 2, 3]
    assert sieve["two"].told[-1] is True
    assert "one is told no more of p1-v1" in caplog.text


def test_a_tracker_that_cannot_begin_stops_the_training(training, monkeypatch):
    """Other libraries' errors become one line that names the setting."""

    def broken(_training):
        raise OSError("no such server")

    monkeypatch.setattr(TRACKERS, "_members", {"one": broken})
    with (
        pytest.raises(ConfigError, match=r"BRUSHLOOP_TRACK.*no such server"),
        tracked("one", training),
    ):
        pytest.fail("the training began")


def test_trainings_tell_their_trackers(house, sieve):
    """`brushloop train` sends every epoch where the setting says."""
    settings = house.context.settings.model_copy(update={"track": "one"})
    house.context.__dict__["settings"] = settings
    house.fill(8)
    house.labelled_round()
    house.recipe({"training.epochs": 1})
    house.step("train")
    (epoch, numbers), whole = sieve["one"].told
    assert (epoch, whole) == (1, True)
    assert {"train_loss", "train_iou", "val_iou"} <= numbers.keys()
    assert not (Path(settings.home) / "tensorboard").exists()
