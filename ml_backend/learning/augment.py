"""Augmentation recipes: a region around a patch → the patch, seen differently.

A recipe is a factory: side of the patch → function of (image (h, w, 3) uint8, label map (h, w)
uint8, generator) that returns both at (patch, patch). The region is larger than the patch (see
`data.MARGIN`), so that turning and shrinking find real pixels. The same generator state gives
the same patch; labels are never mixed, and what lies outside the image is 255 (ignored).
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from ml_backend.registry import Registry

U8 = npt.NDArray[np.uint8]
Augmentation = Callable[[U8, U8, np.random.Generator], tuple[U8, U8]]
AUGMENTATIONS: Registry[Callable[[int], Augmentation]] = Registry("augmentation")

_IGNORE = 255


def _crop_centre(image: U8, mask: U8, patch: int) -> tuple[U8, U8]:
    top, left = ((size - patch) // 2 for size in mask.shape)
    inner = np.s_[top : top + patch, left : left + patch]
    return image[inner], mask[inner]


def _flip_and_turn(image: U8, mask: U8, rng: np.random.Generator) -> tuple[U8, U8]:
    """One of the eight symmetries of the square, all equally likely."""
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    if mirrored:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return (
        np.ascontiguousarray(np.rot90(image, turns)),
        np.ascontiguousarray(np.rot90(mask, turns)),
    )


def _relight(image: U8, rng: np.random.Generator) -> U8:
    """Random gamma (0.7..1.4), contrast (0.75..1.33) and brightness (±10 %) by one table.

    Relative to the region's own range of values: a dim image is varied as much as a bright one.
    """
    low, high = int(image.min()), int(image.max())
    values = np.clip((np.arange(256) - low) / max(high - low, 1), 0, 1)
    gamma = np.exp(rng.uniform(-0.35, 0.35))
    contrast = np.exp(rng.uniform(-0.28, 0.28))
    brightness = rng.uniform(-0.1, 0.1)
    curve = ((values**gamma - 0.5) * contrast + 0.5 + brightness) * (high - low) + low
    table: U8 = np.round(np.clip(curve, 0, 255)).astype(np.uint8)
    return np.take(table, image)


@AUGMENTATIONS.register("none")
def none(patch: int) -> Augmentation:
    """The patch as it is."""

    def augment(image: U8, mask: U8, _rng: np.random.Generator) -> tuple[U8, U8]:
        image, mask = _crop_centre(image, mask, patch)
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)

    return augment


@AUGMENTATIONS.register("basic")
def basic(patch: int) -> Augmentation:
    """Flips, quarter turns, and other light (source A)."""

    def augment(image: U8, mask: U8, rng: np.random.Generator) -> tuple[U8, U8]:
        image, mask = _flip_and_turn(*_crop_centre(image, mask, patch), rng)
        return _relight(image, rng), mask

    return augment


@AUGMENTATIONS.register("affine")
def affine(patch: int) -> Augmentation:
    """`basic` with small turns (±15°) and other scales (0.85..1.2) (sources A, B)."""

    def augment(image: U8, mask: U8, rng: np.random.Generator) -> tuple[U8, U8]:
        angle, scale = rng.uniform(-15, 15), np.exp(rng.uniform(np.log(0.85), np.log(1.2)))
        height, width = mask.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
        matrix = np.add(matrix, [[0, 0, (patch - width) / 2], [0, 0, (patch - height) / 2]])
        size = (patch, patch)
        warped = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
        labels = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST, borderValue=_IGNORE)
        image, mask = _flip_and_turn(warped.astype(np.uint8), labels.astype(np.uint8), rng)
        return _relight(image, rng), mask

    return augment
