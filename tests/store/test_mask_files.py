"""Masks in a folder: a file an image, or a file an image and label."""

import numpy as np
import pytest
from PIL import Image

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.sets import planes_of
from ml_backend.recipe import Recipe
from ml_backend.store.collection import open_collection
from ml_backend.store.mask_files import LabelUse, MaskFiles
from ml_backend.store.mask_pairing import pair_masks

NAMES = ("cell", "nucleus", "dirt")
PLANES = np.zeros((3, 6, 8), bool)
PLANES[0, 1:5, 1:6], PLANES[1, 2:4, 2:4], PLANES[2, 0] = True, True, True


@pytest.fixture
def folder(tmp_path):
    """Give an image, its masks in a folder for each label, and one file with all of them."""
    for name in ("images", *(f"masks/{label}" for label in NAMES), "all"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("L", (8, 6), 9).save(tmp_path / "images" / "a.png")
    for name, plane in zip(NAMES, PLANES, strict=True):
        Image.fromarray(plane * np.uint8(255)).save(tmp_path / "masks" / name / "a.png")
    Image.fromarray(np.where(PLANES[1], 2, PLANES[0]).astype(np.uint8)).save(tmp_path / "all/a.png")
    return tmp_path


def found(folder, masks, names=NAMES):
    """Give the files of the one image."""
    pairs = pair_masks(open_collection(folder / "images", Recipe()), folder / masks, names)
    assert list(pairs.files) == ["a.png"]
    return pairs.files["a.png"]


def read(files, names, **use):
    """Give the label map, or set map, of these labels."""
    return files.read((6, 8), LabelUse(names, **use)).mask


def test_a_folder_a_label_is_read_plane_by_plane(folder):
    """Planes that overlap stay whole as sets; in a label map the last one covers the others."""
    files = found(folder, "masks")
    sets = read(files, NAMES, overlapping=True)
    np.testing.assert_array_equal(planes_of(sets, 3), PLANES)
    last = read(files, NAMES)
    expected = np.where(PLANES[2], 3, np.where(PLANES[1], 2, PLANES[0]))
    np.testing.assert_array_equal(last, expected)


def test_labels_that_are_not_learned_are_unknown_or_left_out(folder):
    """The folder of an ignored label makes its pixels unknown; other folders say nothing."""
    files = found(folder, "masks")
    sets = read(files, NAMES, overlapping=True, unknown=NAMES[2:])
    np.testing.assert_array_equal(sets == 255, PLANES[2])
    np.testing.assert_array_equal(planes_of(sets, 2), PLANES[:2] & ~PLANES[2])
    plain = read(files, NAMES[:2], overlapping=True)
    np.testing.assert_array_equal(planes_of(plain, 2), PLANES[:2])


def test_one_file_with_all_labels_is_one_label_a_pixel(folder):
    """It becomes a set map of single labels where labels may overlap."""
    files = found(folder, "all", ("cell", "nucleus"))
    label_map = read(files, ("cell", "nucleus"))
    sets = read(files, ("cell", "nucleus"), overlapping=True)
    for label in (1, 2):
        np.testing.assert_array_equal(planes_of(sets, 2)[label - 1], label_map == label)
    assert found(folder, "masks/cell", ("cell",)).all is not None


def test_a_mask_that_is_missing_or_of_another_size_is_said(folder):
    """Nothing is guessed of a label whose file is not there."""
    (folder / "masks" / "nucleus" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png has masks of cell, dirt but none of nucleus"):
        read(found(folder, "masks"), NAMES)
    Image.new("L", (8, 7)).save(folder / "masks" / "nucleus" / "a.png")
    with pytest.raises(RegionError, match="8 x 7 px, its image 8 x 6 px"):
        read(found(folder, "masks"), NAMES)
    with pytest.raises(DataError, match="without masks"):
        read(MaskFiles(), NAMES)


def test_objects_of_several_labels_keep_apart(folder):
    """Numbers of a file a label are counted on; where labels cover others, so do their objects."""
    numbers = np.zeros((6, 8), np.uint16)
    numbers[1:5, 1:3], numbers[1:5, 3:6] = 300, 301
    Image.fromarray(numbers).save(folder / "masks" / "cell" / "a.png")
    numbers[:] = 0
    numbers[2:4, 2:3], numbers[2:4, 3:4] = 300, 301
    Image.fromarray(numbers).save(folder / "masks" / "nucleus" / "a.png")
    use = LabelUse(("cell", "nucleus"), instances=True)
    reading = found(folder, "masks", ("cell", "nucleus")).read((6, 8), use)
    assert [int((reading.objects == number).sum()) for number in range(1, 5)] == [6, 10, 2, 2]
    assert set(reading.objects[reading.mask == 2]) == {3, 4}
