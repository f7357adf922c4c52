"""The curves of trainings, as they come out of the catalog."""

import json

from ml_backend.loop.curves import MEASURES, as_dict, trainings


def test_a_training_is_remembered_epoch_by_epoch(house):
    """Every measure of both sides is there, and the best epoch is the one of the card."""
    house.fill(8)
    house.labelled_round()
    house.step("train")
    (training,) = trainings(house.context, house.project_id)
    card = house.catalog.models.current(house.project_id).card
    assert training.best_epoch == card["best_epoch"]
    assert (training.version, training.status, training.parent) == (
        card["version"],
        "current",
        None,
    )
    assert [row["epoch"] for row in training.epochs] == [1, 2]
    for row in training.epochs:
        values = [row[f"{side}_{measure}"] for side in ("train", "val") for measure in MEASURES]
        assert all(value >= 0 for value in values)
        assert row["seconds"] > 0
    assert json.loads(json.dumps(as_dict(training)))["epochs"] == list(training.epochs)


def test_trainings_under_way_and_old_ones_are_shown(house):
    """Without a card the best epoch so far counts; what was never measured is None."""
    models = house.catalog.models
    for number, scores in enumerate(([0.2, 0.6, 0.6, 0.5], [None, None], [])):
        version = models.add(house.project_id, parent=None, fingerprint=str(number)).version
        for epoch, iou in enumerate(scores, 1):
            models.save_epoch(version, epoch, {"epoch": epoch, "val_iou": iou})
    first, second = trainings(house.context, house.project_id)
    assert (first.best_epoch, second.best_epoch) == (3, 2)
    assert first.epochs[0] == {
        "epoch": 1, "seconds": None, "val_iou": 0.2, "train_iou": None, "val_loss": None,
        "train_loss": None, "val_dice": None, "train_dice": None, "val_accuracy": None,
        "train_accuracy": None, "waited": None, "at_once": None,
    }  # fmt: skip
    assert trainings(house.context, house.project_id, last=1) == [second]
