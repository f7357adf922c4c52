"""The first part of a large folder, which is added before the rest."""

import pytest
from PIL import Image as Picture
from support.house import open_house, picture, save_picture


@pytest.fixture
def house(tmp_path):
    """A project with nothing in its pool, and 12 pictures in a folder."""
    house = open_house(tmp_path)
    for number in range(12):
        save_picture(house.images / f"{number}.png", number)
    yield house
    house.catalog.close()


def names(house):
    """The images of the pool."""
    return {image.name for image in house.catalog.pool.images(house.project_id)}


def test_a_part_comes_from_all_over_the_folder(house):
    """Every third of twelve; a batch can be chosen of them, and the rest follows."""
    report = house.fill(12, first=4)
    assert (report.images, report.rest) == (4, 8)
    assert names(house) == {"0.png", "3.png", "6.png", "9.png"}
    assert house.step("select").numbers["pushed"] == 4
    report = house.fill(12)
    assert (report.images, report.rest) == (12, 0)
    assert names(house) == {f"{number}.png" for number in range(12)}


def test_a_small_folder_is_added_at_once(house):
    """Where few would be left, none are."""
    report = house.fill(12, first=7)
    assert (report.images, report.rest) == (12, 0)


def test_masks_among_the_images_are_known_by_those_that_are_left(house):
    """A mask is none of the pictures to ask about, though its image is in the other part."""
    for number in range(12):
        _, mask = picture(number)
        Picture.fromarray(mask * 255).save(house.images / f"{number}_mask.png")
    house.fill(12, first=4)
    assert names(house) == {"0.png", "3.png", "6.png", "9.png"}
    assert house.fill(12).images == 12
