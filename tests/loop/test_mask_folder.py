"""Masks of a folder, read as the recipe's `labels` would have annotations read."""

import numpy as np
import pytest
from PIL import Image

from ml_backend.errors import ConfigError, DataError
from ml_backend.loop.mask_folder import check_recipe, open_masks
from ml_backend.masks.sets import planes_of
from ml_backend.recipe import Recipe, parse_recipe
from ml_backend.store.collection import open_collection

NAMES = ("cell", "nucleus", "dirt", "ground")
SHAPE = (6, 8)
PLANES = np.zeros((4, *SHAPE), bool)
PLANES[0, 1:5, 1:6], PLANES[1, 2:4, 2:4], PLANES[2, 2, :4], PLANES[3, 4:, :] = (True,) * 4
ONE = np.zeros(SHAPE, np.uint8)  # all labels in one file: the last one of a pixel
for number, plane in enumerate(PLANES, 1):
    ONE[plane] = number


@pytest.fixture
def folder(tmp_path):
    """Give an image with a mask for each label, and with one file of all of them."""
    for name in ("images", "one", *(f"planes/{label}" for label in NAMES)):
        (tmp_path / name).mkdir(parents=True)
    Image.new("L", SHAPE[::-1], 9).save(tmp_path / "images" / "a.png")
    Image.fromarray(ONE).save(tmp_path / "one" / "a.png")
    for name, plane in zip(NAMES, PLANES, strict=True):
        Image.fromarray(plane * np.uint8(255)).save(tmp_path / "planes" / name / "a.png")
    return tmp_path


def opened(folder, masks, names=NAMES, **labels):
    """The masks of the one image by a recipe with this `labels` section, and what they are."""
    images = open_collection(folder / "images", Recipe())
    found = open_masks(images, folder / masks, names, parse_recipe({"labels": labels}))
    return found, found.read(images[0])


def test_a_recipe_that_sets_nothing_aside_changes_nothing(folder):
    """One file is the label map it was, a folder a label a set map of all the planes."""
    found, label_map = opened(folder, "one")
    assert (found.names, found.overlapping) == (NAMES, False)
    np.testing.assert_array_equal(label_map, ONE)
    found, set_map = opened(folder, "planes")
    assert found.overlapping
    np.testing.assert_array_equal(planes_of(set_map, 4), PLANES)


def test_labels_set_aside_are_unknown_or_background_and_the_others_close_up(folder):
    """Of one file: the numbers are counted as written, the values as they are learned."""
    found, label_map = opened(folder, "one", ignore=("cell",), background=("dirt",))
    assert found.names == ("nucleus", "ground")
    expected = np.array([0, 255, 1, 0, 2], np.uint8)[ONE]
    np.testing.assert_array_equal(label_map, expected)


def test_planes_that_are_set_aside_cover_what_lies_below_them(folder):
    """Of a folder a label: the background first, then what is to be ignored."""
    aside = {"ignore": ("dirt",), "background": ("ground",)}
    found, set_map = opened(folder, "planes", **aside)
    assert found.names == ("cell", "nucleus")
    np.testing.assert_array_equal(set_map == 255, PLANES[2])
    np.testing.assert_array_equal(planes_of(set_map, 2), PLANES[:2] & ~PLANES[2] & ~PLANES[3])
    found, label_map = opened(folder, "planes", **aside, overlap="exclusive")
    assert not found.overlapping
    known = ~PLANES[2]
    last = np.where(PLANES[1], 2, PLANES[0]) * ~PLANES[3]
    np.testing.assert_array_equal(label_map[known], last[known])


@pytest.mark.parametrize("masks", ["one", "planes"])
def test_what_nobody_painted_is_unknown_if_the_recipe_says_so(folder, masks):
    """Background is what its label says, and nothing else."""
    found, mask = opened(folder, masks, unpainted="unknown", background=("ground",))
    np.testing.assert_array_equal(mask == 0, PLANES[3])
    np.testing.assert_array_equal(mask == 255, ~PLANES.any(axis=0))
    assert found.names == NAMES[:3]


def test_one_file_may_be_learned_as_labels_that_overlap(folder):
    """One label a pixel is a set of one."""
    found, set_map = opened(folder, "one", overlap="multiple", ignore=("dirt",))
    assert found.overlapping
    for place, label in enumerate((1, 2, 4)):
        np.testing.assert_array_equal(planes_of(set_map, 3)[place], label == ONE)


def test_a_recipe_that_does_not_fit_the_masks_is_refused_by_its_key(folder):
    """Unknown names, nothing left to learn, no background left, too many labels at once."""
    for labels, key in (
        ({"ignore": ("dust",)}, r"labels\.ignore names 'dust'.* has the labels cell, nucleus"),
        ({"background": NAMES}, "no label is left"),
        ({"unpainted": "unknown"}, r"labels\.unpainted: unknown .* labels\.background"),
    ):
        with pytest.raises(ConfigError, match=key):
            opened(folder, "one", **labels)
    many = [f"label {number}" for number in range(8)]
    with pytest.raises(ConfigError, match="8 labels that may overlap"):
        check_recipe(parse_recipe({"labels": {"overlap": "multiple"}}), many)


def test_the_ground_must_be_drawn_where_it_alone_is_background(folder):
    """Without its file nothing would be background, which nobody meant."""
    (folder / "planes" / "ground" / "a.png").unlink()
    with pytest.raises(DataError, match="none of ground"):
        opened(folder, "planes", unpainted="unknown", background=("ground",))
    _, set_map = opened(folder, "planes", background=("ground",))
    np.testing.assert_array_equal(planes_of(set_map, 3), PLANES[:3])


def test_another_rule_is_another_question(folder):
    """What is kept of a folder is not taken for what another recipe makes of it."""
    rules = [{}, {"ignore": ("dirt",)}, {"background": ("dirt",)}, {"overlap": "multiple"}]
    questions = {repr(opened(folder, "one", **rule)[0].question) for rule in rules}
    assert len(questions) == len(rules)
