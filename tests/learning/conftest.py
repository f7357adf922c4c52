"""Tiny images with bright discs, and a recipe small enough for seconds."""

import numpy as np
import pytest
import torch

from ml_backend.learning.data import Sample
from ml_backend.recipe import parse_recipe


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Many tests share few cores, and one thread makes sums reproducible anywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_discs(seed, side=64, classes=1):
    """A noisy grey image with bright discs, label k at brightness 80 + 90 k / classes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    mask = np.zeros((side, side), np.uint8)
    for count in range(3):
        cy, cx = rng.integers(8, side - 8, size=2)
        mask[(y - cy) ** 2 + (x - cx) ** 2 < rng.integers(6, 10) ** 2] = 1 + count % classes
    noise = rng.normal(0, 12, (side, side, 3))
    image = np.clip(80 + 90 * mask[..., None] / classes + noise, 0, 255).astype(np.uint8)
    return image, mask


@pytest.fixture
def draw():
    """The function that draws one image and its mask."""
    return draw_discs


@pytest.fixture
def discs():
    """Function (count, first seed, …) → samples."""

    def make(count, first=0, **options):
        return [
            Sample(f"discs-{seed}", lambda seed=seed: draw_discs(seed, **options))
            for seed in range(first, first + count)
        ]

    return make


@pytest.fixture
def recipe():
    """A recipe of a small network; arguments replace keys of the training section."""

    def make(**training):
        small = {"steps": 4, "epochs": 2, "patch": 32, "batch_size": 2}
        return parse_recipe({
            "network": {"depth": 3, "decoder_width": 8, "fold": 1},
            "training": small | training,
            "prediction": {"window": 64, "overlap": 16},
        })  # fmt: skip

    return make
