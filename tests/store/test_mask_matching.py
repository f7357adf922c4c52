"""Which mask belongs to which image, by their names: a case for each layout that tools write."""

import contextlib
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.errors import DataError
from ml_backend.export.names import FileNames
from ml_backend.store.mask_matching import match_masks

NFD = unicodedata.normalize("NFD", "zähler")
HASH = "01d44a26f6680c42ba94c9bc6339228579a95d0e"
RF = "cells_jpg.rf.1a2b3c4d5e6f"


def paired(images, masks, **options):
    """Give image → its masks as one text, and check that every name is accounted for once."""
    matches = match_masks(images, masks, **options)
    assert sorted([*matches.pairs, *matches.faults, *matches.images]) == sorted(images)
    used = [part.mask for pair in matches.pairs.values() for part in pair.parts]
    assert sorted([*used, *matches.masks]) == sorted(masks)
    return {image: _text(pair) for image, pair in matches.pairs.items()}


def _text(pair):
    parts = [
        ":".join(str(fact) for fact in (part.label, part.page, part.mask) if fact is not None)
        for part in pair.parts
    ]
    return " ".join(parts)


@pytest.mark.parametrize(
    ("images", "masks", "pairs"),
    [
        # the same name, a longer name; case, accents, double endings
        (["a.jpg", "b.jpg"], ["A.PNG"], {"a.jpg": "A.PNG"}),
        (
            ["a.png", "a_1.png"],
            ["a_1_mask.png", "a-seg.tif"],
            {"a.png": "a-seg.tif", "a_1.png": "a_1_mask.png"},
        ),
        (["1.png", "10.png"], ["10_mask.png"], {"10.png": "10_mask.png"}),
        (["x.png"], ["x.png", "x_old.png"], {"x.png": "x.png"}),
        (["x.png"], ["x_mask.png", "x_old.png"], {"x.png": "x_mask.png"}),
        (["a 1.png"], ["a 1 manual.png"], {"a 1.png": "a 1 manual.png"}),
        (["a.png"], ["b.png"], {}),
        (["a.png"], [], {}),
        ([f"{NFD}.png"], ["ZÄHLER_mask.png"], {f"{NFD}.png": "ZÄHLER_mask.png"}),
        (["straße.tif"], ["STRASSE.png"], {"straße.tif": "STRASSE.png"}),
        (["a.ome.tif"], ["a.tif"], {"a.ome.tif": "a.tif"}),
        (["a.ome.tif"], ["a_mask.png"], {"a.ome.tif": "a_mask.png"}),
        (["a.ome.tif", "a.tif"], ["a.ome.png", "a.png"],
         {"a.ome.tif": "a.ome.png", "a.tif": "a.png"}),
        (["a.png"], ["a_labels.ome.tif"], {"a.png": "a_labels.ome.tif"}),
        (["a.nii.gz"], ["a_seg.nii.gz"], {"a.nii.gz": "a_seg.nii.gz"}),
        (["a.tif"], ["a.ome.tif"], {"a.tif": "a.ome.tif"}),
        # the same stems: the mask that is named after the file, as the product exports, or its case
        (["b.jpg", "b.png"], ["b.png", "b.png.png"], {"b.jpg": "b.png", "b.png": "b.png.png"}),
        (["b.jpg", "b.png"], ["b.jpg.png", "b.png.png"],
         {"b.jpg": "b.jpg.png", "b.png": "b.png.png"}),
        (["A.png", "a.png"], ["a_mask.png", "A_mask.png"],
         {"A.png": "A_mask.png", "a.png": "a_mask.png"}),
        # Cellpose
        (["x.tif"], ["x_cp_masks.tif"], {"x.tif": "x_cp_masks.tif"}),
        (
            ["x.tif"],
            ["x_cp_masks.png", "x_flows_cp_masks.tif", "x_outlines_cp_masks.png"],
            {"x.tif": "x_cp_masks.png"},
        ),
        (["000_img.png"], ["000_masks.png"], {"000_img.png": "000_masks.png"}),
        # nnU-Net
        (
            ["imagesTr/case_0000.png", "imagesTr/case2_0000.png"],
            ["labelsTr/case.png", "labelsTr/case2.png"],
            {
                "imagesTr/case_0000.png": "labelsTr/case.png",
                "imagesTr/case2_0000.png": "labelsTr/case2.png",
            },
        ),
        (["c_0000.png", "c_0001.png"], ["c_0000.png", "c.png"], {"c_0000.png": "c_0000.png"}),
        # ilastik, Cityscapes, words before a number
        (["x.png"], ["x_Simple Segmentation.png"], {"x.png": "x_Simple Segmentation.png"}),
        (["b_leftImg8bit.png"], ["b_gtFine_labelIds.png"],
         {"b_leftImg8bit.png": "b_gtFine_labelIds.png"}),
        (["img_001.png"], ["mask_001.png"], {"img_001.png": "mask_001.png"}),
        (["image7.png"], ["label7.png"], {"image7.png": "label7.png"}),
        (["7.png"], ["mask7.png"], {"7.png": "mask7.png"}),
        (["7.png"], ["7mask.png"], {"7.png": "7mask.png"}),
        # DSB 2018, SAM, a folder a case
        (
            [f"{HASH}/images/{HASH}.png"],
            [f"{HASH}/masks/f10.png", f"{HASH}/masks/f2.png"],
            {f"{HASH}/images/{HASH}.png": f"{HASH}/masks/f2.png {HASH}/masks/f10.png"},
        ),
        (["x.png", "y.png"], ["x/0.png", "x/1.png"], {"x.png": "x/0.png x/1.png"}),
        (
            ["case1/image.png", "case2/image.png"],
            ["case1/mask.png", "case2/mask.png"],
            {"case1/image.png": "case1/mask.png", "case2/image.png": "case2/mask.png"},
        ),
        # Roboflow
        (
            [f"train/images/{RF}.jpg", f"valid/images/{RF}.jpg"],
            [f"train/masks/{RF}.png", f"valid/masks/{RF}.png"],
            {
                f"train/images/{RF}.jpg": f"train/masks/{RF}.png",
                f"valid/images/{RF}.jpg": f"valid/masks/{RF}.png",
            },
        ),
        ([f"{RF}.jpg"], [f"{RF}_mask.png"], {f"{RF}.jpg": f"{RF}_mask.png"}),
        (["cells.jpg"], [f"{RF}_mask.png"], {"cells.jpg": f"{RF}_mask.png"}),
        ([f"{RF}.jpg"], ["cells_mask.png"], {f"{RF}.jpg": "cells_mask.png"}),
        ([f"{RF}.jpg"], ["cells_jpg.rf.99_mask.png"], {}),
        # sub-folders
        (
            ["r1/0.png", "r2/0.png"],
            ["r2/0.png", "r1/0.png"],
            {"r1/0.png": "r1/0.png", "r2/0.png": "r2/0.png"},
        ),
        (
            ["r1/0.png", "r2/0.png"],
            ["old/r2/0.png", "old/r1/0.png"],
            {"r1/0.png": "old/r1/0.png", "r2/0.png": "old/r2/0.png"},
        ),
        (["0.png", "r1/0.png"], ["0.png", "r1/0.png"], {"0.png": "0.png", "r1/0.png": "r1/0.png"}),
        (
            ["train_images/a.png", "test_images/a.png"],
            ["train_masks/a.png", "test_masks/a.png"],
            {"train_images/a.png": "train_masks/a.png", "test_images/a.png": "test_masks/a.png"},
        ),
        (["a.png"], ["deep/er/a.png"], {"a.png": "deep/er/a.png"}),
        (["r1/a.png", "r2/b.png"], ["r2/a.png", "r1/b.png"], {}),
        # numbers that would be those of other images
        (["s_1.png", "s.png"], ["s_2.png"], {}),
        (["s.png"], ["s_2.png"], {"s.png": "s_2.png"}),
        (["cell_1.png"], ["cell_10.png"], {}),
    ],
)  # fmt: skip
def test_layouts(images, masks, pairs):
    """What belongs together is found, and nothing else."""
    options = {"match": "name"}
    assert paired(images, masks, **options) == pairs


CELL = ("cell", "nucleus")


@pytest.mark.parametrize(
    ("masks", "pair"),
    [
        (["Cell/x.png", "NUCLEUS/x.png"], "cell:Cell/x.png nucleus:NUCLEUS/x.png"),
        (["x_cell.png", "x_nucleus.png"], "cell:x_cell.png nucleus:x_nucleus.png"),
        (["x_Cell_mask.png", "x-nucleus.tif"], "cell:x_Cell_mask.png nucleus:x-nucleus.tif"),
        (["x_mask_cell.png"], "cell:x_mask_cell.png"),
        (["cell_x.png", "nucleus_x.png"], "cell:cell_x.png nucleus:nucleus_x.png"),
        (["r/cell/x.png", "r/nucleus/x.png"], "cell:r/cell/x.png nucleus:r/nucleus/x.png"),
        (["cell/x_mask.png", "nucleus/x_gt.png"], "cell:cell/x_mask.png nucleus:nucleus/x_gt.png"),
        (["cell/x.png", "nucleus/x.png", "dirt/x.png"], "cell:cell/x.png nucleus:nucleus/x.png"),
        (["x.png", "x_cell.png", "x_nucleus.png"], "x.png"),
        (["x.png"], "x.png"),
    ],
)  # fmt: skip
def test_files_of_labels(masks, pair):
    """A label is told by a folder of any case or by what is added to the name."""
    assert paired(["x.png", "y.png"], masks, labels=CELL) == {"x.png": pair}


def test_labels_with_odd_names():
    """Names of labels are found as file systems and exports write them."""
    labels = ("red blood cell", "a/b", "+", "-")
    masks = ["red_blood_cell/x.png", "a_b/x.png", "x_+.png"]
    found = paired(["x.png"], masks, labels=labels)["x.png"]
    assert found.startswith("red blood cell:red_blood_cell/x.png a/b:a_b/x.png")
    assert paired(["i/image.png"], ["i/cell.png", "i/nucleus.png"], labels=CELL) == {
        "i/image.png": "cell:i/cell.png nucleus:i/nucleus.png"
    }


def test_one_label_takes_its_own_file():
    """Of several labels' masks the one of the only label that is asked for is taken."""
    masks = ["cell/x.png", "nucleus/x.png"]
    assert paired(["x.png"], masks, labels=["cell"]) == {"x.png": "cell/x.png"}
    assert paired(["x.png"], ["x_cell.png", "x_rim.png"], labels=["cell"]) == {
        "x.png": "x_cell.png"
    }
    classes = ["cell/x.png", "nucleus/y.png"]  # folders that the images have as well tell no label
    assert paired(classes, classes, labels=CELL) == dict(zip(classes, classes, strict=True))


def test_masks_a_page_of_a_stack():
    """A stack has one mask file, a file a page by its number, or pages that are named as images."""
    pages = ["s_p1.tif", "s_p2.tif"]
    images, stacks = ["s.tif", *pages], {"s.tif"}
    assert paired(images, ["s_mask.tif"], stacks=stacks) == {"s.tif": "s_mask.tif"}
    assert paired(images, ["s_p2.png"], stacks=stacks) == {"s_p2.tif": "s_p2.png"}
    for form in ("s_0{}.png", "s-000{}.tif", "s000{}.tif", "s_mask_z{}.png", "s_page_{}.png"):
        masks = [form.format(page) for page in (1, 2)]
        assert paired(images, masks, stacks=stacks) == {"s.tif": f"1:{masks[0]} 2:{masks[1]}"}


def test_another_name_of_an_image():
    """A mask may have the name of the file, or the safe one that the product exports."""
    aliases = {"a:b.png": "a_b.png"}
    assert paired(["a:b.png"], ["a_b.png"], aliases=aliases) == {"a:b.png": "a_b.png"}
    assert paired(["a:b.png"], ["a:b_mask.png"], aliases=aliases) == {"a:b.png": "a:b_mask.png"}


def test_folders_above_decide_last():
    """Where names and sub-folders fit several masks, the folders above the images may tell."""
    masks = ["rat1/0.png", "rat2/0.png"]
    with pytest.raises(DataError, match=r"0\.png has several masks: rat1/0\.png, rat2/0\.png"):
        match_masks(["0.png"], masks)
    assert paired(["0.png"], masks, roots=(("data", "rat2"), ())) == {"0.png": "rat2/0.png"}


def test_numbers_are_asked_for():
    """A guess by number is shown and refused; asked for, it is made, and told as such."""
    images, masks = [f"ctrl_{n}.png" for n in range(5)], [f"drugB_{n}.png" for n in range(5)]
    said = r"ctrl_0\.png with drugB_0\.png, .* and 2 more; say --match number"
    with pytest.raises(DataError, match=said):
        match_masks(images, masks)
    assert paired(images, masks, match="number") == dict(zip(images, masks, strict=True))
    assert match_masks(images, masks, match="number").pairs["ctrl_0.png"].how == "by number"
    tiffs, wide = ["00.tif", "01.tif"], ["labels0001.png", "labels0000.png"]
    assert paired(tiffs, wide, match="number") == dict(zip(tiffs, reversed(wide), strict=True))
    training = ["21_training.tif", "22_training.tif"], ["21_manual1.gif", "22_manual1.gif"]
    assert paired(*training, match="number") == dict(zip(*training, strict=True))
    tracked = ["01/t000.tif", "02/t000.tif"], ["01_GT/SEG/s000.tif", "02_GT/SEG/s000.tif"]
    assert paired(*tracked, match="number") == dict(zip(*tracked, strict=True))
    by_label = ["cell/m0.png", "nucleus/m0.png", "cell/m1.png"]
    assert paired(["a0.png", "a1.png"], by_label, labels=CELL, match="number") == {
        "a0.png": "cell:cell/m0.png nucleus:nucleus/m0.png", "a1.png": "cell:cell/m1.png",
    }  # fmt: skip
    by_label = ["m0_cell.png", "m0_nucleus.png"]
    assert paired(["a0.png"], by_label, labels=CELL, match="number") == {
        "a0.png": "cell:m0_cell.png nucleus:m0_nucleus.png"
    }
    with pytest.raises(DataError, match="cannot be paired by number"):
        match_masks(["a1_2.png", "a2_2.png"], ["m2.png", "m2.tif"], match="number")


def test_what_fits_several_is_a_fault_of_those_images():
    """Candidates are named; other images have their masks; where all are unclear it is an error."""
    with pytest.raises(DataError, match=r"a\.png has several masks: a\.png, a\.tif; keep one"):
        match_masks(["a.png"], ["a.png", "a.tif"])
    images = ["r1/0.png", "r2/0.png"]
    with pytest.raises(DataError, match=r"0\.png fits both r1/0\.png and r2/0\.png"):
        match_masks(images, ["0.png"])
    matches = match_masks([*images, "b.png", "c.png"], ["0.png", "b.png", "b.tif", "c.png"])
    assert list(matches.pairs) == ["c.png"]
    assert set(matches.faults) == {*images, "b.png"}
    assert set(matches.masks) == {"0.png", "b.png", "b.tif"}
    with pytest.raises(DataError, match=r"c\.png fits both c_0000\.png and c_0001\.png; give the"):
        match_masks(["c_0000.png", "c_0001.png"], ["c.png"])
    matches = match_masks(["c_0000.png", "c_0001.png", "b.png"], ["c.png", "b.png"])
    assert (list(matches.pairs), matches.faults) == (["b.png"], {})
    matches = match_masks(images, ["0.png", "r1/0.png"])
    assert set(matches.pairs) == {"r1/0.png"}
    assert set(matches.faults) == {"r2/0.png"}


LETTERS = st.text("aAbBéÉüx 7._-", min_size=1, max_size=6)
ADDED = st.sampled_from(["", "_mask", " masks", "-label", "_cp_masks", ".ome", "_SEG", "_gt"])
FORMS = st.sampled_from(["NFC", "NFD"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(LETTERS, ADDED, FORMS, st.booleans()), max_size=8), st.data())
def test_random_names(rows, data):
    """Names in other cases, accents and with words added pair as made, or are told; none twice."""
    keys, images, expected = set(), [], {}
    for letters, added, form, upper in rows:
        stem = f"i{letters.strip(' ._-')}"
        key = unicodedata.normalize("NFC", stem).casefold()
        if key in keys:
            continue
        keys.add(key)
        images.append(f"{stem}.tif")
        mask = unicodedata.normalize(form, stem + added)
        expected[f"{stem}.tif"] = (mask.upper() if upper else mask) + ".png"
    masks = data.draw(st.permutations(list(expected.values())))
    matches = match_masks(images, masks)
    used = [part.mask for pair in matches.pairs.values() for part in pair.parts]
    assert len(used) == len(set(used))
    assert sorted([*used, *matches.masks]) == sorted(masks)
    assert sorted([*matches.pairs, *matches.faults, *matches.images]) == sorted(images)
    assert {image: pair.parts[0].mask for image, pair in matches.pairs.items()} == expected


ENDINGS = (".png", ".jpg", ".tif", ".ome.tif", ".PNG")
STEMS = ("a", "A", "a_1", "a_mask", "img_1", "1", "r/a", "r/a.b", "mask_1", "q/a", "a_0000", "ä")


@settings(max_examples=300, deadline=None)
@given(st.sets(st.tuples(st.sampled_from(STEMS), st.sampled_from(ENDINGS)), max_size=7), st.data())
def test_exported_names_pair_back(files, data):
    """Whatever images are called: their exported masks, or some of them, never go to others."""
    images = sorted(stem + ending for stem, ending in files)
    names = FileNames(".png")
    truth = {image: names.take(image) for image in images}
    kept = data.draw(st.sets(st.sampled_from(images))) if images else set()
    with contextlib.suppress(DataError):
        matches = match_masks(images, [truth[image] for image in sorted(kept)])
        for image, pair in matches.pairs.items():
            assert pair.parts[0].mask == truth[image]
        assert kept <= {*matches.pairs, *matches.faults}


NASTY = (
    "a",
    "a_1",
    "a_mask",
    "A",
    "img_1",
    "r/a",
    "r/a_0000",
    "r/mask_1",
    "q/a",
    "a.b",
    "1",
    "s/i",
)


@settings(max_examples=300, deadline=None)
@given(st.sets(st.sampled_from(NASTY)), st.sets(st.sampled_from(NASTY)))
def test_names_that_clash(images, masks):
    """Whatever the names: each is in exactly one place, or the command is refused."""
    with contextlib.suppress(DataError):
        paired(
            [f"{name}.tif" for name in sorted(images)], [f"{name}.png" for name in sorted(masks)]
        )


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("img_{}.png", "img_{}_cp_masks.tif"),
        ("p{}/images/p{}.png", "p{}/masks/x.png"),
        ("p{}/image.png", "p{}/mask.png"),
        ("q{}/0.png", "p{}/0.png"),
        ("p{}/0.png", "p{}/0.png"),
        ("case_{:04d}.png", "case_x{}.png"),
        ("a.x{}", "a_{}.png"),
    ],
)
def test_ten_thousand_files(image, mask):
    """Matching is linear in the number of files, also where nothing or everything fits."""
    count = 10_000
    images, masks = ([form.format(*[n] * 2) for n in range(count)] for form in (image, mask))
    started = time.process_time()
    with contextlib.suppress(DataError):
        match_masks(images, masks)
    assert time.process_time() - started < 5  # a square takes minutes
