"""Masks of clean images by thresholding: objects on an even background, no model needed.

A clean source of images (such as silhouettes on white) gets its masks this way, to be
learned from together with annotations of the images that are harder.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml_backend.errors import ImageUnreadable
from ml_backend.registry import Registry

Bool = NDArray[np.bool_]
Grey = NDArray[np.uint8]

# contrast (H, W) uint8, 0 where a pixel is like the background → (H, W) bool
METHODS: Registry[Callable[[Grey], Bool]] = Registry("threshold method")


def foreground_mask(
    image: NDArray[np.uint8],
    method: str = "otsu",
    min_area: int = 16,
    *,
    closing: int = 0,
    opening: int = 0,
    largest: int | None = None,
) -> Bool:
    """Separate objects from the background, which is what lies along the image's border.

    `image`: (H, W) or (H, W, 3) uint8; `method`: otsu, local or hysteresis; `min_area`: objects
    of fewer pixels are specks. Objects may be darker or lighter than the background; holes are
    filled. `closing` joins what lies less than two such radii (px) apart, `opening` cuts off what
    is thinner; of the rest the `largest` so many objects stay. Returns (H, W) bool, all False for
    an even image. Raises UnknownName, ImageUnreadable.
    """
    threshold = METHODS[method]
    if image.dtype != np.uint8 or image.ndim not in {2, 3} or not image.size:
        raise ImageUnreadable(
            f"an image of shape {image.shape} and type {image.dtype} cannot be thresholded; "
            "it must be (H, W) or (H, W, 3) uint8"
        )
    contrast = _contrast(image)
    if contrast.max() == 0:
        return np.zeros(contrast.shape, np.bool_)
    joined = _morphed(threshold(contrast), cv2.MORPH_CLOSE, closing)
    filled = np.asarray(ndimage.binary_fill_holes(joined))
    return _objects(_morphed(filled, cv2.MORPH_OPEN, opening), min_area, largest)


@METHODS.register("otsu")
def otsu(contrast: Grey) -> Bool:
    """One threshold for the image (Otsu 1979)."""
    return contrast > _otsu_level(contrast)


@METHODS.register("local")
def local(contrast: Grey) -> Bool:
    """A threshold for each pixel, a little above its wide neighbourhood's mean: uneven light."""
    side = max(contrast.shape) // 4 * 2 + 3
    around = cv2.blur(contrast, (side, side), borderType=cv2.BORDER_REPLICATE)
    margin = max(int(_otsu_level(contrast)) // 4, 2)
    return np.asarray(contrast > np.minimum(around.astype(np.int16) + margin, 254))


@METHODS.register("hysteresis")
def hysteresis(contrast: Grey) -> Bool:
    """What lies above half of Otsu's level and touches what lies above it: faint appendages."""
    level = _otsu_level(contrast)
    labels, count = ndimage.label(contrast > level / 2, structure=np.ones((3, 3)))
    strong = np.zeros(count + 1, np.bool_)
    strong[np.unique(labels[contrast > level])] = True
    strong[0] = False
    return np.asarray(strong[labels])


def _contrast(image: NDArray[np.uint8]) -> Grey:
    """How far each pixel lies from the background, on the side where the objects are.

    The background's grey is the border's median. Objects lie on the side on which more contrast
    is found, so that noise around the background on the other side does not count.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2GRAY)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = round(float(np.median(border)))
    darker = cv2.subtract(np.full_like(grey, background), grey)
    lighter = cv2.subtract(grey, np.full_like(grey, background))
    # Squares: few pixels far from the background outweigh the many of its noise.
    energies = [float(np.square(side, dtype=np.float32).sum()) for side in (darker, lighter)]
    return np.asarray(darker if energies[0] >= energies[1] else lighter, np.uint8)


def _otsu_level(contrast: Grey) -> float:
    """Halfway between the means of Otsu's two classes.

    That is where his criterion is highest; OpenCV names the darkest of levels that are equal, and
    in a wide gap of the histogram that is the noise's brightest.
    """
    level, above = cv2.threshold(contrast, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bright = above > 0
    if not bright.any() or bright.all():
        return float(level)
    return float(contrast[bright].mean() + contrast[~bright].mean()) / 2


def _morphed(mask: Bool, how: int, radius: int) -> Bool:
    """Open or close with a disc; beyond the image its border goes on."""
    if not radius:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    wide = np.pad(mask.astype(np.uint8), 2 * radius, mode="edge")
    inner = np.s_[2 * radius : -2 * radius, 2 * radius : -2 * radius]
    return np.asarray(cv2.morphologyEx(wide, how, disc)[inner] > 0)


def _objects(mask: Bool, min_area: int, largest: int | None) -> Bool:
    """The components of at least `min_area` pixels, and of these the `largest` so many."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[:count, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    keep = areas >= max(min_area, 1)
    if largest is not None:
        keep[np.argsort(-areas, kind="stable")[largest:]] = False
    return np.asarray(keep[labels])
