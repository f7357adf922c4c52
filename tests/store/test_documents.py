"""Masks in documents: COCO, LabelMe, YOLO and Cellpose, exact, refused or told."""

import base64
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from ml_backend.errors import ConfigError, DataError, RegionError
from ml_backend.store.documents import open_documents
from ml_backend.store.documents.rle import decode_rle
from ml_backend.store.mask_values import IGNORE
from ml_backend.store.summary import Summary

from .pictures import png

SQUARE = [[1, 1, 3, 1, 3, 3, 1, 3]]


@dataclass
class File:
    """A file as `list_files` gives it."""

    name: str
    data: bytes

    def read(self):
        """Its bytes."""
        return self.data


def as_json(name, document):
    """A file that holds a JSON document."""
    return File(name, json.dumps(document).encode())


def coco(*annotations, categories=("cell", "nucleus"), **image):
    """A COCO document of one image, 4 x 5 px unless said otherwise."""
    return {
        "images": [{"id": 7, "file_name": "a.tif", "height": 4, "width": 5} | image],
        "categories": [{"id": 3 * n, "name": name} for n, name in enumerate(categories, 1)],
        "annotations": [
            {"id": n, "image_id": 7, "category_id": 3, "segmentation": SQUARE} | fields
            for n, fields in enumerate(annotations, 1)
        ],
    }


def labelme(*shapes, **fields):
    """A LabelMe document of an image of 4 x 5 px."""
    return {"imagePath": "a.tif", "imageHeight": 4, "imageWidth": 5, "shapes": shapes} | fields


def shape(label, kind, points, **fields):
    """A LabelMe shape."""
    return {"label": label, "shape_type": kind, "points": points, "group_id": None} | fields


def read(*files, shape=(4, 5), labels=("cell", "nucleus"), summary=None, **options):
    """The reading of the only image that files speak of."""
    [entry] = open_documents(files, summary).values()
    return entry.read(shape, labels, **options)


def npy(content, protocol=4):
    """Bytes of a `.npy` as NumPy 1 (protocol 3) and NumPy 2 (protocol 4) write a dictionary."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(0))
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    array = np.empty((), object)
    array[()] = content
    body = pickle.dumps(array, protocol=protocol)
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def test_coco_polygons_and_rle():
    """Polygons fill pixels by their centres; RLE of both kinds; categories go by their names."""
    runs = {"size": [4, 5], "counts": [16, 2, 2]}
    reading = read(as_json("x/c.json", coco({}, {"category_id": 6, "segmentation": runs}, {})))
    expected = np.zeros((4, 5), np.uint8)
    expected[1:3, 1:3] = 1
    expected[0:2, 4] = 2
    assert np.array_equal(reading.mask, expected)
    assert reading.objects is not None
    [note] = reading.notes
    assert note == "objects lie wholly under later ones of the document"


def test_coco_of_several_images():
    """Images in sub-folders, by backslashes and below the folder keep their own names."""
    document = coco({})
    for number, name in enumerate(["s\\b.tif", "./c.tif", "../../d.tif"]):
        document["images"].append({"id": number, "file_name": name})
    entries = open_documents([as_json("c.json", document)])
    assert list(entries) == ["a.tif", "s/b.tif", "c.tif", "d.tif"]
    empty = entries["c.tif"].read((9, 9), ["cell"])
    assert not empty.mask.any()
    assert empty.objects is None


def test_the_same_name_in_two_documents():
    """Folders tell them apart, as the splits of Roboflow; where they do not, both are named."""
    files = [as_json(f"{split}/_annotations.coco.json", coco({})) for split in ("train", "valid")]
    assert list(open_documents(files)) == ["train/a.tif", "valid/a.tif"]
    files = [as_json("c.json", coco({})), as_json("a.json", labelme())]
    with pytest.raises(DataError, match=r"c\.json and a\.json both have masks of a\.tif"):
        open_documents(files)


def test_a_crowd_is_no_object():
    """A crowd's pixels are of its label; what it holds is not told apart."""
    pair = {"size": [4, 5], "counts": [0, 8, 12]}
    document = coco({"segmentation": pair}, {"iscrowd": 1}, {"segmentation": pair})
    reading = read(as_json("c.json", document))
    assert reading.mask.sum() == 10
    assert reading.objects[1, 2] == 0
    assert reading.objects[0, 0] > 0


def test_one_annotation_a_label_says_nothing_of_objects():
    """Where each label has one annotation an image, its connected parts are the objects."""
    assert read(as_json("c.json", coco({}, {"category_id": 6}))).objects is None


COCO_REFUSED = {
    "size": (coco({}, height=5), "is 5 x 5 px, but the image is 5 x 4 px"),
    "box": (coco({"segmentation": []}), "annotation 1: it has no segmentation, only a box"),
    "no segmentation": (coco({"segmentation": None}), "only a box"),
    "two points": (coco({"segmentation": [[1, 1, 2, 2]]}), "2 points, of 3"),
    "odd": (coco({"segmentation": [[1, 1, 2, 2, 3, 3, 4]]}), "pairs of numbers"),
    "words": (coco({"segmentation": [["a"] * 6]}), "pairs of numbers"),
    "nan": (coco({"segmentation": [[1, 1, 2, 2, float("1e300"), 3]]}), "far outside"),
    "category": (coco({"category_id": 9}), "annotation 1 has no category"),
    "label": (
        coco({}, categories=["cat"]),
        "'cat' is none of the labels 'cell', 'nucleus'.*'cat=1'",
    ),
    "rle size": (coco({"segmentation": {"size": [5, 4], "counts": [20]}}), r"\[5, 4\]"),
    "rle short": (coco({"segmentation": {"size": [4, 5], "counts": [19]}}), "19 px long"),
    "rle minus": (coco({"segmentation": {"size": [4, 5], "counts": [21, -1]}}), "whole numbers"),
    "rle huge": (coco({"segmentation": {"size": [4, 5], "counts": [10**30]}}), "whole numbers"),
    "rle text": (coco({"segmentation": {"size": [4, 5], "counts": "~~"}}), "damaged"),
    "rle endless": (coco({"segmentation": {"size": [4, 5], "counts": "oooooooooo0"}}), "damaged"),
    "rle unicode": (coco({"segmentation": {"size": [4, 5], "counts": "ü"}}), "damaged"),
    "rle empty": (coco({"segmentation": {"size": [4, 5], "counts": ""}}), "damaged"),
}


@pytest.mark.parametrize("name", COCO_REFUSED)
def test_coco_that_is_refused(name):
    """Each names the document, the image and what is wrong with which annotation."""
    document, reason = COCO_REFUSED[name]
    with pytest.raises(RegionError, match=rf"(?s)c\.json.*a\.tif.*{reason}"):
        read(as_json("c.json", document))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
                  elements=st.integers(0, 1)))  # fmt: skip
def test_run_lengths_are_those_of_pycocotools(mask):
    """What pycocotools writes is read as it was, compressed or not."""
    height, width = mask.shape
    rle = coco_mask.encode(np.asfortranarray(mask))
    text = {"size": [height, width], "counts": rle["counts"].decode()}
    assert np.array_equal(decode_rle(text, height, width), mask > 0)
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    runs = np.diff(np.append(0, edges)).tolist()
    plain = {"size": [height, width], "counts": runs}
    assert np.array_equal(decode_rle(plain, height, width), mask > 0)


@settings(max_examples=200, deadline=None)
@given(st.text("012345fghijkXYZ[_`ano", max_size=12))
def test_any_text_is_run_lengths_or_refused(text):
    """Damaged counts are refused without a warning, whatever they say."""
    try:
        mask = decode_rle({"size": [3, 3], "counts": text}, 3, 3)
    except RegionError:
        return
    assert mask.shape == (3, 3)


def test_overlaps_are_told():
    """Where labels cannot overlap the later region has the pixels, and the summary can say so."""
    document = as_json(
        "c.json", coco({}, {"category_id": 6, "segmentation": [[2, 0, 5, 0, 5, 4, 2, 4]]})
    )
    reading = read(document)
    assert reading.mask[1].tolist() == [0, 1, 2, 2, 2]
    assert reading.notes == (
        "pixels of 'cell' lie under a later region of 'nucleus', which has them",
    )
    both = read(document, overlapping=True)
    assert both.mask[1].tolist() == [0, 2, 6, 4, 4]
    assert both.notes == ()


def test_labels_set_aside():
    """Unknown labels are 255, background is 0 and known, and what nobody painted is the rest."""
    far = {"category_id": 6, "segmentation": [[4, 0, 5, 0, 5, 4, 4, 4]]}
    document = as_json("c.json", coco({}, far))
    names = ("nucleus", "cell")
    assert read(document, labels=names, unknown=["nucleus"]).mask[1].tolist() == [0, 1, 1, 0, 255]
    aside = read(document, labels=names, background=["nucleus"], rest=255)
    assert aside.mask[1].tolist() == [255, 1, 1, 255, 0]


def test_names_go_to_labels():
    """Case and how accents are encoded do not matter; values say what other names mean."""
    accent = coco({}, categories=["Zelle\u0308"])
    assert read(as_json("c.json", accent), labels=["zell\u00eb"]).mask.max() == 1
    document = as_json("c.json", coco({}, {"category_id": 6}, categories=["cat", "dog"]))
    assert read(document, values={"cat": 2, "dog": 0}).mask.max() == 2
    assert read(document, values={"cat": 255, "dog": 0}).mask.max() == 255
    assert read(document, values={"cat": 0, "dog": 0}, rest=255).mask[1].tolist() == [
        255, 0, 0, 255, 255,
    ]  # fmt: skip
    assert read(document, values={"cat": 1, "*": 255}).mask.max() == IGNORE
    assert read(document, values={"*": 2}).mask.max() == 2
    with pytest.raises(ConfigError, match="label 3, but there are only 2"):
        read(document, values={"cat": 3})


def test_documents_that_hold_no_masks_are_told():
    """Other JSON, text and arrays are passed over, damaged ones set aside, each with its reason."""
    summary = Summary()
    files = [
        as_json("package.json", {"name": "x"}),
        File("broken.json", b"{"),
        File("README.txt", b"Masks of cells"),
        File("plain.npy", b""),
        File("data.yaml", b"names: [cell]"),
        File("a.png", b""),
        as_json("panoptic.json", coco({"segments_info": []})),
        as_json("half.json", {"images": [{}], "annotations": []}),
        as_json("list.json", [1]),
        File("latin.txt", b"\xe4"),
    ]  # fmt: skip
    assert open_documents(files, summary) == {}
    assert summary.count("passed_over") == 4
    reasons = " ".join(group.detail for group in summary.groups("set_aside"))
    for word in ("no JSON", "panoptic", "no list of categories", "no text in UTF-8"):
        assert word in reasons


def test_annotations_of_no_image_are_told():
    """An annotation of an image that the list lacks is counted and named."""
    summary = Summary()
    read(as_json("c.json", coco({}, {"image_id": 99})), summary=summary)
    [group] = summary.groups("warnings")
    assert group.names == ["c.json"]
    assert "1 annotations are of images that it does not list" in group.detail


def test_labelme_shapes():
    """Polygon, rectangle, circle and mask; a group is one object; LabelMe's own labels hold."""
    crop = base64.b64encode(png(np.array([[True, False], [True, True]]))).decode()
    reading = read(
        as_json(
            "a.json",
            labelme(
                shape("cell", "polygon", [[0, 0], [2, 0], [2, 2], [0, 2]], group_id=4),
                shape("cell", "rectangle", [[5, 4], [3, 3]], group_id=4),
                shape("nucleus", "circle", [[1.5, 3.5], [1.5, 3.1]]),
                shape("__ignore__", "mask", [[3, 0], [4, 1]], mask=crop),
                imageData="A" * 99,
            ),
        )
    )
    expected = [[1, 1, 0, 255, 0], [1, 1, 0, 255, 255], [0, 0, 0, 0, 0], [0, 2, 0, 1, 1]]
    assert reading.mask.tolist() == expected
    assert reading.objects[0, 0] == reading.objects[3, 4] != reading.objects[3, 1]
    assert reading.notes == ()


@pytest.mark.parametrize(
    ("kind", "points", "reason"),
    [
        ("linestrip", [[0, 0], [1, 1]], r"shape 1 \(cell\): a linestrip has no area; polygon"),
        ("point", [[0, 0]], "a point has no area"),
        ("polygon", [[0, 0], [1, 1]], "2 points, of 3"),
        ("polygon", [[0, 0, 0], [1, 1, 1]], "pairs of numbers"),
        ("mask", [[0, 0], [1, 1]], "no PNG in base64"),
        ("circle", [[0, 0]], "1 points, of 2"),
    ],
)
def test_labelme_that_is_refused(kind, points, reason):
    """A shape without an area refuses its image, and says which; left out, it does not matter."""
    document = as_json("a.json", labelme(shape("cell", kind, points)))
    with pytest.raises(RegionError, match=reason):
        read(document)
    assert not read(document, values={"cell": 0}).mask.any()


def test_labelme_masks_that_do_not_fit():
    """A mask beyond the image or in colour is refused."""
    for pixels, reason in [
        (np.ones((9, 9), bool), "beyond"),
        (np.ones((1, 1, 3), np.uint8), "colour"),
    ]:
        crop = base64.b64encode(png(pixels)).decode()
        with pytest.raises(RegionError, match=reason):
            read(as_json("a.json", labelme(shape("cell", "mask", [[0, 0], [1, 1]], mask=crop))))


def test_labelme_names():
    """The image's path is kept without what leads out of the folder; else the document's name."""
    files = [
        as_json("x/a.json", labelme(imagePath="..\\images\\a.tif")),
        as_json("x/b.json", labelme(imagePath="")),
    ]
    assert list(open_documents(files)) == ["images/a.tif", "b.json"]
    summary = Summary()
    assert open_documents([as_json("x.json", labelme({"points": []}))], summary) == {}
    assert "no label" in summary.groups("set_aside")[0].detail


BOX = "0 0.2 0.25 0.6 0.25 0.6 0.75 0.2 0.75\n"


def test_yolo_polygons():
    """Classes by name, from data.yaml or classes.txt, of the nearest folder; empty is empty."""
    names = [("t/data.yaml", b"names: {0: nucleus, 1: cell}"), ("data.yaml", b"names: [cell]")]
    for where, text in [*names[:1], ("t/classes.txt", b"nucleus\ncell\n")]:
        files = [File("t/labels/a.txt", BOX.encode()), File(where, text), File(*names[1])]
        entries = open_documents([*files, File("t/labels/b.txt", b"")])
        assert list(entries) == ["t/labels/a.txt", "t/labels/b.txt"]
        reading = entries["t/labels/a.txt"].read((4, 5), ["cell", "nucleus"])
        assert reading.mask.tolist() == [[0] * 5, *[[0, 2, 2, 2, 0]] * 3]
        assert not entries["t/labels/b.txt"].read((4, 5), ["cell"]).mask.any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 0.5 0.5 0.2 0.2", r"line 1 is a box \(5 numbers\)"),
        ("\n0 0.5 0.5", "line 2 has 2 numbers"),
        ("0 1 2 3 4 5 6", "shares of width"),
        ("0 a b c d e f", "line 1 is not a class"),
        ("5" + BOX[1:], "class 5 has no name; there are 1: 'cell'"),
    ],
)
def test_yolo_that_is_refused(text, reason):
    """Boxes and damaged lines are named by their line."""
    with pytest.raises(RegionError, match=rf"a\.txt.*{reason}"):
        read(File("a.txt", text.encode()), File("classes.txt", b"cell"))


def test_yolo_without_names():
    """Classes without names are asked for, and values say what they are."""
    with pytest.raises(RegionError, match=r"'0' is none of the labels.*'0=1'"):
        read(File("a.txt", BOX.encode()))
    assert read(File("a.txt", BOX.encode()), values={range(1): 2}).mask.max() == 2


def test_yolo_key_points_and_two_lists():
    """Boxes with key points are set aside; two lists of names that differ are, too."""
    summary = Summary()
    pose = File("data.yaml", b"names: [cell]\nkpt_shape: [17, 3]")
    open_documents([File("a.txt", BOX.encode()), pose], summary)
    two = [File("b/classes.txt", b"x"), File("b/data.yaml", b"names: [y]")]
    open_documents([File("b/a.txt", BOX.encode()), *two], summary)
    open_documents([File("c/a.txt", BOX.encode()), File("c/x.yaml", b"- {")], summary)
    reasons = [group.detail for group in summary.groups("set_aside")]
    assert "key points" in reasons[0]
    assert "b/classes.txt, b/data.yaml name the classes differently" in reasons[1]
    assert len(reasons) == 2


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "i4", "u4", "i8", "f4", "f8"])
def test_cellpose(protocol, kind):
    """Object numbers of any type and version, in any order of rows and bytes."""
    masks = np.asfortranarray(np.array([[0, 5, 5], [9, 9, 0]], kind))
    content = {
        "outlines": [np.zeros((3, 2), np.int32)], "filename": PurePosixPath("/x/a.tif"),
        "flows": [np.zeros((2, 3, 3), np.uint8), [], None, (1, 2.5, 2**40)],
        "diameter": np.float64(30), "masks": masks, "again": masks, "ismanual": np.zeros(2, bool),
    }  # fmt: skip
    data = npy(content, protocol)
    if protocol < 4:
        data = data.replace(b"numpy._core", b"numpy.core").replace(b"pathlib._local", b"pathlib")
    [(name, entry)] = open_documents([File("s/a_seg.npy", data)]).items()
    assert name == "s/a.npy"
    reading = entry.read((2, 3), ["cell"])
    assert reading.mask.tolist() == [[0, 1, 1], [1, 1, 0]]
    assert len(np.unique(reading.objects)) == 3
    chosen = entry.read((2, 3), ["a", "b"], values={range(1, 6): 2, range(6, 99): 0})
    assert chosen.mask.tolist() == [[0, 2, 2], [0, 0, 0]]
    with pytest.raises(RegionError, match=r"numbers objects without saying which.*1-2147483647=1"):
        entry.read((2, 3), ["a", "b"])
    with pytest.raises(RegionError, match="are 3 x 2 px, the image 2 x 3 px"):
        entry.read((3, 2), ["cell"])


class Hostile:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        """Call the system."""
        return print, ("unpickled!",)


CELLPOSE_REFUSED = {
    "a call": (npy({"masks": Hostile()}), "would call builtins.print"),
    "beside the masks": (npy({"masks": np.zeros((2, 3), int), "x": Hostile()}), "would call"),
    "no masks": (npy({"flows": 1}), "no 'masks'"),
    "no dictionary": (npy([1]), "no 'masks'"),
    "a set": (npy({"masks": {1, 2}}), "EMPTY_SET"),
    "no array": (npy({"masks": 3}), "no array of numbers"),
    "objects": (npy({"masks": np.array([[1, None]])}), "no array of numbers"),
    "short": (npy({"masks": np.zeros((2, 3), int)})[:-30], "damaged"),
    "text": (b"text", "no dictionary"),
    "plain": (npy({})[:8], "no dictionary"),
    "stack": (npy({"masks": np.zeros((2, 2, 3), int)}), "3 dimensions"),
    "halves": (npy({"masks": np.full((2, 3), 0.5)}), "no numbers of objects"),
    "negative": (npy({"masks": np.full((2, 3), -1)}), "no numbers of objects"),
}


@pytest.mark.parametrize("name", CELLPOSE_REFUSED)
def test_cellpose_that_is_refused(name, capsys):
    """A file of anything else is refused by name, and nothing that stands in it is run."""
    data, reason = CELLPOSE_REFUSED[name]
    with pytest.raises(RegionError, match=rf"a_seg\.npy.*{reason}"):
        read(File("a_seg.npy", data), shape=(2, 3), labels=["cell"])
    assert capsys.readouterr().out == ""


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_cellpose_is_refused(data):
    """Any bytes changed: an array, or one of our errors."""
    whole = bytearray(npy({"masks": np.arange(6, dtype=np.uint16).reshape(2, 3), "x": [1.5, "a"]}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(128, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        reading = read(File("a_seg.npy", bytes(whole)), shape=(2, 3), labels=["cell"])
    except DataError:
        return
    assert reading.mask.shape == (2, 3)
