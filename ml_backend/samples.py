"""Pictures to try the loop on without any of one's own: plankton silhouettes with exact masks.

Two domains of the same five forms. *Clean*: one specimen, sharp, on white. *Noisy*: one to
three specimens in grey, unevenly lit water with blur, grain, specks and debris (fibres,
bubbles, flocs of marine snow) that is no plankton and not in the mask.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import StoreError
from ml_backend.silhouettes import FORMS, Pen

Floats = NDArray[np.float64]
Planes = tuple[NDArray[np.uint8], NDArray[np.uint8]]

_HEIGHT = 256
_WIDTHS = (256, 288, 320)
_VERSION = 1  # raise when the same seed gives other pictures


@dataclass(frozen=True)
class SampleFolders:
    """Where the pictures lie; a mask has its image's file name. 8-bit grey PNG, masks 0/255."""

    clean_images: Path
    clean_masks: Path
    noisy_images: Path
    noisy_masks: Path


def make_samples(
    folder: Path, *, count_clean: int = 24, count_noisy: int = 120, seed: int = 0
) -> SampleFolders:
    """Fill `folder` with both domains, or find there what an earlier call has made.

    The same arguments give the same bytes, and picture i does not depend on the counts. The
    folder appears whole or not at all. Raises `StoreError` when it holds anything else.
    """
    made = {"version": _VERSION, "seed": seed, "clean": count_clean, "noisy": count_noisy}
    try:
        if folder.exists() and any(folder.iterdir()):
            _check_same(folder, made)
        else:
            _publish(folder, made)
    except OSError as error:
        raise StoreError(f"cannot write samples to {folder}: {error.strerror or error}") from error
    return _folders(folder)


def _publish(folder: Path, made: dict[str, int]) -> None:
    """Draw everything beside `folder`, then rename it there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        fresh = room / "new"
        for domain in ("clean", "noisy"):
            for kind in ("images", "masks"):
                (fresh / domain / kind).mkdir(parents=True)
            for index in range(made[domain]):
                rng = np.random.default_rng([made["seed"], domain == "noisy", index])
                for kind, pixels in zip(("images", "masks"), _picture(domain, rng), strict=True):
                    _write(fresh / domain / kind / f"{domain}-{index:04}.png", pixels)
        (fresh / "samples.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
        fresh.rename(folder)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _picture(domain: str, rng: np.random.Generator) -> Planes:
    """One image and its mask."""
    return (_clean if domain == "clean" else _noisy)(rng)


def _clean(rng: np.random.Generator) -> Planes:
    height, width = _HEIGHT, int(rng.choice(_WIDTHS))
    dark, mask = _specimen(height, width, rng, size=rng.uniform(78, 108), wander=0.03)
    light = 252 * (1 - rng.uniform(0.9, 1.0) * dark) + rng.normal(0, 1, dark.shape)
    return _to_bytes(light), mask * np.uint8(255)


def _noisy(rng: np.random.Generator) -> Planes:
    height, width = _HEIGHT, int(rng.choice(_WIDTHS))
    mask = np.zeros((height, width), bool)
    passed = _debris(height, width, rng)
    for _ in range(int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))):
        size = rng.uniform(38, 85)
        dark, shape = _specimen(height, width, rng, size=size, wander=0.33)
        if not (mask & shape).any():  # specimens are caught side by side, not stacked
            passed *= 1 - rng.uniform(0.5, 0.9) * dark
            mask |= shape
    light = _lamp(height, width, rng) * passed
    blurred: Floats = np.asarray(cv2.GaussianBlur(light, (0, 0), rng.uniform(0.5, 1.3)), np.float64)
    return _to_bytes(blurred + rng.normal(0, rng.uniform(3, 8), light.shape)), mask * np.uint8(255)


def _specimen(
    height: int, width: int, rng: np.random.Generator, *, size: float, wander: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """One organism: its darkness 0..1 with a mottled texture, and its pixels."""
    form = FORMS[str(rng.choice(list(FORMS)))]
    middle = np.array([width, height]) * (0.5 + rng.uniform(-wander, wander, 2))
    pen = Pen(
        height,
        width,
        centre=(middle[0], middle[1]),
        size=size,
        angle=rng.uniform(0, 2 * np.pi),
        bend=rng.normal(0, 0.08),
    )
    form(pen, rng)
    dark, mask = pen.planes()
    return dark * (1 + 0.12 * _cloud(height, width, rng, grain=2.5)), mask


def _debris(height: int, width: int, rng: np.random.Generator) -> Floats:
    """How much light passes what drifts about: flocs, fibres, bubbles and specks; 0..1."""
    pen = Pen(height, width, centre=(0, 0), size=1, angle=0)
    for _ in range(int(rng.integers(0, 3))):
        start = rng.uniform([0, 0], [width, height])
        steps = rng.normal(0, 28, (5, 2)) + rng.normal(0, 22, 2)
        pen.limb(start + np.cumsum(steps, axis=0), 1.1, 0.9, int(rng.integers(50, 130)))
    for _ in range(int(rng.integers(0, 4))):
        spot, radius = rng.uniform([0, 0], [width, height]), rng.uniform(3, 9)
        pen.blob(spot, (radius, radius), int(rng.integers(110, 190)))
        pen.blob(spot, (radius * 0.72, radius * 0.72), 15)
    for _ in range(int(rng.integers(20, 90))):
        radius = rng.uniform(0.4, 1.6)
        spot = rng.uniform([0, 0], [width, height])
        pen.blob(spot, (radius, radius), int(rng.integers(40, 200)))
    return np.asarray((1 - _snow(height, width, rng)) * (1 - pen.planes()[0]))


def _snow(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Flocs of marine snow: ragged clouds without an outline, 0 (clear) to about 0.6."""
    rows, columns = np.arange(height)[:, None], np.arange(width)
    near = np.zeros((height, width))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform([0, 0], [width, height])
        spread = 2 * rng.uniform(10, 26) ** 2
        across, down = np.exp(-((columns - x) ** 2) / spread), np.exp(-((rows - y) ** 2) / spread)
        near += rng.uniform(0.6, 1.0) * down * across
    ragged = np.clip(near + 0.5 * _cloud(height, width, rng, grain=4) - 0.45, 0, 1)
    return np.asarray(rng.uniform(0.4, 0.7) * ragged * (near > 0.02))


def _lamp(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Uneven light: a level, a slope and darker corners, grey levels."""
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    slope = rng.uniform(-0.16, 0.16, 2)
    shade = 1 + slope[0] * x + slope[1] * y - rng.uniform(0, 0.15) * (x**2 + y**2)
    return np.asarray(rng.uniform(140, 205) * shade)


def _cloud(height: int, width: int, rng: np.random.Generator, *, grain: float) -> Floats:
    """Smooth noise with mean 0 and standard deviation 1; `grain` px across."""
    raw = cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (0, 0), grain)
    return np.asarray(raw / raw.std(), np.float64)


def _to_bytes(light: Floats) -> NDArray[np.uint8]:
    return np.clip(np.round(light), 0, 255).astype(np.uint8)


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _folders(folder: Path) -> SampleFolders:
    return SampleFolders(*(folder / d / k for d in ("clean", "noisy") for k in ("images", "masks")))


def _check_same(folder: Path, made: dict[str, int]) -> None:
    way_out = "choose another folder, or delete this one"
    try:
        found = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise StoreError(f"{folder} holds other files than samples; {way_out}") from None
    if {key: found.get(key) for key in made} != made:
        raise StoreError(f"{folder} holds samples made with {found}, not {made}; {way_out}")
