"""An image in the looks of another: with its low frequencies, or its histogram.

Albumentations has both, but computes every frequency in double precision where FDA changes a
few, and a quantile for every pixel where a byte has 256 values.
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

U8 = npt.NDArray[np.uint8]


def with_frequencies(image: U8, style: U8, share: float) -> U8:
    """`image` with the amplitudes of `style` at its lowest frequencies (Yang & Soatto 2020, FDA).

    Both (H, W, 3) of the same size. Phases stay. `share` of the shorter side says up to which
    frequency, from 0 (the mean alone) on.
    """
    height, width = image.shape[:2]
    most = int(min(height, width) * share)
    own, other = (_spectrum(one, most) for one in (image, style))
    amplitude = np.abs(own)
    phase = np.where(amplitude > 0, own / np.maximum(amplitude, 1e-12), 1)
    change = (np.abs(other) - amplitude) * phase
    columns = np.tensordot(_waves(height, most).conj().T / height, change, 1)
    added = scipy.fft.irfft(columns.astype(np.complex64), width, axis=1)
    return np.asarray(np.round(np.clip(image + added, 0, 255)), np.uint8)


def with_histogram(image: U8, style: U8, share: float) -> U8:
    """`image` moved by `share`, 0..1, of the way to the histogram of `style`, channel by channel.

    Both (H, W, 3), of any sizes.
    """
    table = np.empty((1, 256, 3), np.uint8)
    values = np.arange(256)
    for channel in range(3):
        own, other = (
            np.cumsum(cv2.calcHist([one], [channel], None, [256], [0, 256]), dtype=np.float64)
            / (one.shape[0] * one.shape[1])
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
    return np.asarray(np.exp(-1j * angles), np.complex64)


def _spectrum(image: U8, most: int) -> npt.NDArray[np.complex64]:
    """The Fourier transform (2 most + 1, most + 1, 3): rows -most..most, columns 0..most."""
    columns = scipy.fft.rfft(image.astype(np.float32), axis=1)[:, : most + 1]
    return np.asarray(np.tensordot(_waves(len(image), most), columns, 1), np.complex64)
