"""What tags say: white is 0, alpha in its three ways, colours of other spaces, odd depths."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from ml_backend.store.deep_png import DeepPngReader
from ml_backend.store.frames import inspect_image
from ml_backend.store.images import decode_image
from ml_backend.store.raster import read_raster

from .pictures import file_of, png, tiff

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (40, 32), np.uint8)
RGB = RNG.integers(0, 256, (40, 32, 3), np.uint8)


def both(data, name="x.tif"):
    """A picture as new images are shown, after a check that old ones have the same shape."""
    info = inspect_image(data, name).frames[0]
    shown = decode_image(data, name, info.frame)
    assert decode_image(data, name).shape == shown.shape == (info.height, info.width, 3)
    return shown


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int8, np.int16, np.int32, np.float32, np.float64]
)
def test_white_is_zero(dtype):
    """0 is shown as white and the rest in reverse, whatever the type; masks keep the numbers."""
    kind = np.dtype(dtype)
    values = GREY.astype(int) - (128 if kind.kind == "i" else 0)
    values = (values * (64 if kind.itemsize > 1 else 1)).astype(dtype)
    normal = both(tiff(values, photometric="minisblack"))
    inverted = both(tiff(values, photometric="miniswhite"))
    np.testing.assert_array_equal(inverted, 255 - normal)
    raster = read_raster(tiff(values, photometric="miniswhite"), "x.tif")
    np.testing.assert_array_equal(raster.values, values)
    assert raster.inverted


def test_white_is_zero_with_one_nan():
    """A single nan blackens only itself."""
    values = GREY.astype(np.float32)
    values[3, 4] = np.nan
    for frame in (inspect_image(tiff(values, photometric="miniswhite"), "x").frames[0].frame, None):
        shown = decode_image(tiff(values, photometric="miniswhite"), "x", frame)[..., 0]
        assert shown[3, 4] == 0
        shown[3, 4] = 255 - GREY[3, 4]
        assert np.abs(shown - (255.0 - GREY)).max() <= 3


def test_associated_alpha():
    """Colours multiplied by their opacity already are not multiplied again: 227, not 177."""
    alpha = np.full((40, 32), 128, np.uint8)
    alpha[0] = 255
    image = np.dstack([np.full((40, 32, 3), 100, np.uint8), alpha])
    shown = both(tiff(image, photometric="rgb", extrasamples=["assocalpha"]))
    assert (shown[1:] == 227).all()
    assert (shown[0] == 100).all()
    shown = both(tiff(image, photometric="rgb", extrasamples=["unassalpha"]))
    assert (shown[1:] == 177).all()


def test_associated_alpha_of_16_bits():
    """Deep colours are what they were before they were multiplied, scaled, then laid over white."""
    opacity = np.linspace(0.2, 1, 32)[None, :].repeat(40, 0)
    colours = RGB.astype(float) * 257
    image = np.dstack([colours * opacity[..., None], opacity * 65535]).astype(np.uint16)
    shown = both(tiff(image, photometric="rgb", extrasamples=["assocalpha"]))
    expected = RGB * opacity[..., None] + 255 * (1 - opacity[..., None])
    assert np.abs(shown - expected).max() <= 2


def deep_png(values, key):
    """A 16-bit PNG with the chunk that says which number is transparent."""
    data = imagecodecs.png_encode(values)
    body = b"tRNS" + struct.pack(f">{len(key)}H", *key)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    place = data.index(b"IDAT") - 4
    return data[:place] + chunk + data[place:]


def test_transparent_numbers_of_png():
    """TRNS of grey and colour, 8 and 16 bits: the number that it names is white paper."""
    grey, colour = GREY.copy(), RGB.copy()
    grey[5:9], colour[5:9] = 17, (1, 2, 3)
    hit = grey == 17
    cases = [
        (png(grey, transparency=17), grey[..., None].repeat(3, 2), hit),
        (png(colour, transparency=(1, 2, 3)), colour, (colour == (1, 2, 3)).all(axis=2)),
        (deep_png(grey.astype(np.uint16) * 257, [17 * 257]), grey[..., None].repeat(3, 2), hit),
        (
            deep_png(colour.astype(np.uint16) * 257, [257, 514, 771]),
            colour,
            (colour == (1, 2, 3)).all(axis=2),
        ),
        (png(grey > 99, transparency=0), (grey > 99)[..., None].repeat(3, 2) * 255, grey <= 99),
    ]
    for data, plain, gone in cases:
        shown = both(data, "x.png")
        np.testing.assert_array_equal(shown[~gone], plain[~gone])
        assert (shown[gone] == 255).all()


def test_a_png_with_much_text():
    """2 MB of compressed text beside the pixels are no damage."""
    info = PngImagePlugin.PngInfo()
    info.add_text("notes", "a" * 2_500_000, zip=True)
    info.add_itxt("more", "ä" * 2_500_000, zip=True)
    info.add_text("plain", "b" * 2_500_000)
    for image in (GREY, RGB):
        data = png(image, pnginfo=info)
        shown = both(data, "x.png")
        np.testing.assert_array_equal(shown, image if image.ndim == 3 else np.dstack([image] * 3))
        np.testing.assert_array_equal(read_raster(data, "x.png").values, image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_orientation_of_tiff(orientation, compression):
    """A TIFF is turned as EXIF says, and so is a mask."""
    turns = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: np.rot90,
    }
    data = tiff(GREY, extratags=[(274, 3, 1, orientation, True)], compression=compression)
    np.testing.assert_array_equal(both(data)[..., 0], turns[orientation](GREY))
    np.testing.assert_array_equal(read_raster(data, "x").values, turns[orientation](GREY))


def test_colours_of_other_spaces():
    """CMYK of 8 and 16 bits, YCbCr and L*a*b* are shown in RGB; Pillow is the oracle."""
    ink = Image.fromarray(RGB).convert("CMYK")
    expected = np.asarray(ink.convert("RGB"))
    np.testing.assert_array_equal(both(file_of(ink, "TIFF")), expected)
    np.testing.assert_array_equal(both(file_of(ink, "TIFF", compression="tiff_lzw")), expected)
    deep = tiff(np.asarray(ink).astype(np.uint16) * 257, photometric="separated")
    np.testing.assert_array_equal(both(deep), expected)
    smooth = np.kron(RGB[:5, :4], np.ones((8, 8, 1), np.uint8))
    for sampling in ((1, 1), (2, 2)):
        data = tiff(
            smooth, photometric="rgb", compression="jpeg", compressionargs={"level": 95},
            subsampling=sampling,
        )  # fmt: skip
        assert np.abs(both(data).astype(int) - smooth).mean() < 12
    lab = ImageCms.profileToProfile(
        Image.fromarray(smooth), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )  # fmt: skip
    assert np.abs(both(file_of(lab, "TIFF")).astype(int) - smooth).mean() < 6
    values = np.zeros((8, 8, 3), np.uint16)
    values[..., 0] = 65535
    shown = both(tiff(values, photometric="cielab"))
    assert (shown >= 254).all()


def test_tiles_of_jpeg_are_read_as_pillow_reads_them():
    """Slides hold YCbCr JPEG tiles: their colours are those that other programs show."""
    smooth = np.kron(RGB[:8, :8], np.ones((8, 8, 1), np.uint8))
    data = tiff(smooth, photometric="rgb", compression="jpeg", tile=(32, 32), subsampling=(1, 1))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(both(data).astype(int) - expected).max() <= 3


@pytest.mark.parametrize("bits", [1, 8, 12, 16])
def test_depths_of_formats(bits):
    """Packed numbers of the usual depths keep their own scale."""
    top = 2**bits - 1
    values = RNG.integers(0, top + 1, (40, 32)).astype(np.uint8 if bits <= 8 else np.uint16)
    options = {"bitspersample": bits} if bits == 12 else {}
    data = tiff(values if bits > 1 else values.astype(bool), photometric="minisblack", **options)
    np.testing.assert_allclose(both(data)[..., 0], values * (255.0 / top), atol=0.51)


@pytest.mark.parametrize("bits", [10, 14])
def test_depths_between_formats(bits):
    """Packed numbers of other depths are stretched, so that black and white are reached."""
    values = np.tile(np.linspace(0, 2**bits - 1, 64), (32, 1)).astype(np.uint16)
    shown = both(tiff(values, bitspersample=bits, photometric="minisblack"))[..., 0]
    assert shown.min() < 5
    assert shown.max() > 250
    assert (np.diff(shown[0].astype(int)) >= 0).all()


COMPRESSIONS = [
    "lzw", "deflate", "adobe_deflate", "packbits", "lzma", "zstd", "webp", "png", "jpegxl",
    "jpeg2000", "lerc", "jpegxr",
]  # fmt: skip


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressions(compression):
    """All compressions that imagecodecs knows are read, by strips and by tiles."""
    image = RGB if compression == "webp" else GREY
    lossless = {
        "webp": {"level": -1, "lossless": True},
        "jpegxl": {"lossless": True},
        "jpeg2000": {"reversible": True, "level": 0},
    }
    options = {"compression": compression, "compressionargs": lossless.get(compression)}
    expected = image if image.ndim == 3 else np.dstack([image] * 3)
    for layout in ({"rowsperstrip": 16}, {"tile": (16, 16)}):
        shown = both(tiff(image, **options, **layout))
        tolerance = 4 if compression in {"jpegxr", "webp"} else 0
        assert np.abs(shown.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint32, np.int64])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_types_and_orders(dtype, byteorder, bigtiff):
    """Numbers of all types in both orders, in BigTIFF too, are the same picture."""
    data = tiff(GREY.astype(dtype), byteorder=byteorder, bigtiff=bigtiff)
    np.testing.assert_array_equal(both(data)[..., 0], GREY)
    assert tifffile.TiffFile(io.BytesIO(data)).byteorder == byteorder


@pytest.mark.parametrize("shape", [(3000, 40, 3), (700, 333, 4), (50, 20, 2), (1, 1, 3)])
@pytest.mark.parametrize("level", [0, 6])
def test_deep_png_by_rows(shape, level):
    """A 16-bit colour PNG is read by rows as its decoder reads it whole, from any place."""
    smooth = np.cumsum(RNG.integers(0, 99, shape), axis=1).astype(np.uint16)
    data = imagecodecs.png_encode(smooth, level=level)
    reader = DeepPngReader(io.BytesIO(data))
    np.testing.assert_array_equal(reader.read(0, shape[0], 0, shape[1]), smooth)
    half = shape[0] // 2
    np.testing.assert_array_equal(reader.read(half, shape[0], 0, 1), smooth[half:, :1])
    for harm in () if shape[0] == 1 else (data[: len(data) // 2], data[:60] + b"\0\1" + data[62:]):
        with pytest.raises((ValueError, zlib.error)):
            DeepPngReader(io.BytesIO(harm)).read(0, shape[0], 0, shape[1])
