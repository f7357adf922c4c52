"""Contact sheets show every picture, its outlines and what is unknown."""

import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from ml_backend.masks.colours import PALETTE
from ml_backend.masks.sheet import Row, contact_sheet, heated, outlined, shrunk


def colour(label):
    """The colour in which a label is outlined."""
    return np.array(ImageColor.getrgb(PALETTE[label - 1]))


def where(shown, label):
    """Pixels that have the label's colour."""
    return (shown == colour(label)).all(axis=2)


def test_outlines_run_inside_along_the_edge():
    """One pixel wide, in each label's colour, and nothing else is touched."""
    image, mask = np.full((20, 30, 3), 90, np.uint8), np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15], mask[5:15, 15:25] = 1, 2
    before = image.copy()
    shown = outlined(image, mask, 30)
    expected = np.zeros((20, 30), bool)
    expected[5:15, 5:15] = True
    expected[6:14, 6:14] = False
    assert np.array_equal(where(shown, 1), expected)
    assert where(shown, 2).sum() == expected.sum()
    assert (shown[~where(shown, 1) & ~where(shown, 2)] == 90).all()
    assert np.array_equal(image, before)


def test_no_outline_at_the_picture_s_border_or_where_the_unknown_begins():
    """A label that goes on beyond what is known has no edge there; the unknown is hatched."""
    image, mask = np.full((20, 20, 3), 90, np.uint8), np.ones((20, 20), np.uint8)
    mask[:, 12:] = 255
    shown = outlined(image, mask, 20)
    assert not where(shown, 1).any()
    assert 0.2 < (shown[:, 12:] != 90).all(axis=2).mean() < 0.5


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((400, 200), 100, (100, 50)), ((20, 30), 100, (60, 90)), ((1, 1), 4, (4, 4)),
     ((3000, 2), 100, (100, 1))],
)  # fmt: skip
def test_pictures_fit_their_cells(size, side, expected):
    """Large ones shrink, small ones grow by whole factors, none disappears."""
    shown = outlined(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), side)
    assert shown.shape == (*expected, 3)


def test_a_sheet_holds_its_pictures_unchanged():
    """Each picture is somewhere on the sheet, in reading order; titles take no room from them."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(5)]
    rows = [Row("größer", pictures[:3]), Row("a" * 300, pictures[3:])]
    with Image.open(io.BytesIO(contact_sheet(rows))) as image:
        sheet = np.array(image)
    places = []
    for picture in pictures:
        starts = np.argwhere((sheet == picture[0, 0]).all(axis=2))
        places += [
            (y, x) for y, x in starts if np.array_equal(sheet[y : y + 40, x : x + 50], picture)
        ]
    assert places == sorted(places)
    assert len(places) == 5
    assert places[0][0] == places[2][0] < places[3][0]


def test_heat_goes_from_black_to_yellow():
    """0 is black, the ceiling and all above it the brightest, between them monotone in light."""
    values = np.array([[0, 0.2, 0.4, 0.6, 0.8, 1.0, 5.0]], np.float32)
    shown = heated(values, 1.0)
    light = shown.astype(int).sum(axis=2)[0]
    assert light[0] < 10
    assert (np.diff(light[:6]) > 0).all()
    assert light[6] == light[5]
    assert shown[0, 5, 0] > 200 > shown[0, 5, 2]
    assert (heated(np.zeros((2, 2), np.float32), 0.0) == heated(values, 1.0)[0, 0]).all()


def test_a_map_is_shown_as_large_as_its_image():
    """Shrunk by means over areas, enlarged by repeating."""
    assert (
        shrunk(np.ones((20, 30)), 100).shape
        == outlined(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8), 100).shape[:2]
    )
    chess = np.indices((100, 100)).sum(axis=0) % 2
    assert np.allclose(shrunk(chess * 1.0, 50), 0.5)
