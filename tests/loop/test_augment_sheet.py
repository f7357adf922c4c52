"""Looking at augmentations: what is on the sheet, and what is said when nothing can be."""

import numpy as np
import pytest
from PIL import Image, ImageColor
from support.house import picture, save_picture

from ml_backend.errors import ConfigError, DataError, UnknownName
from ml_backend.loop.augment_sheet import augment_sheet
from ml_backend.masks.colours import PALETTE
from ml_backend.recipe import Labels, parse_recipe


@pytest.fixture
def folders(tmp_path):
    """Give images, masks and where the sheet goes."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    masks.mkdir()
    for number in range(8):
        mask = save_picture(images / "sub" / f"{number}.png", number)
        Image.fromarray(mask * 255).save(masks / f"{number}.png")
    return images, masks, tmp_path / "out" / "sheet.png"


def recipe(augmentation="elastic", seed=0):
    """A recipe of small patches."""
    return parse_recipe({
        "training": {"augmentation": augmentation, "patch": 32, "seed": seed}
    })  # fmt: skip


def read(path):
    """The sheet's pixels."""
    with Image.open(path) as image:
        return np.array(image)


def test_rows_are_images_and_columns_variants(folders):
    """As many as asked for; the same seed gives the same file, another another."""
    images, masks, out = folders
    sheets = []
    for seed in (0, 0, 1):
        report = augment_sheet(images, masks, out, recipe=recipe(seed=seed), rows=3, columns=4)
        assert len(set(report.shown)) == 3
        assert report.shown[0].startswith("sub/")
        assert report.set_aside == ()
        sheets.append(read(out))
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])
    assert sheets[0].shape[1] >= 5 * 32
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"]


def test_more_rows_than_images_show_each_once(folders):
    """Eight images are eight rows."""
    images, masks, out = folders
    report = augment_sheet(images, masks, out, recipe=recipe("basic"), rows=20, columns=1)
    assert len(set(report.shown)) == 8


def test_the_first_column_is_the_image_itself(folders):
    """A patch as large as the image, left as it is, with the mask's outline."""
    images, masks, out = folders
    augment_sheet(images, masks, out, recipe=recipe("none"), rows=1, columns=1)
    report = augment_sheet(images, masks, out, recipe=recipe("none"), rows=1, columns=1)
    sheet = read(out)
    number = int(report.shown[0].split("/")[1].split(".")[0])
    cells = [sheet[20:52, 4 + 36 * column : 36 + 36 * column] for column in range(2)]
    assert np.array_equal(cells[0], cells[1])
    same = (cells[0] == picture(number)[0]).all(axis=2).mean()
    assert 0.5 < same < 1


def test_specialized_borrows_from_a_folder(folders):
    """Without one it says so; with one the sheet is another than that of another pool."""
    images, masks, out = folders
    with pytest.raises(ConfigError, match="--pool"):
        augment_sheet(images, masks, out, recipe=recipe("specialized"))
    sheets = []
    for level in (60, 200):
        pool = out.parent.parent / str(level)
        pool.mkdir()
        y, x = np.mgrid[:50, :50]
        Image.fromarray(np.uint8(level / 2 + (x * y) % level)).save(pool / "a.png")
        augment_sheet(images, masks, out, recipe=recipe("specialized"), pool=pool)
        sheets.append(read(out))
    assert not np.array_equal(*sheets)


def test_broken_files_are_set_aside(folders):
    """A broken image and a mask of another size are named; the others are shown."""
    images, masks, out = folders
    (images / "sub" / "0.png").write_bytes(b"nothing")
    Image.fromarray(np.ones((3, 3), np.uint8)).save(masks / "1.png")
    report = augment_sheet(images, masks, out, recipe=recipe(), rows=8)
    assert len(report.shown) == 6
    assert {name for name, _ in report.set_aside} == {"sub/0.png", "sub/1.png"}


def test_nothing_to_show_is_said(folders, tmp_path):
    """No masks, no readable image, an unknown name: each its own line."""
    images, masks, out = folders
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no mask in"):
        augment_sheet(images, tmp_path / "none", out, recipe=recipe())
    for path in images.rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"can be read: .*png"):
        augment_sheet(images, masks, out, recipe=recipe())
    with pytest.raises(UnknownName, match="elastic"):
        augment_sheet(images, masks, out, recipe=recipe("cutmix"))
    assert not out.exists()


def test_masks_may_be_a_folder_for_each_label(folders):
    """Labels that lie over one another: both are outlined, each in its own colour."""
    images, masks, out = folders
    for number in range(8):
        cell = picture(number)[1] > 0
        inner = np.zeros_like(cell)
        rows, columns = np.flatnonzero(cell.any(axis=1)), np.flatnonzero(cell.any(axis=0))
        inner[rows[3] : rows[-3], columns[3] : columns[-3]] = True
        for name, plane in (("cell", cell), ("nucleus", inner)):
            path = masks.parent / "planes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(plane * np.uint8(255)).save(path)
    options = {"recipe": recipe("none"), "labels": ("cell", "nucleus"), "rows": 1, "columns": 1}
    report = augment_sheet(images, masks.parent / "planes", out, **options)
    assert report.set_aside == ()
    shown = {tuple(colour) for colour in read(out).reshape(-1, 3).tolist()}
    assert {ImageColor.getrgb(colour) for colour in PALETTE[:2]} <= shown


def test_ignored_labels_are_hatched(folders):
    """The recipe's labels say what becomes of the masks' labels; other names are refused."""
    images, masks, out = folders
    for path in masks.iterdir():
        label_map = np.array(Image.open(path)) // 255
        label_map[:, ::2] *= 2
        Image.fromarray(label_map).save(path)
    options = {"labels": ("cell", "dirt"), "rows": 1, "columns": 1}
    sheets = []
    for ignored in ([], ["dirt"], ["cell"]):
        chosen = recipe("none").model_copy(update={"labels": Labels(ignore=ignored)})
        augment_sheet(images, masks, out, recipe=chosen, **options)
        sheets.append(read(out))
    assert not np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[1], sheets[2])
    with pytest.raises(ConfigError, match=r"labels\.ignore names 'cell'"):
        augment_sheet(images, masks, out, recipe=chosen)
