"""Images: whatever a user's folder holds becomes RGB, or a reason why not."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from ml_backend.errors import ImageUnreadable
from ml_backend.store.images import decode_image
from ml_backend.store.raster import read_raster

from .pictures import file_of, png, tiff

SIDES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (24, 17), np.uint8)
RGB = RNG.integers(0, 256, (24, 17, 3), np.uint8)
FADED = np.dstack([RGB, np.tile(np.uint8([0, 255, 128] + [255] * 14), (24, 1))])


def stacked(grey):
    """Grey as three equal channels."""
    return np.repeat(grey[..., None], 3, axis=2)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_png_round_trip(data):
    """Every 8-bit PNG mode comes back exactly, as RGB."""
    shape = data.draw(SIDES)
    mode = data.draw(st.sampled_from(["1", "L", "P", "RGB", "LA", "RGBA"]))
    depth = {"RGB": 3, "LA": 2, "RGBA": 4}.get(mode)
    array = data.draw(hnp.arrays(np.uint8, shape if depth is None else (*shape, depth)))
    if mode == "1":
        expected = stacked((array > 127) * np.uint8(255))
        encoded = png(array > 127)
    elif mode == "P":
        palette = data.draw(hnp.arrays(np.uint8, (256, 3)))
        image = Image.fromarray(array)
        image.putpalette(palette.tobytes())
        expected, encoded = palette[array], file_of(image)
    else:
        if mode in {"LA", "RGBA"}:
            array[..., -1] = 255
        expected = {"L": lambda: stacked(array), "LA": lambda: stacked(array[..., 0])}.get(
            mode, lambda: array[..., :3]
        )()
        encoded = png(array)
    decoded = decode_image(encoded, "x.png")
    np.testing.assert_array_equal(decoded, expected)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.uint16, SIDES))
def test_16_bit_keeps_every_value_until_it_is_scaled(array):
    """The raster of a 16-bit PNG or TIFF is the file's; scaled, order is kept."""
    for encoded in (png(array), tiff(array), tiff(array, byteorder=">", compression="lzw")):
        np.testing.assert_array_equal(read_raster(encoded, "x").values, array)
    assert read_raster(tiff(array, photometric="miniswhite"), "x").inverted
    scaled = decode_image(png(array), "x.png")[..., 0].astype(int)
    order = np.argsort(array.ravel(), kind="stable")
    assert (np.diff(scaled.ravel()[order]) >= 0).all()


@pytest.mark.parametrize(
    "encode",
    [
        tiff,
        lambda a: tiff(a, compression="lzw", predictor=True),
        lambda a: tiff(a, compression="deflate", tile=(16, 16)),
        lambda a: tiff(a, byteorder=">", bigtiff=True),
        lambda a: file_of(Image.fromarray(a), "BMP"),
        lambda a: file_of(Image.fromarray(a), "WEBP", lossless=True, exact=True),
    ],
    ids=["tiff", "lzw", "tiled deflate", "big-endian bigtiff", "bmp", "webp"],
)
@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_formats(encode, array):
    """Every lossless format gives the same pixels, whatever the file is called."""
    expected = stacked(array) if array.ndim == 2 else array
    np.testing.assert_array_equal(decode_image(encode(array), "called.jpg"), expected)


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (tiff(GREY, photometric="miniswhite"), stacked(255 - GREY)),
        (tiff(GREY > 99, photometric="minisblack"), stacked((GREY > 99) * np.uint8(255))),
        (tiff(GREY > 99, photometric="miniswhite"), stacked((GREY <= 99) * np.uint8(255))),
        (tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"), RGB),
        (tiff(np.stack([GREY, GREY // 2]), photometric="minisblack"), stacked(GREY)),
        (
            tiff(
                GREY,
                photometric="palette",
                colormap=np.tile(np.arange(256, dtype=np.uint16)[::-1] << 8, (3, 1)),
            ),
            stacked(255 - GREY),
        ),
        (tiff(RGB, photometric="rgb", extratags=[(274, 3, 1, 3, True)]), RGB[::-1, ::-1]),
        (file_of(Image.fromarray(RGB), "TIFF", tiffinfo={274: 6}), np.rot90(RGB, -1)),
        (file_of(Image.fromarray(GREY), "GIF"), stacked(GREY)),
    ],
    ids=[
        "white is 0",
        "1 bit",
        "1 bit, white is 0",
        "planes apart",
        "two pages",
        "palette",
        "upside down",
        "on its side",
        "gif",
    ],
)
def test_kinds_of_tiff_and_gif(encoded, expected):
    """What the file's tags say about its pixels counts; of several pages the first."""
    np.testing.assert_array_equal(decode_image(encoded, "x.tif"), expected)


def test_cmyk():
    """CMYK, as JPEG or TIFF, becomes RGB as a browser shows it."""
    white = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    for kind in ("JPEG", "TIFF"):
        np.testing.assert_array_equal(decode_image(file_of(white, kind), kind), 255)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_deep_values_are_stretched(dtype):
    """Whatever range a deep image uses, it fills 0 to 255, and one hot pixel does not spoil it."""
    ramp = np.tile(np.linspace(100, 4000, 200), (50, 1)).astype(dtype)
    ramp[0, 0] = 30_000
    decoded = decode_image(tiff(ramp), "x.tif")[..., 0]
    assert decoded[1, 0] <= 1
    assert decoded[1, -1] >= 253
    assert abs(int(decoded[1, 100]) - 128) <= 3
    assert decoded[0, 0] == 255


def test_unknown_numbers_are_black():
    """Nan and infinity count as 0 and do not disturb the rest; nothing but them is all black."""
    image = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (4, 1))
    image[0, 50:53] = [np.nan, np.inf, -np.inf]
    decoded = decode_image(tiff(image), "x.tif")[..., 0]
    assert decoded[0, 50:53].tolist() == [0, 0, 0]
    assert decoded[1, -1] == 255
    assert not decode_image(tiff(np.full((3, 3), np.nan, np.float32)), "x.tif").any()
    huge = np.array([[-1e308, 0, 1e308]])
    assert decode_image(tiff(huge), "x.tif")[0, :, 0].tolist() == [0, 127, 255]


def test_a_flat_deep_image_is_black():
    """One value all over leaves nothing to stretch; a single other pixel is still seen."""
    flat = np.full((40, 40), 1000, np.uint16)
    assert not decode_image(png(flat), "x.png").any()
    flat[3, 4] = 1001
    assert np.argwhere(decode_image(png(flat), "x.png")[..., 0]).tolist() == [[3, 4]]


def test_16_bit_colour_png():
    """16 bits a channel are stretched alike in all channels, not cut to the high byte."""
    deep = RGB.astype(np.uint16) * 16  # a 12-bit camera
    decoded = decode_image(imagecodecs.png_encode(deep), "x.png")
    assert np.abs(decoded.astype(int) - RGB).max() <= 3


def test_alpha():
    """An alpha channel that varies is laid over white, one that says the same is dropped."""
    decoded = decode_image(png(FADED), "x.png")
    assert (decoded[:, 0] == 255).all()
    np.testing.assert_array_equal(decoded[:, 1], RGB[:, 1])
    half = (RGB[:, 2].astype(int) * 128 + 255 * 127) / 255
    assert np.abs(decoded[:, 2] - half).max() <= 0.5
    clear = np.dstack([RGB, np.zeros_like(GREY)])
    np.testing.assert_array_equal(decode_image(png(clear), "x.png"), RGB)
    palette = file_of(Image.fromarray(GREY).convert("P"), transparency=int(GREY[0, 0]))
    assert (decode_image(palette, "x.png")[GREY[0, 0] == GREY] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation(orientation, kind):
    """A photograph is turned as browsers turn it; Pillow's own turning is the oracle."""
    image = Image.fromarray(np.kron(GREY[:4, :3], np.ones((8, 8), np.uint8)))
    exif = Image.Exif()
    exif[274] = orientation
    encoded = file_of(image, kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    np.testing.assert_array_equal(decode_image(encoded, "x")[..., 0], expected)


NOISE = RNG.integers(0, 256, (64, 64, 3), np.uint8)
WHOLE = {
    "png": png(NOISE),
    "16-bit.png": imagecodecs.png_encode(NOISE.astype(np.uint16) * 257),
    "jpeg": file_of(Image.fromarray(NOISE), "JPEG"),
    "progressive.jpeg": file_of(Image.fromarray(NOISE), "JPEG", progressive=True),
    "tiff": tiff(NOISE, compression="lzw", rowsperstrip=8),
    "ycbcr.tiff": tiff(NOISE, compression="jpeg", photometric="ycbcr"),
    "bmp": file_of(Image.fromarray(NOISE), "BMP"),
    "gif": file_of(Image.fromarray(NOISE), "GIF"),
    "webp": file_of(Image.fromarray(NOISE), "WEBP"),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 0.9])
def test_truncated_files(name, share):
    """A download that stopped is refused with the file's name, never shown half grey."""
    assert decode_image(WHOLE[name], name).shape == (64, 64, 3)
    part = WHOLE[name][: int(len(WHOLE[name]) * share)]
    with pytest.raises(ImageUnreadable, match=name):
        decode_image(part, name)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 400), st.binary(min_size=1, max_size=40))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_never_crash(name, at, harm):
    """Bytes that changed lead to an image or to ImageUnreadable, to nothing else."""
    data = WHOLE[name][:at] + harm + WHOLE[name][at + len(harm) :]
    try:
        assert decode_image(data, name, max_pixels=10**6).dtype == np.uint8
    except ImageUnreadable as error:
        assert name in str(error)  # noqa: PT017  (either outcome is right)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is a note, not a picture\n" * 20, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (tiff(np.zeros((8, 8), np.complex64)), "complex64"),
    ],
    ids=["empty", "text", "svg", "complex"],
)
def test_what_is_no_image_says_why(data, reason):
    """The message names the file and the reason."""
    with pytest.raises(ImageUnreadable, match=rf"holiday\.png.*{reason}"):
        decode_image(data, "holiday.png")


def claimed_png(width, height):
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(b""), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*item) for item in chunks.items())


def claimed_tiff(width, height):
    """A TIFF of a few bytes that says it is huge."""
    small = tiff(np.zeros((4, 4), np.uint8))
    buffer = io.BytesIO(small)
    with tifffile.TiffFile(buffer) as file:
        tags = file.pages.first.tags
        places = {tags[256].valueoffset: width, tags[257].valueoffset: height}
    data = bytearray(small)
    for place, value in places.items():
        data[place : place + 4] = struct.pack("<I", value)
    return bytes(data)


@pytest.mark.parametrize("claim", [claimed_png, claimed_tiff])
def test_decompression_bombs(claim):
    """A header that claims too many pixels is refused before any is decoded."""
    with pytest.raises(ImageUnreadable, match=r"60000 x 50000 px.*limit"):
        decode_image(claim(60_000, 50_000), "bomb")


def test_the_limit_is_exact():
    """An image of just so many pixels passes."""
    for encoded in (png(GREY), tiff(GREY)):
        assert decode_image(encoded, "x", max_pixels=GREY.size).shape == (24, 17, 3)
        with pytest.raises(ImageUnreadable, match="17 x 24 px"):
            decode_image(encoded, "x", max_pixels=GREY.size - 1)
