"""An image in the looks of another: with its low frequencies, or its histogram.

Albumentations has both, FDA by three full Fourier transforms of each channel of both images, and
histogram matching without a table. Of a few low frequencies each is a product of two small
matrices, and a histogram of bytes is a table, so these take a tenth of the time.
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]


def with_frequencies(image: U8, style: U8, share: float) -> U8:
    """`image` with the amplitudes of `style` at its lowest frequencies (Yang & Soatto 2020, FDA).

    Both (H, W, 3) of the same size. Phases stay. `share` of the shorter side says up to which
    frequency, from 0 (the mean alone) on.
    """
    height, width = image.shape[:2]
    most = int(min(height, width) * share)
    rows, columns = _waves(height, most), _waves(width, most)
    own, other = (_spectrum(one, rows, columns) for one in (image, style))
    # e^(i phase), 1 where there is no amplitude
    phase = np.where(own == 0, 1, own / np.maximum(np.abs(own), 1e-12))
    change = (np.abs(other) - np.abs(own)) * phase
    added = (rows.conj().T @ change @ columns.conj()).real / (height * width)
    seen = image + added.transpose(1, 2, 0)
    return np.round(np.clip(seen, 0, 255)).astype(np.uint8)


def with_histogram(image: U8, style: U8, share: float) -> U8:
    """`image` moved by `share`, 0..1, of the way to the histogram of `style`, channel by channel.

    Both (H, W, 3), of any sizes.
    """
    table = np.empty((1, 256, 3), np.uint8)
    values = np.arange(256)
    for channel in range(3):
        own, other = (
            np.cumsum(np.bincount(one[..., channel].reshape(-1), minlength=256)) / one[..., 0].size
            for one in (image, style)
        )
        there = np.flatnonzero(np.diff(other, prepend=0))
        matched = np.interp(own, other[there], there)
        table[0, :, channel] = np.round(share * matched + (1 - share) * values)
    return np.asarray(cv2.LUT(image, table), np.uint8)


@lru_cache(maxsize=64)
def _waves(size: int, most: int) -> npt.NDArray[np.complex64]:
    """The Fourier transform's rows (2 most + 1, size) of the frequencies -most..most."""
    angles = np.outer(np.arange(-most, most + 1), np.arange(size)) * (2 * np.pi / size)
    return np.exp(-1j * angles).astype(np.complex64)


def _spectrum(
    image: U8, rows: npt.NDArray[np.complex64], columns: npt.NDArray[np.complex64]
) -> npt.NDArray[np.complex64]:
    """(3, rows, columns) of the Fourier transform of each channel."""
    channels = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    return np.asarray(rows @ channels @ columns.T, np.complex64)
