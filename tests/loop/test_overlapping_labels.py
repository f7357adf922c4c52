"""A project whose labels overlap, all around the loop: cells, and the nuclei inside them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pycocotools import mask as coco_mask
from support.house import House, open_house, picture, save_picture

from ml_backend.errors import ConfigError
from ml_backend.learning.inference import Band
from ml_backend.loop.context import silent
from ml_backend.loop.dataset import dataset_of
from ml_backend.loop.effort import effort
from ml_backend.loop.export import export
from ml_backend.loop.masks import load_mask, mean_dice
from ml_backend.loop.material import material_in, material_of
from ml_backend.loop.models import Models, Serving
from ml_backend.loop.predict import predictions_for, regions_of
from ml_backend.loop.tune import tune_instances
from ml_backend.masks.labels import make_label_config
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.masks.sets import from_planes, on_top, planes_of
from ml_backend.recipe import parse_recipe

NAMES = ("cell", "nucleus")
pytestmark = pytest.mark.filterwarnings(  # pycocotools' decoder against NumPy 2
    "ignore:__array__ implementation:DeprecationWarning"
)


def nested(number, side=32):
    """The planes of a picture: its square is the cell, the middle of it the nucleus."""
    cell = picture(number, side)[1] > 0
    rows, columns = np.flatnonzero(cell.any(axis=1)), np.flatnonzero(cell.any(axis=0))
    nucleus = np.zeros_like(cell)
    nucleus[rows[2] : rows[-2], columns[2] : columns[-2]] = True
    return np.stack([cell, nucleus])


class CellHouse(House):
    """People paint both."""

    def truth(self, tile):
        """The set map of a tile."""
        whole = from_planes(nested(int(Path(tile.image.name).stem), tile.image.width))
        return whole[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]

    def regions(self, label_map):
        """Whatever the recipe makes of them."""
        return encode_results(label_map, replace(self.labels, multiple=True))


@pytest.fixture
def cells(tmp_path):
    """Give an empty house of cells and nuclei."""
    house = open_house(tmp_path, NAMES, kind=CellHouse, multiple=True)
    yield house
    house.catalog.close()


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory):
    """A house after one round and a training, for those who only look."""
    folder = tmp_path_factory.mktemp("cells")
    house = open_house(folder, NAMES, kind=CellHouse, multiple=True)
    house.fill(8)
    house.labelled_round()
    house.step("train")
    yield house
    house.catalog.close()


def exported(house, folder, *formats, source="people"):
    """Export; the reports by format."""
    return export(
        house.context, house.project_id, folder, formats=formats, source=source, progress=silent
    ).written


def classes_in(folder, stem):
    """The planes of an image as `png_classes` exported them."""
    files = (folder / "png_classes" / name / f"{stem}.png" for name in NAMES)
    return np.stack([np.asarray(Picture.open(file)) > 0 for file in files])


def test_what_is_painted_is_what_is_exported(cells, tmp_path):
    """Annotation → stored mask → PNG per class and COCO: the painted planes, pixel by pixel."""
    cells.fill(4)
    cells.labelled_round()
    out = tmp_path / "out"
    written = exported(cells, out, "png", "png_classes", "coco", "npz")
    assert written["png"].images == 4
    assert any("several labels" in note for note in written["png"].notes)
    assert not written["coco"].notes
    document = json.loads((out / "coco.json").read_text(encoding="utf-8"))
    names = {row["id"]: Path(row["file_name"]).stem for row in document["images"]}
    drawn = {
        (names[row["image_id"]], row["category_id"]): coco_mask.decode(row["segmentation"]) > 0
        for row in document["annotations"]
    }
    for stem in names.values():
        planes = nested(int(stem))
        assert (planes[0] & planes[1]).any()
        np.testing.assert_array_equal(classes_in(out, stem), planes)
        for label in (1, 2):
            np.testing.assert_array_equal(drawn[stem, label], planes[label - 1])
        png = np.asarray(Picture.open(out / "png" / f"{stem}.png"))
        np.testing.assert_array_equal(png, on_top(from_planes(planes)))
        with np.load(out / "npz" / f"{stem}.npz") as archive:
            np.testing.assert_array_equal(archive["masks"], planes)


def test_a_region_of_two_labels_is_both(cells, tmp_path):
    """Label Studio lets people give a region several labels where it says choice=multiple."""
    cells.fill(1)
    cells.step("select")
    (task_id,) = cells.studio.tasks
    (row, _) = cells.regions(from_planes(nested(0)))
    both = row | {"value": row["value"] | {"brushlabels": list(NAMES)}}
    cells.studio.create_annotation(task_id, [both])
    cells.step("sync")
    exported(cells, tmp_path / "out", "png_classes")
    cell = nested(0)[0]
    np.testing.assert_array_equal(classes_in(tmp_path / "out", "0"), [cell, cell])


def test_a_round_trip_through_a_folder_of_masks(cells, tmp_path):
    """What `png_classes` wrote is read by `pool add --masks`, as it was painted."""
    cells.fill(3)
    cells.labelled_round()
    exported(cells, tmp_path / "out", "png_classes")
    other = open_house(tmp_path / "other", NAMES, kind=CellHouse, multiple=True)
    report = other.fill(3, masks=tmp_path / "out" / "png_classes")
    assert (report.sources, report.quarantined) == (3, ())
    sources = other.catalog.pool.sources(other.project_id)
    for item in sources:
        mask = load_mask(other.context.blobs, item.mask, NAMES, overlapping=True)
        np.testing.assert_array_equal(mask, other.truth(item.tile))
    other.catalog.close()


def test_training_learns_and_judges_each_label(trained_home):
    """The card says that labels overlap; the gate's numbers have IoU and Dice of each."""
    model = trained_home.catalog.models.current(trained_home.project_id)
    assert (model.card["labels"], model.card["overlapping"]) == (list(NAMES), True)
    metrics = model.card["metrics"]
    assert set(metrics["iou_by_class"]) == set(metrics["dice_by_class"]) == set(NAMES)
    assert 0 <= metrics["accuracy"] <= 1
    assert model.card["calibration"]["temperature"] > 0
    records = trained_home.catalog.models.epochs(model.version)
    assert [record["epoch"] for record in records] == [1, 2]


def test_predictions_are_regions_that_overlap(trained_home):
    """A prediction decodes to what the model decides, label by label, with each label's score."""
    house = trained_home
    serving = Models(house.context).current(house.project)
    probs = np.zeros((2, 32, 32), np.float32)
    probs[0, 4:20, 4:20], probs[1, 8:12, 8:30] = 0.9, 0.8
    shown = replace(serving, version="other", predictor=_Fixed(probs))
    tile = house.catalog.pool.by_ids([1])[1]
    row = predictions_for(house.context, house.project, shown, [tile])[1]
    regions = regions_of(row)
    assert [region["value"]["brushlabels"] for region in regions] == [["cell"], ["nucleus"]]
    assert [region["score"] for region in regions] == pytest.approx([0.9, 0.8], rel=1e-3)
    decoded = decode_results(regions, house.labels, 32, 32).label_map
    np.testing.assert_array_equal(planes_of(decoded, 2), probs > 0.5)
    assert row.score == pytest.approx(1 - 2 * (0.1 * 256 + 0.2 * 88) / (2 * 1024), rel=1e-4)
    real = predictions_for(house.context, house.project, serving, [tile])[1]
    mine = decode_results(regions_of(real), house.labels, 32, 32).label_map
    np.testing.assert_array_equal(mine, serving.label_map(house.context.pixels(tile), NAMES))


class _Fixed:
    """A predictor that says the same of every image."""

    def __init__(self, probs):
        self._probs = probs

    def bands_many(self, images):
        """The same, in one piece."""
        size = self._probs.shape[1:]
        return (Band(number, size, 0, self._probs) for number, _ in enumerate(images))


def test_the_next_round_is_scored_and_its_effort_counted(cells):
    """Scores of every kind for the pool, and the Dice of what was shown to what was submitted."""
    cells.fill(10)
    cells.labelled_round()
    cells.step("train")
    cells.step("score")
    cells.step("select")
    version = cells.catalog.models.current(cells.project_id).version
    key = cells.project.recipe.scoring.key
    assert cells.catalog.rounds.scored(cells.project_id, version, key)
    waiting = [n for n, row in cells.studio.tasks.items() if not row["annotations"]]
    first, *others = waiting
    shown = cells.studio.tasks[first]["predictions"][0]["result"]
    cells.studio.create_annotation(first, shown)
    for task_id in others:
        cells.answer(task_id)
    cells.step("sync")
    rows = {row.task_id: row for row in cells.catalog.work.annotations(cells.project_id)}
    assert rows[first].shown_dice == 1.0
    for task_id in others:
        said = cells.studio.tasks[task_id]["predictions"][0]["result"]
        tile = cells.catalog.pool.tile(cells.studio.tasks[task_id]["data"]["tile"])
        seen = decode_results(said, cells.labels, 32, 32).label_map
        expected = mean_dice(seen, cells.truth(tile), overlapping=True)
        assert rows[task_id].shown_dice == pytest.approx(expected)
    found = effort(cells.context, cells.project, np.random.default_rng(0))
    assert found.rounds[-1].work.submitted == len(waiting)
    cells.step("train")  # compared with the first model by the gate
    gate = cells.catalog.models.gates(cells.project_id)[-1]
    assert gate.current == version


def test_tiles_are_stitched_with_their_overlaps(cells, tmp_path):
    """Planes of a whole image come back from its tiles, and the model's fill in the rest."""
    cells.recipe({"pool.tile": 32})
    cells.fill(2, side=64)
    cells.labelled_round()
    exported(cells, tmp_path / "out", "png_classes")
    answered = {row.tile.id: row.tile for row in dataset_of(cells.context, cells.project_id).train}
    assert answered
    for tile in answered.values():
        stem = Path(tile.image.name).stem
        place = np.s_[:, tile.y : tile.y + 32, tile.x : tile.x + 32]
        found = classes_in(tmp_path / "out", stem)
        np.testing.assert_array_equal(found[place], nested(int(stem), 64)[place])
    cells.step("train")
    exported(cells, tmp_path / "both", "png_classes", "manifest", source="both")
    serving = Models(cells.context).current(cells.project)
    for image in cells.catalog.pool.images(cells.project_id):
        said = np.zeros((2, 64, 64), bool)
        for tile in cells.catalog.pool.tiles_of(image.id):
            place = np.s_[:, tile.y : tile.y + 32, tile.x : tile.x + 32]
            said[place] = planes_of(serving.label_map(cells.context.pixels(tile), NAMES), 2)
        mine = classes_in(tmp_path / "both", Path(image.name).stem)
        people = np.zeros((64, 64), bool)
        for item in cells.catalog.work.labelled(cells.project_id):
            tile = item.tile
            if tile.image.id == image.id:
                people[tile.y : tile.y + 32, tile.x : tile.x + 32] = True
        np.testing.assert_array_equal(mine[:, ~people], said[:, ~people])


def test_the_recipe_may_decide_otherwise(cells):
    """Labels that exclude each other are read again as such, and then as sets again."""
    cells.fill(4)
    cells.labelled_round()
    before = dataset_of(cells.context, cells.project_id)
    cells.recipe({"labels.overlap": "exclusive"})
    assert "overlap" in cells.step("sync").summary
    after = dataset_of(cells.context, cells.project_id)
    assert after.fingerprint != before.fingerprint
    for item in after.train:
        mask = load_mask(cells.context.blobs, item.mask, NAMES)
        np.testing.assert_array_equal(mask, on_top(cells.truth(item.tile)))
    cells.recipe({"labels.overlap": "multiple"})
    cells.step("sync")
    assert dataset_of(cells.context, cells.project_id).fingerprint == before.fingerprint


def test_a_model_serves_on_while_its_labels_change_their_kind():
    """Shares of 1 are taken for probabilities of their own, and the other way round sum to 1."""
    exclusive = Serving("v1", None, ("cell", "nucleus"))
    probs = np.array([0.2, 0.5, 0.3], np.float32)[:, None, None]
    assert exclusive.among(probs, ("nucleus", "new"), overlapping=True).ravel() == pytest.approx(
        [0.3, 0.0]
    )
    several = replace(exclusive, overlapping=True)
    own = np.array([0.9, 0.8], np.float32)[:, None, None]
    assert several.among(own, NAMES, overlapping=True) is own
    shares = several.among(own, NAMES).ravel()
    assert shares.sum() == pytest.approx(1)
    assert shares[1] / shares[2] == pytest.approx(0.9 / 0.8)
    assert shares.argmax() == 1


def test_a_model_of_exclusive_labels_is_no_rival(cells):
    """After the change of kind the next candidate starts afresh and passes without comparison."""
    cells.recipe({"labels.overlap": "exclusive"})
    cells.fill(4)
    cells.labelled_round()
    cells.step("train")
    assert cells.catalog.models.current(cells.project_id).card["overlapping"] is False
    cells.recipe({"labels.overlap": "auto"})
    cells.step("sync")
    cells.step("predict")  # the old model serves on
    report = cells.step("train")
    assert (report.numbers["decision"], report.numbers["current"]) == ("promoted", None)
    assert cells.catalog.models.current(cells.project_id).card["overlapping"] is True


def test_people_are_merged_label_by_label(cells):
    """Two of three agree about each label somewhere else; the mask has both majorities."""
    cells.recipe({"loop.annotators": "consensus"})
    cells.fill(2)
    cells.step("select")
    task_id = next(iter(cells.studio.tasks))
    cell, nucleus = np.zeros((2, 32, 32), bool)
    cell[:9], nucleus[:, :9] = True, True
    nothing = np.zeros_like(cell)
    for author, planes in enumerate([(cell, nucleus), (cell, nothing), (nothing, nucleus)], 1):
        cells.answer(task_id, from_planes(planes), author=author)
    cells.step("sync")
    dataset = dataset_of(cells.context, cells.project_id)
    (item,) = [*dataset.train, *dataset.val]
    merged = load_mask(cells.context.blobs, item.mask, NAMES, overlapping=True)
    np.testing.assert_array_equal(merged, from_planes([cell, nucleus]))


def test_masks_of_one_label_a_pixel_are_read_as_sets(cells):
    """Indexed masks given with images, and masks of before, need no conversion."""
    cells.images.mkdir(parents=True)
    masks = cells.folder / "masks"
    masks.mkdir()
    for number in range(2):
        Picture.fromarray(picture(number)[0]).save(cells.images / f"{number}.png")
        label_map = on_top(from_planes(nested(number)))
        Picture.fromarray(label_map).save(masks / f"{number}.png")
    report = cells.fill(2, masks=masks)
    assert report.sources == 2
    for item in cells.catalog.pool.sources(cells.project_id):
        mask = load_mask(cells.context.blobs, item.mask, NAMES, overlapping=True)
        np.testing.assert_array_equal(on_top(mask), on_top(cells.truth(item.tile)))
        assert set(np.unique(mask)) == {0, 2, 4}


def test_what_cannot_be_is_refused_with_the_way_out(cells):
    """More labels than a byte holds, and objects cut apart, name the recipe's key."""
    cells.recipe({"instances.enabled": True})
    with pytest.raises(ConfigError, match=r"instances\.enabled.*labels\.overlap: exclusive"):
        _ = cells.labels
    cells.recipe({"instances.enabled": False})
    many = make_label_config([f"label {number}" for number in range(8)], multiple=True)
    cells.catalog.projects.save(cells.project_id, label_config=many)
    with pytest.raises(ConfigError, match=r"8 labels that may overlap.*there may be 7"):
        _ = cells.labels
    cells.recipe({"labels.ignore": ["label 3"]})
    assert cells.labels.overlapping


def test_a_folder_of_masks_for_each_label_can_be_tuned_on(tmp_path):
    """Without any project: labels overlap where each has its folder, unless the recipe objects."""
    for number in range(4):
        path = tmp_path / "images" / f"{number}.png"
        save_picture(path, number)
        for name, plane in zip(NAMES, nested(number), strict=True):
            (tmp_path / "masks" / name).mkdir(parents=True, exist_ok=True)
            Picture.fromarray(plane * np.uint8(255)).save(tmp_path / "masks" / name / path.name)
    recipe = parse_recipe({"validation": {"share": 0.5}})

    def material(recipe):
        return material_in(tmp_path / "images", tmp_path / "masks", recipe, labels=NAMES)

    several = material(recipe)
    assert several.overlapping
    for sample in (*several.train, *several.val):
        expected = from_planes(nested(int(Path(sample.name).stem)))
        np.testing.assert_array_equal(sample.load()[1], expected)
    exclusive = material(recipe.changed({"labels.overlap": "exclusive"}))
    assert not exclusive.overlapping
    assert exclusive.fingerprint != several.fingerprint
    sample = exclusive.val[0]
    expected = on_top(from_planes(nested(int(Path(sample.name).stem))))
    np.testing.assert_array_equal(sample.load()[1], expected)


def test_objects_of_overlapping_labels_are_not_tuned(trained_home):
    """`tune --instances` says why."""
    house = trained_home
    material = material_of(house.context, house.project)
    assert material.overlapping
    with pytest.raises(ConfigError, match=r"cell, nucleus.*not cut apart"):
        tune_instances(house.context.settings, material, house.project.recipe, progress=silent)
