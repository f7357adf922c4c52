"""The gestures that draw regions in Label Studio, and the areas that they enclose.

Positions are pixels of the image, (x, y); gestures go through a StudioPage's real mouse.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .browser import StudioPage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Point = tuple[float, float]

_TOOL_SIZE = "() => ToolManager.allInstances()[0].findSelectedTool().strokeWidth ?? 0"
_MOST_PRESSES = 50
_HANDLE = 50  # how far above a shape its rotation handle stands, in pixels of the screen


class Drawing:
    """A person who draws on the image of the task that is open."""

    def __init__(self, studio: StudioPage, width: int, height: int) -> None:
        self.studio, self.page, self.mouse = studio, studio.page, studio.page.mouse
        self.width, self.height = width, height

    @property
    def _scale(self) -> float:
        """Pixels of the screen in one of the image."""
        left, right = (
            self.studio.on_page(x, 0, self.width, self.height)[0] for x in (0, self.width)
        )
        return (right - left) / self.width

    def _at(self, point: Point) -> Point:
        x, y = self.studio.on_page(*point, self.width, self.height)
        hit = self.page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.tagName", [x, y])
        assert hit == "CANVAS", f"something covers the image at {point}: {hit}"
        return x, y

    def _settle(self) -> None:
        """Wait until a drawn region is committed; Label Studio does that a moment later."""
        self.page.wait_for_function("() => !Htx.annotationStore.selected.isDrawing")

    def _drag(self, points: Sequence[Point]) -> None:
        self.mouse.move(*self._at(points[0]))
        self.mouse.down()
        for point in points[1:]:
            self.mouse.move(*self._at(point), steps=3)
        self.mouse.up()
        self._settle()

    def _begin(self, label: str) -> int:
        count = len(self.studio.region_labels())
        self.studio.choose_label(label)
        return count + 1

    def brush(self, label: str, points: Sequence[Point], size: int) -> float:
        """Paint a region, which stays selected → the stroke's diameter, in pixels of the image.

        The `size` is that of the tool: pixels of the screen, in steps of 5.
        """
        count = self._begin(label)
        self._take("brush-tool", size)
        self._drag(points)
        self.studio.wait_regions(count)
        return size / self._scale

    def erase(self, points: Sequence[Point], size: int) -> float:
        """Erase along `points` in the selected brush region → the diameter, as `brush`."""
        self._take("eraser", size)
        self._drag(points)
        return size / self._scale

    def _take(self, tool: str, size: int = 0) -> None:
        """Choose a tool, and enlarge it to a size."""
        button = self.page.locator(f"[aria-label={tool}]")
        # Some tools are put down again by another click, and the last one is remembered.
        if "lsf-tool_active" not in (button.get_attribute("class") or ""):
            button.click()
        self.page.locator(f"[aria-label={tool}].lsf-tool_active").wait_for()
        for _ in range(_MOST_PRESSES):
            if size <= (found := self.page.evaluate(_TOOL_SIZE)):
                break
            self.page.keyboard.press("]")  # does nothing while the tool is still being set up
        assert not size or found == size, f"the {tool} is {found} px wide, not {size}"

    def polygon(self, label: str, points: Sequence[Point], *, over: bool = False) -> None:
        """Click the corners, then the first one again. With `over` on top of another region."""
        count = self._begin(label)
        if over:
            self.page.keyboard.down("Control")
        for point in (*points, points[0]):
            self.mouse.click(*self._at(point))
        if over:
            self.page.keyboard.up("Control")
        self.studio.wait_regions(count)
        self._settle()
        self.studio.deselect()

    def shape(self, label: str, start: Point, end: Point) -> None:
        """Drag a rectangle from corner to corner, an ellipse from its centre."""
        count = self._begin(label)
        self._drag([start, end])
        self.studio.wait_regions(count)
        self.studio.deselect()

    def turn(self, label: str, centre: Point, depth: float, degrees: float) -> None:
        """Turn an upright shape, `depth` high, clockwise by its handle."""
        self.studio.select_region(label)
        reach = depth / 2 + _HANDLE / self._scale
        angles = [math.radians(degrees * step / 3) for step in range(4)]
        x, y = centre
        self._drag([(x + reach * math.sin(a), y - reach * math.cos(a)) for a in angles])
        self.studio.deselect()

    def set_rotation(self, label: str, degrees: float) -> None:
        """Type a rotation into the panel of the region's details."""
        for _ in range(3):  # on a busy machine the panel may be drawn anew under the typing
            self.studio.select_region(label)
            field = self.page.locator(".lsf-region-editor__input").nth(4)
            field.fill(str(degrees))
            field.press("Enter")
            field.blur()
            self.studio.deselect()
            self.studio.select_region(label)
            kept = self.page.locator(".lsf-region-editor__input").nth(4).input_value()
            self.studio.deselect()
            if float(kept or "nan") == degrees:
                return
        raise AssertionError(f"the rotation of {label} stays {kept}, not {degrees}")

    def pull(self, label: str, points: Sequence[Point]) -> None:
        """Take a shape by a handle, or anywhere inside it, and drag."""
        self._take("move-tool")
        self.studio.select_region(label)
        self._drag(points)
        self.studio.deselect()


def polygon_mask(points: Sequence[Point], width: int, height: int) -> "NDArray[np.bool_]":
    """Which pixel centres a line to the left leaves through an odd number of edges."""
    import numpy as np

    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    inside = np.zeros((height, width), dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, (*points[1:], points[0]), strict=True):
        if y0 == y1:
            continue
        between = (ys < y0) != (ys < y1)
        inside ^= between & (xs < x0 + (ys - y0) * (x1 - x0) / (y1 - y0))
    return inside


def turned(points: Sequence[Point], centre: Point, degrees: float) -> list[Point]:
    """Turn points clockwise about a centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = [(x - centre[0], y - centre[1]) for x, y in points]
    return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in moved]


def ellipse_mask(
    centre: Point, radii: Point, degrees: float, width: int, height: int
) -> "NDArray[np.bool_]":
    """Which pixel centres lie inside an ellipse turned clockwise."""
    import numpy as np

    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    dx, dy = xs - centre[0], ys - centre[1]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    return (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
