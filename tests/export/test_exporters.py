"""One conformance suite over every export format, then what PNG and COCO promise each."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from export_cases import written
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from ml_backend.errors import DataError, RegionError, StoreError
from ml_backend.export import EXPORTERS, ExportItem
from ml_backend.export.names import FileNames
from ml_backend.masks.labels import Label, LabelConfig
from ml_backend.masks.task_image import TaskImage

pytestmark = pytest.mark.filterwarnings(  # pycocotools' decoder against NumPy 2
    "ignore:__array__ implementation:DeprecationWarning"
)

LABELS = (Label("axon", "#ff0000"), Label("Myelin, äußere", "#0080ff"))
CONFIG = LabelConfig(control="brush", to_name="image", image=TaskImage(), labels=LABELS)


def _item(name, pixels, source="annotation"):
    return ExportItem(name, np.asarray(pixels, np.uint8), source)


def _items():
    ring = np.zeros((9, 12), np.uint8)
    ring[1:7, 2:9] = 2
    ring[3:5, 4:7] = 0
    ring[8, 11] = 1
    return [
        _item("b/ring.tif", ring),
        _item("a.tif", np.zeros((4, 5))),
        _item("Größe 1.JPG", [[255, 1], [1, 0], [2, 2]], "model"),
    ]


def _bytes(path):
    if path.is_file():
        return path.read_bytes()
    files = sorted(found for found in path.rglob("*") if found.is_file())
    return {found.relative_to(path).as_posix(): found.read_bytes() for found in files}


def _coco_maps(path):
    """Label maps by file name, drawn from the annotations by pycocotools alone."""
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in document["images"]}
    maps = {
        image["file_name"]: np.zeros((image["height"], image["width"]), np.uint8)
        for image in document["images"]
    }
    for annotation in document["annotations"]:
        pixels = coco_mask.decode(annotation["segmentation"]).astype(bool)
        drawn = maps[names[annotation["image_id"]]]
        assert not drawn[pixels].any()
        drawn[pixels] = annotation["category_id"]
    return maps


def _png_map(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


@pytest.mark.parametrize("name", list(EXPORTERS))
class TestEveryExporter:
    """What any format must do, whoever adds it."""

    def test_report_counts(self, name, tmp_path):
        """Images (empty ones too), pairs of image and label, and who drew them."""
        report = written(name, iter(_items()), tmp_path / "out", CONFIG)
        assert (report.images, report.regions) == (3, 4)
        assert report.by_source == {"annotation": 2, "model": 1}
        assert report.path.exists()
        assert report.path.is_relative_to(tmp_path / "out")

    def test_same_items_same_bytes(self, name, tmp_path):
        """Nothing depends on the clock, the folder or what stood there before."""
        first = _bytes(written(name, _items(), tmp_path / "one", CONFIG).path)
        written(name, _items()[:1], tmp_path / "two", CONFIG)
        assert _bytes(written(name, _items(), tmp_path / "two", CONFIG).path) == first

    def test_no_items_is_an_empty_export(self, name, tmp_path):
        """Nothing to export is not an error."""
        report = written(name, [], tmp_path, CONFIG)
        assert (report.images, report.regions, report.by_source) == (0, 0, {})
        assert report.path.exists()

    def test_a_failure_leaves_the_earlier_export(self, name, tmp_path):
        """An export that breaks half-way changes nothing and leaves no temporary file."""
        written(name, _items(), tmp_path, CONFIG)
        before = _bytes(tmp_path)

        def broken():
            yield from _items()[:2]
            raise DataError("this mask is damaged")

        with pytest.raises(DataError, match="damaged"):
            written(name, broken(), tmp_path, CONFIG)
        assert _bytes(tmp_path) == before

    @pytest.mark.parametrize(
        "bad",
        ["", ".", "..", "../x.png", "a/../../x.png", "/etc/x.png", "a//b.png", "a/", "./a.png"],
    )
    def test_names_cannot_leave_the_folder(self, name, bad, tmp_path):
        """Absolute paths, `..` and empty parts are refused by name, and nothing is written."""
        with pytest.raises(DataError, match="cannot be exported"):
            written(name, [_item(bad, [[1]])], tmp_path / "out", CONFIG)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    @pytest.mark.parametrize(
        "bad", ["..\\x.png", "C:/x.png", "C:x.png", "a\0.png", "a\n.png", "\udcff.png"]
    )
    def test_names_that_some_system_reads_otherwise(self, name, bad, tmp_path):
        """Backslashes, drives, control characters and undecodable bytes are refused."""
        with pytest.raises(DataError, match="cannot be exported"):
            written(name, [_item(bad, [[1]])], tmp_path / "out", CONFIG)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_an_image_comes_once(self, name, tmp_path):
        """A name that occurs twice is refused: one of the masks would be lost."""
        with pytest.raises(DataError, match=r"'a\.tif' is exported twice"):
            written(name, [_item("a.tif", [[1]]), _item("a.tif", [[0]])], tmp_path, CONFIG)

    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.full((2, 2), 3, np.uint8), "label 3, but the labeling config has 2"),
            (np.zeros((2, 2), np.int64), "uint8"),
            (np.zeros((2, 2, 3), np.uint8), "height x width"),
            (np.zeros((0, 2), np.uint8), "not empty"),
        ],
    )
    def test_masks_that_are_none_are_refused(self, name, pixels, message, tmp_path):
        """Labels the config lacks and arrays that are no label maps name the image."""
        with pytest.raises(RegionError, match=message) as caught:
            written(name, [ExportItem("a.tif", pixels, "model")], tmp_path, CONFIG)
        assert "a.tif" in str(caught.value)

    def test_a_folder_that_cannot_be_made_is_said(self, name, tmp_path):
        """What the file system refuses becomes a StoreError with the place."""
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot export to"):
            written(name, _items(), tmp_path / "file" / "out", CONFIG)

    def test_memory_is_flat(self, name, tmp_path):
        """Sixty masks of 360 kB pass through in the memory of a few."""

        def items():
            for number in range(60):
                yield _item(f"{number}.tif", np.full((600, 600), number % 3, np.uint8))

        tracemalloc.start()
        try:
            written(name, items(), tmp_path, CONFIG)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4e6


label_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 0, 1, 2, 255]),
)


@settings(max_examples=40, deadline=None)
@given(maps=st.lists(label_maps, max_size=4))
def test_coco_and_png_hold_the_same_pixels(maps, tmp_path_factory):
    """PNG returns the label map exactly; COCO the same, with unknown pixels left out."""
    folder = tmp_path_factory.mktemp("export")
    items = [_item(f"d/{number}.png", pixels) for number, pixels in enumerate(maps)]
    pngs = written("png", items, folder, CONFIG).path
    drawn = _coco_maps(written("coco", items, folder, CONFIG).path)
    assert list(drawn) == [item.name for item in items]
    for item in items:
        stored = _png_map(pngs / item.name)
        np.testing.assert_array_equal(stored, item.label_map)
        np.testing.assert_array_equal(drawn[item.name], np.where(stored == 255, 0, stored))


def test_coco_says_what_is_there(tmp_path):
    """Exact areas and boxes, categories in the config's order, every image, its own name."""
    path = written("coco", _items(), tmp_path, CONFIG).path
    document = json.loads(path.read_bytes())
    assert path == tmp_path / "coco.json"
    assert [(entry["id"], entry["name"]) for entry in document["categories"]] == [
        (1, "axon"),
        (2, "Myelin, äußere"),
    ]
    assert [(entry["id"], entry["file_name"], entry["source"]) for entry in document["images"]] == [
        (1, "b/ring.tif", "annotation"),
        (2, "a.tif", "annotation"),
        (3, "Größe 1.JPG", "model"),
    ]
    found = [
        (entry["id"], entry["image_id"], entry["category_id"], entry["area"], entry["bbox"])
        for entry in document["annotations"]
    ]
    assert found == [
        (1, 1, 1, 1, [11, 8, 1, 1]),
        (2, 1, 2, 6 * 7 - 2 * 3, [2, 1, 7, 6]),
        (3, 3, 1, 2, [0, 0, 2, 2]),
        (4, 3, 2, 2, [0, 2, 2, 1]),
    ]


def test_pycocotools_loads_the_file(tmp_path, capsys):
    """The reference reader indexes it and draws the masks."""
    path = written("coco", _items(), tmp_path, CONFIG).path
    dataset = COCO(str(path))
    capsys.readouterr()
    annotations = dataset.loadAnns(dataset.getAnnIds(imgIds=[1], catIds=[2]))
    np.testing.assert_array_equal(dataset.annToMask(annotations[0]), _items()[0].label_map == 2)


def test_png_s_classes_name_its_numbers(tmp_path):
    """classes.json gives each number its name and the palette's colour."""
    report = written("png", _items(), tmp_path, CONFIG)
    table = json.loads((report.path / "classes.json").read_text(encoding="utf-8"))
    assert table == {
        "background": 0,
        "unknown": 255,
        "classes": [
            {"index": 1, "name": "axon", "colour": "#ff0000"},
            {"index": 2, "name": "Myelin, äußere", "colour": "#0080ff"},
        ],
    }
    with Image.open(report.path / "b/ring.png") as image:
        shown = np.asarray(image.convert("RGB"))
    assert shown[1, 2].tolist() == [0, 128, 255]
    assert shown[0, 0].tolist() == [0, 0, 0]


def test_png_names_that_collide_keep_their_suffix(tmp_path):
    """The first takes the plain name, later ones their own suffix; each is noted."""
    names = ["d/a.tif", "d/a.png", "d/A.JPG", "d/a.png.bmp", "d/b", "e/a.tif", "d/a.png.png"]
    items = [_item(name, np.full((1, 1 + place), 1)) for place, name in enumerate(names)]
    report = written("png", items, tmp_path, CONFIG)
    files = ["d/a.png", "d/a.png.png", "d/A.JPG.png", "d/a.png.bmp.png", "d/b.png", "e/a.png"]
    for place, name in enumerate([*files, "d/a.png.png.png"]):
        assert _png_map(report.path / name).shape == (1, 1 + place)
    assert len(report.notes) == 4
    assert report.notes[0] == "d/a.png: mask written as d/a.png.png, as d/a.png was taken"


@given(names=st.lists(st.text("aA.~2png/", min_size=1, max_size=8), unique=True, max_size=12))
def test_png_names_never_meet(names):
    """Whatever the images are called, no two masks share a name on any file system."""
    taker = FileNames(".png")
    given_out = [taker.take(f"x{name}") for name in names]
    assert len({name.casefold() for name in given_out}) == len(names)
    assert all(name.endswith(".png") for name in given_out)


def test_another_process_writes_the_same_bytes(tmp_path):
    """Hash seeds and the process do not matter."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_exporters import CONFIG, EXPORTERS, _items, written\n"
        "for name in EXPORTERS: written(name, _items(), Path(sys.argv[2]), CONFIG)"
    )
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", code, here, tmp_path / "there"], check=True)
    for name in EXPORTERS:
        written(name, _items(), tmp_path / "here", CONFIG)
    assert _bytes(tmp_path / "there") == _bytes(tmp_path / "here")
