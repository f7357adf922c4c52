"""What images look like in numbers: to the network, and by themselves."""

import subprocess
import sys

import numpy as np
import pytest

from ml_backend.selection.appearance import appearance, comparable
from ml_backend.selection.embeddings import DIMENSIONS, embed


@pytest.mark.parametrize("count", [0, 1, 5, 64, 65, 512, 2048])
def test_embeddings_are_short_unit_vectors(count):
    """At most 64 numbers of half precision, of length one."""
    vector = embed(np.random.default_rng(0).random(count))
    assert vector.dtype == np.float16
    assert len(vector) == min(count, DIMENSIONS)
    assert np.linalg.norm(vector.astype(float)) == pytest.approx(1 if count else 0, abs=1e-3)


def test_nothing_stays_nothing():
    """Features that are all zero have no direction, and no NaN."""
    assert not embed(np.zeros(300)).any()


def test_projection_keeps_who_is_near_whom():
    """Cosines survive the projection up to a few tenths, and the nearest stay the nearest."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(6, 512))
    labels = np.repeat(np.arange(6), 10)
    features = centres[labels] + 0.3 * draw.normal(size=(60, 512))
    short = np.stack([embed(row) for row in features]).astype(np.float32)
    long = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.abs(short @ short.T - long @ long.T).max() < 0.5
    assert np.abs(short @ short.T - long @ long.T).mean() < 0.12
    likeness = short @ short.T - 2 * np.eye(60)
    np.testing.assert_array_equal(labels[likeness.argmax(axis=1)], labels)


def test_every_process_projects_alike():
    """What one worker keeps can be compared with what another one keeps."""
    code = (
        "import numpy as np; from ml_backend.selection.embeddings import embed; "
        "print(embed(np.arange(200.0)).tolist())"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == str(embed(np.arange(200.0)).tolist())


def _noise(seed, mean, sigma, side=96, grain=1):
    """Grains of a colour."""
    draw = np.random.default_rng(seed)
    rough = draw.normal(0, sigma, (side // grain, side // grain, 1)).repeat(grain, 0)
    return np.clip(mean + rough.repeat(grain, 1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (31, 400), (700, 600)])
def test_appearance_of_any_size(size):
    """Always as many numbers within 0..1, the shares of each axis summing to one."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    looks = appearance(image).astype(float)
    assert appearance(image).dtype == np.float16
    assert looks.shape == (29,)
    assert looks.min() >= 0
    assert looks.max() <= 1
    for part in (looks[:8], looks[8:16], looks[16:24], looks[24:]):
        assert (part**2).sum() == pytest.approx(1, abs=5e-3)


def test_appearance_tells_kinds_apart():
    """Images of one kind lie together: brightness, colour and grain each make a kind."""
    kinds = [
        {"mean": [20, 20, 20], "sigma": 10},
        {"mean": [200, 200, 200], "sigma": 10},
        {"mean": [150, 80, 180], "sigma": 10},
        {"mean": [20, 20, 20], "sigma": 10, "grain": 8},
    ]
    looks = comparable(
        np.stack([appearance(_noise(seed, **kind)) for kind in kinds for seed in range(5)])
    )
    away = np.linalg.norm(looks[:, None] - looks[None], axis=2)
    labels = np.repeat(np.arange(4), 5)
    same = labels[:, None] == labels[None]
    assert away[same].max() < away[~same].min()


def test_comparable_looks_are_of_equal_weight():
    """What varies has mean 0 and spread 1; what hardly varies is not blown up."""
    draw = np.random.default_rng(0)
    features = np.stack([draw.random(50), 0.1 * draw.random(50), 0.5 + 1e-3 * draw.random(50)], 1)
    looks = comparable(features.astype(np.float16))
    np.testing.assert_allclose(looks.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(looks.std(axis=0)[:2], [1, 1], rtol=0.05)
    assert looks.std(axis=0)[2] < 0.05
