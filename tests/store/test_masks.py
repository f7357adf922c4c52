"""Masks: every encoding that people bring, the ones that must not be guessed, and pairing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ml_backend.errors import ConfigError, DataError, ImageUnreadable, RegionError
from ml_backend.store.mask_values import IGNORE, parse_values, read_mask, read_objects

from .pictures import file_of, png, tiff

RNG = np.random.default_rng(1)
TRUTH = np.zeros((20, 30), np.uint8)
TRUTH[4:12, 5:20] = 1
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def edged(mask):
    """A 0/255 mask with grey edge pixels on both sides of the outline."""
    grey = mask * np.uint8(255)
    grey[4, 5:20] = 200
    grey[3, 5:20] = 90
    return grey


def colour(mask, ink, ground=(0, 0, 0)):
    """A mask in two colours."""
    return np.where(mask[..., None].astype(bool), np.uint8(ink), np.uint8(ground))


def indexed(mask, *colours):
    """A palette PNG."""
    image = Image.fromarray(mask)
    image.putpalette(bytes(value for rgb in colours for value in rgb))
    return file_of(image)


FULL = np.full_like(TRUTH, 255)
INSTANCES = np.where(TRUTH, np.arange(30, dtype=np.uint16) // 5 * 70, 0).astype(np.uint16)
ONE_LABEL = {
    "1 bit": png(TRUTH.astype(bool)),
    "1-bit tiff": tiff(TRUTH.astype(bool), photometric="minisblack"),
    "0 and 1": png(TRUTH),
    "0 and 1, bmp": file_of(Image.fromarray(TRUTH), "BMP"),
    "0 and 128": png(TRUTH * np.uint8(128)),
    "0 and 255": png(TRUTH * np.uint8(255)),
    "grey edges": png(edged(TRUTH)),
    "jpeg": file_of(Image.fromarray(edged(TRUTH)), "JPEG", quality=90),
    "rgb white": png(colour(TRUTH, (255, 255, 255))),
    "rgb red": png(colour(TRUTH, (255, 0, 0))),
    "la": png(np.dstack([TRUTH * np.uint8(255), FULL])),
    "rgba": png(np.dstack([colour(TRUTH, (255, 255, 255)), FULL])),
    "rgba, transparent ground": png(
        np.dstack([colour(TRUTH, (255, 255, 255), (250, 250, 250)), TRUTH * np.uint8(255)])
    ),
    "la, the alpha is the mask": png(np.dstack([FULL * 0, TRUTH * np.uint8(255)])),
    "grey palette": indexed(1 - TRUTH, (255, 255, 255), (0, 0, 0)),
    "coloured palette": indexed(TRUTH, (0, 0, 0), (220, 40, 90)),
    "16-bit instances": png(INSTANCES),
    "16-bit tiff instances": tiff(INSTANCES),
    "8-bit instances": png(np.where(TRUTH, np.arange(30, dtype=np.uint8) // 5, 0).astype(np.uint8)),
    "16-bit 0 and 65535": png(TRUTH.astype(np.uint16) * 65535),
    "16-bit grey edges": png(edged(TRUTH).astype(np.uint16) * 257),
    "32-bit instances": tiff(INSTANCES.astype(np.int32) * 1000),
    "float 0 and 1": tiff(TRUTH.astype(np.float32)),
    "float shares": tiff(np.where(TRUTH, 0.75, 0.25).astype(np.float32)),
    "float 0 and 255": tiff(TRUTH.astype(np.float64) * 255),
}


@pytest.mark.parametrize("name", ONE_LABEL)
def test_one_label(name):
    """One label needs no explanation in any of the usual encodings."""
    mask = read_mask(ONE_LABEL[name], name, shape=TRUTH.shape)
    truth = INSTANCES > 0 if "instances" in name else TRUTH
    np.testing.assert_array_equal(mask, truth)
    assert mask.dtype == np.uint8


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_an_empty_mask_is_background(labels, mode):
    """An image without the object has a mask of zeros, in every mode."""
    mask = read_mask(file_of(Image.new(mode, (6, 4))), "none", labels)
    assert mask.shape == (4, 6)
    assert not mask.any()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_label_maps_round_trip(data):
    """0…K and 255 for ignore come back as they are, as grey, indexed or 16-bit PNG or TIFF."""
    labels = data.draw(st.integers(2, 254))
    values = st.sampled_from([0, 1, labels, IGNORE])
    label_map = data.draw(hnp.arrays(np.uint8, data.draw(SHAPES), elements=values))
    if IGNORE in label_map:
        label_map[0, 0] = 1  # only 0 and 255 would be anyone's guess
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8).tolist()
    files = [png(label_map), tiff(label_map), indexed(label_map, *palette)]
    if label_map.max() < IGNORE:
        files.append(tiff(label_map.astype(np.uint16)))
    for encoded in files:
        np.testing.assert_array_equal(read_mask(encoded, "x", labels), label_map)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.data())
def test_evenly_spaced_greys(labels, data):
    """K labels drawn as K + 1 greys from black to white are read by the nearest level."""
    shape = data.draw(SHAPES)
    truth = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, labels)))
    truth[0, 0] = 1
    noise = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-7, 7)))
    greys = np.clip(np.rint(truth * (255 / labels)) + noise, 0, 255).astype(np.uint8)
    if greys.max() <= labels:
        return
    np.testing.assert_array_equal(read_mask(png(greys), "x", labels), truth)


def test_an_indexed_mask_keeps_ignore_for_one_label():
    """An exported label map with 255 for ignore is not taken for foreground."""
    label_map = TRUTH.copy()
    label_map[0] = IGNORE
    palette = [(0, 0, 0), (220, 40, 90), *[(0, 0, 0)] * 253, (255, 255, 255)]
    np.testing.assert_array_equal(read_mask(indexed(label_map, *palette), "x"), label_map)


NUCLEI = np.kron(np.arange(200, dtype=np.uint8).reshape(10, 20), np.ones((5, 5), np.uint8))
REFUSED = {
    "three greys, one label": (
        png(np.kron(np.uint8([[0, 127, 255]]), np.ones((9, 9), np.uint8))),
        1,
        r"127 \(33\.3%\)",
    ),
    "200 nuclei in 8 bits": (png(NUCLEI), 1, "mask values"),
    "two colours, one label": (png(colour(TRUTH, (255, 0, 0), (0, 0, 255))), 1, "#ff0000"),
    "colours, two labels": (png(colour(TRUTH, (255, 0, 0))), 2, r"#ff0000 \(20\.0%\)"),
    "black and white, two labels": (png(TRUTH * np.uint8(255)), 2, r"255 \(20\.0%\)"),
    "codes, two labels": (png(TRUTH * np.uint8(37)), 2, "37"),
    "too many labels": (png(np.uint8([[0, 1, 2, 3]])), 2, "3"),
    "indexed, too many": (indexed(TRUTH * 2, (0, 0, 0), (1, 99, 1), (9, 200, 0)), 1, "2"),
    "16-bit instances, two labels": (png(INSTANCES), 2, "70"),
    "negative": (tiff(-TRUTH.astype(np.int16)), 1, "negative"),
    "nan": (tiff(np.full((3, 3), np.nan, np.float32)), 1, "nan"),
    "broken numbers": (tiff(np.float32([[0.5, 7.25]])), 1, "broken"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_guessed(name):
    """A mask that could mean several things is refused with what it holds."""
    data, labels, found = REFUSED[name]
    with pytest.raises(RegionError, match=rf"cells\.png.*{found}"):
        read_mask(data, "cells.png", labels)


def test_values_say_it():
    """Greys, bands, colours and indices mean what the values say; what they do not name is 0."""
    greys = np.uint8([[0, 63, 64, 191, 192, 255]])
    bands = parse_values("64-191=2, 192-254=1; 255=ignore")
    assert read_mask(png(greys), "x", 2, values=bands).tolist() == [[0, 0, 2, 2, 1, IGNORE]]
    inverted = parse_values("0=1,255=0")
    assert read_mask(png(greys), "x", values=inverted).tolist() == [[1, 0, 0, 0, 0, 0]]
    assert read_mask(png(greys > 99), "x", values=inverted).tolist() == [[1, 1, 1, 0, 0, 0]]
    paint = png(np.uint8([[[0, 0, 255], [255, 0, 0], [1, 0, 255]]]))
    colours = parse_values("#0000FF=1,#ff0000=2")
    assert read_mask(paint, "x", 2, values=colours).tolist() == [[1, 2, 0]]
    assert read_mask(paint, "x", values=parse_values("1-255=1")).tolist() == [[0, 1, 1]]
    painted = indexed(np.uint8([[0, 1]]), (0, 0, 255), (255, 0, 0))
    assert read_mask(painted, "x", 2, values=colours).tolist() == [[1, 2]]
    assert read_mask(painted, "x", values=parse_values("1=1")).tolist() == [[0, 1]]
    deep = png(np.uint16([[0, 300, 65535]]))
    assert read_mask(deep, "x", values=parse_values("300=1,65535=ignore")).tolist() == [
        [0, 1, IGNORE]
    ]
    assert read_mask(png(greys), "x", values=parse_values("#ffffff=1"))[0, -1] == 1


@pytest.mark.parametrize(
    "text", ["", "  ,", "1", "1=", "=1", "a=1", "#12=1", "9-3=1", "1=999", "1=1,1=2", "-1=1"]
)
def test_values_that_are_none(text):
    """A mistake in the values is a ConfigError with an example."""
    with pytest.raises(ConfigError, match="mask values"):
        parse_values(text)


def test_values_beyond_the_labels():
    """A label nobody has is refused, and so is an impossible number of labels."""
    with pytest.raises(ConfigError, match=r"label 3.* only 2"):
        read_mask(png(TRUTH), "x", 2, values=parse_values("1=3"))
    for labels in (0, 255):
        with pytest.raises(ConfigError, match="labels"):
            read_mask(png(TRUTH), "x", labels)


def test_a_mask_of_another_size():
    """Sizes are compared, and both are named."""
    with pytest.raises(RegionError, match=r"m\.png is 30 x 20 px, its image 30 x 21 px"):
        read_mask(png(TRUTH), "m.png", shape=(21, 30))


def test_a_mask_that_is_broken():
    """Empty and truncated masks are unreadable like images, by name."""
    for data in (b"", png(RNG.integers(0, 2, (64, 64), np.uint8))[:100], b"text"):
        with pytest.raises(ImageUnreadable, match=r"m\.png"):
            read_mask(data, "m.png")


@pytest.mark.parametrize("channels", [0, 2, 3, 4])
@pytest.mark.parametrize(
    "kind", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8"]
)
def test_any_kind_of_number(kind, channels):
    """Whatever a TIFF holds, the answer is a label map or one of our errors, without a warning."""
    numbers = RNG.integers(0, 99, (9, 8, channels) if channels else (9, 8)).astype(kind)
    alpha = ["unassalpha"] if channels in {2, 4} else None
    photometric = "rgb" if channels > 2 else "minisblack"
    contig = "contig" if channels else None
    encoded = tiff(numbers, photometric=photometric, planarconfig=contig, extrasamples=alpha)
    rules = parse_values("1=1,#000000=2,2-9=ignore")
    for labels, values in [(1, None), (3, None), (3, rules)]:
        try:
            mask = read_mask(encoded, "x", labels, values=values)
        except DataError:
            continue
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {*range(labels + 1), IGNORE}


def test_a_turned_mask_turns_like_its_image():
    """An EXIF orientation holds for masks as it does for images."""
    exif = Image.Exif()
    exif[274] = 6
    mask = read_mask(file_of(Image.fromarray(TRUTH), exif=exif), "x")
    np.testing.assert_array_equal(mask, np.rot90(TRUTH, -1))


@pytest.mark.parametrize(
    ("plane", "numbered"),
    [
        (np.array([[0, 700, 700, 3]], np.uint16), [[0, 2, 2, 1]]),
        (np.array([[0, 1, 2, 3]], np.uint8), [[0, 1, 2, 3]]),
        (np.array([[5, 5, 9, 9]], np.uint8), [[1, 1, 2, 2]]),
        (np.array([[0, 1, 1, 0]], np.uint8), None),
        (np.array([[0, 128, 255, 0]], np.uint8), None),
        (np.array([[0, 257, 65535, 0]], np.uint16), None),
        (np.tile(np.array([[0, 1, 2, 1]], np.uint8), (1, 9)), None),
        (np.array([[True, False]]), None),
        (np.zeros((2, 2, 3), np.uint8), None),
    ],
)
def test_numbers_of_objects_are_found(plane, numbered):
    """16-bit and small 8-bit numbers; neither one object, brightness, soft edges nor colour."""
    found = read_objects(png(plane), "a.png")
    assert (None if found is None else found.tolist()) == numbered
