"""The shared data sets in and out again: every untidy encoding, and not one pixel changed."""

import json
import shutil
from functools import cache

import numpy as np
import orjson
import pytest
from PIL import Image as Picture
from pycocotools import mask as coco_mask
from store.test_pairs import DATA, LABELS, VALUES, pairs, true_labels
from support.house import open_house

from ml_backend.loop.context import silent
from ml_backend.loop.export import export
from ml_backend.loop.pool import add_folder
from ml_backend.masks.labels import make_label_config, parse_label_config
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.masks.sets import from_planes
from ml_backend.store.mask_values import parse_values

pytestmark = pytest.mark.filterwarnings(  # pycocotools' decoder against NumPy 2
    "ignore:__array__ implementation:DeprecationWarning"
)

MOST = 5  # images of a set, unless it has more kinds of files
INVERTED = "isbi2012_membranes, membranes"
EPFL = ("mitochondrion", "mitochondrial_boundaries", "membranes", "vesicles", "axon", "PSD")
SETS = [
    "axon_myelin_sem",
    "copepods_loki",
    "dsb2018_nuclei",
    *(f"epfl_ca1_6class/{name}" for name in EPFL),
    "isbi2012_membranes",
    INVERTED,
    "plankton_ndsb_derived",
    "sandstone_ct",
    *(f"vnc_mitochondria/{name}" for name in ("mitochondria", "membranes", "synapses", "labels")),
]


def kind_of(path):
    """How a file is encoded: its format, its mode, and whether it has more than a few values."""
    with Picture.open(path) as image:
        return image.format, image.mode, np.unique(np.asarray(image)).size > 4


@cache
def chosen(dataset):
    """Rows of pairs.csv: every kind of image and mask at least once, else some of the whole."""
    rows = pairs()[dataset.split(",")[0]]
    first = {}
    for row in rows:
        first.setdefault((kind_of(DATA / row["image"]), kind_of(DATA / row["mask"])), row)
    found = list(first.values())
    spread = rows[:: -(-len(rows) // MOST)]
    return found + [row for row in spread if row not in found][: max(0, MOST - len(found))]


def truth(dataset, row):
    """The label map as the data's README tells it."""
    with Picture.open(DATA / row["mask"]) as image:
        found = true_labels(dataset.split(",")[0], np.asarray(image)).astype(np.uint8)
    return 1 - found if dataset == INVERTED else found


@pytest.fixture
def exported(request, tmp_path):
    """Give a set, imported with its masks by the pool's rules and exported again."""
    if not pairs():
        pytest.skip("the shared data sets are not on this machine")
    dataset = request.param
    for row in chosen(dataset):
        for kind in ("image", "mask"):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(DATA / row[kind], tmp_path / kind)
    count = LABELS.get(dataset, 1)
    house = open_house(tmp_path, tuple(f"label {number}" for number in range(1, count + 1)))
    values = "0=1,255=0" if dataset == INVERTED else VALUES.get(dataset)
    report = add_folder(
        house.context,
        house.project_id,
        tmp_path / "image",
        masks=tmp_path / "mask",
        values=parse_values(values) if values else None,
        match="number" if dataset == "vnc_mitochondria/labels" else "name",
    )
    assert report.quarantined == ()
    assert report.sources == len(chosen(dataset))
    formats = ["png", "coco", "npz", "manifest", "png_instances"]
    export(
        house.context,
        house.project_id,
        tmp_path / "out",
        formats=formats,
        source="people",
        progress=silent,
    )
    house.catalog.close()
    return dataset, tmp_path / "out"


def coco_maps(path):
    """Label maps by file name, drawn from the annotations by pycocotools alone."""
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in document["images"]}
    maps = {
        image["file_name"]: np.zeros((image["height"], image["width"]), np.uint8)
        for image in document["images"]
    }
    for annotation in document["annotations"]:
        pixels = coco_mask.decode(annotation["segmentation"]).astype(bool)
        assert annotation["area"] == pixels.sum()
        maps[names[annotation["image_id"]]][pixels] = annotation["category_id"]
    return maps


@pytest.mark.parametrize("exported", SETS, indirect=True)
def test_masks_come_back_as_they_went_in(exported):
    """PNG, COCO and NumPy hold what the data's README says, for every kind of file of the set."""
    dataset, out = exported
    drawn = coco_maps(out / "coco.json")
    rows = chosen(dataset)
    assert len(drawn) == len(rows)
    for row in rows:
        name = row["image"].rsplit("/", 1)[1]
        stem = name.rsplit(".", 1)[0]
        expected = truth(dataset, row)
        with Picture.open(out / "png" / f"{stem}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), expected)
        np.testing.assert_array_equal(drawn[name], expected)
        with np.load(out / "npz" / f"{stem}.npz") as archive:
            np.testing.assert_array_equal(archive["label_map"], expected)


@pytest.mark.parametrize("exported", ["dsb2018_nuclei"], indirect=True)
def test_instances_that_do_not_touch_come_back_one_by_one(exported):
    """Of the given nuclei, those that touch no other have their number to themselves."""
    dataset, out = exported
    alone = 0
    for row in chosen(dataset):
        stem = row["image"].rsplit("/", 1)[1].rsplit(".", 1)[0]
        with Picture.open(DATA / row["mask"]) as image:
            given = np.asarray(image).astype(np.int64)
        with Picture.open(out / "png_instances" / f"{stem}.png") as image:
            found = np.asarray(image).astype(np.int64)
        np.testing.assert_array_equal(found > 0, given > 0)
        together = np.unique(np.stack([found[given > 0], given[given > 0]]), axis=1)
        numbers, members = np.unique(together[0], return_counts=True)
        parts = dict(zip(*np.unique(together[1], return_counts=True), strict=True))
        for number in numbers[members == 1]:
            nucleus = together[1][together[0] == number][0]
            if parts[nucleus] == 1:  # not itself in several pieces
                np.testing.assert_array_equal(found == number, given == nucleus)
                alone += 1
    assert alone > 50


@pytest.mark.parametrize("dataset", SETS)
def test_brush_regions_say_the_same(dataset):
    """Written as Label Studio's brush regions and read again, through JSON: the same masks."""
    if not pairs():
        pytest.skip("the shared data sets are not on this machine")
    names = [f"label {number}" for number in range(1, LABELS.get(dataset, 1) + 1)]
    config = parse_label_config(make_label_config(names))
    for row in chosen(dataset):
        expected = truth(dataset, row)
        results = encode_results(expected, config, as_arrays=True)
        results = orjson.loads(orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY))
        decoded = decode_results(results, config, *expected.shape)
        np.testing.assert_array_equal(decoded.label_map, expected)
        assert decoded.notes == ()
        assert len({result["id"] for result in results}) == len(np.setdiff1d(expected, [0]))


def test_classes_that_overlap_come_back_one_by_one(tmp_path):
    """EPFL's six: folders of masks in, and regions of them through JSON; a PNG per class out."""
    if not pairs():
        pytest.skip("the shared data sets are not on this machine")
    six = {name: DATA / f"epfl_ca1_6class/masks/{name}" for name in EPFL}
    images = sorted((DATA / "epfl_ca1_6class/images").iterdir())[:: MOST * 2]
    for path in images:
        (tmp_path / "image").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "image")
        for name, folder in six.items():
            (tmp_path / "masks" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / path.name, tmp_path / "masks" / name)
    house = open_house(tmp_path, tuple(EPFL), multiple=True)
    folder, masks, out = tmp_path / "image", tmp_path / "masks", tmp_path / "out"
    report = add_folder(house.context, house.project_id, folder, masks=masks)
    assert (report.sources, report.quarantined) == (len(images), ())
    options = {"formats": ["png_classes"], "source": "people", "progress": silent}
    export(house.context, house.project_id, out, **options)
    for path in images:
        planes = []
        for name, source in six.items():
            given = np.asarray(Picture.open(source / path.name))
            given = (given if given.ndim == 2 else given[..., 0]) >= 128
            found = np.asarray(Picture.open(out / "png_classes" / name / path.name)) > 0
            np.testing.assert_array_equal(found, given)
            planes.append(given)
        expected = from_planes(planes)
        assert (expected & expected - 1).any()  # mitochondria contain their boundaries
        results = encode_results(expected, house.labels, as_arrays=True)
        results = orjson.loads(orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY))
        decoded = decode_results(results, house.labels, *expected.shape)
        np.testing.assert_array_equal(decoded.label_map, expected)
    house.catalog.close()
