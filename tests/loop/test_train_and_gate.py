"""Training, the gate, and the ways round it."""

import re

import numpy as np
import pytest
from PIL import Image as Picture
from support.house import picture, save_picture
from support.networks import PatchNorm
from torch import nn

from ml_backend.errors import ConfigError, NotFound, NothingToLearn
from ml_backend.learning import training
from ml_backend.loop import train as train_module
from ml_backend.loop.context import silent
from ml_backend.loop.curves import trainings
from ml_backend.loop.dataset import dataset_of
from ml_backend.loop.due import training_due
from ml_backend.loop.effort import as_dict, effort
from ml_backend.loop.export import export
from ml_backend.loop.models import Models
from ml_backend.loop.promote import decide, promote, roll_back
from ml_backend.loop.steps import STEPS
from ml_backend.masks.labels import make_label_config
from ml_backend.recipe import Validation
from ml_backend.store.weights import list_models, load_model, model_key, save_model


def measured(iou, accuracy=0.9):
    """Numbers of one model on the validation tiles."""
    return {"iou": iou, "dice": iou, "accuracy": accuracy, "iou_by_class": {"cell": iou}}


@pytest.mark.parametrize(
    ("candidate", "current", "tolerance", "verdict"),
    [
        (measured(0.5), None, 0.0, "promoted"),
        (None, None, 0.0, "promoted"),
        (None, measured(0.5), 0.0, "promoted"),
        (measured(0.5), measured(0.5), 0.0, "promoted"),
        (measured(0.51), measured(0.5), 0.0, "promoted"),
        (measured(0.49), measured(0.5), 0.0, "rejected"),
        (measured(0.49), measured(0.5), 0.02, "promoted"),
        (measured(0.70), measured(0.75), 0.05, "promoted"),
        (measured(0.10), measured(0.30), 0.1, "rejected"),
        (measured(None, 0.9), measured(None, 0.8), 0.0, "promoted"),
        (measured(None, 0.7), measured(None, 0.8), 0.0, "rejected"),
        (measured(0.0, 0.7), measured(None, 0.8), 0.0, "rejected"),
        (measured(None, None), measured(None, None), 0.0, "promoted"),
    ],
)
def test_the_gate(candidate, current, tolerance, verdict):
    """A candidate passes unless it is worse by more than the tolerance on the same tiles."""
    validation = Validation(tolerance=tolerance)
    decision = decide({"candidate": candidate, "current": current}, validation)
    assert decision.name == verdict
    assert decision.reason


def by_class(*ious):
    """Numbers of a model of two labels, whose mean is the same whatever they are."""
    return measured(0.6) | {"iou_by_class": dict(zip(("cell", "rare"), ious, strict=True))}


@pytest.mark.parametrize(
    ("candidate", "current", "limits", "words"),
    [
        (by_class(0.9, 0.3), by_class(0.6, 0.6), {}, None),
        (by_class(0.9, 0.3), by_class(0.6, 0.6), {"floors": {"rare": 0.4}},
         "IoU of rare 0.300 is below its floor 0.400"),
        (by_class(0.9, 0.4), by_class(0.6, 0.6), {"floors": {"rare": 0.4}}, None),
        (by_class(0.9, 0.3), None, {"floors": {"rare": 0.4}}, "floor"),
        (by_class(0.9, None), by_class(0.6, 0.6), {"floors": {"rare": 0.4}}, None),
        (None, by_class(0.6, 0.6), {"floors": {"rare": 0.4}}, None),
        (by_class(0.9, 0.3), by_class(0.6, 0.6), {"class_tolerance": 0.2},
         "IoU of rare 0.300 against 0.600, tolerance of each label 0.200"),
        (by_class(0.9, 0.4), by_class(0.6, 0.6), {"class_tolerance": 0.2}, None),
        (by_class(0.9, 0.3), by_class(0.6, None), {"class_tolerance": 0.0}, None),
        (by_class(0.9, 0.3), None, {"class_tolerance": 0.0}, None),
        (by_class(0.1, 0.2), by_class(0.6, 0.6),
         {"class_tolerance": 0.0, "floors": {"rare": 0.4}}, "cell 0.100 .*; .*rare 0.200 .*floor"),
    ],
)  # fmt: skip
def test_the_gate_looks_at_each_label(candidate, current, limits, words):
    """A label below its floor, or fallen too far, rejects though the mean is fine; and is named."""
    decision = decide({"candidate": candidate, "current": current}, Validation(**limits))
    assert decision.name == ("rejected" if words else "promoted")
    assert re.search(words or "", decision.reason)


def test_a_floor_rejects_and_is_recorded(trained, monkeypatch):
    """The gate's numbers hold the limits it went by, the IoU by label, and the reason."""
    trained.recipe({"validation.floors": {"cell": 0.55}})
    judge(monkeypatch, v1=0.4, v2=0.5)
    annotate_more(trained)
    report = trained.step("train")
    assert "rejected: IoU of cell 0.500 is below its floor 0.550" in report.summary
    gate = trained.catalog.models.gates(trained.project_id)[-1]
    assert gate.decision == "rejected"
    assert gate.numbers["reason"] == "IoU of cell 0.500 is below its floor 0.550"
    assert gate.numbers["limits"] == {
        "tolerance": 0.0, "class_tolerance": None, "floors": {"cell": 0.55}
    }  # fmt: skip
    assert gate.numbers["candidate"]["iou_by_class"] == {"cell": 0.5}
    trained.recipe({"validation.floors": {"nucleus": 0.5}, "training.seed": 5})
    with pytest.raises(ConfigError, match=r"validation\.floors names 'nucleus'"):
        trained.step("train")


def test_the_card_and_the_curve_say_how_the_training_went(house, monkeypatch):
    """When it stopped and why, how long it waited for data, what memory and processes did."""
    monkeypatch.setattr(nn, "BatchNorm2d", PatchNorm)  # nothing moves: no epoch is better
    house.recipe({"training.epochs": 4, "training.patience": 1, "training.learning_rate": 1e-30})
    house.fill(12)
    house.labelled_round()
    said = []
    STEPS["train"](house.context, house.project_id, lambda *report: said.append(report[2]))
    model = house.catalog.models.current(house.project_id)
    rows = house.catalog.models.epochs(model.version)
    card = model.card
    assert card["epochs"] == len(rows) == 2
    assert card["stopped"] == rows[-1]["stopped"]
    assert f"stopped after epoch {len(rows)} of 4" in card["stopped"]
    assert any(card["stopped"] in text for text in said)
    assert (card["patches_at_once"], card["processes"]) == (2, 1)
    assert 0 <= card["waited"] <= 1
    (training,) = trainings(house.context, house.project_id)
    assert training.stopped == card["stopped"]
    assert 0 <= training.epochs[0]["waited"] <= 1


def statuses(house):
    """Version → status."""
    return {model.version: model.status for model in house.catalog.models.all(house.project_id)}


def first(house):
    """The number of the project in versions."""
    return f"p{house.project_id}"


@pytest.fixture
def trained(house):
    """Give a house with one model and all of its first batch answered."""
    house.fill(12)
    house.labelled_round()
    house.step("train")
    return house


def judge(monkeypatch, **ious):
    """Let the gate measure these validation IoUs by the version's ending."""

    def measure(_context, _project, version, _dataset):
        return measured(ious[version.rsplit("-", 1)[1]])

    monkeypatch.setattr(train_module, "measure", measure)


def annotate_more(house, number=99):
    """A new annotation of a new image, pulled."""
    save_picture(house.folder / "more.png", number)
    data = (house.folder / "more.png").read_bytes()
    (url,) = house.studio.upload_images(house.project_id, [("more.png", data)])
    (task_id,) = house.studio.import_tasks(house.project_id, [{"data": {"image": url}}])
    house.studio.create_annotation(task_id, house.regions(picture(number)[1]))
    house.step("sync")


def test_training_is_due_when_a_batch_is_finished(house):
    """Not before any annotation, not in the middle of a batch, but at its end, once."""
    house.fill(8)
    assert not training_due(house.context, house.project_id)
    house.step("select")
    *most, last = sorted(house.studio.tasks)
    for task_id in most:
        house.answer(task_id)
    assert house.step("sync").follow == ()
    house.studio.create_annotation(last, [], was_cancelled=True)  # skipping finishes it too
    assert house.step("sync").follow == ("train",)
    house.step("train")
    assert not training_due(house.context, house.project_id)


def test_training_is_due_after_enough_annotations(house):
    """`loop.retrain_every` does not wait for the batch."""
    house.recipe({"loop.retrain_every": 2})
    house.fill(8)
    house.step("select")
    one, two, *_ = sorted(house.studio.tasks)
    house.answer(one)
    assert house.step("sync").follow == ()
    house.answer(two)
    assert house.step("sync").follow == ("train",)


def test_an_edit_taken_back_trains_once_not_for_ever(trained):
    """Going back to masks that were learned from already asks for no training."""
    task_id = min(trained.studio.tasks)
    made = trained.studio.tasks[task_id]["annotations"][0]
    before = made["result"]
    trained.studio.edit_annotation(made["id"], trained.regions(np.ones((32, 32), np.uint8)))
    assert trained.step("sync").follow == ("train",)
    trained.step("train")
    trained.studio.edit_annotation(made["id"], before)
    assert "train" not in trained.step("sync").follow
    report = trained.step("train")
    assert "nothing new" in report.summary
    assert "train" not in report.follow


def test_the_first_model_is_promoted_with_its_card(trained):
    """It is current, its card says what it learned from, its epochs are kept."""
    version = f"{first(trained)}-v1"
    assert statuses(trained) == {version: "current"}
    model = trained.catalog.models.current(trained.project_id)
    assert model.card["labels"] == ["cell"]
    assert len(model.card["masks"]) == model.card["labelled"] == 4
    assert (model.card["train_tiles"], model.card["val_tiles"]) == (2, 2)
    assert model.card["metrics"].keys() == {
        *("iou", "dice", "accuracy", "ece", "iou_by_class", "dice_by_class"),
    }
    assert [row["epoch"] for row in trained.catalog.models.epochs(version)] == [1, 2]
    assert list((trained.context.settings.home / "runs").iterdir()) == []
    assert trained.project.recipe.loop.auto_select
    assert "nothing new" in trained.step("train").summary


def test_what_is_served_has_the_temperature_of_its_card(trained):
    """Fitted on the validation tiles, kept in the card, used by every prediction; masks stay."""
    model = trained.catalog.models.current(trained.project_id)
    calibration = model.card["calibration"]
    assert calibration["images"] == 2
    assert calibration["nll_after"] < calibration["nll_before"]
    serving = Models(trained.context).current(trained.project)
    assert serving.predictor.temperature == calibration["temperature"] != 1
    image = picture(0)[0]
    tempered = serving.predictor.probs(image)
    serving.predictor.temperature = 1.0
    plain = serving.predictor.probs(image)
    assert np.array_equal(tempered.argmax(axis=0), plain.argmax(axis=0))
    assert not np.allclose(tempered, plain)


def test_cards_without_a_temperature_are_served_as_they_are(trained):
    """Models of older releases, and those without validation tiles, have temperature 1."""
    version = f"{first(trained)}-v1"
    key = model_key(trained.project_id, version)
    state, card = load_model(trained.context.blobs, key)
    for changed in ({**card, "calibration": None}, {k: card[k] for k in card if k[:3] != "cal"}):
        save_model(trained.context.blobs, key, state, changed)
        serving = Models(trained.context).current(trained.project)
        assert serving.predictor.temperature == 1


@pytest.mark.parametrize(
    ("ious", "expected"),
    [
        ({"v1": 0.5, "v2": 0.6}, {"v1": "archived", "v2": "current"}),
        ({"v1": 0.5, "v2": 0.4}, {"v1": "current", "v2": "rejected"}),
    ],
)
def test_the_gate_is_carried_out(trained, monkeypatch, ious, expected):
    """A better candidate takes over; a worse one is rejected, kept, and learned from once."""
    judge(monkeypatch, **ious)
    annotate_more(trained)
    report = trained.step("train")
    assert statuses(trained) == {f"{first(trained)}-{key}": s for key, s in expected.items()}
    gate = trained.catalog.models.gates(trained.project_id)[-1]
    assert gate.numbers["candidate"]["iou"] == ious["v2"]
    assert gate.numbers["current"]["iou"] == ious["v1"]
    assert gate.decision == report.numbers["decision"]
    assert not training_due(trained.context, trained.project_id)
    assert "nothing new" in trained.step("train").summary


def test_the_gate_judges_by_the_model_that_is_served_then(trained, monkeypatch):
    """A model that people chose during the training is what the candidate must match."""
    judge(monkeypatch, v1=0.3, v2=0.5, v3=0.4)
    annotate_more(trained)
    trained.step("train")
    annotate_more(trained, 98)
    fit = train_module._fit

    def chosen_meanwhile(*args):
        roll_back(trained.context, trained.project_id)
        return fit(*args)

    monkeypatch.setattr(train_module, "_fit", chosen_meanwhile)
    trained.step("train")
    gate = trained.catalog.models.gates(trained.project_id)[-1]
    assert (gate.candidate, gate.current) == (f"{first(trained)}-v3", f"{first(trained)}-v1")
    assert gate.decision == "promoted"


def test_people_may_promote_and_roll_back(trained, monkeypatch):
    """Promoting by hand serves a rejected version; rolling back goes one step at a time."""
    judge(monkeypatch, v1=0.5, v2=0.4, v3=0.9)
    v1, v2, v3 = (f"{first(trained)}-v{number}" for number in (1, 2, 3))
    context, project = trained.context, trained.project_id
    with pytest.raises(NotFound, match="no earlier model"):
        roll_back(context, project)
    annotate_more(trained)
    trained.step("train")
    promote(context, project, v2)
    assert statuses(trained) == {v1: "archived", v2: "current"}
    annotate_more(trained, 98)
    trained.step("train")
    assert trained.catalog.models.current(project).version == v3
    assert roll_back(context, project) == v2
    assert roll_back(context, project) == v1
    assert statuses(trained) == {v1: "current", v2: "archived", v3: "archived"}
    with pytest.raises(NotFound, match="no earlier model"):
        roll_back(context, project)
    with pytest.raises(NotFound, match="v2"):
        promote(context, project, "p9-v9")


def test_an_unfinished_version_cannot_be_served(house):
    """A candidate without weights is refused by hand, and by export there is nothing."""
    version = house.catalog.models.add(house.project_id, parent=None, fingerprint="f").version
    with pytest.raises(NotFound, match="never finished"):
        promote(house.context, house.project_id, version)


class KilledError(Exception):
    """Stands for kill -9."""


def test_a_killed_training_carries_on_under_its_version(house, monkeypatch):
    """The next run does the epochs that are missing, and no half-made model is ever there."""
    house.fill(8)
    house.labelled_round()
    save = training.save_checkpoint

    def killed(*args):
        save(*args)
        raise KilledError

    monkeypatch.setattr(training, "save_checkpoint", killed)
    with pytest.raises(KilledError):
        house.step("train")
    version = f"{first(house)}-v1"
    assert statuses(house) == {version: "candidate"}
    assert list_models(house.context.blobs) == []
    assert house.catalog.models.current(house.project_id) is None
    epochs = []

    def counted(*args):
        epochs.append(args)
        save(*args)

    monkeypatch.setattr(training, "save_checkpoint", counted)
    house.step("train")
    assert len(epochs) == 1
    assert statuses(house) == {version: "current"}


def test_a_candidate_killed_before_the_gate_is_judged_as_it_is(house, monkeypatch):
    """Weights that were published are not trained again, on this machine or another."""
    house.fill(8)
    house.labelled_round()
    gate = train_module._gate

    def killed(*_):
        raise KilledError

    monkeypatch.setattr(train_module, "_gate", killed)
    with pytest.raises(KilledError):
        house.step("train")
    (key,) = list_models(house.context.blobs)
    before = house.context.blobs.read(f"{key}/weights.safetensors")
    for path in (house.context.settings.home / "runs").iterdir():
        path.unlink()  # another machine has no checkpoint
    monkeypatch.setattr(train_module, "_gate", gate)
    monkeypatch.setattr(train_module, "_fit", killed)
    house.step("train")
    assert statuses(house) == {f"{first(house)}-v1": "current"}
    assert house.context.blobs.read(f"{key}/weights.safetensors") == before


def test_nothing_labelled_is_said(house):
    """Training before any annotation says what to do."""
    house.fill(4)
    with pytest.raises(NothingToLearn, match="submit some annotations"):
        house.step("train")


@pytest.mark.parametrize("side", ["val", "train"])
def test_rounds_go_on_when_there_is_nothing_to_learn_from_yet(house, side):
    """Only validation images, or only empty tiles, lead to the next batch and not to an end."""
    house.fill(12)
    house.step("select")
    for task_id in sorted(house.studio.tasks):
        tile = house.catalog.pool.tile(house.studio.tasks[task_id]["data"]["tile"])
        if side == "train" or tile.image.split == "val":
            house.answer(task_id, np.zeros((32, 32), np.uint8) if side == "train" else None)
        else:
            house.studio.create_annotation(task_id, [], was_cancelled=True)
    assert house.step("sync").follow == ("train",)
    report = house.step("train")
    assert report.follow == ("score",)
    assert house.catalog.models.current(house.project_id) is None


def test_the_dataset_knows_its_own_changes(trained):
    """The fingerprint is the same twice, and another after any change of masks or recipe."""
    one = dataset_of(trained.context, trained.project_id)
    assert dataset_of(trained.context, trained.project_id) == one
    assert {item.tile.image.split for item in one.train} == {"train"}
    assert {item.tile.image.split for item in one.val} == {"val"}
    trained.recipe({"training.steps": 5})
    two = dataset_of(trained.context, trained.project_id)
    assert two.fingerprint != one.fingerprint
    assert not training_due(trained.context, trained.project_id)


def test_sources_validate_only_until_people_have(house):
    """Without annotated validation images the sources have both sides; then they all train."""
    masks = house.folder / "masks"
    masks.mkdir()
    for number in range(4):
        mask = save_picture(house.images / f"{number}.png", number)
        Picture.fromarray(mask * 255).save(masks / f"{number}.png")
    house.fill(10, masks=masks)
    before = dataset_of(house.context, house.project_id)
    assert (len(before.train), len(before.val), before.masks) == (2, 2, ())
    house.labelled_round()
    after = dataset_of(house.context, house.project_id)
    assert (len(after.train), len(after.val)) == (6, 2)
    assert len({item.tile.id for item in after.train}) == 6


def test_a_reordered_label_config_confuses_nobody(two_labels):
    """Masks, the model's answers and exports follow the labels' names, not their numbers."""
    house = two_labels
    house.fill(8)
    house.labelled_round()
    house.step("train")
    serving = Models(house.context).current(house.project)
    image = picture(0)[0]
    old = serving.label_map(image, ["cell", "nucleus"])
    new = serving.label_map(image, ["nucleus", "other", "cell"])
    assert np.array_equal(new, np.array([0, 3, 1], np.uint8)[old])
    probs = serving.predictor.probs(image)
    today = serving.among(probs, ["nucleus", "other", "cell"])
    assert np.array_equal(today, probs[[0, 2, 2, 1]] * np.array([1, 1, 0, 1])[:, None, None])
    assert np.allclose(serving.among(probs, ["cell"]).sum(axis=0), 1, atol=1e-5)
    config = make_label_config(["nucleus", "cell"])
    house.studio.projects[house.project_id]["label_config"] = config
    house.step("sync")
    out = house.folder / "out"
    export(house.context, house.project_id, out, source="people", progress=silent)
    for item in house.catalog.work.labelled(house.project_id):
        with Picture.open(out / "png" / item.tile.image.name) as written:
            assert np.array_equal(np.array(written), 2 * house.truth(item.tile))
    for _ in range(2):  # the second time from what was kept
        export(house.context, house.project_id, out, source="model", progress=silent)
        with Picture.open(out / "png/0.png") as written:
            assert np.array_equal(np.array(written), np.array([0, 2, 1], np.uint8)[old])


def test_effort_is_counted_by_round(trained):
    """Submitted, unchanged and minutes belong to the round that asked, with its model."""
    trained.step("select")
    for task_id in sorted(trained.studio.tasks)[4:]:
        (prediction,) = trained.studio.tasks[task_id]["predictions"]
        trained.studio.create_annotation(
            task_id, prediction["result"], parent_prediction=prediction["id"], lead_time=30
        )
    trained.step("sync")
    found = effort(trained.context, trained.project, np.random.default_rng(0))
    one, two = found.rounds
    assert (one.round, one.work.submitted, one.work.accepted, one.labelled) == (1, 4, 0, 4)
    assert (one.model_version, one.decision) == (f"{first(trained)}-v1", "promoted")
    assert (two.round, two.work.submitted, two.work.redone, two.labelled) == (2, 4, 0, 8)
    assert (two.work.dice, two.work.minutes, two.model_version) == (1.0, 2.0, None)
    assert (one.work.corrected, two.work.corrected) == (None, 0)
    assert (one.audit.submitted, two.audit.submitted, two.audit.accepted) == (2, 2, 2)
    assert (found.total.submitted, found.total.redone, found.total.minutes) == (8, 4, 2.0)
    assert (found.audit.answers, found.audit.accepted, found.audit.dice.value) == (2, 2, 1.0)
    assert found.advice.verdict == "cannot tell"
    assert as_dict(found)["rounds"][1]["work"]["redone"] == 0


def test_the_gate_keeps_what_each_image_said(trained):
    """The counts add up to the IoU by which it decided, and the card does not repeat them."""
    (gate,) = trained.catalog.models.gates(trained.project_id)
    (model,) = trained.catalog.models.all(trained.project_id)
    counts = gate.numbers["by_image"]["candidate"]
    validating = {
        item.tile.image.id for item in dataset_of(trained.context, trained.project_id).val
    }
    assert set(counts) == {str(image) for image in validating}
    hits, true, said = np.sum(list(counts.values()), axis=0)[0]
    assert hits / (true + said - hits) == pytest.approx(gate.numbers["candidate"]["iou"])
    assert gate.numbers["by_image"]["current"] is None
    assert "by_image" not in model.card["metrics"]
    found = effort(trained.context, trained.project, np.random.default_rng(0))
    assert found.gains.models[0].iou.value == pytest.approx(model.card["metrics"]["iou"])
