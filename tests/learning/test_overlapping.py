"""Labels that may overlap, in the learning room: drawn, trained, calibrated and predicted."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from ml_backend.errors import DataError
from ml_backend.learning.calibration import calibrate, draw_pixels, temper
from ml_backend.learning.data import Patches, Sample
from ml_backend.learning.evaluation import evaluate
from ml_backend.learning.inference import Predictor, predictor_from_state
from ml_backend.learning.losses import make_loss
from ml_backend.learning.networks import build_network
from ml_backend.learning.passes import passes_many
from ml_backend.learning.training import train
from ml_backend.masks.sets import from_planes, planes_of
from ml_backend.recipe import Network, Prediction, Scoring, Training

CELL, NUCLEUS = 2, 4  # their bits


def draw_cells(seed, side=64):
    """Bright discs (cells), each around a brighter one (its nucleus), and their set map."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    planes = np.zeros((2, side, side), bool)
    for _ in range(2):
        cy, cx = rng.integers(14, side - 14, size=2)
        distance = (y - cy) ** 2 + (x - cx) ** 2
        planes |= [distance < 12**2, distance < 6**2]
    noise = rng.normal(0, 10, (side, side, 3))
    image = np.clip(60 + 70 * planes.sum(axis=0)[..., None] + noise, 0, 255).astype(np.uint8)
    return image, from_planes(planes)


def cells(count, first=0):
    """Samples."""
    return [
        Sample(f"cells-{seed}", lambda seed=seed: draw_cells(seed))
        for seed in range(first, first + count)
    ]


class _Says(nn.Module):
    """Two logits: the tenths of how much red and green lie above the middle."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, images):
        return ((images[:, :2] + 1) / 2 * 25.5 - 12.75) * self.factor


def _predictor(factor=1.0, temperature=1.0):
    options = {"window": 64, "overlap": 16, "batch_size": 4}
    return Predictor(_Says(factor), 2, temperature=temperature, overlapping=True, **options)


def _said(seed, side=96, ignored=8):
    """An image whose red and green are the logits by which the labels of its set map are drawn."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, (2, side, side)).clip(-12, 12)
    sets = from_planes(rng.random(logits.shape) < 1 / (1 + np.exp(-logits)))
    grey = np.round(logits * 10 + 127.5).astype(np.uint8)
    # the range by which an image is normalised: its 1st and 99.8th percentile
    edge = np.zeros((side, side), bool)
    edge[:3], edge[3:6] = True, True
    grey[:, :3], grey[:, 3:6] = 0, 255
    sets[edge], sets[-ignored:] = 255, 255
    image = np.stack([grey[0], grey[1], grey[1]], axis=-1)
    return image, sets


def test_learns_cells_and_their_nuclei(recipe):
    """Both planes, one inside the other, on images it has not seen; the weights are what counts."""
    chosen = recipe(steps=45, patch=64, batch_size=4, learning_rate=3e-3)
    val = cells(3, first=100)
    trained = train(cells(8), val, recipe=chosen, classes=2, overlapping=True)
    best = trained.epochs[trained.best_epoch - 1]
    assert best.val_iou > 0.75
    assert best.train_iou > 0.5
    predictor = predictor_from_state(
        trained.state, chosen.network, 2, chosen.prediction, overlapping=True
    )
    metrics = evaluate(predictor, val, 2)
    assert metrics.mean_iou == pytest.approx(best.val_iou)
    assert min(metrics.iou_by_class) > 0.6
    assert metrics.dice_by_class == pytest.approx([2 * i / (1 + i) for i in metrics.iou_by_class])
    probs = predictor.probs(val[0].load()[0])
    truth = planes_of(val[0].load()[1], 2)
    assert probs.shape == truth.shape
    assert (probs[:, truth[1]] > 0.5).mean() > 0.8  # where the nucleus is, the cell is, too


def test_labels_inside_others_are_drawn(recipe):
    """Half of the labelled patches lie on a label of four pixels that lies inside another."""
    mask = np.zeros((256, 256), np.uint8)
    mask[:, :100] = CELL
    mask[50:52, 50:52] |= NUCLEUS
    mask[:, 200:] = 255
    sample = Sample("one", lambda: (np.full((256, 256, 3), 9, np.uint8), mask))
    training = recipe(batch_size=64, augmentation="none").training
    patches = Patches([sample], 2, training, overlapping=True)
    drawn = patches.batch(0).masks
    assert 10 <= sum((patch == CELL | NUCLEUS).any() for patch in drawn) <= 35
    assert patches.pixels == [256 * 100, 256 * 100, 4]
    strange = Sample("two", lambda: (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 8, np.uint8)))
    with pytest.raises(DataError, match=r"two: the mask holds \[8\], beyond the 2 labels"):
        Patches([strange], 2, training, overlapping=True)


@pytest.mark.parametrize("augmentation", ["affine", "domain", "elastic"])
def test_augmentation_never_mixes_sets(recipe, augmentation):
    """Only sets that were there come out: bits are not interpolated."""
    training = recipe(batch_size=8, augmentation=augmentation).training
    masks = Patches(cells(2), 2, training, overlapping=True).batch(0).masks
    assert set(np.unique(masks)) <= {0, CELL, CELL | NUCLEUS, 255}
    assert (masks == (CELL | NUCLEUS)).any()


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.float32, (2, 5, 7), elements=st.floats(0, 1, width=32)),
    st.sampled_from([0.25, 0.9, 1.5, 8.0]),
)
@example(np.nextafter(np.float32(0.5), np.float32([[[0]], [[1]]])), 8.0)
def test_no_temperature_changes_a_mask(probs, temperature):
    """What is above one half stays above it, and the logits are divided."""
    before = probs.copy()
    after = temper(probs, temperature, overlapping=True)
    np.testing.assert_array_equal(after > 0.5, before > 0.5)
    clear = (before > 0.01) & (before < 0.99)
    logits = [np.log(p[clear] / (1 - p[clear])) for p in (before, after.clip(1e-6, 1 - 1e-6))]
    mild = np.abs(logits[0] / temperature) < 10
    np.testing.assert_allclose(logits[1][mild], logits[0][mild] / temperature, atol=1e-2)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_of_all_labels_is_found(factor):
    """Logits so much too large are divided by just that, and the error of calibration falls."""
    samples = [Sample(str(seed), lambda seed=seed: _said(seed)) for seed in range(3)]
    found = calibrate(_predictor(factor), samples)
    assert found.temperature == pytest.approx(factor, rel=0.06)
    assert found.ece_after < 0.01
    if factor != 1:
        assert found.ece_after < found.ece_before
    drawn = draw_pixels(_predictor(factor), samples, pixels=999)
    assert set(drawn.labels.tolist()) == {0, 1}
    known = sum(int((sample.load()[1] != 255).sum()) for sample in samples)
    assert drawn.weights.sum() == pytest.approx(2 * known)
    tempered = _predictor(factor, found.temperature)
    judged = evaluate(tempered, samples, 2, make_loss(Training(loss="bce"), 2, overlapping=True))
    plain = evaluate(_predictor(factor), samples, 2)
    assert judged.ece < 0.01
    assert judged.iou_by_class == plain.iou_by_class
    assert judged.loss == pytest.approx(found.nll_after, abs=0.02)


@pytest.mark.parametrize("passes", ["single", "tta", "mc_dropout"])
def test_all_kinds_of_passes_see_the_labels_for_themselves(passes):
    """T passes of K probabilities; views are turned back before they are compared."""
    network = Network(depth=3, decoder_width=4, dropout=0.2)
    state = build_network(network, 3, seed=0, overlapping=True).state_dict()
    prediction = Prediction(window=64, overlap=16)
    predictor = predictor_from_state(state, network, 3, prediction, overlapping=True)
    image = draw_cells(1)[0][:40, :50]
    (seen,) = passes_many(predictor, [(image, (1,))], Scoring(passes=passes, views=3, samples=4))
    assert seen.probs_TCHW.shape == ({"single": 1, "tta": 3, "mc_dropout": 4}[passes], 3, 40, 50)
    assert seen.probs_TCHW.min() >= 0
    assert seen.probs_TCHW.max() <= 1
    assert np.abs(seen.probs_TCHW.sum(axis=1) - 1).max() > 0.01  # they exclude nothing
