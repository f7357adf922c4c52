"""Every type x photometric x pages x alpha of TIFF: tifffile's numbers by a viewer's rule."""

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.recipe import Images
from ml_backend.store.blobs import Blobs
from ml_backend.store.frames import inspect_image
from ml_backend.store.images import ImageSource, decode_image

from .pictures import tiff

TYPES = ("bool", "u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")
PHOTOMETRIC = ("minisblack", "miniswhite", "rgb")
ALPHA = (None, "unassalpha", "assocalpha", "unspecified")
FULL = {"b": 1.0, "f": 1.0}


@st.composite
def files(draw):
    """A TIFF, the numbers in it as (pages, H, W, samples), and what was drawn."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    # tifffile itself parts the bits of 1-bit colours wrongly
    photometric = draw(st.sampled_from(PHOTOMETRIC[: 2 if dtype.kind == "b" else 3]))
    alpha = draw(st.sampled_from(ALPHA)) if dtype.kind in "uf" else None
    pages = draw(st.integers(1, 3))
    height, width = draw(st.integers(17, 40)), draw(st.integers(17, 40))
    samples = (3 if photometric == "rgb" else 1) + (alpha is not None)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shares = rng.random((pages, height, width, samples))
    if alpha == "assocalpha":
        shares[..., :-1] *= shares[..., -1:]
    if dtype.kind == "f":
        values = shares.astype(dtype)
    elif dtype.kind == "b":
        values = shares > 0.5
    else:
        info = np.iinfo(dtype)
        values = (info.min + shares * (float(info.max) - info.min)).astype(dtype)
    layout = draw(
        st.sampled_from(
            [{}, {"rowsperstrip": 5}, {"tile": (16, 16)}, {"compression": "deflate"},
             {"compression": "lzw", "predictor": dtype.kind in "ui", "rowsperstrip": 7},
             {"compression": "zstd", "tile": (16, 32)}]
        )
    )  # fmt: skip
    if dtype.kind == "b":
        layout = {}
    options = {
        "photometric": photometric,
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
        "planarconfig": draw(st.sampled_from(["contig", "separate"])) if samples > 1 else None,
        "extrasamples": [alpha] if alpha else None,
        "metadata": None,
        **layout,
    }
    buffer = io.BytesIO()
    with tifffile.TiffWriter(
        buffer, byteorder=options.pop("byteorder"), bigtiff=options.pop("bigtiff")
    ) as writer:
        for page in values:
            data = page if samples > 1 else page[..., 0]
            if options["planarconfig"] == "separate":
                data = np.moveaxis(data, -1, 0)
            writer.write(data, **options)
    return buffer.getvalue(), values, photometric, alpha, (height, width)


def expected_rgb(values, photometric, alpha, low, high):
    """What a viewer shows of (H, W, samples) numbers between two of them."""
    numbers = values.astype(np.float64)
    full = FULL.get(values.dtype.kind) or float(np.iinfo(values.dtype).max)
    opacity = None
    if alpha in {"unassalpha", "assocalpha"}:
        opacity = np.clip(numbers[..., -1:] / full, 0, 1)
        numbers = numbers[..., :-1]
        if alpha == "assocalpha":
            numbers = np.clip(numbers / np.maximum(opacity, 1e-9), 0, full)
    greys = np.clip((numbers - low) / (high - low), 0, 1) * 255
    if photometric == "miniswhite":
        greys = 255 - greys
    if greys.shape[2] == 1:
        rgb = greys.repeat(3, axis=2)
    elif greys.shape[2] == 3:
        rgb = greys
    else:
        colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]) / 255
        rgb = np.clip(np.rint(greys) @ colours[: greys.shape[2]], 0, 255)
    return rgb if opacity is None else rgb * opacity + 255 * (1 - opacity)


@settings(max_examples=150, deadline=None)
@given(files())
def test_every_kind_of_tiff(drawn):
    """Pages, types, tags, layouts and orders: shown between two numbers as a viewer does."""
    data, values, photometric, alpha, size = drawn
    for page, read in enumerate(tifffile.TiffFile(io.BytesIO(data)).pages):
        stored = read.asarray()
        if read.samplesperpixel > 1 and read.planarconfig == 2:
            stored = np.moveaxis(stored, 0, -1)
        np.testing.assert_array_equal(stored.reshape(values[page].shape), values[page])
    dtype = values.dtype
    if dtype.kind in "bf":
        low, high = 0.0, 1.0
    else:
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    file = inspect_image(data, "x.tif", Images(range=(low, high)))
    assert file.pages == len(file.frames) == len(values)
    assert {(info.height, info.width) for info in file.frames} == {size}
    for page, info in enumerate(file.frames):
        shown = decode_image(data, "x.tif", info.frame).astype(float)
        expected = expected_rgb(values[page], photometric, alpha, low, high)
        if alpha == "assocalpha" and dtype.itemsize == 1:  # divided in whole numbers
            assert np.abs(shown - expected).mean() < 2
        else:
            assert np.abs(shown - expected).max() <= 2.01  # each channel is rounded, and the sum


@settings(max_examples=60, deadline=None)
@given(files(), st.data())
def test_a_window_is_a_part_of_the_whole(drawn, data):
    """Read by the window or as a whole, by the recorded range, the pixels are the same."""
    encoded, _, _, _, (height, width) = drawn
    frame = inspect_image(encoded, "x.tif").frames[-1].frame
    whole = decode_image(encoded, "x.tif", frame)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    window = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    source = ImageSource(Blobs("memory://property"), cache_bytes=10)
    source.fetch = lambda _: encoded
    part = source.pixels("x.tif", window, frame)
    np.testing.assert_array_equal(part, whole[y : y + window[3], x : x + window[2]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_window_of_a_turned_picture(orientation, tmp_path):
    """A window is one of the picture as it is shown."""
    values = np.random.default_rng(0).integers(0, 65536, (50, 41), np.uint16)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(values, tile=(16, 16), extratags=[(274, 3, 1, orientation, True)]))
    frame = inspect_image(path, "x.tif").frames[0].frame
    whole = decode_image(path, "x.tif", frame)
    source = ImageSource(Blobs(tmp_path), cache_bytes=10)
    np.testing.assert_array_equal(
        source.pixels(str(path), (3, 7, 30, 20), frame), whole[7:27, 3:33]
    )
