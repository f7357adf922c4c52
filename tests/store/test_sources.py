"""Where images come from: paths, URLs, keys and folders."""

import io
import struct
import subprocess
import sys
import threading

import fsspec
import numpy as np
import pytest
import tifffile

from ml_backend.errors import ImageUnreadable, PoolMoved
from ml_backend.store.blobs import Blobs
from ml_backend.store.frames import Frame
from ml_backend.store.image_files import open_pictures
from ml_backend.store.images import ImageSource, decode_image
from ml_backend.store.rendering import render

from .pictures import png, tiff

RGB = np.random.default_rng(0).integers(0, 256, (24, 17, 3), np.uint8)


@pytest.fixture
def source(tmp_path):
    """An image source over a home folder."""
    return ImageSource(Blobs(tmp_path / "home"))


def test_sources(source, tmp_path):
    """One image by path, file URL, fsspec URL and blob key; spaces and percents are letters."""
    encoded = png(RGB)
    path = tmp_path / "20130815 104510 50%.png"
    path.write_bytes(encoded)
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/a b.png", encoded)
    source._blobs.write("images/a b.png", encoded)
    uris = [str(path), path.as_uri(), f"memory://{tmp_path.name}/a b.png", "images/a b.png"]
    for uri in uris:
        assert source.fetch(uri) == encoded
        np.testing.assert_array_equal(source.pixels(uri), RGB)
        window = source.pixels(uri, (3, 5, 7, 11))
        np.testing.assert_array_equal(window, RGB[5:16, 3:10])
        assert not window.flags.writeable


def test_sources_that_fail(source, tmp_path):
    """A missing or strange source is ImageUnreadable with its name, a place out of reach is not."""
    for uri in (str(tmp_path / "gone.png"), "memory://gone.png", "gone.png"):
        with pytest.raises(ImageUnreadable, match=r"gone\.png"):
            source.fetch(uri)
    with pytest.raises(PoolMoved, match="install the fsspec package"):
        source.fetch("nosuch://gone.png")
    with pytest.raises(ImageUnreadable, match="not a file"):
        source.fetch(str(tmp_path))
    with pytest.raises(ImageUnreadable, match="not a key"):
        source.fetch("../outside.png")
    big = ImageSource(Blobs(tmp_path), max_bytes=3)
    (tmp_path / "big.png").write_bytes(b"four")
    with pytest.raises(ImageUnreadable, match="4 bytes"):
        big.fetch(str(tmp_path / "big.png"))


def test_a_download_that_came_short(source, tmp_path, monkeypatch):
    """Fewer bytes than the server announced are no image."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/{tmp_path.name}.png", png(RGB))
    monkeypatch.setattr(type(memory), "cat_file", lambda *_, **__: b"short")
    with pytest.raises(ImageUnreadable, match=r"cut short: 5 of"):
        source.fetch(f"memory://{tmp_path.name}.png")


@pytest.mark.parametrize("window", [(-1, 0, 2, 2), (0, -1, 2, 2), (16, 0, 2, 2), (0, 23, 2, 2)])
def test_a_window_outside_the_image(source, tmp_path, window):
    """An image that was replaced by a smaller one is noticed, not cut silently."""
    (tmp_path / "a.png").write_bytes(png(RGB))
    with pytest.raises(ImageUnreadable, match=r"17 x 24 px and has no window"):
        source.pixels(str(tmp_path / "a.png"), window)


def test_the_cache_keeps_to_its_size(tmp_path, monkeypatch):
    """The last images stay decoded, the oldest go first, and memory stays bounded."""
    source = ImageSource(Blobs(tmp_path), cache_bytes=2 * RGB.nbytes)
    for name in "abc":
        source._blobs.write(name, png(RGB))
    fetched = []
    fetch = ImageSource.fetch
    monkeypatch.setattr(
        ImageSource, "fetch", lambda self, uri: (fetched.append(uri), fetch(self, uri))[1]
    )
    for name in ("a", "b", "a", "c", "a", "b"):
        source.pixels(name)
    assert fetched == ["a", "b", "c", "b"]
    small = ImageSource(source._blobs, cache_bytes=10)
    np.testing.assert_array_equal(small.pixels("a"), RGB)
    assert not small._cache


def test_threads_share_a_source(source):
    """Many readers at once get right pixels."""
    for number in range(4):
        source._blobs.write(f"{number}.png", png(np.full((5, 5), number * 10, np.uint8)))
    wrong = []

    def read():
        wrong.extend(
            number
            for number in [0, 1, 2, 3] * 10
            if (source.pixels(f"{number}.png") != number * 10).any()
        )

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_pool_that_moved_blames_no_image(source, tmp_path):
    """Where the whole folder is gone the error says so, and is not one of a broken image."""
    with pytest.raises(PoolMoved, match=r"gone/scans is gone: mount it again.*pool add"):
        source.fetch(str(tmp_path / "gone" / "scans" / "a.png"))


@pytest.mark.parametrize(
    ("pixels", "options", "mapped"),
    [
        (RGB, {}, True),
        (RGB[..., 0], {}, True),
        (RGB, {"compression": "deflate"}, False),
        (RGB[..., 0].astype(np.uint16), {}, False),
        (RGB[..., 0], {"photometric": "miniswhite"}, False),
        (np.dstack([RGB, RGB[..., :1]]), {"extrasamples": ["unassalpha"]}, False),
        (RGB, {"extratags": [(274, 3, 1, 3, True)]}, False),
    ],
)
def test_large_plain_tiffs_are_read_where_they_lie(tmp_path, pixels, options, mapped):
    """An uncompressed 8-bit one is never loaded whole; whatever else, the pixels are the same."""
    path = tmp_path / "large.tif"
    path.write_bytes(tiff(pixels, **options))
    expected = ImageSource(Blobs(tmp_path)).pixels(str(path))
    source = ImageSource(Blobs(tmp_path), cache_bytes=100)
    found = source.pixels(str(path))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(source.pixels(str(path), (3, 5, 7, 11)), expected[5:16, 3:10])
    assert isinstance(found, np.memmap) == mapped
    assert not found.flags.writeable


def test_a_truncated_large_tiff_is_refused(tmp_path):
    """Its pixels end beyond the file: it is decoded as ever, which says so."""
    path = tmp_path / "large.tif"
    path.write_bytes(tiff(RGB)[:-200])
    with pytest.raises(ImageUnreadable, match="truncated"):
        ImageSource(Blobs(tmp_path), cache_bytes=100).pixels(str(path))


SHRINK = """
import os, sys
from pathlib import Path
import numpy as np
from ml_backend.errors import ImageUnreadable
from ml_backend.store.blobs import Blobs
from ml_backend.store.images import ImageSource
path, how = Path(sys.argv[1]), sys.argv[2]
image = ImageSource(Blobs(path.parent), cache_bytes=100).pixels(str(path))
part = image[100:500, 20:40]
before = np.array(image[-1])
if how == "replaced":
    path.with_suffix(".new").write_bytes(b"II*")
    path.with_suffix(".new").replace(path)
    print("the same" if np.array_equal(image[-1], before) else "others")
else:
    os.truncate(path, 5000)
    for read in (lambda: image[-1].sum(), lambda: part[-1:].sum(), lambda: image[::64, 3].sum()):
        try:
            print(read())
        except ImageUnreadable as error:
            print(error)
"""


@pytest.mark.parametrize("kind", ["colour", "grey"])
@pytest.mark.parametrize("how", ["truncated", "replaced"])
def test_a_tiff_that_shrinks_while_it_is_read_ends_no_process(tmp_path, kind, how):
    """Cut short on the disk it is an error like any broken image; put in its place, no harm."""
    path, side = tmp_path / "large.tif", 512
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    path.write_bytes(tiff(pixels if kind == "colour" else pixels[..., 0]))
    words = [sys.executable, "-c", SHRINK, str(path), how]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # -7 is SIGBUS
    said = done.stdout.splitlines()
    if how == "replaced":
        assert said == ["the same"]
    else:
        assert len(said) == 3
        assert all("large.tif was cut short while it was read" in line for line in said)


@pytest.mark.parametrize("promised", [0, 100, 5000])
def test_a_tiff_that_lies_about_its_bytes_is_refused_if_they_are_not_there(tmp_path, promised):
    """What counts is what the pixels take, whatever the directory says of its strips."""
    data = bytearray(tiff(np.zeros((64, 64, 3), np.uint8)))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages.first.tags["StripByteCounts"].valueoffset
    data[place : place + 4] = struct.pack("<I", promised)
    path = tmp_path / "large.tif"
    path.write_bytes(data[:9000])
    with pytest.raises(ImageUnreadable, match=r"large\.tif is damaged or truncated"):
        ImageSource(Blobs(tmp_path), cache_bytes=100).pixels(str(path))


class Counted:
    """A file that counts the bytes that are read of it."""

    def __init__(self, file):
        self.file, self.bytes = file, 0

    def read(self, size=-1):
        """Read and count."""
        data = self.file.read(size)
        self.bytes += len(data)
        return data

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (64, 64)}])
def test_a_window_of_a_large_file_reads_what_it_needs(options):
    """Of a page of a stack only its strips or tiles are read, and of these only the window's."""
    stack = np.random.default_rng(0).integers(0, 65536, (6, 512, 512), np.uint16)
    data = tiff(stack, photometric="minisblack", **options)
    frame = Frame(page=4, low=(0.0,), high=(65535.0,))
    file = Counted(io.BytesIO(data))
    whole = decode_image(file, "x.tif", frame)
    assert np.abs(whole[..., 0] - stack[4] / 257).max() <= 0.51
    assert file.bytes < len(data) / 4
    file = Counted(io.BytesIO(data))
    with open_pictures(file, "x.tif", 10**6) as pictures:
        part = render(pictures.picture(4), [(0.0, 65535.0)], (), (100, 160, 200, 260))
    np.testing.assert_array_equal(part, whole[100:160, 200:260])
    assert file.bytes < len(data) / 30


def test_a_large_remote_file_is_read_by_parts(tmp_path, monkeypatch):
    """A stack in a bucket is not fetched whole for one of its pages, and errors keep its name."""
    monkeypatch.setattr("ml_backend.store.images._AT_ONCE", 1000)
    monkeypatch.setattr("ml_backend.store.images._BLOCK", 20_000)
    stack = np.random.default_rng(0).integers(0, 256, (9, 200, 200), np.uint8)
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/{tmp_path.name}/s.tif", tiff(stack, photometric="minisblack"))
    monkeypatch.setattr(type(memory), "cat_file", lambda *_, **__: pytest.fail("fetched whole"))
    uri = f"memory://{tmp_path.name}/s.tif"
    source = ImageSource(Blobs(tmp_path), cache_bytes=1000)
    np.testing.assert_array_equal(source.pixels(uri, None, Frame(7))[..., 0], stack[7])
    np.testing.assert_array_equal(
        source.pixels(uri, (5, 6, 7, 8), Frame(3))[..., 0], stack[3, 6:14, 5:12]
    )
    with pytest.raises(ImageUnreadable, match=r"s\.tif has 9 page"):
        source.pixels(uri, None, Frame(9))
    monkeypatch.setattr(
        "fsspec.implementations.memory.MemoryFile.read",
        lambda *_: (_ for _ in ()).throw(TimeoutError("no answer")),
    )
    with pytest.raises(ImageUnreadable, match=r"s\.tif cannot be fetched: TimeoutError: no answer"):
        source.pixels(uri, None, Frame(2))


def test_a_file_of_more_than_the_limit_is_read_by_its_pages(tmp_path):
    """What is too large to be fetched is no trouble on a disk: each page is read for itself."""
    stack = np.random.default_rng(0).integers(0, 65536, (4, 64, 64), np.uint16)
    path = tmp_path / "s.tif"
    path.write_bytes(tiff(stack, photometric="minisblack"))
    source = ImageSource(Blobs(tmp_path), max_bytes=1000)
    shown = source.pixels(str(path), (0, 0, 64, 64), Frame(2, low=(0.0,), high=(65535.0,)))
    assert np.abs(shown[..., 0] - stack[2] / 257).max() <= 0.51
