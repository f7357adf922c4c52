"""Test-time views: the eight symmetries of the square, each with its exact inverse."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ml_backend.errors import ConfigError
from ml_backend.registry import Registry

Image = npt.NDArray[np.uint8]
Probs = npt.NDArray[np.float32]


class View(NamedTuple):
    """`apply` shows an (H, W, C) image differently; `undo` turns its (C, H, W) answer back."""

    apply: Callable[[Image], Image]
    undo: Callable[[Probs], Probs]


VIEWS: Registry[View] = Registry("view")


def _file(name: str, *, turns: int, mirrored: bool) -> None:
    """Register the view that mirrors left and right, then turns by `turns` x 90° to the left."""

    def apply(image: Image) -> Image:
        shown = image[:, ::-1] if mirrored else image
        return np.ascontiguousarray(np.rot90(shown, turns, axes=(0, 1)))

    def undo(probs: Probs) -> Probs:
        turned = np.rot90(probs, -turns, axes=(1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)

    VIEWS.register(name)(View(apply, undo))


_file("identity", turns=0, mirrored=False)
_file("rot90", turns=1, mirrored=False)
_file("rot180", turns=2, mirrored=False)
_file("rot270", turns=3, mirrored=False)
_file("hflip", turns=0, mirrored=True)
_file("transpose", turns=1, mirrored=True)
_file("vflip", turns=2, mirrored=True)
_file("antitranspose", turns=3, mirrored=True)


_ORDER = ("identity", "hflip", "vflip", "rot180", "rot90", "rot270", "transpose", "antitranspose")


def first_views(count: int) -> tuple[str, ...]:
    """Names of the `count` views that a prediction is the mean of, always the same ones.

    Raises `ConfigError` when there are not as many.
    """
    if not 1 <= count <= len(_ORDER):
        raise ConfigError(f"prediction.views: {count} is not within 1..{len(_ORDER)}")
    return _ORDER[:count]


def draw_views(count: int, rng: np.random.Generator) -> list[str]:
    """Names of `count` different views, the plain one first, the others drawn at random.

    Raises `ConfigError` when there are not as many.
    """
    others = [name for name in VIEWS if name != "identity"]
    if not 1 <= count <= len(VIEWS):
        raise ConfigError(f"scoring.views: {count} is not within 1..{len(VIEWS)}")
    return ["identity", *map(str, rng.choice(others, size=count - 1, replace=False))]
