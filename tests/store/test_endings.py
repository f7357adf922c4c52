"""Endings: whatever is read is taken, whatever is not is named with a way out."""

import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from ml_backend.errors import ImageUnreadable
from ml_backend.recipe import Images
from ml_backend.store.endings import MICROSCOPES, READ, SUFFIXES, way_out
from ml_backend.store.frames import inspect_image
from ml_backend.store.image_files import open_pictures
from ml_backend.store.images import decode_image
from ml_backend.store.listing import list_files
from ml_backend.store.microscopes import open_microscope_file
from ml_backend.store.rendering import render
from ml_backend.store.summary import Summary

from .pictures import file_of, tiff

RNG = np.random.default_rng(6)
SMOOTH = np.kron(RNG.integers(0, 256, (6, 5, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
GREY = SMOOTH[..., 0]
PILLOW = {
    "JPEG": {"jpg", "jpeg", "jpe", "jfif"},
    "PNG": {"png", "apng"},
    "BMP": {"bmp", "dib"},
    "GIF": {"gif"},
    "WEBP": {"webp"},
    "AVIF": {"avif"},
    "JPEG2000": {"jp2", "j2k", "jpx", "jpf", "jpc", "j2c"},
    "PPM": {"ppm", "pgm", "pbm", "pnm", "pfm"},
    "TGA": {"tga"},
    "QOI": {"qoi"},
    "PCX": {"pcx"},
    "SGI": {"sgi"},
    "TIFF": {"tif", "tiff", "btf", "tf2", "tf8", "lsm", "svs", "ndpi", "scn"},
}
LOSSY = {"JPEG", "AVIF", "WEBP", "JPEG2000", "GIF"}


def test_every_ending_has_bytes():
    """The table of this test holds every ending that is taken."""
    listed = {f".{ending}" for endings in PILLOW.values() for ending in endings}
    assert listed | {".jxl"} == READ
    assert not READ & MICROSCOPES
    assert all(way_out(f"a{ending}") is None for ending in READ)


@pytest.mark.parametrize(
    ("kind", "ending"), sorted((kind, ending) for kind, all_ in PILLOW.items() for ending in all_)
)
def test_files_of_every_ending_are_read(tmp_path, kind, ending):
    """A real file of each ending is listed and shows its pixels."""
    path = tmp_path / f"x.{ending.upper()}"
    image = Image.fromarray(SMOOTH)
    if ending in {"pgm", "pbm", "pfm"}:
        image = image.getchannel(0).convert({"pgm": "L", "pbm": "1", "pfm": "F"}[ending])
    if kind == "TIFF":
        path.write_bytes(tiff(SMOOTH, photometric="rgb", bigtiff=ending in {"btf", "tf8"}))
    else:
        options = {"quality": 95} if kind in {"JPEG", "AVIF", "WEBP"} else {}
        path.write_bytes(file_of(image, kind, **options))
    (listed,) = list_files(tmp_path)
    info = inspect_image(listed.read(), listed.name).frames[0]
    shown = decode_image(path, path.name, info.frame).astype(int)
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - expected).mean() <= (12 if kind in LOSSY else 0)


def test_jpeg_xl():
    """JPEG XL is read, in 8 and 16 bits."""
    data = imagecodecs.jpegxl_encode(SMOOTH, lossless=True)
    np.testing.assert_array_equal(decode_image(data, "x.jxl"), SMOOTH)
    deep = imagecodecs.jpegxl_encode(GREY.astype(np.uint16) * 257, lossless=True)
    frame = inspect_image(deep, "x.jxl").frames[0].frame
    assert np.abs(decode_image(deep, "x.jxl", frame)[..., 0].astype(int) - GREY).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_jpeg_2000_of_grey(bits):
    """Grey JPEG 2000 keeps its depth until it is scaled."""
    values = GREY.astype(np.uint16) * 257 if bits == 16 else GREY
    data = imagecodecs.jpeg2k_encode(values, reversible=True, level=0)
    frame = inspect_image(data, "x.jp2").frames[0].frame
    assert np.abs(decode_image(data, "x.jp2", frame)[..., 0].astype(int) - GREY).max() <= 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.dcm", "multi-page TIFF"),
        ("a.nii.gz", "multi-page TIFF"),
        ("a.mrc", "multi-page TIFF"),
        ("a.HEIC", "PNG or TIFF"),
        ("scan.zarr/0/0.0", ".zarr files"),
        ("a.zip", "unpack"),
        ("a.mp4", "frames"),
        ("a.czi", "bioio"),
        ("a.nd2", "bioio"),
        ("a.lif", "bioio"),
    ],
)
def test_others_are_named_with_a_way_out(name, words):
    """What is an image and is not read says what to do."""
    assert words in way_out(name)


def test_passed_over_files_say_what_to_do(tmp_path):
    """The summary of a folder names them; what is no image at all is named as before."""
    for name in ("a.dcm", "b.heic", "notes.txt", "c.png"):
        (tmp_path / name).write_bytes(b"x")
    summary = Summary()
    assert [file.name for file in list_files(tmp_path, summary)] == ["c.png"]
    told = {group.detail: group.names for group in summary.groups("passed_over")}
    assert told == {
        ".dcm files are not read; save its slices as one multi-page TIFF": ["a.dcm"],
        ".heic files are not read; convert it to PNG or TIFF": ["b.heic"],
        ".txt files are not read": ["notes.txt"],
    }


def test_a_misnamed_file_says_what_to_do():
    """A DICOM called .png is refused; one of a known ending with its way out."""
    with pytest.raises(ImageUnreadable, match="remove it from the folder"):
        decode_image(b"\0" * 128 + b"DICM" + b"\0" * 500, "a.png")
    with pytest.raises(ImageUnreadable, match="multi-page TIFF"):
        decode_image(b"\0" * 128 + b"DICM" + b"\0" * 500, "a.dcm")


def test_scenes_of_a_microscopes_file(tmp_path):
    """Through bioio each image of a file is read by its scene, channels as a composite."""
    path = tmp_path / "x.tif"
    first = RNG.integers(0, 256, (2, 3, 24, 20), np.uint8)
    second = RNG.integers(0, 256, (1, 1, 16, 12), np.uint8)
    with tifffile.TiffWriter(path) as writer:
        writer.write(first, photometric="minisblack", metadata={"axes": "ZCYX"})
        writer.write(second, photometric="minisblack", metadata={"axes": "ZCYX"})
    with open_microscope_file(path, "x.czi", 10**6) as pictures:
        assert pictures.pages() == 3
        for page in range(2):
            picture = pictures.picture(page)
            assert "scene" in picture.notes[0]
            expected = np.moveaxis(first[page], 0, 2)
            np.testing.assert_array_equal(render(picture, ()), expected)
            np.testing.assert_array_equal(
                render(picture, (), box=(3, 9, 5, 17)), expected[3:9, 5:17]
            )
        np.testing.assert_array_equal(render(pictures.picture(2), ())[..., 0], second[0, 0])
    with open_microscope_file(path.read_bytes(), "x.tif", 10**6) as pictures:
        assert pictures.pages() == 3


def test_a_format_without_its_reader(tmp_path):
    """Bioio without the plugin of a format says which is wanted."""
    path = tmp_path / "x.czi"
    path.write_bytes(b"ZISRAWFILE" + bytes(2000))
    with pytest.raises(ImageUnreadable, match=r"x\.czi has no reader.*bioio-bioformats"):
        inspect_image(path, "x.czi", Images())


def test_without_the_extra(monkeypatch):
    """Where bioio is not installed such files are refused with the way out, and not listed."""
    assert MICROSCOPES <= SUFFIXES
    monkeypatch.setitem(sys.modules, "bioio", None)
    with (
        pytest.raises(ImageUnreadable, match=r"brushloop\[bioio\]"),
        open_pictures(b"ZISRAWFILE" + bytes(100), "x.czi", 10**6),
    ):
        pass
    code = (
        "import sys; sys.modules['bioio'] = None\n"
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name: None if name == 'bioio' else real(name)\n"
        "from ml_backend.store.endings import MICROSCOPES, SUFFIXES\n"
        "assert not MICROSCOPES & SUFFIXES"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
