"""Filling the pool: odd folders, broken files, tiles, a split that never moves."""

import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image as Picture
from support.house import picture, save_picture

from ml_backend.errors import DataError, ImageUnreadable, NotFound, PoolMoved
from ml_backend.loop.masks import load_mask
from ml_backend.loop.pool import add_folder
from ml_backend.loop.task_images import add_studio_image


def rows(house):
    """Everything that must not change when a folder is added twice."""
    return house.catalog.pool.images(house.project_id), house.catalog.pool.tiles(house.project_id)


def test_odd_images_are_taken_and_broken_ones_set_aside(house):
    """TIFF, JPEG, 16 bit and sub-folders count; a broken file has its reason, the rest goes on."""
    image, _ = picture(0)
    (house.images / "deep").mkdir(parents=True)
    Picture.fromarray(image).save(house.images / "a.tif")
    Picture.fromarray(image).save(house.images / "deep/a.jpg")
    deep = (image[..., 0].astype(np.uint16) * 200).astype(np.uint16)
    Picture.fromarray(deep).save(house.images / "b.png")
    (house.images / "broken.png").write_bytes((house.images / "b.png").read_bytes()[:60])
    (house.images / "empty.png").touch()
    (house.images / "notes.txt").write_text("no image")
    report = add_folder(house.context, house.project_id, house.images)
    assert (report.images, report.tiles) == (3, 3)
    assert [name for name, _ in report.quarantined] == ["broken.png", "empty.png"]
    assert all(reason for _, reason in report.quarantined)
    names = {tile.image.name for tile in house.catalog.pool.unasked(house.project_id)}
    assert names == {"a.tif", "deep/a.jpg", "b.png"}


def test_adding_twice_changes_nothing(house):
    """The same folder again leaves every row as it was."""
    house.fill(5)
    before = rows(house)
    report = add_folder(house.context, house.project_id, house.images)
    assert report.images == 5
    assert rows(house) == before


def test_more_images_leave_the_split_alone(house):
    """Images that come later, and sort before, move nobody to the other side."""
    house.fill(6)
    before = {image.name: image.split for image in rows(house)[0]}
    for number in range(10, 16):
        save_picture(house.images / f"0_{number}.png", number)
    add_folder(house.context, house.project_id, house.images)
    after = {image.name: image.split for image in rows(house)[0]}
    assert {name: after[name] for name in before} == before
    assert len(after) == 12


def test_all_tiles_of_an_image_are_on_its_side(house):
    """The split is by source image; tiles cover it exactly once."""
    house.recipe({"pool.tile": 32})
    report = house.fill(4, side=64)
    assert report.tiles == 16
    for image in rows(house)[0]:
        covered = np.zeros((64, 64), int)
        for tile in house.catalog.pool.tiles_of(image.id):
            assert tile.image.split == image.split
            covered[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] += 1
        assert (covered == 1).all()


def test_another_image_of_the_same_name_is_said(house):
    """The first stays; the second is named with its reason, and nothing is overwritten."""
    house.fill(2)
    before = rows(house)
    save_picture(house.folder / "other/1.png", 77)
    report = add_folder(house.context, house.project_id, house.folder / "other")
    ((name, reason),) = report.quarantined
    assert name == "1.png"
    assert "added before" in reason
    assert rows(house) == before


def test_a_pool_that_moved_is_found_again(house):
    """Adding the same files from their new place brings their addresses up to date."""
    house.fill(3)
    before = {image.name: (image.id, image.split) for image in rows(house)[0]}
    moved = house.folder / "moved"
    house.images.rename(moved)
    tile = house.catalog.pool.unasked(house.project_id)[0]
    with pytest.raises(PoolMoved):
        house.context.pixels(tile)
    add_folder(house.context, house.project_id, moved)
    images, tiles = rows(house)
    assert {image.name: (image.id, image.split) for image in images} == before
    assert house.context.pixels(tiles[0]).shape == (32, 32, 3)


def test_a_repaired_file_is_taken(house):
    """A file that could never be read may be replaced by one that can."""
    house.fill(1)
    (house.images / "1.png").write_bytes(b"")
    add_folder(house.context, house.project_id, house.images)
    save_picture(house.images / "1.png", 1)
    report = add_folder(house.context, house.project_id, house.images)
    assert report.quarantined == ()
    assert len(house.catalog.pool.unasked(house.project_id)) == 2


def test_a_file_that_broke_comes_back(house):
    """A known image that cannot be read is set aside, and ready again when it is restored."""
    house.fill(2)
    before = rows(house)
    good = (house.images / "1.png").read_bytes()
    (house.images / "1.png").write_bytes(good[:50])
    report = add_folder(house.context, house.project_id, house.images)
    assert [name for name, _ in report.quarantined] == ["1.png"]
    assert len(house.catalog.pool.unasked(house.project_id)) == 1
    (house.images / "1.png").write_bytes(good)
    add_folder(house.context, house.project_id, house.images)
    assert rows(house) == before


def test_a_replaced_file_is_not_cut_wrongly(house):
    """A file of another size in the place of the one that was added is unreadable."""
    house.fill(1)
    save_picture(house.images / "0.png", 0, side=16)
    with pytest.raises(ImageUnreadable, match="16 x 16"):
        house.context.pixels(house.catalog.pool.unasked(house.project_id)[0])


def test_a_copy_stands_on_the_same_side(house):
    """One picture under two names never trains and validates."""
    house.fill(4)
    copies = house.folder / "copies"
    copies.mkdir()
    for path in house.images.iterdir():
        shutil.copy(path, copies / f"copy-of-{path.name}")
    add_folder(house.context, house.project_id, copies)
    split = {image.name: image.split for image in rows(house)[0]}
    assert {split[f"{n}.png"] == split[f"copy-of-{n}.png"] for n in range(4)} == {True}
    assert set(split.values()) == {"train", "val"}


@pytest.fixture
def masks(house):
    """Put four pictures into the folder, and masks of the first two beside it."""
    folder = house.folder / "masks"
    folder.mkdir()
    for number in range(4):
        mask = save_picture(house.images / f"{number}.png", number)
        if number < 2:
            Picture.fromarray(mask * 255).save(folder / f"{number}.png")
    return folder


def test_images_with_masks_are_learned_from_and_not_asked_about(house, masks):
    """Sources have their masks; the others are the pool. Again without masks changes nothing."""
    report = add_folder(house.context, house.project_id, house.images, masks=masks)
    assert (report.images, report.tiles, report.sources) == (4, 2, 2)
    sources = house.catalog.pool.sources(house.project_id)
    assert [item.tile.image.name for item in sources] == ["0.png", "1.png"]
    for item in sources:
        assert np.array_equal(load_mask(house.context.blobs, item.mask), house.truth(item.tile))
    unasked = {tile.image.name for tile in house.catalog.pool.unasked(house.project_id)}
    assert unasked == {"2.png", "3.png"}
    before = rows(house)
    add_folder(house.context, house.project_id, house.images)
    assert rows(house) == before
    assert house.catalog.pool.sources(house.project_id) == sources


def test_masks_that_come_later_make_sources_of_whole_images(house, masks):
    """Tiles that were cut before are not taken for the whole image that the mask is of."""
    house.recipe({"pool.tile": 32})
    house.fill(2, side=64)
    for number in range(2):
        Picture.fromarray(picture(number, 64)[1] * 255).save(masks / f"{number}.png")
    add_folder(house.context, house.project_id, house.images, masks=masks)
    sources = house.catalog.pool.sources(house.project_id)
    assert [item.tile.title for item in sources] == ["0.png", "1.png"]


def test_a_mask_that_does_not_fit_sets_its_image_aside(house, masks):
    """Wrong size and unreadable masks are said with the mask's name; a mended one is taken."""
    Picture.fromarray(np.zeros((5, 7), np.uint8)).save(masks / "0.png")
    (masks / "1.png").write_bytes(b"nothing")
    report = add_folder(house.context, house.project_id, house.images, masks=masks)
    reasons = dict(report.quarantined)
    assert "7 x 5 px" in reasons["0.png"]
    assert "1.png" in reasons["1.png"]
    assert report.images == 2
    for number in range(2):
        Picture.fromarray(picture(number)[1] * 255).save(masks / f"{number}.png")
    report = add_folder(house.context, house.project_id, house.images, masks=masks)
    assert (report.sources, report.quarantined) == (2, ())


@pytest.mark.usefixtures("masks")
def test_folders_without_what_is_needed_are_refused(house):
    """No folder, no images and no matching masks are three clear errors."""
    with pytest.raises(NotFound, match="not a folder"):
        add_folder(house.context, house.project_id, house.folder / "none")
    (house.folder / "bare").mkdir()
    with pytest.raises(DataError, match="no images"):
        add_folder(house.context, house.project_id, house.folder / "bare")
    with pytest.raises(DataError, match="no mask"):
        add_folder(house.context, house.project_id, house.images, masks=house.folder / "bare")


def test_an_uploaded_copy_of_a_pool_image_is_that_image(house, masks):
    """People's own task of a picture we have gets its whole tile; a source keeps its mask."""
    add_folder(house.context, house.project_id, house.images, masks=masks)
    before = house.catalog.pool.images(house.project_id)
    for image in before:
        data = (house.images / image.name).read_bytes()
        (url,) = house.studio.upload_images(house.project_id, [("renamed.png", data)])
        tile = add_studio_image(house.context, house.project_id, url)
        assert (tile.image.id, tile.whole) == (image.id, True)
    assert house.catalog.pool.images(house.project_id) == before


def test_two_uploads_of_one_name_are_two_images(house):
    """Local files of one name in two folders do not overwrite each other."""
    urls = []
    for folder in ("one", "two"):
        url = f"/data/local-files/?d={folder}/a.png"
        save_picture(house.folder / folder / "a.png", len(urls))
        house.studio.files[url] = (house.folder / folder / "a.png").read_bytes()
        urls.append(url)
    tiles = [add_studio_image(house.context, house.project_id, url) for url in urls]
    assert len({tile.image.id for tile in tiles}) == 2
    for number, tile in enumerate(tiles):
        assert np.array_equal(house.context.pixels(tile), picture(number)[0])


def test_masks_among_the_images_are_learned_from_and_are_no_images(house):
    """`x_mask.png` beside `x.png` is told as a mask; an unclear image stops no other."""
    house.images.mkdir()
    white = Picture.fromarray(np.full((32, 32), 255, np.uint8))
    for number in range(3):
        save_picture(house.images / f"{number}.png", number)
    for name in ("0_mask.png", "1_mask.png", "1_label.png"):
        white.save(house.images / name)
    report = add_folder(house.context, house.project_id, house.images, masks=house.images)
    images = {image.name: image for image in rows(house)[0]}
    assert sorted(images) == ["0.png", "1.png", "2.png"]
    assert images["0.png"].role == "source"
    assert "several masks: 1_label.png, 1_mask.png" in images["1.png"].reason
    assert report.summary.count("passed_over") == 3
    assert "paired 1: the name and '_mask': 0.png ↔ 0_mask.png" in list(report.summary.lines())


def test_a_guess_by_number_is_asked_for(house):
    """Masks of other names are learned from only where that is said."""
    house.images.mkdir()
    masks = house.images.with_name("others")
    masks.mkdir()
    for number in range(3):
        save_picture(house.images / f"ctrl {number}.png", number)
        Picture.fromarray(np.full((32, 32), 255, np.uint8)).save(masks / f"drug {number}.png")
    add = partial(add_folder, house.context, house.project_id, house.images, masks=masks)
    with pytest.raises(DataError, match="--match number"):
        add()
    assert rows(house) == ([], [])
    assert add(match="number").sources == 3
