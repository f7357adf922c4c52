"""Masks: every encoding that people bring, the ones that must not be guessed, and pairing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from ml_backend.errors import ConfigError, DataError, ImageUnreadable, RegionError
from ml_backend.store.mask_values import IGNORE, parse_values, read_mask, read_objects

from .pictures import file_of, png, tiff

RNG = np.random.default_rng(1)
TRUTH = np.zeros((20, 30), np.uint8)
TRUTH[4:12, 5:20] = 1
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def soft(mask, top=255):
    """A mask six times as large as its edges are wide, in greys up to `top`."""
    large = ndimage.gaussian_filter(np.kron(mask, np.ones((6, 6))), 0.8)
    return np.rint(large * top).astype(np.uint8)


def colour(mask, ink, ground=(0, 0, 0)):
    """A mask in two colours."""
    return np.where(mask[..., None].astype(bool), np.uint8(ink), np.uint8(ground))


def indexed(mask, *colours):
    """A palette PNG."""
    image = Image.fromarray(mask)
    image.putpalette(bytes(value for rgb in colours for value in rgb))
    return file_of(image)


FULL = np.full_like(TRUTH, 255)
LARGE = np.kron(TRUTH, np.ones((6, 6), np.uint8))
INSTANCES = np.where(TRUTH, np.arange(30, dtype=np.uint16) // 2 * 70, 0).astype(np.uint16)
ONE_LABEL = {
    "1 bit": png(TRUTH.astype(bool)),
    "1-bit tiff": tiff(TRUTH.astype(bool), photometric="minisblack"),
    "0 and 1": png(TRUTH),
    "0 and 1, bmp": file_of(Image.fromarray(TRUTH), "BMP"),
    "0 and 128": png(TRUTH * np.uint8(128)),
    "0 and 255": png(TRUTH * np.uint8(255)),
    "0 and 128 in 16 bits": png(TRUTH.astype(np.uint16) * 128),
    "large, grey edges": png(soft(TRUTH)),
    "large, jpeg": file_of(Image.fromarray(soft(TRUTH)), "JPEG", quality=75),
    "large, hard jpeg": file_of(Image.fromarray(LARGE * np.uint8(255)), "JPEG", quality=50),
    "large, soft colour": png(np.uint8(soft(TRUTH)[..., None] * [0.9, 0.5, 0.1])),
    "large, coloured jpeg": file_of(
        Image.fromarray(colour(LARGE, (250, 30, 40))), "JPEG", quality=95, subsampling=0
    ),
    "rgb white": png(colour(TRUTH, (255, 255, 255))),
    "rgb red": png(colour(TRUTH, (255, 0, 0))),
    "rgb dark green": png(colour(TRUTH, (48, 112, 32))),
    "rgb nearly black": png(colour(TRUTH, (9, 20, 10))),
    "rgba red, transparent ground": png(
        np.dstack([colour(TRUTH, (255, 0, 0), (255, 255, 255)), TRUTH * np.uint8(255)])
    ),
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
    "8-bit instances": png(np.where(TRUTH, np.arange(30, dtype=np.uint8) // 2, 0).astype(np.uint8)),
    "16-bit 0 and 65535": png(TRUTH.astype(np.uint16) * 65535),
    "large, 16-bit grey edges": png(soft(TRUTH).astype(np.uint16) * 257),
    "32-bit instances": tiff(INSTANCES.astype(np.int32) * 1000),
    "float 0 and 1": tiff(TRUTH.astype(np.float32)),
    "large, float shares": tiff((soft(TRUTH) / 255).astype(np.float32)),
    "float instances": tiff(INSTANCES.astype(np.float32)),
    "float 0 and 255": tiff(TRUTH.astype(np.float64) * 255),
}


@pytest.mark.parametrize("name", ONE_LABEL)
def test_one_label(name):
    """One label needs no explanation in any of the usual encodings."""
    truth = INSTANCES > 0 if "instances" in name else LARGE if "large" in name else TRUTH
    mask = read_mask(ONE_LABEL[name], name, shape=truth.shape)
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
    label_map = np.pad(label_map, 1)
    label_map[0, :2] = 0, 1  # without 0, or with 0 and 255 alone, they would be anyone's guess
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8).tolist()
    files = [png(label_map), tiff(label_map), indexed(label_map, *palette)]
    if label_map.max() < IGNORE:
        files.append(tiff(label_map.astype(np.uint16)))
    for encoded in files:
        np.testing.assert_array_equal(read_mask(encoded, "x", labels), label_map)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**32 - 1), st.booleans())
def test_evenly_spaced_greys(labels, seed, noisy):
    """K labels drawn as K + 1 greys from black to white are read by the nearest level."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, labels + 1, (4, 4)), np.ones((9, 9), np.int64))
    truth[0, :2] = 0, 1
    noise = rng.integers(-7, 8, truth.shape) if noisy else 0
    greys = np.clip(np.rint(truth * (255 / labels)) + noise, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(png(greys), "x", labels), truth)


def test_an_indexed_mask_keeps_ignore_for_one_label():
    """An exported label map with 255 for ignore is not taken for foreground."""
    label_map = TRUTH.copy()
    label_map[0] = IGNORE
    palette = [(0, 0, 0), (220, 40, 90), *[(0, 0, 0)] * 253, (255, 255, 255)]
    np.testing.assert_array_equal(read_mask(indexed(label_map, *palette), "x"), label_map)


def blocks(*values, dtype=np.uint8):
    """Squares of 9 x 9 px beside each other, each of one value."""
    return np.kron(np.array([values], dtype), np.ones((9, 9), dtype))


def dots(*values, dtype=np.uint8):
    """Squares of 4 x 4 px on a ground of 0, twice of each value, so that they number nothing."""
    return np.pad(np.kron(np.tile(values, (5, 1)), np.pad(np.ones((4, 4)), 2)), 4).astype(dtype)


def with_spot(greys, value):
    """A mask with a square of one value in its corner."""
    greys[2:9, 2:9] = value
    return greys


NOISE = RNG.integers(0, 256, (40, 40)).astype(np.uint8)
REFUSED = {
    "three greys, one label": (png(blocks(0, 127, 255)), 1, r"127 \(33\.3%: label 1\)"),
    "ilastik": (png(blocks(1, 2)), 1, r"1 \(50.0%: background.*no pixel is 0.*'1=0,2=1'"),
    "ilastik's ground alone": (png(blocks(1, 1)), 1, "no pixel is 0"),
    "trimap": (png(blocks(1, 2, 3)), 1, r"object of a trimap.*'1=1,2=0,3=ignore'"),
    "all white, two labels": (png(blocks(255, 255)), 2, r"255 \(100\.0%"),
    "no black": (png(blocks(100, 255)), 1, "no pixel is 0"),
    "classes and unknown": (png(dots(1, 2, 255)), 1, "unknown.*'0=0,1=1,2=1,255=ignore'"),
    "greys of a small picture": (png(dots(90, 255)), 1, "'0=0,90=1,255=1'"),
    "two classes": (png(dots(1, 2)), 1, r"more values than the one label.*'0=0,1=1,2=1'"),
    "two classes, 16 bits": (png(dots(1, 2, dtype=np.uint16)), 1, "'0=0,1=1,2=1'"),
    "two classes that lie in each other": (png(np.pad(dots(2), 9, constant_values=1)), 1, "'0=0,"),
    "the second class alone": (png(dots(2)), 1, "a class of several, perhaps.*'0=0,2=1'"),
    "a class of few pixels": (png(np.pad(dots(128), 99, constant_values=255)), 1, "128"),
    "a class between edges": (png(with_spot(soft(TRUTH), 90)), 1, "90"),
    "a photograph": (png(NOISE), 1, "and 248 more values.*'0=0,1-255=1'"),
    "two colours, one label": (png(colour(TRUTH, (255, 0, 0), (0, 0, 255))), 1, "#ff0000"),
    "colours on black, one label": (
        png(np.vstack([colour(TRUTH, (255, 0, 0)), colour(TRUTH, (0, 60, 0))])),
        1,
        r"#003c00 \(10\.0%.*'#000000=0,#003c00=1,#ff0000=0'",
    ),
    "shades on black, one label": (
        png(np.vstack([colour(TRUTH, (240, 0, 0)), colour(TRUTH, (60, 0, 0))])),
        1,
        "#3c0000",
    ),
    "colours, two labels": (png(colour(TRUTH, (255, 0, 0))), 2, r"#ff0000 \(20\.0%"),
    "black and white, two labels": (png(TRUTH * np.uint8(255)), 2, r"255 \(20\.0%"),
    "one bit, two labels": (png(TRUTH.astype(bool)), 2, "black and white do not tell"),
    "codes, two labels": (png(TRUTH * np.uint8(37)), 2, "37"),
    "from 1, more than labels": (png(blocks(1, 2, 3)), 2, "'1=0,2=1,3=2'"),
    "without 0, some missing": (png(blocks(1, 3)), 3, "1 "),
    "greys without black": (png(blocks(127, 255)), 2, "127"),
    "two codes near one level": (png(blocks(0, 122, 133, 255)), 2, "133"),
    "too many labels": (png(blocks(0, 1, 2, 3)), 2, "3"),
    "indexed, too many": (indexed(TRUTH * 2, (0, 0, 0), (1, 99, 1), (9, 200, 0)), 1, "2"),
    "16-bit instances, two labels": (png(INSTANCES), 2, "and 1 more values.*'0=0,1-630=1'"),
    "few codes in a JPEG": (
        file_of(Image.fromarray(blocks(0, 90, 255)), "JPEG"),
        1,
        "JPEG changes",
    ),
    "0 and 1 in a JPEG": (
        file_of(Image.fromarray(TRUTH), "JPEG", quality=100),
        1,
        "save it as PNG",
    ),
    "negative": (tiff(-TRUTH.astype(np.int16)), 1, "negative.*'-1=ignore,0=0'"),
    "nan": (tiff(np.array([[np.nan, 0], [1, 1]], np.float32)), 1, "nan.*'0=0,1=1,.=ignore'"),
    "broken numbers": (tiff(np.float32([[0.5, 7.25]])), 1, r"0\.5 \(50\.0%\), 7\.25.*broken"),
    "probabilities": (tiff(np.where(TRUTH, 0.75, 0.25).astype(np.float32)), 1, "0.25"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_guessed(name):
    """A mask that could mean several things is refused with what it holds."""
    data, labels, found = REFUSED[name]
    with pytest.raises(RegionError, match=rf"cells\.png.*{found}") as error:
        read_mask(data, "cells.png", labels)
    assert "--mask-values" in str(error.value)


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
    "text", ["", "  ,", "1", "1=", "=1", "#12=1", "9-3=1", "9.5-3=1", "1=999", "1=1,1=2", "1=a"]
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
        (np.array([[0, 5, 5, 6, 6]], np.uint8), [[0, 1, 1, 2, 2]]),
        (np.array([[5, 5, 6, 6]], np.uint8), None),
        (np.array([[4, 5, 6, 7, 8, 9]], np.uint8), [[1, 2, 3, 4, 5, 6]]),
        (np.array([[0, 9, 900, 900]], np.float32), [[0, 1, 2, 2]]),
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
    encoded = tiff(plane) if plane.dtype == np.float32 else png(plane)
    found = read_objects(encoded, "a.png")
    assert (None if found is None else found.tolist()) == numbered
