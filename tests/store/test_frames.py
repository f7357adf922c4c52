"""Pictures of a file: which there are, and how the catalog records the one that is meant."""

import numpy as np
import pytest

from ml_backend.errors import ConfigError, ImageUnreadable
from ml_backend.recipe import Recipe, choose_pages, parse_recipe
from ml_backend.store.frames import Frame, inspect_image
from ml_backend.store.images import decode_image
from ml_backend.store.raster import read_raster

from .pictures import tiff

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 256, (5, 40, 30), np.uint8)


def test_a_frame_is_what_it_was_recorded_as():
    """JSON gives the same frame again, a plain image is `{}`, and unknown keys do no harm."""
    frame = Frame(3, "A1", 2, "max", (0, 2), (1.5, 2.0), (300.0, 4000.0), -9999.0)
    assert Frame.parse(frame.as_json()) == Frame.parse(frame.text()) == frame
    assert hash(Frame.parse(frame.text())) == hash(frame)
    assert Frame().as_json() == {}
    assert Frame.parse({"page": 1, "later": 2}) == Frame(1)
    assert Frame.parse(None) == Frame.parse("") == Frame()


def test_each_page_of_a_stack(tmp_path):
    """Pages are counted, named from 1 and read each for itself, from bytes, a path or a file."""
    path = tmp_path / "stack.tif"
    path.write_bytes(tiff(STACK, photometric="minisblack"))
    for source in (path, path.read_bytes(), path.open("rb")):
        file = inspect_image(source, "stack.tif")
        assert file.pages == 5
        assert [info.frame.page for info in file.frames] == [0, 1, 2, 3, 4]
        assert [(info.height, info.width) for info in file.frames] == [(40, 30)] * 5
        assert "page 2 of 5" in file.frames[1].chosen
        for info, expected in zip(file.frames, STACK, strict=True):
            found = decode_image(source, "stack.tif", info.frame)
            np.testing.assert_array_equal(found[..., 0], expected)
    source.close()


@pytest.mark.parametrize(
    ("rule", "pages"),
    [("each", [0, 1, 2, 3, 4]), ("first", [0]), ("2-3", [1, 2]), ("1,4-", [0, 3, 4]), (3, [2])],
)
def test_pages_by_rule(rule, pages):
    """`pool.pages` is each, first, or numbers and ranges; a single image is always taken."""
    checked = parse_recipe({"pool": {"pages": rule}}).pool.pages
    file = inspect_image(tiff(STACK, photometric="minisblack"), "stack.tif", pages=checked)
    assert [info.frame.page for info in file.frames] == pages
    assert file.pages == 5
    assert choose_pages(checked, 1) == [0]


def test_pages_that_are_not_there():
    """A range beyond the last page is refused with the number of pages; so is a rule of none."""
    with pytest.raises(ImageUnreadable, match=r"stack\.tif has 5 pages.*pool\.pages.*7-9"):
        inspect_image(tiff(STACK, photometric="minisblack"), "stack.tif", pages="7-9")
    for rule in ("last", "0-3", "5-3", "1;2", ""):
        with pytest.raises(ConfigError, match=r"pool\.pages"):
            parse_recipe({"pool": {"pages": rule}})


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"channels": [0]}, "channels"),
        ({"channels": [1, 1]}, "channels"),
        ({"channels": []}, "channels"),
        ({"plane": 0}, "plane"),
        ({"plane": 1, "projection": "max"}, "images"),
        ({"range": [5, 5]}, "range"),
        ({"range": "disc"}, "range"),
        ({"percentiles": [1, 101]}, "percentiles"),
        ({"range": [0, 1], "percentiles": [1, 99]}, "images"),
    ],
)
def test_impossible_keys(keys, where):
    """What cannot be is refused by its key."""
    with pytest.raises(ConfigError, match=where):
        parse_recipe({"images": keys})
    assert Recipe().images.range == "file"


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"ome": True}, {"metadata": None}])
def test_numbers_of_a_page_as_masks_need_them(options):
    """`read_raster` gives the codes of any page of any kind of stack, never inverted or scaled."""
    kind = {"photometric": "minisblack"} if "imagej" not in options else {}
    data = tiff(STACK, **kind, **options)
    for page in range(5):
        raster = read_raster(data, "stack.tif", page=page)
        np.testing.assert_array_equal(raster.values, STACK[page])
        assert raster.pages == 5
    inverted = read_raster(tiff(STACK, photometric="miniswhite"), "stack.tif", page=3)
    np.testing.assert_array_equal(inverted.values, STACK[3])
    assert inverted.inverted
    with pytest.raises(ImageUnreadable, match=r"stack\.tif has 5 page"):
        read_raster(data, "stack.tif", page=5)
    samples = np.moveaxis(STACK[:2], 0, 2)
    with pytest.raises(ImageUnreadable, match="2 channels"):
        read_raster(tiff(samples, photometric="minisblack", planarconfig="contig"), "stack.tif")
