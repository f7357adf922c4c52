"""Objects one by one through the loop: read, stored, cut, tuned, judged and shown."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from ml_backend.cli import printing
from ml_backend.loop.context import silent
from ml_backend.loop.curves import trainings
from ml_backend.loop.export import export
from ml_backend.loop.instances import Trials, settings_of
from ml_backend.loop.masks import keep_mask, load_mask, load_objects, store_mask
from ml_backend.loop.models import Likeliest, Models, Serving
from ml_backend.loop.pool import add_folder
from ml_backend.loop.predict import predictions_for, regions_from, regions_of
from ml_backend.masks.instances import components, connected, told_apart
from ml_backend.masks.labels import make_label_config, parse_label_config
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.masks.watershed import objects
from ml_backend.masks.writing import json_size
from ml_backend.recipe import Instances, Prediction

CUT = Instances(enabled=True)
CONFIG = parse_label_config(make_label_config(["cell"]))


def halves(side=32):
    """Two squares that share an edge, as a label map and as numbers."""
    numbers = np.zeros((side, side), np.int32)
    numbers[8:24, 4:16], numbers[8:24, 16:28] = 1, 2
    return (numbers > 0).astype(np.uint8), numbers


def pair(side=64):
    """Two discs that touch, as a label map and as numbers; a watershed finds them."""
    y, x = np.mgrid[:side, :side]
    one, two = (y - 32) ** 2 + (x - 18) ** 2 <= 14**2, (y - 32) ** 2 + (x - 44) ** 2 <= 13**2
    numbers = np.where(one, 1, np.where(two, 2, 0)).astype(np.int32)
    return (numbers > 0).astype(np.uint8), numbers


def regions(numbers, config=CONFIG):
    """Each object as a person's region of its own."""
    found = []
    for number in range(1, numbers.max() + 1):
        found += encode_results((numbers == number).astype(np.uint8), config, salt=str(number))
    return found


def test_regions_that_touch_are_objects_of_their_own():
    """And so are the parts of one region; without a touch the label map says it all."""
    label_map, numbers = halves()
    decoded = decode_results(regions(numbers), CONFIG, 32, 32, objects=True)
    np.testing.assert_array_equal(decoded.label_map, label_map)
    np.testing.assert_array_equal(decoded.objects, numbers)
    assert decode_results(regions(numbers), CONFIG, 32, 32).objects is None
    apart = np.zeros((32, 32), np.uint8)
    apart[2:5, 2:5], apart[20:25, 20:25] = 1, 1
    results = encode_results(apart, CONFIG)
    assert len(results) == 1
    assert decode_results(results, CONFIG, 32, 32, objects=True).objects is None


def test_objects_are_told_apart_by_number_and_label():
    """One number of two labels is two objects, one number in two places one; 0 by components."""
    label_map = np.array([[1, 1, 2, 0, 1, 255, 1, 0, 1]], np.uint8)
    numbers = np.array([[7, 7, 7, 7, 7, 7, 3, 0, 0]], np.int32)
    found, labels_of = told_apart(label_map, numbers)
    assert found.tolist() == [[1, 1, 2, 0, 1, 0, 3, 0, 4]]
    assert labels_of == [1, 2, 1, 1]
    everywhere = told_apart(np.ones((1, 2), np.uint8), np.array([[5, 9]], np.int32))
    assert everywhere[0].tolist() == [[1, 2]]
    assert connected(np.array([[4, 4, 0, 4, 9]], np.int32)).tolist() == [[1, 1, 0, 2, 3]]


def test_masks_keep_their_objects(house):
    """Stored by content, read with labels in any order, and as a plain label map by everyone."""
    label_map, numbers = halves()
    blobs = house.context.blobs
    plain = store_mask(blobs, 1, label_map, ["cell"])
    told = store_mask(blobs, 1, label_map, ["cell"], numbers)
    assert plain != told == keep_mask(blobs, 1, label_map, ["cell"], told, numbers)
    assert keep_mask(blobs, 1, label_map, ["cell"], told) == plain
    assert keep_mask(blobs, 1, label_map, ["cell"], plain, numbers) == told
    for key, expected in ((plain, components(label_map)), (told, (numbers, [1, 1]))):
        np.testing.assert_array_equal(load_mask(blobs, key), label_map)
        swapped, (found, labels_of) = load_objects(blobs, key, ["other", "cell"])
        np.testing.assert_array_equal(swapped, 2 * label_map)
        np.testing.assert_array_equal(found, expected[0])
        assert labels_of == [2] * len(expected[1])
    many = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    key = store_mask(blobs, 1, np.ones((300, 300), np.uint8), ["cell"], 1 + many % 60_000)
    found, labels_of = load_objects(blobs, key, ["cell"])[1]
    assert len(labels_of) == 60_000
    key = store_mask(blobs, 1, np.ones((300, 300), np.uint8), ["cell"], many)
    assert len(load_objects(blobs, key, ["cell"])[1][1]) == 1  # too many to be told


def answered(house, results):
    """Submit regions to a pushed task; the key of its mask once it is pulled."""
    task_id = min(n for n, row in house.studio.tasks.items() if not row["annotations"])
    made = house.studio.create_annotation(task_id, results)
    house.step("sync")
    rows = {row.id: row for row in house.catalog.work.annotations(house.project_id)}
    return rows[made].mask


def test_annotations_are_read_again_when_objects_are_wanted(house):
    """The recipe switches it on: what people told apart is there, also of earlier answers."""
    house.fill(6)
    house.step("select")
    _, numbers = halves()
    before = answered(house, regions(numbers, house.labels))
    assert len(load_objects(house.context.blobs, before, ["cell"])[1][1]) == 1
    house.recipe({"instances.enabled": True})
    house.step("sync")
    (row,) = (r for r in house.catalog.work.annotations(house.project_id) if r.mask)
    assert row.mask != before
    assert len(load_objects(house.context.blobs, row.mask, ["cell"])[1][1]) == 2
    assert "0 new annotations" in house.step("sync").summary


@pytest.mark.parametrize(("enabled", "count"), [(True, 2), (False, 1)])
def test_numbered_mask_files_keep_their_numbers(house, enabled, count):
    """16-bit instance maps of a folder tell touching objects apart, where the recipe asks."""
    house.recipe({"instances.enabled": enabled})
    label_map, numbers = halves()
    masks = house.folder / "masks"
    masks.mkdir()
    house.images.mkdir()
    Picture.fromarray(label_map * 200).save(house.images / "a.png")
    Picture.fromarray((numbers * 300).astype(np.uint16)).save(masks / "a.png")
    add_folder(house.context, house.project_id, house.images, masks=masks)
    (item,) = house.catalog.pool.sources(house.project_id)
    assert len(load_objects(house.context.blobs, item.mask, ["cell"])[1][1]) == count


def test_tuning_cuts_where_people_do():
    """Of discs told apart the cut is found; of the same discs as one blob none is the best."""
    label_map, numbers = pair()
    trials = Trials(CUT, 1)
    trials.add(label_map, label_map, (numbers, [1, 1]))
    cut = trials.best()
    assert cut.settings.neck is not None
    assert cut.found.pq > 0.9 > cut.uncut.pq
    assert len(objects(label_map, cut.settings)[1]) == 2
    blob = Trials(CUT, 1)
    blob.add(label_map, label_map, components(label_map))
    assert blob.best().settings.neck is None
    assert blob.best().found == blob.best().uncut
    own = Trials(CUT.model_copy(update={"neck": 0.6, "minimum_area": 5}), 1)
    own.add(label_map, label_map, (numbers, [1, 1]))
    assert own.best().settings.neck == 0.6  # of equals the recipe's own
    assert own.best().settings.minimum_area == 5


def as_json(region):
    """A region as Label Studio gives it back."""
    return region | {"value": region["value"] | {"rle": region["value"]["rle"].tolist()}}


def test_predictions_show_every_object_with_its_own_score():
    """A region an object; its score is the mean probability of its pixels."""
    label_map, numbers = pair()
    foreground = np.where(numbers == 1, 0.9, np.where(numbers == 2, 0.7, 0.1)).astype(np.float32)
    sure = np.maximum(foreground, 1 - foreground)
    said = Likeliest(label_map, sure.astype(np.float16), float(sure.mean()))
    one, two = regions_from(said, CONFIG, Prediction(), CUT)[0]
    assert (one["score"], two["score"]) == (
        pytest.approx(0.9, abs=0.02),
        pytest.approx(0.7, abs=0.02),
    )
    assert one["id"] != two["id"]
    whole, score, _ = regions_from(said, CONFIG, Prediction())
    assert len(whole) == 1
    assert regions_from(said, CONFIG, Prediction(), CUT)[1] == score
    decoded = decode_results(
        [as_json(one), as_json(two)], CONFIG, 64, 64, objects=True,
    )  # fmt: skip
    np.testing.assert_array_equal(decoded.label_map, label_map)
    np.testing.assert_array_equal(decoded.objects, objects(label_map, CUT)[0])


def test_too_many_objects_for_a_browser_are_one_region():
    """Then a label is shown whole, as without objects, and a note says so."""
    label_map, _ = pair()
    said = Likeliest(label_map, np.ones(label_map.shape, np.float16), 1.0)
    parts = regions_from(said, CONFIG, Prediction(), CUT)[0]
    needed = sum(json_size(row["value"]["rle"]) for row in parts)
    tight = Prediction().model_copy(update={"payload_limit": needed - 1})
    regions, _, note = regions_from(said, CONFIG, tight, CUT)
    assert len(regions) == 1
    assert "its objects are shown as one region a label" in note


def test_more_objects_than_a_task_may_show_are_one_region():
    """Those count that would be shown; the note names their number and the way out."""
    mask = np.zeros((64, 64), np.uint8)
    mask[4:60:8, 4:60:8] = 1  # 49 specks
    mask[30:40, 30:40] = 1  # and an object, which swallows one of them
    said = Likeliest(mask, np.ones(mask.shape, np.float16), 1.0)
    for limit, least, shown in ((49, 0, 49), (48, 0, 1), (48, 2, 1), (1, 2, 1)):
        recipe = Prediction(region_limit=limit, minimum_area=least)
        regions, _, note = regions_from(said, CONFIG, recipe, CUT)
        assert len(regions) == shown
        assert (note is None) == (limit == 49 or least == 2)
    _, _, note = regions_from(said, CONFIG, Prediction(region_limit=48), CUT)
    for words in ("49 objects", "more than 48 (prediction.region_limit)", "pool.tile"):
        assert words in note


def test_the_loop_with_objects(house):
    """Card, gate and predictions have them; the version keeps the settings it was tuned with."""
    house.recipe({"instances.enabled": True, "instances.minimum_area": 3})
    house.fill(12)
    house.labelled_round()
    house.step("train")
    model = house.catalog.models.current(house.project_id)
    card = model.card["instances"]
    assert card["settings"]["minimum_area"] == 3
    assert card["found"]["true"] == 2
    assert card["found"]["pq"] >= card["uncut"]["pq"]
    gate = house.catalog.models.gates(house.project_id)[-1]
    assert gate.numbers["candidate"]["instances"] == card["found"]
    house.recipe({"instances.minimum_area": 0})
    serving = Models(house.context).current(house.project)
    assert serving.instances == settings_of(model.card)
    assert serving.instances.minimum_area == 3
    tile = house.catalog.pool.tiles(house.project_id)[0]
    (row,) = predictions_for(house.context, house.project, serving, [tile]).values()
    label_map = serving.label_map(house.context.pixels(tile), ["cell"])
    assert len(regions_of(row)) == len(objects(label_map, serving.instances)[1])
    assert len(trainings(house.context, house.project_id)) == 1
    with printing.console.capture() as printed:
        printing.show_models(house.context, house.project)
    assert "PQ" in printed.get()


def test_objects_may_be_cut_as_the_recipe_says(house):
    """Without tuning the recipe's own settings are the version's; nothing is measured for them."""
    house.recipe({"instances.enabled": True, "instances.tune": False, "instances.neck": 2.0})
    house.fill(12)
    house.labelled_round()
    house.step("train")
    model = house.catalog.models.current(house.project_id)
    assert model.card["instances"]["settings"]["neck"] == 2.0
    assert model.card["instances"]["found"] is None
    assert "instances" in house.catalog.models.gates(house.project_id)[-1].numbers["candidate"]


def exported(house, source="both"):
    """Image → its instances as `png_instances` gives them, and the categories of COCO's."""
    out = house.folder / "out"
    formats = ("png_instances", "coco_instances", "coco_panoptic")
    export(house.context, house.project_id, out, formats=formats, source=source, progress=silent)
    rows = json.loads((out / "coco_instances.json").read_text())
    names = {row["id"]: row["file_name"] for row in rows["images"]}
    found = {}
    for image_id, name in names.items():
        with Picture.open(out / "png_instances" / Path(name).with_suffix(".png")) as picture:
            found[name] = np.array(picture).astype(np.int32)
        count = sum(row["image_id"] == image_id for row in rows["annotations"])
        assert count == found[name].max()
    return found


def test_instance_exports_have_peoples_objects_and_the_models(house):
    """What people told apart, what the model cuts; without objects, components."""
    house.recipe({"instances.enabled": True})
    house.fill(6)
    house.step("select")
    label_map, numbers = halves()
    answered(house, regions(numbers, house.labels))
    (found,) = exported(house, "people").values()
    np.testing.assert_array_equal(found, numbers)
    house.recipe({"instances.enabled": False})
    house.step("sync")
    (found,) = exported(house, "people").values()
    np.testing.assert_array_equal(found, label_map)


def test_the_models_objects_are_exported_as_they_are_shown(house, monkeypatch):
    """Cut by the settings of the version's card."""
    house.recipe({"instances.enabled": True})
    house.fill(12)
    house.labelled_round()
    house.step("train")
    label_map, _ = pair(32 * 2)
    small = np.ascontiguousarray(label_map[::2, ::2])
    said = Likeliest(small, np.ones(small.shape, np.float16), 1.0)
    monkeypatch.setattr(
        Serving, "likeliest_many", lambda _, images, *__, **___: (said for _ in images)
    )
    serving = Models(house.context).current(house.project)
    expected, _ = objects(small, serving.instances)
    for found in exported(house, "model").values():
        np.testing.assert_array_equal(found, expected)


def test_objects_in_neighbouring_tiles_are_one(house):
    """An object that two tiles show is exported once; those told apart within a tile stay two."""
    house.recipe({"instances.enabled": True, "pool.tile": 32, "selection.audit_share": 0.0})
    house.fill(4, side=64)
    house.recipe({"selection.batch": 16})
    house.step("select")
    bar = np.zeros((32, 32), np.uint8)
    bar[10:14] = 1
    for task_id in sorted(house.studio.tasks):
        numbers = bar.astype(np.int32)
        numbers[12:14] *= 2
        house.studio.create_annotation(task_id, regions(numbers, house.labels))
    house.step("sync")
    whole = 0
    for found in exported(house, "people").values():
        rows = found[found.any(axis=1)]
        if (rows > 0).all():  # both tiles of every row were asked about
            whole += 1
            assert [len(set(row)) for row in rows.tolist()] == [1] * len(rows)
            assert found.max() == len(rows) // 2
    assert whole
