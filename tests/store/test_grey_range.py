"""One rule for the grey range: robust, the same for every depth, recorded once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from ml_backend.errors import ImageUnreadable
from ml_backend.recipe import Images
from ml_backend.store.frames import Frame, inspect_image, share_range
from ml_backend.store.grey_range import grey_range, measure, measure_bytes
from ml_backend.store.images import decode_image

from .pictures import file_of, png, tiff

SIDE = 256


def grey(data, images=Images(), name="x.tif", page=0):  # noqa: B008  (frozen)
    """The greys of a picture as they are shown, and what is known of it."""
    info = inspect_image(data, name, images).frames[page]
    return decode_image(data, name, info.frame)[..., 0].astype(int), info


def field(seed=0, low=0.1, high=0.9, noise=0.01):
    """Smooth structure with a little noise, as shares of the scale."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 6)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    shares = low + smooth * (high - low) + rng.normal(0, noise, smooth.shape)
    return np.clip(shares, 0, 1)


def spots(image, value, side=7, number=10):
    """The same with bright squares, a tenth of a per mille each."""
    image = image.copy()
    for n in range(number):
        y, x = 12 + 23 * n, 30 + 17 * n
        image[y : y + side, x : x + side] = value
    return image


@pytest.mark.parametrize("high", [0.9, 0.5, 0.25, 0.12, 0.05])
@pytest.mark.parametrize("low", [0.0, 0.6])
def test_8_and_16_bits_have_one_contrast(high, low):
    """A field times 257, times 16 in 12 bits, as float and as shares looks as its original."""
    bytes_ = np.rint(field(low=low * high, high=high, noise=0.004) * 255).astype(np.uint8)
    expected, _ = grey(tiff(bytes_))
    for other in (
        bytes_.astype(np.uint16) * 257,
        bytes_.astype(np.uint16) * 16,
        bytes_.astype(np.int16) * 16,
        bytes_.astype(np.float32),
        bytes_ / np.float32(255),
        bytes_.astype(np.float64) * 257,
    ):
        found, _ = grey(tiff(other))
        assert np.abs(found - expected).max() <= 2, other.dtype


def test_noise_has_one_contrast_whatever_the_depth():
    """Numbers drawn evenly, too: a test picture of noise is no blank frame."""
    bytes_ = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
    expected, info = grey(tiff(bytes_))
    np.testing.assert_array_equal(expected, bytes_)
    assert info.frame == Frame()
    for factor in (16, 257):
        found, _ = grey(tiff(bytes_.astype(np.uint16) * factor))
        assert np.abs(found - expected).max() <= 1


def test_a_sensible_8_bit_picture_stays_as_it_is():
    """Its bytes are what people see in a browser, and its frame says nothing of a range."""
    for high in (0.7, 0.9):
        bytes_ = np.rint(field(high=high) * 255).astype(np.uint8)
        found, info = grey(png(bytes_))
        np.testing.assert_array_equal(found, bytes_)
        assert info.frame == Frame()


@pytest.mark.parametrize("high", [0.05, 0.3, 1.0])
def test_a_photograph_never_changes(high):
    """8-bit colour stays byte for byte, however dark it is; 16-bit colour has its contrast."""
    rgb = np.dstack([field(n, high=high, low=0) * 255 for n in range(3)]).astype(np.uint8)
    data = file_of(Image.fromarray(rgb))
    info = inspect_image(data, "x.png").frames[0]
    assert info.frame == Frame()
    np.testing.assert_array_equal(decode_image(data, "x.png", info.frame), rgb)
    if high >= 0.3:
        deep = tiff(rgb.astype(np.uint16) * 257, photometric="rgb")
        frame = inspect_image(deep, "x.tif").frames[0].frame
        np.testing.assert_array_equal(decode_image(deep, "x.tif", frame), rgb)


def test_no_data():
    """-9999 with its tag or without, -32768, a recipe's number and nan do not squeeze the rest."""
    heights = field() * 3000 + 200
    hole = np.s_[40:90, 100:200]
    tag = [(42113, 2, 6, "-9999", True)]
    expected = grey(tiff(heights.astype(np.float32)))[0]
    cases = [
        (-9999, np.float32, {"extratags": tag}, Images()),
        (-9999, np.int16, {}, Images()),
        (-32768, np.int16, {}, Images()),
        (np.nan, np.float32, {}, Images()),
        (np.inf, np.float64, {}, Images()),
        (65535, np.uint16, {}, Images(nodata=65535)),
        (0, np.uint16, {"extratags": [(42113, 2, 2, "0", True)]}, Images()),
    ]
    for number, dtype, options, images in cases:
        image = heights.astype(dtype)
        image[hole] = number
        found, info = grey(tiff(image, **options), images)
        assert (found[hole] == 0).all(), number
        found[hole] = expected[hole]
        assert np.abs(found - expected).max() <= 2, number
        if np.isfinite(number):
            assert info.frame.nodata == (number,)


def test_a_number_like_no_data_among_others_is_one_of_them():
    """-9999 in a picture that reaches from -20000 to 20000 is a number like all."""
    image = ((field() - 0.5) * 40_000).astype(np.int16)
    image[5, 5:9] = -9999
    found, info = grey(tiff(image))
    assert info.frame.nodata == ()
    assert found[5, 5] > 30


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.uint8])
def test_few_bright_objects(dtype):
    """Ten objects of 0.05 % of a field keep their brightness, and its noise is not blown up."""
    rng = np.random.default_rng(1)
    top = 12_000 if dtype != np.uint8 else 200
    base = rng.normal(top / 60, top / 600, (1024, 1024))
    image = base.copy()
    bright = np.zeros(image.shape, bool)
    for n in range(10):
        y, x = 50 + 90 * n, 900 - 80 * n
        bright[y : y + 7, x : x + 7] = True
        image[y : y + 7, x : x + 7] += top * (0.5 + n / 20)
    found, _ = grey(tiff(image.astype(dtype)))
    assert found[bright].min() > found[~bright].max() + 60
    assert len(np.unique(found[bright] // 10)) > 5  # not cut off at one number
    assert found[~bright].std() < 4


@pytest.mark.parametrize("share", [0.002, 0.005])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint8])
def test_hot_pixels(dtype, share):
    """Single pixels that stand out, hot or dead, do not make all else black."""
    scale = np.iinfo(dtype).max
    image = (field(low=0.02, high=0.1, noise=0.001) * scale).astype(dtype)
    clean, _ = grey(tiff(image))
    rng = np.random.default_rng(2)
    hot = rng.random(image.shape) < share
    image[hot] = scale
    image[rng.random(image.shape) < share / 4] = 0
    found, _ = grey(tiff(image))
    assert found[~hot].std() > 0.8 * clean.std()
    assert (found[hot] == 255).all()


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(4).normal(100, 3, (SIDE, SIDE)).astype(np.uint16),
        np.random.default_rng(4).poisson(0.5, (SIDE, SIDE)).astype(np.uint8),
        np.random.default_rng(4).poisson(3, (SIDE, SIDE)).astype(np.uint16),
        np.random.default_rng(4).poisson(0.05, (SIDE, SIDE)).astype(np.uint16),
        np.random.default_rng(4).normal(0, 1e-3, (SIDE, SIDE)).astype(np.float32),
        (np.random.default_rng(4).normal(1000, 8, (SIDE, SIDE)) - np.linspace(0, 40, SIDE)).astype(
            np.uint16
        ),
    ],
    ids=["camera", "photons", "more photons", "few photons", "float", "shaded"],
)
def test_blank_frames(image):
    """A frame of noise alone stays calm, and it is said that it shows nothing."""
    found, info = grey(tiff(image))
    assert found.std() < 15
    assert np.subtract(*np.percentile(found, (99, 1))) < 70
    assert info.problems == ("shows nothing but noise",)


def test_one_number_all_over():
    """An empty picture is even, and told; so is one that holds no data at all."""
    for dtype in (np.uint8, np.uint16, np.int16, np.float32):
        found, info = grey(tiff(np.full((40, 40), 100, dtype)))
        assert np.ptp(found) == 0
        assert info.problems == ("is the same all over",)
    found, info = grey(tiff(np.full((40, 40), np.nan, np.float32)))
    assert not found.any()
    assert "no number" in info.problems[0]


def test_pages_of_a_stack_share_a_range():
    """Neighbouring sections look alike; a page for itself, fixed numbers or percentiles by key."""
    pages = np.stack([field(n, high=high) * 4000 for n, high in enumerate((0.9, 0.2, 0.25))])
    data = tiff(pages.astype(np.uint16), photometric="minisblack")
    frames = [info.frame for info in inspect_image(data, "x.tif").frames]
    assert len({(frame.low, frame.high) for frame in frames}) == 1
    assert grey(data, page=1)[0].max() < 80
    alone = Images(range="page")
    assert len({info.frame.high for info in inspect_image(data, "x.tif", alone).frames}) == 3
    assert grey(data, alone, page=1)[0].max() > 200
    fixed, info = grey(data, Images(range=(0, 8000)), page=1)
    assert (info.frame.low, info.frame.high) == ((0,), (8000,))
    np.testing.assert_allclose(fixed, pages[1] / 8000 * 255, atol=1)
    _, info = grey(data, Images(range="page", percentiles=(10, 90)), page=1)
    low, high = np.percentile(pages[1].astype(np.uint16), (10, 90))
    assert info.frame.low == pytest.approx((low,), rel=0.02)
    assert info.frame.high == pytest.approx((high,), rel=0.02)


def test_a_range_for_the_whole_pool():
    """All files of one kind are shown alike, whatever each of them holds."""
    images = Images(range="pool")
    files = [
        tiff((field(n, high=high) * 4000).astype(np.uint16)) for n, high in ((0, 0.9), (1, 0.2))
    ]
    files.append(png((field(2) * 255).astype(np.uint8)))
    shared = share_range([inspect_image(data, "x", images) for data in files], images)
    frames = [file.frames[0].frame for file in shared]
    assert frames[0] == frames[1] != frames[2]
    assert frames[2] == Frame()
    assert any(choice.startswith("range") for choice in shared[1].frames[0].chosen)
    assert decode_image(files[1], "x", frames[1]).max() < 80


def test_keys_count_for_bytes_as_well():
    """A range, percentiles or a number for no data given on purpose change 8-bit pictures, too."""
    bytes_ = (field() * 255).astype(np.uint8)
    found, _ = grey(png(bytes_), Images(range=(50, 100)))
    np.testing.assert_allclose(found, np.clip((bytes_ - 50.0) * 5.1, 0, 255), atol=1)
    found, _ = grey(png(bytes_), Images(nodata=int(bytes_[0, 0])))
    assert (found[bytes_ == bytes_[0, 0]] == 0).all()


DATA = Path(__file__).parents[2].parent / "shared/data"


@pytest.mark.parametrize(
    "path",
    sorted(DATA.glob("*/images/*"))[::12] or [None],
    ids=lambda path: path.name if path else "none",
)
def test_real_pictures(path):
    """Real pictures with a sensible contrast keep their bytes; none of them is taken for blank."""
    if path is None:
        found, info = grey(png((field() * 255).astype(np.uint8)))
        assert not info.problems
        return
    data = path.read_bytes()
    info = inspect_image(data, path.name).frames[0]
    assert not info.problems
    assert info.frame.channels == ()
    found, former = (decode_image(data, path.name, frame) for frame in (info.frame, None))
    if info.frame == Frame():
        np.testing.assert_array_equal(found, former)
    else:
        assert found.std() > 1.2 * former.std()


def test_what_the_rule_cannot_read_is_refused():
    """Complex numbers are no picture."""
    with pytest.raises(ImageUnreadable, match="complex64"):
        inspect_image(tiff(np.zeros((8, 8), np.complex64)), "x.tif")


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 255), st.integers(0, 40))
def test_bytes_that_take_half_of_the_scale_are_measured_by_their_percentiles(
    seed, dark, bright, noise
):
    """What a histogram decides at once is what the whole rule would have decided."""
    rng = np.random.default_rng(seed)
    field = np.full((48, 64), dark) + (bright - dark) * (rng.random((48, 64)) < 0.3)
    numbers = np.clip(field + rng.normal(0, noise, field.shape), 0, 255).astype(np.uint8)
    at_once = measure_bytes([(0, [numbers])], 1)
    (whole,) = measure(lambda: [(0, [numbers])], numbers.shape, 1)
    if at_once is not None:
        assert whole is not None
        assert grey_range(at_once[0]) == grey_range(whole) == (0.0, 255.0)
