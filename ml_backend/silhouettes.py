"""Plankton forms drawn by a random generator: what `samples.py` puts into its pictures.

Forms are drawn in units of their own size, the head towards +x, and placed by a `Pen`.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_backend.registry import Registry

Floats = NDArray[np.float64]

_FINE = 3  # drawn this much larger, then averaged down: smooth edges from whole pixels
_SHIFT = 4  # sub-pixel bits of OpenCV's polygon corners
_THINNEST = 0.7  # px: half the width of the finest seta that is still seen


class Pen:
    """Draws one specimen at `centre` (x, y in px), `size` px a unit, turned and bent.

    Two planes grow under it: what belongs to the specimen, and how dark it is there.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        centre: tuple[float, float],
        size: float,
        angle: float,
        bend: float = 0.0,
    ) -> None:
        self._shape = np.zeros((height * _FINE, width * _FINE), np.uint8)
        self._tone = np.zeros_like(self._shape)
        self._centre, self._size, self._bend = np.array(centre), size, bend
        self._turn = np.array(
            [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float64
        )

    def fill(self, outline: ArrayLike, tone: int) -> None:
        """A closed outline, `tone` 0..255 dark; it covers what was drawn before."""
        corners = self._placed(outline)
        cv2.fillPoly(self._shape, [corners], 255, shift=_SHIFT)
        cv2.fillPoly(self._tone, [corners], tone, shift=_SHIFT)

    def limb(self, path: ArrayLike, start: float, end: float, tone: int) -> None:
        """A curve through `path` whose half-width runs from `start` to `end`."""
        line = smooth(path, closed=False)
        along = np.gradient(line, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        half = np.maximum(np.linspace(start, end, len(line)), _THINNEST / self._size)[:, None]
        self.fill(np.concatenate([line + half * normal, (line - half * normal)[::-1]]), tone)

    def blob(self, centre: ArrayLike, radii: ArrayLike, tone: int) -> None:
        """An ellipse along the axes of the specimen."""
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        self.fill(np.asarray(centre) + np.asarray(radii) * circle, tone)

    def planes(self) -> tuple[Floats, NDArray[np.bool_]]:
        """How dark each pixel is, 0..1, and whether at least half of it is covered."""
        size = self._shape.shape[1] // _FINE, self._shape.shape[0] // _FINE
        dark, cover = (
            np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))
            for plane in (self._tone, self._shape)
        )
        return dark.astype(np.float64) / 255, cover >= 128

    def _placed(self, points: ArrayLike) -> NDArray[np.int32]:
        local = np.array(points, np.float64)
        local[:, 1] += self._bend * local[:, 0] ** 2
        pixels = self._centre + self._size * local @ self._turn
        return np.asarray(np.round(pixels * _FINE * 2**_SHIFT), np.int32)


def smooth(points: ArrayLike, *, closed: bool) -> Floats:
    """Cut the corners of a polygon or a line three times (Chaikin 1974)."""
    line = np.asarray(points, np.float64)
    for _ in range(3):
        here, there = (line, np.roll(line, -1, axis=0)) if closed else (line[:-1], line[1:])
        pairs = np.stack([0.75 * here + 0.25 * there, 0.25 * here + 0.75 * there], axis=1)
        cut = pairs.reshape(-1, 2)
        line = cut if closed else np.concatenate([line[:1], cut, line[-1:]])
    return line


def _spindle(halves: Sequence[tuple[float, float]]) -> Floats:
    """The outline of a body along x, given half-widths: ((x, half), …)."""
    upper = np.array(halves, np.float64)
    return smooth(np.concatenate([upper, (upper * [1, -1])[::-1]]), closed=True)


Form = Callable[[Pen, np.random.Generator], None]
FORMS: Registry[Form] = Registry("plankton form")


@FORMS.register("copepod")
def copepod(pen: Pen, rng: np.random.Generator) -> None:
    """A spindle with swept antennae, a jointed tail, a fan of setae, often two egg sacs."""
    girth, sweep = rng.uniform(0.85, 1.15), rng.uniform(-0.1, 0.45)
    for side in (-1, 1):
        reach = rng.uniform(0.85, 1.1)
        antenna = [(0.5, 0.07), (0.62, 0.3), (0.55 - sweep / 2, 0.7), (0.3 - sweep, reach)]
        pen.limb([(x, side * y) for x, y in antenna], 0.026, 0.008, 190)
        for x in (-0.1, -0.25, -0.38):
            y = side * rng.uniform(0.32, 0.42) * girth
            pen.limb([(x + 0.05, side * 0.2), (x, y * 0.9), (x - 0.14, y)], 0.02, 0.008, 170)
        for spread in (0.02, 0.09, 0.17):
            tip = (-0.93 - rng.uniform(0.2, 0.3), side * (spread + 0.05))
            pen.limb([(-0.88, side * 0.03), (-1, side * (spread + 0.02)), tip], 0.012, 0.004, 150)
    if rng.random() < 0.4:
        for side in (-1, 1):
            pen.blob((-0.72, side * 0.15), (0.17, 0.075), 150)
    pen.fill(_spindle([(-0.45, 0.08), (-0.7, 0.06), (-0.88, 0.055), (-0.92, 0.03)]), 185)
    body = [(0.66, 0), (0.63, 0.13), (0.42, 0.26), (0.1, 0.31), (-0.2, 0.27), (-0.46, 0.14)]
    pen.fill(_spindle([(x, y * girth) for x, y in (*body, (-0.54, 0.05))]), 165)
    pen.blob((0.02, 0.0), (0.34, 0.15 * girth), 205)
    pen.blob((0.1, rng.uniform(-0.06, 0.06)), (0.2, 0.07), 110)
    for x, half in ((0.16, 0.27), (-0.08, 0.25), (-0.27, 0.19), (-0.4, 0.13)):
        curve = [(x, -half * girth), (x + 0.03, 0), (x, half * girth)]
        pen.limb(curve, 0.006, 0.006, 130)
    for x in (-0.6, -0.72, -0.82):
        pen.limb([(x, -0.045), (x, 0.045)], 0.005, 0.005, 140)
    pen.blob((0.54, 0.0), (0.035, 0.03), 245)


@FORMS.register("diatom")
def diatom(pen: Pen, rng: np.random.Generator) -> None:
    """A chain of box-like cells, long curved spines from their corners."""
    cells, pitch = int(rng.integers(3, 7)), rng.uniform(0.24, 0.3)
    half = rng.uniform(0.15, 0.22)
    starts = (np.arange(cells) - (cells - 1) / 2) * pitch
    for place, x in enumerate(starts):
        lean = (place - (cells - 1) / 2) / cells * rng.uniform(0.7, 1.3)
        for side in (-1, 1):
            for corner in (-0.4, 0.4):
                reach = half + rng.uniform(0.35, 0.7)
                tip = (x + corner * pitch + lean * 1.2, side * reach)
                knee = (x + corner * pitch * 1.4, side * (half + 0.12))
                foot = (x + corner * pitch * 0.8, side * half * 0.85)
                pen.limb([foot, knee, tip], 0.013, 0.006, 150)
    for x in starts:
        across, along = half * rng.uniform(0.94, 1.06), pitch * 0.46
        for shrink, tone in ((1.0, 200), (0.84, 120)):
            a, b = along * shrink, across * shrink
            waist = [(x - a, -b), (x, -b * 0.9), (x + a, -b), (x + a * 0.86, 0)]
            rest = [(x + a, b), (x, b * 0.9), (x - a, b), (x - a * 0.86, 0)]
            pen.fill(smooth([*waist, *rest], closed=True), tone)
        for _ in range(4):
            spot = (x + rng.uniform(-0.4, 0.4) * along, rng.uniform(-0.6, 0.6) * across)
            pen.blob(spot, (0.03, 0.035), int(rng.integers(165, 225)))


@FORMS.register("jelly")
def jelly(pen: Pen, rng: np.random.Generator) -> None:
    """A glassy bell with a dark rim, radial canals, and wavy tentacles."""
    wide, tall = rng.uniform(0.42, 0.55), rng.uniform(0.5, 0.75)
    for y in np.linspace(-0.92, 0.92, int(rng.integers(7, 13))) * wide:
        length, phase = rng.uniform(0.45, 1.0), rng.uniform(0, 2 * np.pi)
        down = np.linspace(0, length, 9)
        sway = 0.045 * np.sin(9 * down + phase) * np.minimum(1, down * 4)
        path = np.stack([0.03 - down, y * (1 + 0.25 * down) + sway], axis=1)
        pen.limb(path, 0.016, 0.008, 125)
    rim = np.linspace(-np.pi / 2, np.pi / 2, 25)
    dome = np.stack([tall * np.cos(rim) ** 0.8, wide * np.sin(rim)], axis=1)
    scallops = [(-0.05 - 0.03 * (step % 2), wide * (0.96 - 0.16 * step)) for step in range(13)]
    bell = smooth(np.concatenate([dome, scallops]), closed=True)
    pen.fill(bell, 165)
    pen.fill(bell * [0.93, 0.93] + [0.012, 0], 70)
    inside = bell * [0.62, 0.72]
    pen.fill(inside, 95)
    for y in (-0.45, -0.15, 0.15, 0.45):
        canal = [(0.62 * tall, y * 0.2), (0.4 * tall, y * wide), (0.0, y * wide * 1.7)]
        pen.limb(canal, 0.009, 0.012, 140)
        pen.blob((0.33 * tall, y * wide * 1.1), (0.07, 0.035), 185)
    pen.limb([(0.6 * tall, 0), (0.25 * tall, 0.02), (-0.16, -0.01)], 0.05, 0.03, 150)


@FORMS.register("pluteus")
def pluteus(pen: Pen, rng: np.random.Generator) -> None:
    """A sea urchin's larva: an easel of stiff arms on a pointed body."""
    pairs, spread = int(rng.integers(2, 4)), rng.uniform(0.75, 1.1)
    for side in (-1, 1):
        for pair in range(pairs):
            out = spread * (0.16 + 0.26 * pair) * side
            tip = (rng.uniform(0.75, 1.05) - 0.15 * pair, out * rng.uniform(1.0, 1.25))
            foot = (-0.1 - 0.08 * pair, 0.5 * out)
            knee = (0.25, 0.8 * out)
            pen.limb([foot, knee, tip], 0.07, 0.012, 120)
            pen.limb([(-0.45, 0.1 * out), knee, tip], 0.014, 0.006, 205)
    edge = spread * (0.12 + 0.16 * pairs)
    body = [(-0.72, 0), (-0.4, 0.18), (0.0, edge), (0.16, edge * 0.9), (0.08, 0.08)]
    pen.fill(_spindle(body), 125)
    pen.blob((-0.12, 0.0), (0.17, 0.13), 180)
    pen.blob((0.0, 0.0), (0.06, 0.05), 140)
    for side in (-1, 1):
        pen.limb([(-0.62, 0), (-0.3, side * 0.12), (0.08, side * edge * 0.8)], 0.012, 0.01, 205)


@FORMS.register("ceratium")
def ceratium(pen: Pen, rng: np.random.Generator) -> None:
    """A dinoflagellate: an armoured body, one long horn ahead, two that sweep round."""
    pen.limb([(0.15, 0), (0.5, rng.uniform(-0.03, 0.03)), (1.05, 0)], 0.09, 0.014, 190)
    flare = rng.uniform(0.45, 0.8)
    for side in (-1, 1):
        reach = rng.uniform(0.2, 0.75)
        horn = [(-0.15, 0.16), (-0.42, 0.28), (-0.38, flare), (reach, flare + 0.05)]
        pen.limb([(x, side * y) for x, y in horn], 0.075, 0.014, 185)
    half = rng.uniform(0.27, 0.34)
    body = [(0.3, 0.05), (0.14, half * 0.75), (-0.02, half), (-0.2, half * 0.85), (-0.33, 0.1)]
    pen.fill(_spindle(body), 190)
    pen.limb([(-0.03, -half), (0.0, 0), (-0.03, half)], 0.018, 0.018, 110)
    for _ in range(7):
        spot = rng.uniform([-0.22, -0.16], [0.14, 0.16])
        pen.blob(spot, (0.03, 0.03), int(rng.integers(140, 235)))
