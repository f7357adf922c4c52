"""The looks of another image are what Albumentations and the papers say they are."""

import numpy as np
import pytest
from albumentations.augmentations.mixing import domain_adaptation_functional as reference

from ml_backend.learning.looks import with_frequencies, with_histogram


def _image(seed, shape=(60, 48), low=0, high=256):
    """Coarse colour over which there is noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(y / rng.uniform(5, 20))[..., None] + np.cos(
        x / rng.uniform(5, 20, 3)[:, None, None]
    ).transpose(1, 2, 0)
    image = (waves + 2) / 4 * (high - low - 20) + low + rng.integers(0, 20, (*shape, 3))
    return np.clip(image, low, high - 1).astype(np.uint8)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.4])
@pytest.mark.parametrize("shape", [(60, 48), (33, 65)])
def test_frequencies_are_exchanged_as_by_whole_transforms(share, shape):
    """Amplitudes up to the border are the style's, all phases and other amplitudes the image's."""
    image, style = _image(0, shape), _image(1, shape, 60, 200)
    most = int(min(shape) * share)
    own, other = (np.fft.fft2(one.astype(float), axes=(0, 1)) for one in (image, style))
    near = [np.abs(np.fft.fftfreq(size, 1 / size)) <= most for size in shape]
    low = (near[0][:, None] & near[1])[..., None]
    mixed = np.where(low, np.abs(other) * np.exp(1j * np.angle(own)), own)
    expected = np.fft.ifft2(mixed, axes=(0, 1))
    assert np.abs(expected.imag).max() < 1e-9
    expected = np.clip(expected.real, 0, 255)
    seen = with_frequencies(image, style, share)
    assert np.abs(seen - expected).max() <= 0.51
    assert not np.array_equal(seen, image)


def test_an_image_in_its_own_looks_is_itself():
    """Nothing changes, whichever way."""
    image = _image(2)
    np.testing.assert_array_equal(with_frequencies(image, image, 0.1), image)
    np.testing.assert_array_equal(with_histogram(image, image, 1.0), image)
    black = np.zeros((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(with_frequencies(black, black + 9, 0.0), black + 9)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_histograms_are_matched_as_albumentations_does(share):
    """To one grey value, for it cuts off where this rounds."""
    image, style = _image(3), _image(4, (30, 90), 40, 120)
    matched = np.stack(
        [
            reference._match_cumulative_cdf(image[..., c], style[..., c]) for c in range(3)
        ], axis=2,
    )  # fmt: skip
    expected = share * matched.astype(float) + (1 - share) * image
    assert np.abs(with_histogram(image, style, share) - expected).max() <= share + 0.51
