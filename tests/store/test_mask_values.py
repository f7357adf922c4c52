"""Masks as tools write them: what is unmistakable is read exactly, everything else is refused."""

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ml_backend.errors import RegionError
from ml_backend.store.mask_values import (
    IGNORE,
    Band,
    parse_values,
    read_mask,
    read_mask_file,
    read_objects,
)

from .pictures import file_of, png, tiff

BLOB = np.zeros((24, 24), np.uint8)
BLOB[3:12, 4:15] = 1


def with_border(inside, border):
    """An object with a border of another value around it."""
    values = np.zeros((24, 24), np.int64)
    values[2:13, 3:16] = border
    values[3:12, 4:15] = inside
    return values


TRUTH = with_border(1, IGNORE).astype(np.uint8)


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
@pytest.mark.parametrize(
    ("values", "truth"),
    [
        (BLOB * np.uint8(255), BLOB),
        (BLOB, BLOB),
        (BLOB.astype(bool), BLOB),
        (BLOB.astype(np.uint16), BLOB),
        (with_border(1, 255).astype(np.uint8), TRUTH),
    ],
)
def test_an_inverting_table_changes_no_label(photometric, values, truth):
    """The photometric tag says how to show an image; 255 is the object in any case."""
    data = tiff(values, photometric=photometric)
    assert np.array_equal(read_mask(data, "m.tif"), truth)


@pytest.mark.parametrize(
    ("dtype", "greatest"),
    [(np.uint8, 255), (np.uint16, 65535), (np.int16, 32767), (np.int32, 2**31 - 1),
     (np.uint32, 2**32 - 1), (np.uint64, 2**64 - 1), (np.float32, 65535), (np.uint16, 255)],
)  # fmt: skip
@pytest.mark.parametrize("labels", [1, 2])
def test_the_greatest_value_is_unknown(dtype, greatest, labels):
    """0, 1 and the greatest number, or 255: 1 is the object, as with two labels."""
    values = with_border(1, 0).astype(dtype)
    values[with_border(0, 1) > 0] = greatest
    assert np.array_equal(read_mask(tiff(values), "m.tif", labels), TRUTH)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_small_objects_keep_their_numbers(dtype):
    """130 spots of a pixel each, in 8 bits: 130 objects, and none is lost."""
    values = np.zeros((40, 40), dtype)
    values[::3, ::3].flat[:130] = np.arange(1, 131)
    reading = read_mask_file(png(values), "m.png")
    assert reading.mask.sum() == 130
    assert np.array_equal(reading.objects, values)
    assert reading.rule == "numbers of objects"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16, np.int32, np.uint8])
def test_touching_objects_of_any_type(dtype):
    """Whole numbers are numbers, whatever type ImageJ gives them."""
    values = np.zeros((9, 12), dtype)
    values[2:7, 1:5], values[2:7, 5:9] = 1, 2
    reading = read_mask_file(tiff(values), "m.tif", instances=True)
    assert np.array_equal(reading.mask, values > 0)
    assert np.array_equal(reading.objects, values)


def test_numbers_survive_values():
    """A band of values of one label keeps them apart; values of no label have no number."""
    values = np.zeros((9, 12), np.uint8)
    values[2:7, 1:5], values[2:7, 5:9], values[0, 0] = 3, 7, 200
    for data in (png(values), tiff(values.astype(np.float32))):
        objects = read_objects(data, "m", values=parse_values("1-100=1"))
        assert np.unique(objects[values == 3]).tolist() == [1]
        assert np.unique(objects[values == 7]).tolist() == [2]
        assert not objects[(values == 0) | (values == 200)].any()
        assert read_objects(data, "m", values=parse_values("3=1")) is None
    paint = np.zeros((9, 12, 3), np.uint8)
    paint[2:7, 1:5], paint[2:7, 5:9] = (9, 200, 0), (9, 0, 200)
    assert read_objects(png(paint), "m", values=parse_values("#000000=0,*=1")).max() == 2
    rng = np.random.default_rng(0)
    soft = rng.integers(0, 256, (30, 30)).astype(np.uint8)
    assert read_objects(png(soft), "m", values=parse_values("1-255=1")) is None


def test_numbers_and_unknown_pixels():
    """Where objects are numbered in 16 bits the greatest number is unknown, not an object."""
    values = np.zeros((12, 12), np.uint16)
    values[1:3, 1:3], values[1:3, 3:5], values[6:8, 1:3], values[9:] = 1, 2, 3, 65535
    reading = read_mask_file(png(values), "m.png")
    assert reading.mask[10].tolist() == [IGNORE] * 12
    assert reading.objects.max() == 3
    assert np.array_equal(reading.mask == 1, (values > 0) & (values < 9))


def test_a_few_numbers_in_more_than_8_bits():
    """In a piece each they are objects, which is told; one around another are classes."""
    values = np.zeros((9, 12), np.uint16)
    values[2:7, 1:5], values[2:7, 5:9] = 1, 2
    reading = read_mask_file(png(values), "m.png")
    assert np.array_equal(reading.objects, values)
    assert "values were taken for numbers of objects" in reading.notes[0]
    for plane in (with_border(1, 2).astype(np.uint16), values.astype(np.uint8)):
        with pytest.raises(RegionError, match="0=0,1=1,2=1"):
            read_mask(png(plane), "m.png")


def test_stray_pixels_are_told():
    """A handful of greys in a large black and white mask goes to the nearer, and is counted."""
    values = np.zeros((90, 90), np.uint8)
    values[10:60, 10:60] = 255
    values[5, 5], values[80, 80] = 13, 200
    reading = read_mask_file(png(values), "m.png")
    assert np.array_equal(reading.mask, values > 127)
    assert "stray pixels between 0 and 255" in reading.notes[0]
    values[5:8, 5:8] = 13
    with pytest.raises(RegionError, match="13"):
        read_mask(png(values), "m.png")


def test_a_mask_that_is_all_white_is_told():
    """255 and nothing else is the label everywhere, as in 0 and 255; a person should know."""
    reading = read_mask_file(png(BLOB * np.uint8(0) + np.uint8(255)), "m.png")
    assert reading.mask.all()
    assert "covers the whole image" in reading.notes[0]


def pages(*planes):
    """A TIFF of several pages."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for plane in planes:
            file.write(plane, contiguous=False)
    return buffer.getvalue()


def test_a_mask_on_another_page():
    """The only page that is painted is read, and told; of several, which one must be said."""
    empty, mask = np.zeros_like(BLOB), BLOB * np.uint8(255)
    reading = read_mask_file(pages(empty, mask, np.ones((3, 3), np.uint8)), "m.tif")
    assert np.array_equal(reading.mask, BLOB)
    assert reading.notes == ("page 2 of 3, the only one that is painted",)
    assert read_mask_file(pages(empty, empty), "m.tif").notes == ("all of its 2 pages are empty",)
    both = pages(mask, empty, mask)
    with pytest.raises(RegionError, match=r"m\.tif has 3 pages, of which 1, 3 are painted"):
        read_mask(both, "m.tif")
    assert np.array_equal(read_mask(both, "m.tif", page=2), BLOB)
    assert not read_mask(both, "m.tif", page=1).any()


def test_values_of_all_kinds():
    """Negative numbers, decimals and all the rest can be named; bits are 0 and 1, or 0 and 255."""
    assert parse_values("-1=ignore,-9--2=1,0.5-1=2,*=3,my cell=4") == {
        range(-1, 0): IGNORE, range(-9, -1): 1, Band(0.5, 1.0): 2, "*": 3, "my cell": 4,
    }  # fmt: skip
    floats = tiff(np.array([[-1, 0, 0.25, 0.75, np.nan]], np.float32))
    assert read_mask(floats, "m", values=parse_values("-1=ignore,0.5-1=1")).tolist() == [
        [IGNORE, 0, 0, 1, 0]
    ]
    assert read_mask(floats, "m", values=parse_values("-1-0=0,0.1-1=1,*=ignore")).tolist() == [
        [0, 0, 1, 1, IGNORE]
    ]
    bits = png(np.array([[True, False]]))
    assert read_mask(bits, "m", values=parse_values("1=1")).tolist() == [[1, 0]]
    assert read_mask(bits, "m", values=parse_values("0=1,1=0")).tolist() == [[0, 1]]
    assert read_mask(bits, "m", values=parse_values("0=1,255=0")).tolist() == [[0, 1]]
    deep = tiff(np.array([[[65535, 0, 0], [0, 0, 0]]], np.uint16), photometric="rgb")
    assert read_mask(deep, "m", values=parse_values("#ff0000=1")).tolist() == [[1, 0]]
    with pytest.raises(
        RegionError, match=r"m is a picture, but the mask values name only .*'cell'"
    ):
        read_mask(bits, "m", values=parse_values("cell=1"))
    assert read_mask(bits, "m", values=parse_values("cell=1,1=1")).tolist() == [[1, 0]]


def test_values_that_leave_something_out():
    """What the values do not name is background, and counted unless it is 0."""
    reading = read_mask_file(png(with_border(1, 2).astype(np.uint8)), "m", values={range(1, 2): 1})
    assert np.array_equal(reading.mask, BLOB)
    [note] = reading.notes
    assert note == "the mask values do not name 2: background"
    paint = png(np.uint8([[[0, 0, 255], [255, 0, 0], [0, 0, 0]]]))
    [note] = read_mask_file(paint, "m", values=parse_values("#ff0000=1")).notes
    assert note == "the mask values do not name #0000ff: background"
    many = read_mask_file(png(np.arange(12, dtype=np.uint8)[None]), "m", values={range(1, 2): 1})
    assert many.notes == ("the mask values do not name 2, 3, 4, 5, 6 …: background",)


def _codes(draw):
    """Up to five codes, as tools give them."""
    sets = [
        [0, 1], [0, 255], [0, 1, 255], [1, 2], [1, 2, 3], [0, 1, 2], [0, 1, 2, 3, 4], [0, 127, 255],
        [0, 85, 170, 255], [1], [255], [0, 2], [0, 50, 100], [0, 64, 128, 191, 255], [3, 9],
        [0, 1, 2, 255],
    ]  # fmt: skip
    free = st.lists(st.integers(0, 255), min_size=1, max_size=5, unique=True).map(sorted)
    return draw(st.one_of(st.sampled_from(sets), free))


def _of_one_label(codes):
    """What is unmistakable of codes for one label; None: to be refused."""
    above = [code for code in codes if code]
    if codes == [255]:
        return {255: 1}
    if codes[0] == 0 and above == [1, 255]:
        return {0: 0, 1: 1, 255: IGNORE}
    is_sure = codes[0] == 0 and len(above) == 1 and (above == [1] or above[0] >= 32)
    return {0: 0, above[0]: 1} if is_sure else None


def _of_several(codes, labels, dtype):
    """What is unmistakable of codes for several labels; None: to be refused."""
    known = [code for code in codes if code != 255]
    if known and known[-1] <= labels and (known[0] == 0 or known == list(range(1, labels + 1))):
        return None if known == [0] else {code: code for code in codes}
    near = {code: round(code * labels / 255) for code in codes}
    levels = set(near.values())
    is_near = all(abs(code - level * 255 / labels) <= 8 for code, level in near.items())
    is_sure = is_near and 0 in levels and levels & set(range(1, labels))
    return near if is_sure and len(levels) == len(near) and dtype == "u1" else None


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_up_to_five_codes_are_exact_or_refused(data):
    """Each type, each set of codes, each number of labels, each format: nothing in between."""
    codes = _codes(data.draw)
    labels = data.draw(st.integers(1, 4))
    dtype = data.draw(st.sampled_from(["u1", "u2", "i2", "i4", "f4"]))
    side = data.draw(st.integers(2, 6))
    places = np.random.default_rng(data.draw(st.integers(0, 999))).integers(0, len(codes), (9, 9))
    places.flat[: len(codes)] = np.arange(len(codes))
    plane = np.kron(np.array(codes)[places], np.ones((side, side), np.int64)).astype(dtype)
    kinds = [
        "tiff",
        *(["png"] if dtype in {"u1", "u2"} else []),
        *(["bmp"] if dtype == "u1" else []),
    ]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "bmp":
        encoded = file_of(Image.fromarray(plane), "BMP")
    else:
        encoded = png(plane) if kind == "png" else tiff(plane)
    meaning = _of_one_label(codes) if labels == 1 else _of_several(codes, labels, dtype)
    if codes == [0]:
        meaning = {0: 0}
    if meaning is not None:
        mask = read_mask(encoded, "m", labels)
        assert np.array_equal(mask, np.vectorize(meaning.get)(plane.astype(int)))
        return
    with pytest.raises(RegionError) as error:
        read_mask(encoded, "m", labels)
    option = str(error.value).split("--mask-values '")[1].rstrip("'")
    read_mask(encoded, "m", labels, values=parse_values(option))  # the way out is one
