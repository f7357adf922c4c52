"""Every loss of the registry keeps the same promises."""

import numpy as np
import pytest
import torch

from ml_backend.errors import UnknownName
from ml_backend.learning.losses import LOSSES


def _perfect(target, classes, sharpness):
    """Logits that say exactly what the target says."""
    channels = 1 if classes == 1 else classes + 1
    labels = torch.arange(1 if channels == 1 else 0, classes + 1)
    hit = target[:, None] == labels[None, :, None, None]
    return (hit.float() * 2 - 1) * sharpness


def _target(classes):
    rng = np.random.default_rng(classes)
    target = torch.from_numpy(rng.integers(0, classes + 1, (2, 16, 16)))
    target[:, :4] = 255
    return target


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", list(LOSSES))
def test_truth_costs_nothing_and_error_costs(name, classes):
    """The truth costs about 0, its opposite much, a shrug something in between."""
    target = _target(classes)
    best, worst = (_perfect(target, classes, s) for s in (20.0, -20.0))
    costs = [float(LOSSES[name](logits, target)) for logits in (best, best * 0, worst)]
    assert costs[0] == pytest.approx(0, abs=1e-3)
    assert costs[0] < costs[1] < costs[2]


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", list(LOSSES))
def test_unknown_pixels_have_no_say(name, classes):
    """Logits under ignored pixels change neither the loss nor receive a gradient."""
    target = _target(classes)
    logits = _perfect(target, classes, 0.5).requires_grad_()
    loss = LOSSES[name](logits, target)
    loss.backward()
    other = logits.detach().clone()
    other[:, :, :4] = 7.0
    assert float(LOSSES[name](other, target)) == pytest.approx(loss.item(), rel=1e-6)
    assert not logits.grad[:, :, :4].any()
    assert logits.grad[:, :, 4:].any()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", list(LOSSES))
def test_a_batch_of_unknowns_is_harmless(name, classes):
    """Without a known pixel the loss is 0 and its gradient finite."""
    target = torch.full((2, 8, 8), 255)
    logits = torch.randn(
        2, 1 if classes == 1 else classes + 1, 8, 8,
        generator=torch.Generator().manual_seed(0), requires_grad=True,
    )  # fmt: skip
    loss = LOSSES[name](logits, target)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("name", list(LOSSES))
def test_half_precision_logits_stay_finite(name):
    """Autocast hands over bfloat16; the loss is computed in float32."""
    loss = LOSSES[name](_perfect(_target(1), 1, 300.0).bfloat16(), _target(1))
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_unknown_loss_lists_the_choices():
    """A wrong name in a recipe is answered with the right ones."""
    with pytest.raises(UnknownName, match="dice_bce"):
        LOSSES["no such loss"]
