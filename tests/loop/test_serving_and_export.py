"""What Label Studio is answered, and what is written out."""

import threading

import numpy as np
import orjson
import pytest
from PIL import Image as Picture
from pycocotools.coco import COCO
from support.house import picture, save_picture

from ml_backend.errors import NotFound, UnknownName
from ml_backend.loop import models as models_module
from ml_backend.loop.context import silent
from ml_backend.loop.export import export
from ml_backend.loop.models import Models
from ml_backend.loop.serve import UNTRAINED, Service
from ml_backend.masks.regions import decode_results

pytestmark = pytest.mark.filterwarnings(  # pycocotools' decoder against NumPy 2
    "ignore:__array__ implementation:DeprecationWarning"
)


@pytest.fixture
def service(house):
    """Give a service over the same home and the same Label Studio."""
    service = Service(house.context.settings)
    service._context.__dict__["studio"] = house.studio
    yield service
    service.close()


@pytest.fixture
def trained(house):
    """Give a house with a model and a second batch pushed."""
    house.fill(12)
    house.labelled_round()
    house.step("train")
    house.step("select")
    return house


def ask(house, service, *task_ids):
    """The answers to these tasks, as Label Studio would ask for them."""
    tasks = [{"id": n, "data": house.studio.tasks[n]["data"]} for n in task_ids]
    return [orjson.loads(row) for row in _predict(house, service, tasks)]


def _predict(house, service, tasks):
    return service.predict(house.project_id, house.project.label_config, tasks)


def second_version(house):
    """Promote a second version with the weights of the first."""
    first = house.catalog.models.current(house.project_id)
    model = house.catalog.models.add(house.project_id, parent=first.version, fingerprint="x")
    root = house.context.settings.home / "models" / str(house.project_id)
    (root / model.version).mkdir()
    for path in (root / first.version).iterdir():
        (root / model.version / path.name).write_bytes(path.read_bytes())
    house.catalog.models.settle(
        house.project_id, model.version, decision="promoted", numbers={}, card=first.card
    )
    return model.version


def own_task(house, number=70):
    """A task that people made themselves; its id."""
    save_picture(house.folder / "own.png", number)
    data = (house.folder / "own.png").read_bytes()
    (url,) = house.studio.upload_images(house.project_id, [("own.png", data)])
    (task_id,) = house.studio.import_tasks(house.project_id, [{"data": {"image": url}}])
    return task_id


def test_before_any_model_answers_are_empty(house, service):
    """One answer a task without any prediction, which Label Studio would keep; no download."""
    task_id = own_task(house)
    house.studio.calls.clear()
    assert service.register(house.project_id, None, None) == UNTRAINED
    assert ask(house, service, task_id, task_id) == [[], []]
    assert "download" not in house.studio.calls
    assert service.versions() == []


def test_a_pushed_task_gets_what_was_pushed(trained, service):
    """The same regions as the task's prediction, from the catalog, in the order asked."""
    open_tasks = [
        task.id for task in trained.catalog.work.tasks(trained.project_id, open_only=True)
    ]
    answers = ask(trained, service, *reversed(open_tasks))
    for task_id, answer in zip(reversed(open_tasks), answers, strict=True):
        (shown,) = trained.studio.tasks[task_id]["predictions"]
        assert answer["result"] == shown["result"]
        assert answer["model_version"] == shown["model_version"]


def test_a_foreign_task_is_predicted_and_fetched_once(trained, service):
    """It may be chosen like any tile, but as the task that it is."""
    task_id = own_task(trained)
    (answer,) = ask(trained, service, task_id)
    said = decode_results(answer["result"], trained.labels, 32, 32).label_map
    serving = Models(trained.context).current(trained.project)
    assert np.array_equal(said, serving.label_map(picture(70)[0], ["cell"]))
    tile_id = trained.catalog.work.task(task_id).tile_id
    assert tile_id in {t.id for t in trained.catalog.pool.unasked(trained.project_id)}
    assert tile_id in trained.catalog.work.existing(trained.project_id).values()
    assert ask(trained, service, task_id) == [answer]
    assert trained.studio.calls.count("download") == 1


def test_an_unreadable_image_costs_only_its_own_answer(trained, service):
    """Broken, missing and absent images are answered without regions, the others as usual."""
    good = own_task(trained)
    trained.studio.files["/data/broken.png"] = b"\x89PNG broken"
    data = [{"image": "/data/broken.png"}, {"image": "/data/none.png"}, {"text": "no image"}]
    strange = trained.studio.import_tasks(trained.project_id, [{"data": row} for row in data])
    answers = ask(trained, service, strange[0], good, *strange[1:])
    assert [bool(answer["result"]) for answer in answers][0::2] == [False, False]
    assert answers[1] == ask(trained, service, good)[0]
    assert {answer["model_version"] for answer in answers} == {f"p{trained.project_id}-v1"}


def test_a_promoted_model_takes_over_at_once(trained, service, monkeypatch):
    """Loaded once for many requests, swapped by the next one after a promotion."""
    loads = []
    load = models_module.load_predictor

    def counted(*args):
        loads.append(args[-1])
        return load(*args)

    monkeypatch.setattr(models_module, "load_predictor", counted)
    (task, *_) = trained.catalog.work.tasks(trained.project_id, open_only=True)
    threads = [threading.Thread(target=ask, args=(trained, service, task.id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [f"p{trained.project_id}-v1"]
    version = second_version(trained)
    assert ask(trained, service, task.id)[0]["model_version"] == version
    assert service.register(trained.project_id, None, None) == version
    assert loads == [f"p{trained.project_id}-v1", version]
    assert service.versions() == [version, f"p{trained.project_id}-v1"]


def test_a_task_that_stands_twice_is_answered_twice(trained, service):
    """One answer for each place, computed once."""
    task_id = own_task(trained)
    one, two = ask(trained, service, task_id, task_id)
    assert one == two
    assert service.predict(trained.project_id, trained.project.label_config, []) == []


@pytest.mark.usefixtures("trained")
def test_gauges_tell_of_every_project(service):
    """Open tasks, labelled tiles, what is left and the model's number."""
    found = {name: value for name, _, value in service.metrics()}
    assert (found["open_tasks"], found["labelled_tiles"], found["model_number"]) == (4, 4, 1)
    assert found["unasked_tiles"] == 4


def read_png(path):
    """Label values of an exported PNG."""
    with Picture.open(path) as image:
        return np.array(image)


@pytest.fixture
def tiled(house):
    """Give a house of tiled images with a model, some tiles of which people have painted."""
    house.recipe({"pool.tile": 32, "selection.batch": 6})
    house.fill(4, side=64)
    house.labelled_round()
    house.step("train")
    return house


@pytest.mark.parametrize("source", ["people", "both", "model"])
def test_stitched_tiles_equal_what_people_painted(tiled, source):
    """People's tiles exactly; the rest unknown (`people`) or the model's (`both`)."""
    out = tiled.folder / "out"
    report = export(tiled.context, tiled.project_id, out, source=source, progress=silent)
    serving = Models(tiled.context).current(tiled.project)
    painted = {item.tile.id for item in tiled.catalog.work.labelled(tiled.project_id)}
    names = set()
    for tile in tiled.catalog.pool.tiles(tiled.project_id):
        path = out / "png" / tile.image.name
        if not path.exists():
            assert source == "people"
            continue
        names.add(tile.image.name)
        part = np.s_[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        found = read_png(path)[part]
        if tile.id in painted and source != "model":
            assert np.array_equal(found, tiled.truth(tile))
        elif source == "people":
            assert (found == 255).all()
        else:
            said = serving.label_map(tiled.context.pixels(tile), ["cell"])
            assert np.array_equal(found, said)  # what its task would show
    assert len(names) == report.images
    assert source == "people" or report.images == 4


def test_coco_says_what_the_pngs_say(tiled):
    """Every decoded annotation is the PNG's pixels of its label, and its area is their number."""
    out = tiled.folder / "out"
    export(tiled.context, tiled.project_id, out, progress=silent)
    coco = COCO(str(out / "coco.json"))
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == ["cell"]
    assert len(coco.getImgIds()) == 4
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = read_png(out / "png" / image["file_name"])
        assert pixels.shape == (image["height"], image["width"])
        found = np.zeros_like(pixels)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(row).astype(bool)
            assert row["area"] == mask.sum()
            found[mask] = row["category_id"]
        assert np.array_equal(found, np.where(pixels == 255, 0, pixels))


def test_people_may_label_a_source(house):
    """An image that came with a mask and was painted in Label Studio is exported as painted."""
    masks = house.folder / "masks"
    masks.mkdir()
    mask = save_picture(house.images / "0.png", 0)
    Picture.fromarray(mask * 255).save(masks / "0.png")
    house.fill(1, masks=masks)
    data = (house.images / "0.png").read_bytes()
    (url,) = house.studio.upload_images(house.project_id, [("0.png", data)])
    (task_id,) = house.studio.import_tasks(house.project_id, [{"data": {"image": url}}])
    painted = np.flipud(mask)
    house.studio.create_annotation(task_id, house.regions(painted))
    house.step("sync")
    export(house.context, house.project_id, house.folder / "out", progress=silent)
    assert np.array_equal(read_png(house.folder / "out/png/0.png"), painted)


def test_nothing_to_export_is_said(house):
    """Before annotations and models there is nothing; a wrong source or format is said."""
    house.fill(2)
    out = house.folder / "out"
    with pytest.raises(NotFound, match="nothing to export"):
        export(house.context, house.project_id, out, progress=silent)
    with pytest.raises(UnknownName, match="people, model, both"):
        export(house.context, house.project_id, out, source="nobody", progress=silent)
    house.labelled_round()
    with pytest.raises(UnknownName, match=r"coco, .*png, "):
        export(house.context, house.project_id, out, formats=["gif"], progress=silent)
    assert not out.exists()
