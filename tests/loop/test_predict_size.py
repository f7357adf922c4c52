"""Predictions that are noise: small enough for a browser, and never the end of a step."""

import logging

import numpy as np
import orjson
import pytest

from ml_backend.cli.printing import show_status
from ml_backend.learning.inference import Band
from ml_backend.loop.models import Likeliest, Models
from ml_backend.loop.predict import predictions_for, regions_from, regions_of
from ml_backend.loop.unused import unused
from ml_backend.masks.labels import Label, LabelConfig
from ml_backend.masks.rle import decode_brush
from ml_backend.masks.task_image import TaskImage
from ml_backend.recipe import Prediction

CONFIG = LabelConfig("kind", "image", TaskImage(), (Label("cell", "#ff0000"),), "brush")
SIDE = 1536


def certain(foreground: np.ndarray) -> Likeliest:
    """A prediction that is certain of a mask."""
    return Likeliest(foreground.astype(np.uint8), np.ones(foreground.shape, np.float16), 1.0)


def says(noise: np.ndarray):
    """What a predictor that is certain of a mask, whatever it is shown, has instead of bands."""
    probs = np.stack([~noise, noise]).astype(np.float32)

    def bands_many(_, images):
        return (Band(number, noise.shape, 0, probs.copy()) for number, _ in enumerate(images))

    return bands_many


def specks(side: int) -> np.ndarray:
    """A mask of single pixels, with a square of 40 px in the corner."""
    mask = np.zeros((side, side), bool)
    mask[::2, ::2] = True
    mask[:40, :40] = True
    return mask


def drawn(regions: list, side: int) -> np.ndarray:
    """The pixels of the first region."""
    return decode_brush(regions[0]["value"]["rle"], side, side) > 0


def test_specks_of_a_huge_prediction_are_left_out() -> None:
    """A prediction too big for a browser keeps its objects and loses its specks, and says so."""
    regions, _, note = regions_from(certain(specks(SIDE)), CONFIG, Prediction())
    assert [region["type"] for region in regions] == ["brush", "labels"]
    mask = drawn(regions, SIDE)
    assert mask[:40, :40].all()
    assert not mask[42:, 42:].any()
    assert note is not None
    for words in ("10 MB", "fewer than 64 px", "pool.tile", "prediction.minimum_area"):
        assert words in note


def test_a_prediction_of_nothing_but_noise_has_no_regions() -> None:
    """Where even that is too big, the task gets its score, no region, and the reason."""
    noise = np.indices((SIDE, SIDE)).sum(axis=0) % 2 == 0
    regions, score, note = regions_from(certain(noise), CONFIG, Prediction())
    assert regions == []
    assert 0 <= score <= 1
    assert note is not None
    assert "nothing of it is shown" in note


@pytest.mark.parametrize("limit", [1000, 20_000, 10**6])
def test_what_is_sent_never_exceeds_the_limit(limit: int) -> None:
    """Whatever is predicted, the regions' streams fit into the recipe's limit as JSON."""
    rng = np.random.default_rng(0)
    for share in (0.01, 0.1, 0.5):
        mask = rng.random((256, 256)) < share
        mask[:60, :60] = True
        recipe = Prediction(payload_limit=limit)
        regions, _, note = regions_from(certain(mask), CONFIG, recipe)
        streams = [region["value"]["rle"] for region in regions]
        sent = orjson.dumps(streams, option=orjson.OPT_SERIALIZE_NUMPY)
        assert len(sent) <= limit + 3
        whole = bool(regions) and np.array_equal(drawn(regions, 256), mask)
        assert whole == (note is None)


def test_a_minimum_area_holds_for_every_prediction() -> None:
    """Small objects are left out without a word, exactly those below the recipe's area."""
    mask = np.zeros((64, 64), bool)
    mask[2:7, 2:7] = True
    mask[20:26, 20:26] = True
    for area, kept in ((0, 61), (25, 61), (26, 36), (36, 36)):
        recipe = Prediction(minimum_area=area)
        regions, _, note = regions_from(certain(mask), CONFIG, recipe)
        assert drawn(regions, 64).sum() == kept
        assert note is None
    assert regions_from(certain(mask), CONFIG, Prediction(minimum_area=37))[0] == []


def test_the_step_the_log_and_the_status_say_it(house, caplog, capsys, monkeypatch):
    """Each prediction that is not shown whole is named with its task; the loop goes on."""
    house.recipe({"prediction.payload_limit": 1000})
    house.fill(8)
    house.labelled_round()
    house.step("train")
    noise = np.random.default_rng(0).random((32, 32)) < 0.5
    predictor = type(Models(house.context).current(house.project).predictor)
    monkeypatch.setattr(predictor, "bands_many", says(noise))
    caplog.set_level(logging.WARNING)
    house.step("select")
    tasks = [task.id for task in house.catalog.work.tasks(house.project_id, open_only=True)]
    assert tasks
    names = {house.studio.tasks[task_id]["data"]["name"] for task_id in tasks}
    for name in names:
        assert (
            f"project {house.project_id}, prediction of {name}: it takes more than" in caplog.text
        )
    found = {item.what: item for item in unused(house.context, house.project_id)}
    assert set(found) == {f"prediction of {name}" for name in names}
    for task_id in tasks:
        item = found[f"prediction of {house.studio.tasks[task_id]['data']['name']}"]
        assert [link.rsplit("=", 1)[1] for link in item.links] == [str(task_id)]
    show_status(house.context)
    assert "prediction.payload_limit" in capsys.readouterr().out
    serving = Models(house.context).current(house.project)
    tiles = [house.catalog.pool.tile(house.catalog.work.task(t).tile_id) for t in tasks]
    rows = predictions_for(house.context, house.project, serving, tiles)
    assert all(regions_of(row) == [] and row.note for row in rows.values())


def test_the_report_counts_them(house, monkeypatch):
    """`predict` says how many predictions are not shown whole."""
    house.fill(8)
    house.labelled_round()
    house.step("train")
    house.step("select")
    house.recipe({"prediction.payload_limit": 1000})
    version = house.catalog.models.current(house.project_id).version
    predictor = type(Models(house.context).current(house.project).predictor)
    noise = np.random.default_rng(0).random((32, 32)) < 0.5
    monkeypatch.setattr(predictor, "bands_many", says(noise))
    report = house.step("predict")
    assert report.summary.startswith(f"{version} shown on 4 open tasks; 4 predictions are too")
    assert report.numbers["reduced"] == 4
