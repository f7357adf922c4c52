"""True masks from a folder."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from ml_backend.demo.truths import MaskTruths
from ml_backend.errors import DataError, RegionError


@pytest.fixture
def folders(tmp_path):
    """Give two images, one below a folder, and masks of 40 x 30 px with a square each."""
    rng = np.random.default_rng(0)
    for name, left in (("a.png", 5), ("deep/b.png", 20)):
        mask = np.zeros((30, 40), np.uint8)
        mask[10:20, left : left + 10] = 255
        for folder, pixels in (
            ("images", rng.integers(0, 255, (30, 40), np.uint8)),
            ("masks", mask),
        ):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "images", tmp_path / "masks"


def tile(name, x, y, width, height):
    """Give the data of a pushed task."""
    box = {"x": x, "y": y, "width": width, "height": height}
    return {"image": "/data/upload/1/x.png", "name": name, **box, "tile": 3, "round": 1}


def test_a_tile_is_cut_from_its_mask(folders):
    """The truth of a tile is its part of the image's mask, as labels."""
    truths = MaskTruths(*folders)
    assert len(truths) == 2
    truth = truths(tile("a.png", 4, 8, 16, 10))
    expected = np.zeros((10, 16), np.uint8)
    expected[2:, 1:11] = 1
    assert np.array_equal(truth, expected)
    assert truths(tile("deep/b.png", 0, 0, 40, 30)).sum() == 100


def test_unknown_images_have_no_truth(folders):
    """A name that is not in the pool is no error, also when it tries to leave the folder."""
    truths = MaskTruths(*folders)
    assert truths(tile("c.png", 0, 0, 4, 4)) is None
    assert truths(tile("../masks/a.png", 0, 0, 4, 4)) is None
    assert truths({"image": "/data/upload/1/x.png"}) is None


@pytest.mark.parametrize("box", [(30, 0, 11, 5), (0, 29, 5, 2), (-1, 0, 5, 5)])
def test_masks_of_another_size_are_refused(folders, box):
    """A tile beyond the mask is an error that names the mask, never a smaller truth."""
    with pytest.raises(RegionError, match=r"a\.png is 40 x 30 px"):
        MaskTruths(*folders)(tile("a.png", *box))


def test_masks_must_match(folders, tmp_path):
    """A folder of masks for other images is refused at once."""
    other = tmp_path / "other"
    other.mkdir()
    Image.new("L", (4, 4)).save(other / "zzz.png")
    with pytest.raises(DataError, match="no mask"):
        MaskTruths(folders[0], other)


def test_the_pages_of_a_stack_have_the_pages_of_a_mask_stack(tmp_path):
    """A page's truth is the same page of the masks, by the name that the page has in the pool."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, 30, 40), np.uint8)
    masks = np.zeros((3, 30, 40), np.uint8)
    for page in range(3):
        masks[page, page * 5 : page * 5 + 5] = 255
    for folder, pages in (("images", images), ("masks", masks)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "vnc.tif", pages, photometric="minisblack")
    truths = MaskTruths(tmp_path / "images", tmp_path / "masks")
    assert len(truths) == 3
    for page in range(3):
        truth = truths(tile(f"vnc_p{page + 1}.tif", 0, 0, 40, 30))
        assert np.array_equal(truth, masks[page] > 0)


def test_images_and_masks_in_a_bucket(folders, s3, bucket):
    """Truths are read from addresses as the pool is."""
    addresses = []
    for folder in folders:
        addresses.append(f"{bucket}/{folder.name}")
        for path in folder.rglob("*.png"):
            s3.put(f"{addresses[-1]}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    here, there = MaskTruths(*folders), MaskTruths(*addresses)
    data = tile("deep/b.png", 0, 0, 40, 30)
    assert np.array_equal(there(data), here(data))
