"""Stacks, channels and planes: what a viewer shows is what is shown, and it is said."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from ml_backend.errors import ImageUnreadable
from ml_backend.recipe import Images
from ml_backend.store.frames import Frame, inspect_image
from ml_backend.store.images import decode_image

from .pictures import file_of, tiff

RNG = np.random.default_rng(3)
H, W = 48, 40


def blobs(number=1, dtype=np.uint8, top=255):
    """Planes with a bright square each, at another place, on half of the scale's ramp."""
    planes = np.tile(np.linspace(0, top / 2, W), (number, H, 1))
    for plane in range(number):
        planes[plane, 6 * plane : 6 * plane + 6, 4 * plane : 4 * plane + 8] = top
    return planes.astype(dtype)


def shown(data, images=Images(), name="x.tif", **options):  # noqa: B008  (frozen)
    """All chosen pictures of a file with what is said of them."""
    file = inspect_image(data, name, images, **options)
    return [(decode_image(data, name, info.frame), info) for info in file.frames]


def red_green(first, second):
    """Two channels as ImageJ shows them."""
    return np.dstack([first, second, np.zeros_like(first)])


CYX = blobs(2)
OME = {"metadata": {"axes": "CYX"}, "ome": True}


@pytest.mark.parametrize(
    "data",
    [
        tiff(CYX, imagej=True, metadata={"axes": "CYX", "mode": "composite"}),
        tiff(CYX, photometric="minisblack", **OME),
        tiff(CYX, metadata={"axes": "CYX"}, photometric="minisblack"),
        tiff(CYX, photometric="minisblack", planarconfig="separate", volumetric=False),
        tiff(np.moveaxis(CYX, 0, 2), photometric="minisblack", planarconfig="contig"),
        tiff(np.moveaxis(CYX, 0, 2), photometric="minisblack"),
        tiff(np.moveaxis(CYX, 0, 2), photometric="minisblack", compression="deflate"),
        tiff(np.moveaxis(CYX, 0, 2), photometric="minisblack", metadata={"axes": "YXC"}),
    ],
    ids=["imagej", "ome", "shaped CYX", "planes apart", "samples", "rows", "deflate", "YXC"],
)
def test_two_channels_are_red_and_green(data):
    """However two channels are written, they are one picture of their size, and it is said."""
    ((rgb, info),) = shown(data)
    np.testing.assert_array_equal(rgb, red_green(*CYX))
    assert (info.height, info.width) == (H, W)
    assert "channels 1 and 2 of 2 as composite" in info.chosen
    np.testing.assert_array_equal(decode_image(data, "x.tif"), rgb)


def test_four_samples_without_alpha_are_a_composite():
    """The fourth is no alpha, and it is not lost: it is grey, over red, green and blue."""
    four = blobs(4)
    for options in (
        {"photometric": "minisblack", "planarconfig": "contig"},
        {"photometric": "rgb", "extrasamples": ["unspecified"], "planarconfig": "contig"},
    ):
        ((rgb, info),) = shown(tiff(np.moveaxis(four, 0, 2), **options))
        expected = np.clip(np.moveaxis(four[:3].astype(int), 0, 2) + four[3][..., None], 0, 255)
        np.testing.assert_array_equal(rgb, expected)
        assert "channels 1, 2, 3 and 4 of 4 as composite" in info.chosen


def test_colours_of_the_file():
    """ImageJ's tables and OME's colours are used where the file gives them."""
    magenta, green = (255, 0, 255), (0, 255, 0)
    tables = [
        (np.arange(256) * np.reshape(colour, (3, 1)) // 255).astype(np.uint8)
        for colour in (magenta, green)
    ]
    numbers = [int.from_bytes(bytes([*colour, 255]), signed=True) for colour in (magenta, green)]
    files = (
        tiff(CYX, imagej=True, metadata={"axes": "CYX", "LUTs": tables}),
        tiff(
            CYX,
            ome=True,
            photometric="minisblack",
            metadata={"axes": "CYX", "Channel": {"Color": numbers}},
        ),
    )
    for data in files:
        ((rgb, _),) = shown(data)
        np.testing.assert_array_equal(rgb, np.dstack([CYX[0], CYX[1], CYX[0]]))


def test_an_empty_first_channel_hides_nothing():
    """Each channel has its own range: a dim second one is seen beside an empty first."""
    deep = np.stack([np.zeros((H, W), np.uint16), blobs(1, np.uint16, 300)[0]])
    ((rgb, info),) = shown(tiff(deep, imagej=True, metadata={"axes": "CYX"}))
    assert rgb[..., 0].max() == 0
    assert rgb[..., 1].max() == 255
    assert "has an empty channel" in info.problems
    assert rgb[..., 1].min() == 0


def test_chosen_channels():
    """One is grey; several take the usual colours in the order given; absent ones are refused."""
    data = tiff(blobs(3), imagej=True, metadata={"axes": "CYX"})
    planes = blobs(3)
    ((rgb, info),) = shown(data, Images(channels=(2,)))
    np.testing.assert_array_equal(rgb, np.repeat(planes[1][..., None], 3, 2))
    assert "channel 2 of 3" in info.chosen
    ((rgb, info),) = shown(data, Images(channels=(3, 1)))
    np.testing.assert_array_equal(rgb, red_green(planes[2], planes[0]))
    assert "channels 3 and 1 of 3 as composite" in info.chosen
    with pytest.raises(ImageUnreadable, match=r"x\.tif has 3 channel.*images\.channels"):
        inspect_image(data, "x.tif", Images(channels=(4,)))
    photo = RNG.integers(0, 256, (H, W, 3), np.uint8)
    ((rgb, _),) = shown(file_of(Image.fromarray(photo)), Images(channels=(2,)))
    np.testing.assert_array_equal(rgb, np.repeat(photo[..., 1:2], 3, 2))


def test_more_channels_than_colours():
    """Of nine channels with names the first seven are shown, and it is said; any can be chosen."""
    nine = blobs(9)
    named = {"axes": "CYX", "Channel": {"Name": [f"marker {n}" for n in range(9)]}}
    data = tiff(nine, ome=True, photometric="minisblack", metadata=named)
    ((_, info),) = shown(data)
    assert "channels 1, 2, 3, 4, 5, 6 and 7 of 9 as composite" in info.chosen
    ((rgb, _),) = shown(data, Images(channels=(9,)))
    np.testing.assert_array_equal(rgb[..., 0], nine[8])


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True, "photometric": "minisblack"}])
def test_so_many_channels_are_sections(options):
    """Writers that know no axes call sections channels: more than seven without names are pages.

    They are channels all the same where the recipe asks for some.
    """
    nine = blobs(9)
    pages = shown(tiff(nine, **options))
    assert len(pages) == 9
    for (rgb, info), plane in zip(pages, nine, strict=True):
        np.testing.assert_array_equal(rgb[..., 1], plane)
        assert "its 9 channels as planes" in info.chosen
    ((rgb, _),) = shown(tiff(nine, **options), Images(channels=(9,)))
    np.testing.assert_array_equal(rgb[..., 0], nine[8])


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_planes_of_a_hyperstack(kind):
    """(T, Z, C) becomes a page for each moment and plane; a plane or projection one a moment."""
    planes = RNG.integers(0, 256, (2, 3, 2, H, W), np.uint8)
    if kind == "imagej":
        data = tiff(planes, imagej=True, metadata={"axes": "TZCYX"})
    else:
        data = tiff(planes, ome=True, photometric="minisblack", metadata={"axes": "TZCYX"})
    pages = shown(data)
    assert len(pages) == 6
    for number, (rgb, info) in enumerate(pages):
        np.testing.assert_array_equal(rgb, red_green(*planes.reshape(6, 2, H, W)[number]))
        assert f"page {number + 1} of 6" in info.chosen
    second = shown(data, Images(plane=2))
    np.testing.assert_array_equal(second[1][0], red_green(*planes[1, 1]))
    assert "plane 2 of 3" in second[1][1].chosen
    np.testing.assert_array_equal(
        shown(data, Images(plane="middle"))[0][0], red_green(*planes[0, 1])
    )
    for how in ("max", "mean"):
        images = Images(projection=how, range=(0, 255))
        (rgb, info), _ = shown(data, images)
        expected = red_green(*np.rint(getattr(planes[0], how)(axis=0)).astype(int))
        assert np.abs(rgb.astype(int) - expected).max() <= (how == "mean")
        assert f"the {how} of 3 planes" in info.chosen
    with pytest.raises(ImageUnreadable, match=r"3 plane.*images\.plane"):
        shown(data, Images(plane=4))


def test_pages_of_a_plain_stack_have_a_projection_too():
    """A plain multi-page TIFF is a stack of planes; pages of many sizes are not."""
    planes = RNG.integers(0, 256, (4, H, W), np.uint8)
    data = tiff(planes, photometric="minisblack")
    ((rgb, _),) = shown(data, Images(projection="max", range=(0, 255)))
    np.testing.assert_array_equal(rgb[..., 1], planes.max(axis=0))
    mixed = file_of(
        Image.fromarray(planes[0]), "TIFF", save_all=True, append_images=[Image.new("L", (9, 12))]
    )
    assert [(info.height, info.width) for _, info in shown(mixed)] == [(H, W), (12, 9)]


def pyramid(path, data, **options):
    """A tiled pyramid of three levels, written as OME does (levels in SubIFDs)."""
    with tifffile.TiffWriter(path, ome=options.pop("ome", False)) as writer:
        writer.write(data, subifds=2, tile=(16, 16), **options)
        for step in (2, 4):
            writer.write(data[..., ::step, ::step], subfiletype=1, tile=(16, 16))


def test_a_pyramid_is_its_full_resolution(tmp_path):
    """Levels are no pages: in OME's way, as reduced pages, or as a slide scanner writes them."""
    path = tmp_path / "x.ome.tif"
    pyramid(path, CYX, ome=True, photometric="minisblack", metadata={"axes": "CYX"})
    ((rgb, _),) = shown(path)
    np.testing.assert_array_equal(rgb, red_green(*CYX))
    plain = tmp_path / "x.tif"
    with tifffile.TiffWriter(plain) as writer:
        for step in (1, 2, 4):
            options = {"subfiletype": 1} if step > 1 else {}
            writer.write(CYX[0, ::step, ::step], tile=(16, 16), metadata=None, **options)
    ((rgb, _),) = shown(plain)
    np.testing.assert_array_equal(rgb[..., 0], CYX[0])
    slide = tmp_path / "x.svs"
    photo = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    with tifffile.TiffWriter(slide) as writer:
        said = "Aperio Image Library v1\r\n64x64 [0,0 64x64] (16x16)|AppMag = 20"
        options = {"metadata": None, "photometric": "rgb"}
        writer.write(photo, tile=(16, 16), description=said, **options)
        writer.write(photo[::8, ::8], description="Aperio Image Library v1\r\nthumb", **options)
        writer.write(photo[::2, ::2], tile=(16, 16), description=said, **options)
    ((rgb, info),) = shown(slide)
    np.testing.assert_array_equal(rgb, photo)
    assert any("the slide" in choice for choice in info.chosen)


def test_animations_are_stacks():
    """Frames of GIF, WebP and APNG are pages, as they are shown one after another."""
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        pages = shown(data, name=f"x.{kind}")
        assert [tuple(rgb[5, 5]) for rgb, _ in pages] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
        assert "page 2 of 3" in pages[1][1].chosen


def test_a_photograph_with_a_preview_is_one_picture():
    """A telephone's MPO holds its photograph several times; the first is the picture."""
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    data = file_of(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert len(shown(data, name="photo.jpg")) == 1


def test_a_page_that_is_gone():
    """A frame of a file that was replaced by a shorter one is refused, not another page."""
    with pytest.raises(ImageUnreadable, match=r"x\.tif has 1 page.*number 3"):
        decode_image(tiff(CYX[0]), "x.tif", Frame(2))


def test_a_large_hyperstack_without_directories(tmp_path):
    """ImageJ writes one directory for all pages of a large file; each is found all the same."""
    stack = RNG.integers(0, 60_000, (3, H, W), np.uint16)
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path, imagej=True) as writer:
        writer.write(stack, metadata={"axes": "ZYX"}, contiguous=True)
    with tifffile.TiffFile(path) as file:  # cut the chain of directories after the first
        place = file.pages[0].offset + 2 + 12 * len(file.pages[0].tags)
    data = bytearray(path.read_bytes())
    data[place : place + 4] = bytes(4)
    pages = shown(bytes(data), Images(range=(0, 65535)))
    assert len(pages) == 3
    for (rgb, _), plane in zip(pages, stack, strict=True):
        assert np.abs(rgb[..., 0] - plane / 257).max() <= 0.51
