"""Augmentation recipes: a region around a patch → the patch, seen differently.

A recipe is a factory: side of the patch → function of (image (h, w, 3) uint8, label map (h, w)
uint8, generator) that returns both at (patch, patch). The region is larger than the patch (see
`data.MARGIN`), so that turning and shrinking find real pixels. The same generator state gives
the same patch; labels are never mixed, and what lies outside the image is 255 (ignored). Recipes
of `NEEDS_POOL` must be given a function that draws an image of the target pool, too.
"""

import random
import threading
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ml_backend.learning.looks import with_frequencies, with_histogram
from ml_backend.registry import Registry
from ml_backend.settings import prefer

U8 = npt.NDArray[np.uint8]
Style = Callable[[np.random.Generator], U8]
"""Gives an image of the target, as large as the region and on the grey scale of its image."""


class Augmentation(Protocol):
    """Image, label map and generator → both at the side of the patch, contiguous."""

    def __call__(
        self, image: U8, mask: U8, rng: np.random.Generator, style: Style | None = None, /
    ) -> tuple[U8, U8]:
        """Leave the arguments as they are."""


AUGMENTATIONS: Registry[Callable[[int], Augmentation]] = Registry("augmentation")
NEEDS_POOL = frozenset({"specialized"})

_BORDER = cv2.BORDER_REFLECT_101  # of image and labels alike: mirrored pixels keep their labels


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
    return _mapped(image, curve)


def _mapped(image: U8, curve: npt.NDArray[np.floating[Any]]) -> U8:
    """Each value of a contiguous image replaced by what `curve` (256,) says of it."""
    return np.asarray(cv2.LUT(image, np.round(np.clip(curve, 0, 255)).astype(np.uint8)), np.uint8)


def _stretch(image: U8) -> tuple[U8, float, float]:
    """The image over all of 0..255, and what `low + step * stretched` needs to undo it.

    So that noise is as strong in a dim image as in a bright one; never by more than eight times.
    """
    low, high = float(image.min()), float(image.max())
    step = max(high - low, 32.0) / 255
    return _mapped(image, (np.arange(256) - low) / step), low, step


def _albumentations() -> Any:  # its types are not ours to promise
    """Import the library, which is slow and would otherwise ask the network for its updates."""
    prefer("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


class _Transforms:
    """Transforms of Albumentations in a row, drawn from the caller's generator alone.

    A composition keeps the generator of its last call, so each thread has one of its own.
    """

    def __init__(self, make: Callable[[], list[Any]]) -> None:
        self._make, self._own = make, threading.local()

    def __call__(self, image: U8, mask: U8, rng: np.random.Generator) -> tuple[U8, U8]:
        compose = getattr(self._own, "compose", None)
        if compose is None:
            compose = self._own.compose = _albumentations().Compose(self._make())
        # `set_random_seed` would give every transform the same numbers: all happen, or none.
        compose.set_random_state(rng, random.Random(int(rng.integers(1 << 62))))
        seen = compose(image=image, mask=mask)
        return seen["image"], seen["mask"]


def _affine() -> list[Any]:
    """Turns of ±15° and scales of 0.85..1.2."""
    return [
        _albumentations().Affine(
            scale=(0.85, 1.2), rotate=(-15, 15), keep_ratio=True, border_mode=_BORDER, p=1
        )
    ]


def _warp() -> list[Any]:
    return [
        _albumentations().GridDistortion(distort_limit=0.15, border_mode=_BORDER, p=0.4),
    ]


def _elastic(patch: int) -> list[Any]:
    """Smooth random displacements, about 3 px where the patch has 192."""
    alpha, sigma = patch**2 / 70, patch / 16
    return [_albumentations().ElasticTransform(alpha, sigma, border_mode=_BORDER, p=0.6)]


def _restyle(image: U8, style: U8, rng: np.random.Generator) -> U8:
    """The low frequencies or the histogram of an image of the target, in half of the cases."""
    if rng.random() < 0.5:
        return image
    if rng.random() < 0.5:
        return with_frequencies(image, style, rng.uniform(0.0, 0.03))
    # Whole matches would make objects as dark as a ground that takes most of the reference.
    return with_histogram(image, style, rng.uniform(0.3, 0.8))


def _camera() -> list[Any]:
    """Light, noise, blur and resolution of another camera."""
    library = _albumentations()
    blurs = [
        library.GaussianBlur(blur_limit=0, sigma_limit=(0.4, 1.6), p=1),
        library.MotionBlur(blur_limit=(3, 7), p=1),
        library.MedianBlur(blur_limit=(3, 5), p=1),
    ]
    ways = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}
    return [
        library.RandomGamma(gamma_limit=(70, 140), p=0.3),
        library.OneOf(blurs, p=0.3),
        library.Downscale(scale_range=(0.4, 0.8), interpolation_pair=ways, p=0.2),
        library.ISONoise(intensity=(0.1, 0.3), p=0.3),
    ]


def _holes() -> list[Any]:
    """Up to four rectangles of 0."""
    sides = {"hole_height_range": (0.05, 0.2), "hole_width_range": (0.05, 0.2)}
    return [_albumentations().CoarseDropout(num_holes_range=(1, 4), **sides, fill=0, p=0.5)]


def _recipe(
    patch: int,
    region: Callable[[], list[Any]] = list,
    camera: Callable[[], list[Any]] | None = None,
    *,
    styled: bool = False,
) -> Augmentation:
    """What bends space is done to the whole `region`; flips, light, `camera`, holes to the patch.

    The holes have the colour of one of the patch's pixels: in dim or grey images, too, they are
    nothing but in the way. The labels below them stay.
    """
    bend, cover = _Transforms(region), _Transforms(_holes)
    see = _Transforms(camera) if camera else None
    whole = np.ones((patch, patch, 1), np.uint8)

    def augment(
        image: U8, mask: U8, rng: np.random.Generator, style: Style | None = None, /
    ) -> tuple[U8, U8]:
        if styled and style:
            image = _restyle(image, style(rng), rng)
        image, mask = bend(image, mask, rng)
        image, mask = _flip_and_turn(*_crop_centre(image, mask, patch), rng)
        image = _relight(image, rng)
        if see:
            stretched, low, step = _stretch(image)
            seen, mask = see(stretched, mask, rng)
            image = _mapped(np.ascontiguousarray(seen), low + step * np.arange(256))
        left, _ = cover(whole, mask, rng)
        colour = image[tuple(rng.integers(patch, size=2))]
        image = np.where(left > 0, image, colour)
        return image, np.ascontiguousarray(mask)

    return augment


@AUGMENTATIONS.register("none")
def none(patch: int) -> Augmentation:
    """The patch as it is."""

    def augment(
        image: U8, mask: U8, _rng: np.random.Generator, _style: Style | None = None, /
    ) -> tuple[U8, U8]:
        image, mask = _crop_centre(image, mask, patch)
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)

    return augment


@AUGMENTATIONS.register("basic")
def basic(patch: int) -> Augmentation:
    """Flips, quarter turns, and other light (source A)."""

    def augment(
        image: U8, mask: U8, rng: np.random.Generator, _style: Style | None = None, /
    ) -> tuple[U8, U8]:
        image, mask = _flip_and_turn(*_crop_centre(image, mask, patch), rng)
        return _relight(image, rng), mask

    return augment


@AUGMENTATIONS.register("occlusion")
def occlusion(patch: int) -> Augmentation:
    """`basic` with holes, below which the labels stay (source A)."""
    return _recipe(patch)


@AUGMENTATIONS.register("affine")
def affine(patch: int) -> Augmentation:
    """`occlusion` with small turns (±15°) and other scales (0.85..1.2) (sources A, B)."""
    return _recipe(patch, _affine)


@AUGMENTATIONS.register("domain")
def domain(patch: int) -> Augmentation:
    """`affine` seen by another camera: bent grid, gamma, blur, coarser pixels, noise (source A)."""
    return _recipe(patch, lambda: _affine() + _warp(), _camera)


@AUGMENTATIONS.register("specialized")
def specialized(patch: int) -> Augmentation:
    """`domain` in the colours of the target pool: Fourier domain adaptation or histogram matching.

    Of the source A; FDA is Yang & Soatto 2020.
    """
    return _recipe(patch, lambda: _affine() + _warp(), _camera, styled=True)


@AUGMENTATIONS.register("elastic")
def elastic(patch: int) -> Augmentation:
    """`affine` with elastic deformation (source B; Simard et al. 2003)."""
    return _recipe(patch, lambda: _affine() + _elastic(patch))
