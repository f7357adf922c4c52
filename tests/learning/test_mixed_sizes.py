"""One project, images from 60 px to 4,000 px."""

import numpy as np
import pytest

from ml_backend.learning.data import Sample
from ml_backend.learning.evaluation import evaluate
from ml_backend.learning.inference import predictor_from_state
from ml_backend.learning.training import train

SHAPES = [(60, 60), (60, 400), (333, 61), (64, 4000), (4000, 90)]


def _sample(draw, seed, shape):
    """Discs all over an image of this shape."""
    image, mask = draw(seed, side=64)
    rows, columns = (-(-length // 64) for length in shape)
    window = np.s_[: shape[0], : shape[1]]
    image = np.ascontiguousarray(np.tile(image, (rows, columns, 1))[window])
    mask = np.ascontiguousarray(np.tile(mask, (rows, columns))[window])
    return Sample(f"{shape}", lambda: (image, mask))


@pytest.fixture
def mixed(draw):
    """Function first seed → a sample of every shape."""
    return lambda first: [_sample(draw, first + n, shape) for n, shape in enumerate(SHAPES)]


def test_small_and_huge_images_are_learned_and_predicted_together(recipe, mixed):
    """Patches larger than the smallest image, images of dozens of windows: all are told apart."""
    chosen = recipe(steps=40, patch=64, batch_size=4, learning_rate=3e-3)
    trained = train(mixed(0), mixed(20)[:2], recipe=chosen, classes=1)
    predictor = predictor_from_state(trained.state, chosen.network, 1, chosen.prediction)
    held_out = mixed(50)
    shapes = []
    for sample in held_out:
        found = evaluate(predictor, [sample], 1, each=lambda _, a, b: shapes.append((a, b)))
        assert found.mean_iou > 0.7, sample.name
    assert [a.shape for a, _ in shapes] == [b.shape for _, b in shapes] == SHAPES
