"""Shapes → pixels: exactly those whose centres are inside, by brute force in fractions."""

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.masks import shapes

HEIGHT, WIDTH = 9, 11
QUARTERS = st.integers(-12, 60).map(lambda number: number / 4)  # edges on centres, too
POLYGONS = st.lists(st.tuples(QUARTERS, QUARTERS), max_size=9)
SIZES = st.floats(0.1, 12)
RADII = SIZES | SIZES.map(lambda size: -size)  # Label Studio's, after a flip
DEGREES = st.floats(-720, 720)


def full(patch: shapes.Patch, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return a patch as a mask of the whole image."""
    mask = np.zeros((height, width), bool)
    mask[patch.rows, patch.columns] = patch.mask
    return mask


def winding(points: list[tuple[float, float]], x: Fraction, y: Fraction) -> int:
    """Count how often a closed outline winds around a point that is just right of and below."""
    turns = 0
    for (xa, ya), (xb, yb) in zip(points, [*points[1:], *points[:1]], strict=True):
        x0, y0, x1, y1 = map(Fraction, (xa, ya, xb, yb))
        if (y0 <= y) != (y1 <= y) and x0 + (x1 - x0) * (y - y0) / (y1 - y0) <= x:
            turns += 1 if y1 > y0 else -1
    return turns


def centres() -> list[tuple[int, int, Fraction, Fraction]]:
    """Return every pixel's row and column, and the x and y of its centre."""
    half = Fraction(1, 2)
    return [(row, col, col + half, row + half) for row in range(HEIGHT) for col in range(WIDTH)]


@given(POLYGONS)
def test_a_polygon_is_the_centres_that_it_winds_around(points: list[tuple[float, float]]) -> None:
    """Any polygon, crossing itself or leaving the image, is filled as brute force fills it."""
    mask = full(shapes.polygon(np.array(points).reshape(-1, 2), HEIGHT, WIDTH))
    for row, column, x, y in centres():
        assert mask[row, column] == (winding(points, x, y) != 0)


@given(QUARTERS, QUARTERS, QUARTERS.map(abs), QUARTERS.map(abs))
def test_an_upright_rectangle_is_exact(x: float, y: float, breadth: float, depth: float) -> None:
    """A rectangle that is not turned has the pixels whose centres lie between its edges."""
    mask = full(shapes.rectangle(x, y, breadth, depth, 0.0, HEIGHT, WIDTH))
    for row, column, u, v in centres():
        assert mask[row, column] == (x <= u < x + breadth and y <= v < y + depth)


@given(QUARTERS, QUARTERS, SIZES, SIZES, DEGREES)
def test_a_turned_rectangle_is_turned_about_its_corner(
    x: float, y: float, breadth: float, depth: float, degrees: float
) -> None:
    """Turned back about its top left corner, each centre is inside the upright rectangle."""
    mask = full(shapes.rectangle(x, y, breadth, depth, degrees, HEIGHT, WIDTH))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for row, column in np.ndindex(HEIGHT, WIDTH):
        dx, dy = column + 0.5 - x, row + 0.5 - y
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        if min(abs(u), abs(u - breadth), abs(v), abs(v - depth)) > 1e-9:
            assert mask[row, column] == (0 < u < breadth and 0 < v < depth)


@given(QUARTERS, QUARTERS, RADII, RADII, DEGREES)
def test_an_ellipse_is_turned_about_its_centre(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float
) -> None:
    """Turned back about its centre, each pixel is inside the ellipse; radii have no sign."""
    mask = full(shapes.ellipse(x, y, radius_x, radius_y, degrees, HEIGHT, WIDTH))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for row, column in np.ndindex(HEIGHT, WIDTH):
        dx, dy = column + 0.5 - x, row + 0.5 - y
        distance = math.hypot((dx * cos + dy * sin) / radius_x, (dy * cos - dx * sin) / radius_y)
        if abs(distance - 1) > 1e-9:
            assert mask[row, column] == (distance < 1)


@given(st.lists(st.tuples(QUARTERS, QUARTERS), min_size=3, max_size=3), QUARTERS, QUARTERS)
def test_neighbours_share_an_edge_and_no_pixel(
    corners: list[tuple[float, float]], x: float, y: float
) -> None:
    """The three triangles around a point inside a triangle tile it: no pixel twice, none left."""
    weights = [abs(x) + 1, abs(y) + 1, 3.0]
    inner = tuple(np.average(np.array(corners), axis=0, weights=weights))
    whole = full(shapes.polygon(np.array(corners), HEIGHT, WIDTH))
    parts = sum(
        full(shapes.polygon(np.array([a, b, inner]), HEIGHT, WIDTH)).astype(int)
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
    )
    doubled = abs(np.cross(*np.append(np.diff(corners, axis=0), [[0], [0]], axis=1))[2])
    if doubled > 1e-6:  # rounding may put the point of a flat triangle outside it
        np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 360, -90])
def test_quarter_turns_keep_pixel_edges(degrees: float) -> None:
    """A rectangle on pixel edges, turned by quarters, has as many pixels as before."""
    mask = full(shapes.rectangle(5.0, 4.0, 3.0, 2.0, degrees, HEIGHT, WIDTH))
    assert mask.sum() == 6


def test_nothing_is_covered_by_what_has_no_area() -> None:
    """Points, lines, flat rectangles and ellipses, and shapes elsewhere, cover no pixel."""
    line = np.array([[0.0, 0.0], [9.0, 9.0]])
    for patch in (
        shapes.polygon(np.empty((0, 2)), HEIGHT, WIDTH),
        shapes.polygon(line, HEIGHT, WIDTH),
        shapes.polygon(line + 100, HEIGHT, WIDTH),
        shapes.rectangle(1.0, 1.0, 0.0, 5.0, 30.0, HEIGHT, WIDTH),
        shapes.ellipse(4.0, 4.0, 0.0, 5.0, 30.0, HEIGHT, WIDTH),
        shapes.ellipse(-40.0, 4.0, 5.0, 5.0, 0.0, HEIGHT, WIDTH),
    ):
        assert not full(patch).any()


@settings(max_examples=20)
@given(POLYGONS)
def test_many_edges_are_filled_piece_by_piece(points: list[tuple[float, float]]) -> None:
    """Filling edge by edge, as polygons of very many corners are, gives the same pixels."""
    whole = full(shapes.polygon(np.array(points).reshape(-1, 2), HEIGHT, WIDTH))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "_CROSSINGS", 1)
        pieces = full(shapes.polygon(np.array(points).reshape(-1, 2), HEIGHT, WIDTH))
    np.testing.assert_array_equal(pieces, whole)


def test_a_large_polygon_is_fast() -> None:
    """A polygon of 10,000 corners over 16 megapixels takes a second or two, not minutes."""
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    radius = 1500 + 400 * np.sin(40 * angles)
    points = 2048 + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    start = time.perf_counter()
    patch = shapes.polygon(points, 4096, 4096)
    assert time.perf_counter() - start < 20
    area = 0.5 * np.mean(radius**2) * 2 * np.pi
    assert abs(patch.mask.sum() / area - 1) < 1e-3
