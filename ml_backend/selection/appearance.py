"""What an image looks like before there is a model: its colours, and how coarse its texture is.

Few and simple numbers, so that images of one kind, of one stain, microscope or magnification,
lie together, and a first batch can take some of each kind.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

SOURCE = "appearance-1"
"""Under which name such features are kept; another number whenever they change."""

_LEVELS = 8  # histogram bins of one colour axis
_SCALES = 5  # octaves of texture: structures of about 2, 4, 8, 16 and 32 px
_SIDE = 512  # px of the middle of the image that are looked at
_LEAST_SPREAD = 0.03  # what varies less over a pool than this is noise, not kind


def appearance(image: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Colours and texture of an (H, W, 3) RGB image of any size, 29 numbers in 0..1.

    Three histograms, of brightness and of two colour differences, as square roots of the shares,
    so that distances are Hellinger's; then for each octave the share of the contrast that
    structures of this size make up, likewise.
    """
    middle = _middle(image).astype(np.int16)
    red, green, blue = np.moveaxis(middle, 2, 0)
    grey = (red + green + blue) // 3
    axes = [grey, (red - green + 255) // 2, ((red + green) // 2 - blue + 255) // 2]
    shares = [np.bincount((axis // 32).ravel(), minlength=_LEVELS) / axis.size for axis in axes]
    return np.asarray(np.sqrt(np.concatenate([*shares, _texture(grey)])), np.float16)


def comparable(features_ND: NDArray[np.float16]) -> NDArray[np.float32]:
    """Features of a pool, each with mean 0 and spread 1 over it, so that all of them count."""
    features = features_ND.astype(np.float32)
    spread_D = np.maximum(features.std(axis=0), _LEAST_SPREAD)
    return np.asarray((features - features.mean(axis=0)) / spread_D)


def _middle(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of the image, not scaled: the size of things is what tells magnifications."""
    top, left = (max(0, (side - _SIDE) // 2) for side in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE]


def _texture(grey_HW: NDArray[np.int16]) -> NDArray[np.float64]:
    """Variance of each octave as a share of their sum; alike where there is no texture."""
    energies = np.empty(_SCALES)
    fine_HW: NDArray[np.float32] = grey_HW.astype(np.float32)
    for scale in range(_SCALES):
        blurred = cv2.GaussianBlur(fine_HW, (0, 0), 1, borderType=cv2.BORDER_REFLECT)
        coarse_HW = np.asarray(blurred, np.float32)
        energies[scale] = float(np.var(fine_HW - coarse_HW)) + 1e-3
        fine_HW = coarse_HW[::2, ::2]
    return np.asarray(energies / energies.sum())
