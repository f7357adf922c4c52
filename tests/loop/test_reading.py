"""Labels that come, go, are renamed or set aside: what was painted is never taken for less."""

import json
import zlib

import numpy as np
import orjson
import pytest
from PIL import Image as Picture
from support.house import SIDE, save_picture

from ml_backend.errors import ConfigError, LabelConfigError, StudioUnreachable
from ml_backend.loop.annotators import labelled
from ml_backend.loop.connect import connect, create_project
from ml_backend.loop.context import silent
from ml_backend.loop.dataset import dataset_of
from ml_backend.loop.export import export
from ml_backend.loop.masks import load_mask
from ml_backend.loop.reading import news
from ml_backend.loop.unused import asides, unused
from ml_backend.masks.labels import make_label_config, parse_label_config
from ml_backend.masks.regions import encode_results
from ml_backend.settings import Settings
from ml_backend.store.rows import Prediction

CELL = np.s_[:8]
NUCLEUS = np.s_[8:12]
FULL = np.zeros((SIDE, SIDE), np.uint8)
FULL[CELL], FULL[NUCLEUS] = 1, 2


@pytest.fixture
def house(two_labels):
    """Give a house with labels cell and nucleus, and four pushed tasks without an answer."""
    two_labels.fill(8)
    two_labels.step("select")
    return two_labels


@pytest.fixture
def task(house):
    """The first pushed task."""
    return min(house.studio.tasks)


def relabel(house, *names):
    """Give the project other labels in Label Studio."""
    house.studio.projects[house.project_id]["label_config"] = make_label_config(list(names))


def painted(label_map, *names):
    """The regions of a label map whose values are these labels."""
    return encode_results(label_map, parse_label_config(make_label_config(list(names))))


def mask_of(house, task):
    """The mask that counts for a task, in the values of today's labels."""
    tile_id = house.catalog.work.task(task).tile_id
    (key,) = [
        item.mask for item in labelled(house.context, house.project_id) if item.tile.id == tile_id
    ]
    return load_mask(house.context.blobs, key, house.labels.names)


def values(mask):
    """The value above, in and below the middle region."""
    return mask[0, 0], mask[8, 0], mask[-1, 0]


def row_of(house, annotation_id):
    """The catalog's row of an annotation."""
    rows = house.catalog.work.annotations(house.project_id)
    return next(row for row in rows if row.id == annotation_id)


def test_a_label_that_came_is_noticed(house, task):
    """What could not be read for want of it is read at the next sync; other masks stay files."""
    nuclei = np.where(FULL, 3, 0).astype(np.uint8)
    strange = house.studio.create_annotation(task, painted(nuclei, "cell", "nucleus", "wall"))
    known = house.answer(task + 1, FULL)
    house.step("sync")
    key = row_of(house, known).mask
    assert not row_of(house, strange).usable
    assert news(house.project) == []
    relabel(house, "cell", "nucleus", "wall")
    report = house.step("sync")
    assert "labels that came: wall" in report.summary
    assert "labels that came: wall" in report.numbers["labels"]
    assert np.array_equal(mask_of(house, task), nuclei)
    assert row_of(house, known).mask == key
    assert np.array_equal(mask_of(house, task + 1), FULL)
    (line,) = news(house.project)
    assert "labels that came: wall" in line
    assert house.step("sync").numbers["labels"] is None


def test_a_label_that_went_is_unknown_and_listed(house, task):
    """Its pixels are neither background nor lost; the task's link and the reason say where."""
    made = house.answer(task, FULL)
    house.step("sync")
    relabel(house, "cell")
    report = house.step("sync")
    assert "labels that went or were renamed: nucleus" in report.summary
    assert values(mask_of(house, task)) == (1, 255, 0)
    (item,) = unused(house.context, house.project_id)
    assert item.what == f"annotation {made}"
    assert "no longer has the label 'nucleus'" in item.reason
    assert item.links == (f"/projects/{house.project_id}/data?task={task}",)
    relabel(house, "nucleus", "cell")
    house.step("sync")
    assert values(mask_of(house, task)) == (2, 1, 0)
    assert unused(house.context, house.project_id) == []


def test_a_renamed_label_waits_for_its_regions_to_be_renamed(house, task):
    """The old name stands in old annotations, the new one in those that were mended."""
    made = house.answer(task, FULL)
    house.step("sync")
    relabel(house, "cell", "core")
    report = house.step("sync")
    assert "came: core; labels that went or were renamed: nucleus" in report.summary
    assert values(mask_of(house, task)) == (1, 255, 0)
    house.studio.edit_annotation(made, painted(FULL, "cell", "core"))
    house.step("sync")
    assert np.array_equal(mask_of(house, task), FULL)
    assert unused(house.context, house.project_id) == []
    # and names that the project never had are still refused
    bad = house.studio.create_annotation(task, painted(FULL, "cell", "ghost"))
    house.step("sync")
    assert "'ghost'" in row_of(house, bad).reason
    assert not row_of(house, bad).usable


def test_another_order_or_colour_changes_nothing(house, task):
    """Masks know their labels by name, so nothing is read again."""
    house.answer(task, FULL)
    house.step("sync")
    cursor = house.project.cursor
    relabel(house, "nucleus", "cell")
    report = house.step("sync")
    assert (report.numbers["labels"], report.numbers["changed"]) == (None, 0)
    assert house.project.cursor == cursor
    assert values(mask_of(house, task)) == (2, 1, 0)


def test_a_control_that_came_is_read(house, task):
    """Polygons drawn before the config was known to have them are unknown until then."""
    outline = {
        "id": "outline",
        "type": "polygonlabels",
        "from_name": "poly",
        "to_name": "image",
        "original_width": SIDE,
        "original_height": SIDE,
        "value": {
            "points": [[0, 0], [100, 0], [100, 50], [0, 50]],
            "closed": True,
            "polygonlabels": ["cell"],
        },
    }
    house.studio.create_annotation(task, [outline])
    house.step("sync")
    assert "unknown pixels" in unused(house.context, house.project_id)[0].reason
    config = make_label_config(["cell", "nucleus"]).replace(
        "</View>",
        '<PolygonLabels name="poly" toName="image"><Label value="cell"/></PolygonLabels></View>',
    )
    house.studio.projects[house.project_id]["label_config"] = config
    assert "controls that came: poly" in house.step("sync").summary
    assert mask_of(house, task)[: SIDE // 2].all()
    assert unused(house.context, house.project_id) == []


def test_prompts_become_masks_when_the_recipe_says_so(house, task):
    """A smart control's boxes are prompts; the recipe has all annotations read again as masks."""
    config = make_label_config(["cell", "nucleus"]).replace(
        "</View>",
        '<RectangleLabels name="box" toName="image" smart="true"><Label value="cell"/>'
        "</RectangleLabels></View>",
    )
    house.studio.projects[house.project_id]["label_config"] = config
    size = {"original_width": SIDE, "original_height": SIDE, "to_name": "image"}
    box = {"x": 0, "y": 0, "width": 100, "height": 100, "rectanglelabels": ["cell"]}
    result = {"id": "r", "type": "rectanglelabels", "from_name": "box", "value": box, **size}
    made = house.studio.create_annotation(task, [result])
    house.step("sync")
    assert not mask_of(house, task).any()
    assert row_of(house, made).asides == "prompts (rectanglelabels)"
    house.recipe({"labels.smart": "masks"})
    assert "what prompts are" in house.step("sync").summary
    assert mask_of(house, task).all()


def test_regions_are_read_again_after_an_upgrade(house, task, monkeypatch):
    """Another way of reading regions, of another version of Brushloop, reads all of them anew."""
    monkeypatch.setattr("ml_backend.loop.reading.RULES", "1")
    house.answer(task, FULL)
    house.step("sync")
    monkeypatch.undo()
    report = house.step("sync")
    assert "how this version of Brushloop reads regions" in report.summary
    assert values(mask_of(house, task)) == (1, 2, 0)


def test_a_change_is_noticed_whoever_heard_of_it_first(house, task):
    """The web side may have stored the new config already; status says what is to come."""
    house.answer(task, FULL)
    house.step("sync")
    house.catalog.projects.save(house.project_id, label_config=make_label_config(["cell"]))
    relabel(house, "cell")
    (line,) = news(house.project)
    assert "the next sync reads every annotation again" in line
    assert "nucleus" in line
    assert values(mask_of(house, task)) == (1, 255, 0)
    assert "nucleus" in house.step("sync").summary


@pytest.mark.parametrize("then", ["unknown", "background"])
def test_a_crash_while_all_is_read_again_leaves_nothing_half_read(house, then):
    """The next sync reads the rest, even of long ago, and even if the recipe has changed back."""
    tasks = sorted(house.studio.tasks)
    for task in tasks:
        house.answer(task, FULL)
    for _ in range(20):  # now the cursor is long after the other tasks
        house.studio.edit_annotation(house.answer(tasks[-1]), house.regions(FULL))
    house.step("sync")

    def crash(call):
        if call == broken_at:
            raise StudioUnreachable("gone")

    house.recipe({"labels.unpainted": "unknown"})
    broken_at = house.studio.calls.count("read_tasks") + 3
    house.studio.fail["read_tasks"] = crash
    with pytest.raises(StudioUnreachable):
        house.step("sync")
    house.recipe({"labels.unpainted": then})
    house.step("sync")
    unpainted = 255 if then == "unknown" else 0
    for task in tasks:
        assert np.array_equal(mask_of(house, task), np.where(FULL, FULL, unpainted))


def test_ignored_labels_are_unknown_until_they_are_not(house, task):
    """They are none of the classes; the recipe may change its mind about it."""
    house.answer(task, FULL)
    house.step("sync")
    house.recipe({"labels.ignore": ["nucleus"]})
    assert "labels not learned: nucleus" in house.step("sync").summary
    assert house.labels.names == ("cell",)
    assert values(mask_of(house, task)) == (1, 255, 0)
    assert unused(house.context, house.project_id) == []
    house.recipe({"labels.ignore": []})
    house.step("sync")
    assert np.array_equal(mask_of(house, task), FULL)


def test_background_may_be_painted_and_the_unpainted_unknown(house, task):
    """Then only what was painted is known, and an empty annotation says nothing."""
    house.step("sync")
    house.recipe({"labels.background": ["nucleus"], "labels.unpainted": "unknown"})
    house.answer(task, np.zeros_like(FULL))
    made = house.studio.create_annotation(task + 1, painted(FULL, "cell", "nucleus"))
    summary = house.step("sync").summary
    assert "labels not learned: nucleus; unpainted pixels: unknown" in summary
    assert (mask_of(house, task) == 255).all()
    assert values(mask_of(house, task + 1)) == (1, 0, 255)
    assert row_of(house, made).usable
    house.recipe({"labels.background": [], "labels.ignore": ["nucleus"]})
    assert "the meaning of labels that are not learned" in house.step("sync").summary
    assert values(mask_of(house, task + 1)) == (1, 255, 255)


def test_what_a_person_saw_is_compared_with_what_they_painted(house, task):
    """Unpainted pixels count there even where they are unknown to the training."""
    house.recipe({"labels.unpainted": "unknown"})
    regions = house.regions(FULL)
    row = {"task": task, "result": regions, "score": 0.5, "model_version": "p1-v1"}
    house.studio.post_predictions(house.project_id, [row])
    tile_id = house.studio.tasks[task]["data"]["tile"]
    body = zlib.compress(orjson.dumps(regions))
    house.catalog.rounds.save_predictions([Prediction(tile_id, "p1-v1", 0.5, body, shown=True)])
    made = house.answer(task, np.where(FULL == 1, 1, 0).astype(np.uint8))
    house.step("sync")
    assert row_of(house, made).shown_dice == pytest.approx(2 * 8 / (12 + 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels.ignore": ["ghost"]}, r"labels\.ignore names 'ghost'.*labels cell, nucleus.*FILE"),
        ({"labels.background": ["ghost"]}, r"labels\.background names 'ghost'"),
        (
            {"labels.ignore": ["cell"], "labels.background": ["cell"]},
            r"labels\.ignore and labels\.background .*'cell' cannot be",
        ),
        ({"labels.ignore": ["cell", "nucleus"]}, "no label is left"),
    ],
)
def test_a_recipe_whose_labels_do_not_fit_is_refused(house, task, changes, message):
    """At connect before anything changes, at sync and at training; status says it too."""
    house.answer(task, FULL)
    house.step("sync")
    before = house.project
    recipe = before.recipe.changed(changes)
    secrets = Settings(
        home=house.folder / "home",
        public_url="http://backend.test",
        password="p" * 12,
        webhook_secret="s" * 12,
    )
    house.context.__dict__["settings"] = secrets
    with pytest.raises(ConfigError, match=message):
        connect(house.context, house.project_id, recipe)
    with pytest.raises(ConfigError, match=message):
        create_project(house.context, "Cells", ["cell", "nucleus"], recipe)
    assert house.project == before
    house.catalog.projects.save(house.project_id, recipe=recipe)
    for step in ("sync", "train"):
        with pytest.raises(ConfigError, match=message):
            house.step(step)
    assert house.project.cursor == before.cursor
    (line,) = news(house.project)
    assert line.startswith("the recipe's labels.")


def test_a_config_without_a_brush_is_said_and_spoils_nothing(house, task):
    """The sync ends with the reason; masks and cursor stay."""
    house.answer(task, FULL)
    house.step("sync")
    before = house.project
    house.studio.projects[house.project_id]["label_config"] = "<View/>"
    with pytest.raises(LabelConfigError, match="no brush control"):
        house.step("sync")
    assert "no brush control" in news(house.project)[0]
    relabel(house, "cell", "nucleus")
    house.step("sync")
    assert house.project == before


def test_connecting_again_says_what_is_read_again(house, task):
    """A new recipe is in force at once: kept predictions lose the label before any sync."""
    house.step("sync")
    tile_id = house.studio.tasks[task]["data"]["tile"]
    house.catalog.models.add(house.project_id, parent=None, fingerprint="f")
    version = house.catalog.models.all(house.project_id)[0].version
    body = zlib.compress(orjson.dumps(house.regions(FULL)))
    house.catalog.rounds.save_predictions([Prediction(tile_id, version, 0.5, body, shown=True)])
    house.context.__dict__["settings"] = Settings(
        home=house.folder / "home",
        public_url="http://backend.test",
        password="p" * 12,
        webhook_secret="s" * 12,
    )
    recipe = house.project.recipe.changed({"labels.ignore": ["nucleus"]})
    assert (
        "not learned: nucleus"
        in connect(house.context, house.project_id, recipe).project.reading.changed
    )
    row = house.catalog.rounds.predictions(version, [tile_id])[tile_id]
    (region,) = orjson.loads(zlib.decompress(row.result))
    assert region["value"]["brushlabels"] == ["cell"]
    assert row.shown


def test_results_that_are_no_regions_are_one_line(house, task):
    """Choices and texts of many annotations do not drown what needs a person."""
    choice = {"id": "c", "type": "choices", "from_name": "q", "value": {"choices": ["good"]}}
    text = {"id": "t", "type": "textarea", "from_name": "t", "value": {"text": ["hm"]}}
    for number in range(3):
        house.studio.create_annotation(task + number, [*house.regions(FULL), choice, text])
    house.step("sync")
    assert unused(house.context, house.project_id) == []
    line = asides(house.context, house.project_id)
    assert line.startswith("3 annotations also hold")
    assert line.endswith("choices, textarea")
    assert np.array_equal(mask_of(house, task), FULL)


def test_an_image_that_was_set_aside_names_its_tasks(house, task):
    """A person finds from the reason to what they see."""
    tile = house.catalog.pool.tile(house.studio.tasks[task]["data"]["tile"])
    house.catalog.pool.quarantine(tile.image.id, "truncated")
    (item,) = unused(house.context, house.project_id)
    assert (item.what, item.reason) == (f"set aside: {tile.image.name}", "truncated")
    assert item.links == (f"/projects/{house.project_id}/data?task={task}",)


def test_training_goes_on_with_other_labels(house):
    """Classes follow the labels: ignored ones are neither learned, predicted nor exported."""
    for task in sorted(house.studio.tasks):
        house.answer(task, FULL)
    house.step("sync")
    assert trained(house).card["labels"] == ["cell", "nucleus"]
    house.recipe({"labels.ignore": ["nucleus"]})
    house.step("sync")
    for item in dataset_of(house.context, house.project_id).train:
        mask = load_mask(house.context.blobs, item.mask, house.labels.names)
        assert values(mask) == (1, 255, 0)
    house.step("select")  # the model still knows the label, its predictions do not show it
    assert shown_labels(house) <= {"cell"}
    model = trained(house)
    assert (model.card["labels"], model.status) == (["cell"], "current")
    relabel(house, "cell", "nucleus", "wall")
    house.step("sync")
    assert trained(house).card["labels"] == ["cell", "wall"]
    options = {"formats": ["png"], "source": "people"}
    export(house.context, house.project_id, house.folder / "out", progress=silent, **options)
    classes = json.loads((house.folder / "out/png/classes.json").read_text())
    assert [row["name"] for row in classes["classes"]] == ["cell", "wall"]
    written = sorted((house.folder / "out/png").glob("*.png"))
    assert len(written) == 4
    for path in written:
        with Picture.open(path) as picture:
            assert values(np.array(picture)) == (1, 255, 0)


def trained(house):
    """The model that a training has just made."""
    return house.catalog.models.get(house.project_id, house.step("train").numbers["version"])


def shown_labels(house):
    """The labels of all predictions in Label Studio."""
    rows = [row for task in house.studio.tasks.values() for row in task["predictions"]]
    assert rows
    return {
        name for row in rows for region in row["result"] for name in region["value"]["brushlabels"]
    }


def test_masks_of_images_keep_the_numbers_of_all_labels(house):
    """Value 2 is the second label of the config, ignored or not; the background's becomes 0."""
    folder, masks = house.folder / "more", house.folder / "masks"
    save_picture(folder / "own.png", 90)
    masks.mkdir()
    three = np.concatenate([FULL, np.full((1, SIDE), 3, np.uint8)])[1:]
    Picture.fromarray(three).save(masks / "own.png")
    relabel(house, "cell", "nucleus", "ground")
    house.recipe({"labels.ignore": ["nucleus"], "labels.background": ["ground"]})
    with pytest.raises(ConfigError, match="'ground'"):
        house.step("train")
    house.step("sync")
    add_masks(house, folder, masks)
    (item,) = house.catalog.pool.sources(house.project_id)
    mask = load_mask(house.context.blobs, item.mask, house.labels.names)
    assert (mask[0, 0], mask[8, 0], mask[20, 0], mask[-1, 0]) == (1, 255, 0, 0)


def add_masks(house, folder, masks):
    """`brushloop pool add FOLDER --masks MASKS`."""
    from ml_backend.loop.pool import add_folder

    return add_folder(house.context, house.project_id, folder, masks=masks)
