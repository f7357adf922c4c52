"""Predictions that are noise: small enough for a browser, and never the end of a step."""

import numpy as np

from ml_backend.loop.predict import regions_from
from ml_backend.masks.labels import Label, LabelConfig
from ml_backend.masks.rle import decode_brush

CONFIG = LabelConfig("kind", "image", "image", (Label("cell", "#ff0000"),), "brush")
SIDE = 1536


def probabilities(foreground: np.ndarray) -> np.ndarray:
    """Return (2, H, W) float32 that are certain of a mask."""
    return np.stack([~foreground, foreground]).astype(np.float32)


def test_specks_of_a_huge_prediction_are_left_out() -> None:
    """A prediction too big for a browser keeps its objects and loses its specks."""
    specks = np.zeros((SIDE, SIDE), bool)
    specks[::2, ::2] = True
    specks[:40, :40] = True
    regions, _ = regions_from(probabilities(specks), CONFIG)
    assert [region["type"] for region in regions] == ["brush", "labels"]
    mask = decode_brush(regions[0]["value"]["rle"], SIDE, SIDE) > 0
    assert mask[:40, :40].all()
    assert not mask[42:, 42:].any()


def test_a_prediction_of_nothing_but_noise_has_no_regions() -> None:
    """Where even that is too big, the task gets its score and no region."""
    noise = np.indices((SIDE, SIDE)).sum(axis=0) % 2 == 0
    regions, score = regions_from(probabilities(noise), CONFIG)
    assert regions == []
    assert 0 <= score <= 1
