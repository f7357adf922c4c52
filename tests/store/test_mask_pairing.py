"""Masks at an address, as tools write them: which image has which, how they read, what is told."""

import json
import unicodedata
from dataclasses import dataclass

import numpy as np
import pytest
import tifffile
from PIL import Image

from ml_backend.errors import DataError
from ml_backend.recipe import Recipe
from ml_backend.store.collection import open_collection
from ml_backend.store.listing import ListedFile, list_files
from ml_backend.store.mask_files import LabelUse
from ml_backend.store.mask_pairing import pair_masks
from ml_backend.store.names import page_name
from ml_backend.store.summary import Summary

SHAPE = (6, 8)


@dataclass(frozen=True)
class Picture:
    """An image, as a collection has it."""

    name: str
    file: ListedFile
    stack: str | None = None
    page: int = 0
    pages: int = 1


def write(path, *, value=255, at=1):
    """Write a mask with one square, in a folder that is made; or an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = np.zeros(SHAPE, np.uint8)
    plane[at : at + 2, at : at + 2] = value
    if path.suffix in {".tif", ".tiff"}:
        tifffile.imwrite(path, plane)
    else:
        Image.fromarray(plane).save(path)


def images_in(folder):
    """All images below a folder."""
    return [Picture(file.name, file) for file in list_files(folder)]


def stack(path, pages):
    """A stack of pages, and its images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.zeros((pages, *SHAPE), np.uint8), photometric="minisblack")
    [file] = [f for f in list_files(path.parent) if f.name == path.name]
    return [
        Picture(page_name(file.name, n, pages), file, file.name, n, pages) for n in range(pages)
    ]


def pairs_of(images, masks, labels=("object",), **options):
    """Give what was paired, as names, and the summary; every image and mask is in it once."""
    summary = Summary()
    pairs = pair_masks(images, masks, labels, summary=summary, **options)
    names = {
        image: files.fault or [*(files.by_label or ()), *(file.name for file in files.files)]
        for image, files in pairs.files.items()
    }
    assert summary.count("paired") == len([f for f in pairs.files.values() if f.fault is None])
    without = [g.count for g in summary.groups("unpaired") if g.detail == "image without mask"]
    assert sum(without) + len(names) == len(pairs.images)
    return names, summary


def told(summary, kind):
    """Give detail → names of one kind."""
    return {group.detail: group.names for group in summary.groups(kind)}


@pytest.mark.parametrize("mask", ["x_cp_masks.tif", "x_mask.png", "x_seg-manual.png", "mask_x.png"])
def test_masks_beside_their_images(tmp_path, mask):
    """In one folder with the images masks are found, are no images, and are told."""
    for name in ("x.png", "y.png", mask):
        write(tmp_path / name)
    names, summary = pairs_of(images_in(tmp_path), tmp_path)
    assert names == {"x.png": [mask]}
    assert told(summary, "passed_over") == {"a mask, not an image": [mask]}
    assert told(summary, "unpaired") == {"image without mask": ["y.png"]}


def test_a_folder_of_masks_inside_that_of_the_images(tmp_path):
    """Masks in `scans/masks` are no images, whether that folder or all of it is named."""
    for name in ("a.png", "b.png", "masks/a.png", "masks/c.png"):
        write(tmp_path / "scans" / name)
    images = images_in(tmp_path / "scans")
    for address in ("scans/masks", "scans", "scans/../scans/masks"):
        names, summary = pairs_of(images, tmp_path / address)
        assert [name.removeprefix("masks/") for name in names["a.png"]] == ["a.png"]
        assert told(summary, "passed_over") == {
            "a mask, not an image": ["masks/a.png", "masks/c.png"]
        }
        assert sorted(told(summary, "unpaired")) == ["image without mask", "mask without image"]
    kept = pair_masks(images, None, summary=(summary := Summary()))
    assert [image.name for image in kept.images] == ["a.png", "b.png"]
    assert "looks like the mask of another image" in str(summary.groups("passed_over")[0])


def test_other_files_stay_images_where_no_masks_are_named(tmp_path):
    """Only what is unmistakable is taken for a mask: a folder of labels may hold images."""
    names = ["a.png", "a_label free.png", "b_1.png", "b_2.png", "labels/z.png", "x_mask.png"]
    for name in names:
        write(tmp_path / name)
    kept = pair_masks(images_in(tmp_path), None)
    assert sorted(image.name for image in kept.images) == names


def test_dsb_stage1(tmp_path):
    """A file an object, in a folder of the image: one mask with the objects' numbers."""
    for case in ("0f1e", "77aa"):
        write(tmp_path / case / "images" / f"{case}.png")
        for at in (0, 3):
            write(tmp_path / case / "masks" / f"{case[::-1]}{at}.png", at=at)
    names, summary = pairs_of(images_in(tmp_path), tmp_path)
    assert {len(files) for files in names.values()} == {2}
    assert summary.count("passed_over") == 4
    pairs = pair_masks(images_in(tmp_path), tmp_path)
    reading = pairs.files["0f1e/images/0f1e.png"].read(SHAPE, LabelUse(["nucleus"]))
    assert (reading.mask > 0).sum() == 8
    assert [(reading.objects == number).sum() for number in (1, 2)] == [4, 4]
    assert reading.notes == ()
    write(tmp_path / "0f1e" / "masks" / "zz.png", at=1)
    pairs = pair_masks(images_in(tmp_path), tmp_path)
    reading = pairs.files["0f1e/images/0f1e.png"].read(SHAPE, LabelUse(["nucleus"]))
    assert reading.notes == ("1 px lie in several objects and count for the first",)
    with pytest.raises(DataError, match="do not say which of the labels a, b"):
        pairs.files["0f1e/images/0f1e.png"].read(SHAPE, LabelUse(["a", "b"]))


def test_nnunet_and_roboflow(tmp_path):
    """Their folders can be given as a whole, or one by one."""
    write(tmp_path / "nn/imagesTr/case_01_0000.png")
    write(tmp_path / "nn/labelsTr/case_01.png")
    write(tmp_path / "nn/imagesTs/case_02_0000.png")
    image = "imagesTr/case_01_0000.png"
    assert pairs_of(images_in(tmp_path / "nn"), tmp_path / "nn")[0] == {
        image: ["labelsTr/case_01.png"]
    }
    names, summary = pairs_of(images_in(tmp_path / "nn/imagesTr"), tmp_path / "nn/labelsTr")
    assert names == {"case_01_0000.png": ["case_01.png"]}
    assert list(told(summary, "paired")) == ["the name without the channel _0000"]
    for part in ("train", "valid"):
        write(tmp_path / "rf" / part / "images/c_png.rf.0a1b.png")
        write(tmp_path / "rf" / part / "masks/c_png.rf.0a1b.png")
    names, _ = pairs_of(images_in(tmp_path / "rf"), tmp_path / "rf")
    assert names == {
        f"{part}/images/c_png.rf.0a1b.png": [f"{part}/masks/c_png.rf.0a1b.png"]
        for part in ("train", "valid")
    }


def test_files_of_labels(tmp_path):
    """Folders of labels in any case, and what is added to names, give a file a label."""
    write(tmp_path / "images/x.png")
    for label, at in (("Cell", 1), ("nucleus", 2)):
        write(tmp_path / "folders" / label / "x.png", at=at)
        write(tmp_path / "beside" / f"x_{label}.png", at=at)
    write(tmp_path / "beside/x.png")
    for images, masks in (("images", "folders"), ("beside", "beside")):
        found = pair_masks(images_in(tmp_path / images), tmp_path / masks, ["cell", "nucleus"])
        assert [image.name for image in found.images] == ["x.png"]
        files = found.files["x.png"]
        assert list(files.by_label) == ["cell", "nucleus"]
        reading = files.read(SHAPE, LabelUse(["cell", "nucleus"], overlapping=True))
        assert sorted(np.unique(reading.mask)) == [0, 2, 4, 6]


def test_accents_and_double_endings(tmp_path):
    """An NFD image has its NFC mask, `a.ome.tif` the mask of `a`."""
    write(tmp_path / "images" / unicodedata.normalize("NFD", "größe.png"))
    write(tmp_path / "images" / "a.ome.tif")
    write(tmp_path / "masks" / unicodedata.normalize("NFC", "größe.png"))
    write(tmp_path / "masks" / "a_mask.png")
    names, summary = pairs_of(images_in(tmp_path / "images"), tmp_path / "masks")
    assert sorted(names.values()) == [["a_mask.png"], ["größe.png"]]
    assert told(summary, "paired") == {
        "the name and '_mask'": ["a.ome.tif ↔ a_mask.png"],
        "the same name": [f"{unicodedata.normalize('NFD', 'größe.png')} ↔ größe.png"],
    }


def test_numbers_are_asked_for(tmp_path):
    """Names of other images are paired by number only where that is said."""
    for number in range(3):
        write(tmp_path / f"images/ctrl_{number}.png")
        write(tmp_path / f"masks/drugB_{number}.png")
    images = images_in(tmp_path / "images")
    with pytest.raises(DataError, match=r"ctrl_0\.png with drugB_0\.png.* --match number"):
        pair_masks(images, tmp_path / "masks")
    names, summary = pairs_of(images, tmp_path / "masks", match="number")
    assert names["ctrl_2.png"] == ["drugB_2.png"]
    assert list(told(summary, "paired")) == ["by number"]


def test_what_is_left_over_is_told(tmp_path):
    """Images without a mask, masks without an image, and those that are unclear are named."""
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / "images" / name)
    for name in ("a.png", "b.png", "b.tif", "d.png"):
        write(tmp_path / "masks" / name)
    names, summary = pairs_of(images_in(tmp_path / "images"), tmp_path / "masks")
    assert names["a.png"] == ["a.png"]
    assert "b.png has several masks: b.png, b.tif" in names["b.png"]
    assert told(summary, "unpaired") == {
        "image without mask": ["c.png"],
        "mask without image": ["d.png"],
        "mask of an image that is set aside": ["b.png", "b.tif"],
    }
    files = pair_masks(images_in(tmp_path / "images"), tmp_path / "masks").files["b.png"]
    with pytest.raises(DataError, match="several masks"):
        files.read(SHAPE, LabelUse(["object"]))


def test_nothing_in_common_is_an_error_with_names_of_both_sides(tmp_path):
    """So that a person sees why."""
    write(tmp_path / "images/a.png")
    write(tmp_path / "masks/b.png")
    with pytest.raises(DataError, match=r"images are called a\.png …, masks b\.png …"):
        pair_masks(images_in(tmp_path / "images"), tmp_path / "masks")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none is there"):
        pair_masks(images_in(tmp_path / "images"), tmp_path / "none")


def test_a_stack_of_masks(tmp_path):
    """Page n of the stack has page n of the masks, whatever their order in memory."""
    images = stack(tmp_path / "images/s.tif", 12)
    planes = np.zeros((12, *SHAPE), np.uint8)
    for page in range(12):
        planes[page, 2, :page] = 255
    for options in ({}, {"compression": "lzw"}):
        (tmp_path / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "masks/s_mask.tif", planes, **options)
        pairs = pair_masks(images, tmp_path / "masks")
        for page in (0, 6, 11):
            files = pairs.files[f"s_p{page + 1:02}.tif"]
            assert files.files[0].name == f"s_mask.tif (page {page + 1})"
            assert (files.read(SHAPE, LabelUse(["object"])).mask > 0).sum() == min(page, 8)
    some = pair_masks(images[3:5], tmp_path / "masks")  # a range of pages
    assert some.files["s_p05.tif"].files[0].page == 4


def test_a_stack_of_palette_masks(tmp_path):
    """A page of an indexed mask keeps its indices and colours."""
    images = stack(tmp_path / "images/s.tif", 2)
    pages = []
    for page in range(2):
        picture = Image.fromarray(np.full(SHAPE, page + 1, np.uint8)).convert("P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        pages.append(picture)
    (tmp_path / "masks").mkdir()
    pages[0].save(tmp_path / "masks/s.tif", save_all=True, append_images=pages[1:])
    pairs = pair_masks(images, tmp_path / "masks", ["a", "b"])
    use = LabelUse(["a", "b"])
    assert [np.unique(f.read(SHAPE, use).mask).tolist() for f in pairs.files.values()] == [[1], [2]]


def test_a_stack_of_masks_with_another_number_of_pages_is_refused(tmp_path):
    """Both numbers are said; other images are not concerned."""
    images = stack(tmp_path / "images/s.tif", 5)
    stack(tmp_path / "masks/s.tif", 4)
    with pytest.raises(DataError, match=r"s\.tif has 5 pages and its mask s\.tif has 4"):
        pair_masks(images, tmp_path / "masks")
    write(tmp_path / "images/b.png")
    write(tmp_path / "masks/b.png")
    both = [*images, *(image for image in images_in(tmp_path / "images") if image.name == "b.png")]
    names, summary = pairs_of(both, tmp_path / "masks")
    assert names["b.png"] == ["b.png"]
    assert sum("5 pages" in str(fault) for fault in names.values()) == 5
    assert told(summary, "unpaired") == {"mask of an image that is set aside": ["s.tif"]}


@pytest.mark.parametrize(
    ("form", "first"),
    [("s_p{:02}.png", 1), ("s_{:02}.png", 1), ("s-{:04}.tif", 0), ("s{:04}.tif", 0),
     ("s_mask_{}.png", 1), ("s_z{}.png", 0)],
)  # fmt: skip
def test_a_mask_file_a_page(tmp_path, form, first):
    """The export's own names, and those of image sequences that count from 0 or 1."""
    images = stack(tmp_path / "images/s.tif", 10)
    for page in range(10):
        write(tmp_path / "masks" / form.format(page + first), at=page % 4)
    names, summary = pairs_of(images, tmp_path / "masks")
    assert list(names.values()) == [[form.format(n + first)] for n in range(10)]
    assert summary.count("unpaired") == 0


def test_pages_that_do_not_say_from_where_they_count(tmp_path):
    """A few numbers may count from 0 or 1; too many are those of another stack."""
    images = stack(tmp_path / "images/s.tif", 10)
    for number in (3, 7):
        write(tmp_path / "masks" / f"s_{number}.png")
    with pytest.raises(DataError, match="does not say whether pages are counted from 0 or 1"):
        pair_masks(images, tmp_path / "masks")
    write(tmp_path / "masks" / "s_0.png")
    names, summary = pairs_of(images, tmp_path / "masks")
    assert names == {"s_p01.tif": ["s_0.png"], "s_p04.tif": ["s_3.png"], "s_p08.tif": ["s_7.png"]}
    assert summary.count("unpaired") == 7
    write(tmp_path / "masks" / "s_12.png")
    with pytest.raises(DataError, match="has 10 pages, and its masks are those of pages 0, 3, 7"):
        pair_masks(images, tmp_path / "masks")


def test_labels_of_stacks(tmp_path):
    """A stack of masks a label gives each page a file a label."""
    images = stack(tmp_path / "images/s.tif", 3)
    for label in ("cell", "rim"):
        stack(tmp_path / "masks" / label / "s.tif", 3)
    pairs = pair_masks(images, tmp_path / "masks", ["cell", "rim"])
    files = pairs.files["s_p2.tif"].by_label
    assert {label: file.page for label, file in files.items()} == {"cell": 1, "rim": 1}


def coco(path, *names):
    """A COCO document with a square of 4 px in each image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "images": [{"id": n, "file_name": name, "height": 6, "width": 8}
                   for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "category_id": 5, "iscrowd": 0, "area": 4,
                         "bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}
                        for n in range(len(names))],
        "categories": [{"id": 5, "name": "object"}],
    }  # fmt: skip
    path.write_text(json.dumps(document))


def test_documents(tmp_path):
    """A COCO file is enough as the masks; so is a folder of documents beside the images."""
    for name in ("a.png", "a.jpg", "sub/b.png"):
        write(tmp_path / "images" / name)
    coco(tmp_path / "coco.json", "a.png", "images/sub/b.png", "gone.png")
    names, summary = pairs_of(images_in(tmp_path / "images"), tmp_path / "coco.json")
    assert sorted(names) == ["a.png", "sub/b.png"]
    assert told(summary, "paired")["the same name"] == [
        "a.png ↔ coco.json", "sub/b.png ↔ coco.json",
    ]  # fmt: skip
    assert told(summary, "unpaired")["mask without image"] == ["gone.png of coco.json"]
    pairs = pair_masks(images_in(tmp_path / "images"), tmp_path / "coco.json")
    files = pairs.files["a.png"]
    assert (files.read(SHAPE, LabelUse(["object"])).mask > 0).sum() == 4
    before = files.digest()
    coco(tmp_path / "coco.json", "a.png", "a.jpg")
    again = pair_masks(images_in(tmp_path / "images"), tmp_path / "coco.json").files["a.png"]
    assert again.digest() != before
    coco(tmp_path / "images/annotations.json", "a.png")
    assert list(pairs_of(images_in(tmp_path / "images"), tmp_path / "images")[0]) == ["a.png"]


def test_a_document_of_a_stack_is_refused(tmp_path):
    """It says of one picture, and not of which page; of pages by their names it is read."""
    images = stack(tmp_path / "images/s.tif", 3)
    coco(tmp_path / "c.json", "s.tif")
    with pytest.raises(DataError, match=r"c\.json has one mask of s\.tif, which has 3 pages"):
        pair_masks(images, tmp_path / "c.json")
    coco(tmp_path / "c.json", "s_p2.tif")
    assert list(pairs_of(images, tmp_path / "c.json")[0]) == ["s_p2.tif"]


def test_masks_in_a_bucket(tmp_path):
    """Masks may lie at any address."""
    import fsspec

    write(tmp_path / "images/a.png")
    write(tmp_path / "a.png")
    bucket = fsspec.filesystem("memory")
    bucket.pipe("/pairing/a_mask.png", (tmp_path / "a.png").read_bytes())
    try:
        pairs = pair_masks(images_in(tmp_path / "images"), "memory://pairing")
        reading = pairs.files["a.png"].read(SHAPE, LabelUse(["object"]))
        assert (reading.mask > 0).sum() == 4
    finally:
        bucket.rm("/pairing", recursive=True)


def test_linked_folders_are_the_same_folder(tmp_path):
    """Masks that are reached by a link are no images of the folder they lie in."""
    for name in ("a.png", "masks/a.png"):
        write(tmp_path / "scans" / name)
    (tmp_path / "link").symlink_to(tmp_path / "scans/masks")
    names, _ = pairs_of(images_in(tmp_path / "scans"), tmp_path / "link")
    assert names == {"a.png": ["a.png"]}


def test_labelme_and_yolo_lie_beside_their_images(tmp_path):
    """A document is that of the image that it names, or that is called like it."""
    write(tmp_path / "lm/x.png")
    shape = {"label": "object", "shape_type": "rectangle", "points": [[1, 1], [3, 3]]}
    document = {"version": "5.5.0", "imagePath": "..\\lm\\x.png", "imageData": None,
                "imageHeight": 6, "imageWidth": 8, "flags": {}, "shapes": [shape]}  # fmt: skip
    (tmp_path / "lm/x.json").write_text(json.dumps(document))
    pairs = pair_masks(images_in(tmp_path / "lm"), tmp_path / "lm")
    assert pairs.files["x.png"].read(SHAPE, LabelUse(["object"])).mask.any()
    write(tmp_path / "yolo/images/train/x.png")
    (tmp_path / "yolo/labels/train").mkdir(parents=True)
    (tmp_path / "yolo/labels/train/x.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (tmp_path / "yolo/data.yaml").write_text("names: [object]\n")
    pairs = pair_masks(images_in(tmp_path / "yolo"), tmp_path / "yolo")
    assert pairs.files["images/train/x.png"].read(SHAPE, LabelUse(["object"])).mask.any()


def test_a_part_of_the_images_may_be_the_folder_of_masks(tmp_path):
    """There, masks beside their images do not make all of that folder's files masks."""
    for name in ("a.png", "train/x.png", "train/x_mask.png", "old_masks/a.png"):
        write(tmp_path / "ds" / name)
    images = images_in(tmp_path / "ds")
    names, summary = pairs_of(images, tmp_path / "ds/train")
    assert names == {"train/x.png": ["x_mask.png"]}
    names, summary = pairs_of(images, tmp_path / "ds/old_masks")
    assert names == {"a.png": ["a.png"]}
    assert told(summary, "unpaired") == {"image without mask": ["train/x.png"]}
    assert summary.count("passed_over") == 2


def test_documents_among_the_images_are_told_once(tmp_path):
    """As masks where those lie there, as files that are no images where they do not."""
    write(tmp_path / "a.png")
    coco(tmp_path / "coco/x.json", "a.png")
    (tmp_path / "notes.csv").touch()
    for masks, json_is in ((tmp_path, 0), (tmp_path / "coco", 0), (None, 1)):
        summary = Summary()
        images = open_collection(tmp_path, Recipe(), summary, masks=masks)
        pairs = pair_masks(images, masks, summary=summary)
        assert list(pairs.files) == (["a.png"] if masks else [])
        passed = told(summary, "passed_over")
        assert passed[".csv files are not read"] == ["notes.csv"]
        assert passed.get(".json files are not read", []) == ["coco/x.json"] * json_is
        assert summary.count("passed_over") == 1 + json_is
