"""Every loss of the registry keeps the same promises."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from ml_backend.errors import ConfigError, UnknownName
from ml_backend.learning.losses import LOSSES, make_loss, planes_of, weights_of
from ml_backend.recipe import Training, parse_recipe

every_loss = pytest.mark.parametrize("name", list(LOSSES))
SETS = "three that overlap"
every_head = pytest.mark.parametrize("classes", [1, 3, SETS])
exclusive_heads = pytest.mark.parametrize("classes", [1, 3])


def _count(classes):
    return 3 if classes == SETS else classes


def _loss(name, classes, weights=None, **settings):
    training = Training(loss=name, **settings)
    return make_loss(training, _count(classes), weights, overlapping=classes == SETS)


def _perfect(target, classes, sharpness=20.0):
    """Logits that say exactly what the target says."""
    if classes == SETS:
        hit = planes_of(target, 3) == 1
    else:
        labels = torch.arange(1 if classes == 1 else 0, classes + 1)
        hit = target[:, None] == labels[None, :, None, None]
    return (hit.float() * 2 - 1) * sharpness


def _target(classes):
    rng = np.random.default_rng(_count(classes))
    values = np.arange(0, 16, 2) if classes == SETS else np.arange(classes + 1)
    target = torch.from_numpy(rng.choice(values, (2, 16, 16)))
    target[:, :4] = 255
    return target


def _guess(classes, seed=0):
    """Logits of a network that knows nothing."""
    shape = (2, 4 if classes == 3 else _count(classes), 16, 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@every_head
@every_loss
def test_truth_costs_nothing_and_error_costs(name, classes):
    """The truth costs about 0, its opposite much, a shrug something in between."""
    target, loss = _target(classes), _loss(name, classes)
    best, worst = (_perfect(target, classes, s) for s in (20.0, -20.0))
    costs = [float(loss(logits, target)) for logits in (best, best * 0, worst)]
    assert costs[0] == pytest.approx(0, abs=1e-3)
    assert costs[0] < costs[1] < costs[2]


@every_head
@every_loss
def test_nothing_is_cheaper_than_the_truth(name, classes):
    """Of the truth and twenty blurred or invented answers the truth costs least."""
    target, loss = _target(classes), _loss(name, classes)
    best = _perfect(target, classes)
    others = [_guess(classes, seed) * 5 for seed in range(10)]
    others += [best * share + other * (1 - share) for share, other in zip(
        np.linspace(0.03, 0.3, 10).tolist(), others, strict=True)]  # fmt: skip
    assert float(loss(best, target)) < min(float(loss(other, target)) for other in others)


@every_head
@every_loss
def test_gradients_are_finite_and_lead_down(name, classes):
    """Small steps against the gradient lower the cost, from a guess and from certainty."""
    target, loss = _target(classes), _loss(name, classes)
    for start in (_guess(classes), _perfect(target, classes, -30.0), _perfect(target, classes)):
        logits = start.clone().requires_grad_()
        cost = loss(logits, target)
        (gradient,) = torch.autograd.grad(cost, logits)
        assert torch.isfinite(gradient).all()
        nearer = start - 1e-2 * gradient / gradient.norm().clamp(min=1e-12)
        assert float(loss(nearer, target)) <= cost.item()
    guess = _guess(classes).requires_grad_()
    cost = loss(guess, target)
    (gradient,) = torch.autograd.grad(cost, guess)
    nearer = guess.detach() - 0.1 * gradient / gradient.norm()
    assert float(loss(nearer, target)) < cost.item()


@every_head
@every_loss
def test_unknown_pixels_have_no_say(name, classes):
    """Logits under ignored pixels change neither the loss nor receive a gradient."""
    target, loss = _target(classes), _loss(name, classes, [0.5] + [2.0] * _count(classes))
    logits = _guess(classes).requires_grad_()
    cost = loss(logits, target)
    cost.backward()
    other = logits.detach().clone()
    other[:, :, :4] = 7.0
    assert float(loss(other, target)) == pytest.approx(cost.item(), rel=1e-6)
    assert not logits.grad[:, :, :4].any()
    assert logits.grad[:, :, 4:].any()


@every_head
@every_loss
def test_a_batch_of_unknowns_is_harmless(name, classes):
    """Without a known pixel the loss is 0 and so is its gradient."""
    target = torch.full((2, 16, 16), 255)
    logits = _guess(classes).requires_grad_()
    cost = _loss(name, classes)(logits, target)
    cost.backward()
    assert cost.shape == ()
    assert cost.item() == 0
    assert not logits.grad.any()


@every_head
@every_loss
def test_empty_masks_are_harmless(name, classes):
    """Pure background: finite, never cheaper than the truth, and no gradient towards objects."""
    target, loss = torch.zeros((2, 16, 16), dtype=torch.int64), _loss(name, classes)
    logits = _guess(classes).requires_grad_()
    cost = loss(logits, target)
    cost.backward()
    assert torch.isfinite(cost)
    assert torch.isfinite(logits.grad).all()
    assert float(loss(_perfect(target, classes), target)) <= cost.item()
    foreground = logits.grad[:, 1:] if classes == 3 else logits.grad
    assert foreground.sum() >= 0


@every_head
@every_loss
def test_the_order_of_pixels_and_patches_does_not_matter(name, classes):
    """A batch is a set of pixels."""
    target, logits, loss = _target(classes), _guess(classes), _loss(name, classes)
    order = torch.randperm(target.numel(), generator=torch.Generator().manual_seed(1))
    shuffled = target.reshape(-1)[order].reshape(target.shape)
    channels = logits.shape[1]
    moved = logits.movedim(1, -1).reshape(-1, channels)[order]
    moved = moved.reshape(*target.shape, channels).movedim(-1, 1)
    assert float(loss(moved, shuffled)) == pytest.approx(float(loss(logits, target)), rel=1e-5)


@every_loss
def test_the_order_of_labels_does_not_matter(name):
    """Renumbering labels, channels and weights together changes nothing."""
    target, logits, weights = _target(3), _guess(3), [1.0, 2.0, 3.0, 0.5]
    order = [0, 3, 1, 2]
    renamed = target.clone()
    for new, old in enumerate(order):
        renamed[target == old] = new
    one = _loss(name, 3, weights)(logits, target)
    two = _loss(name, 3, [weights[old] for old in order])(logits[:, order], renamed)
    assert float(two) == pytest.approx(float(one), rel=1e-5)


@every_loss
def test_the_order_of_labels_that_overlap_does_not_matter(name):
    """Renumbering labels, channels and weights together changes nothing for sets of labels."""
    target, logits, weights = _target(SETS), _guess(SETS), [1.0, 2.0, 3.0, 0.5]
    order = [2, 0, 1]
    moved = sum((target >> old + 1 & 1) << new + 1 for new, old in enumerate(order))
    moved[target == 255] = 255
    one = _loss(name, SETS, weights)(logits, target)
    renamed = [weights[0], *(weights[old + 1] for old in order)]
    two = _loss(name, SETS, renamed)(logits[:, order], moved)
    assert float(two) == pytest.approx(float(one), rel=1e-5)


@every_loss
def test_labels_that_overlap_are_judged_each_for_itself(name):
    """The loss of equal labels is that of one of them alone, wherever the others are."""
    target, logits = _target(1), _guess(1)
    alike = torch.where(target == 1, 14, target)
    three = _loss(name, SETS)(logits.expand(-1, 3, -1, -1), alike)
    assert float(three) == pytest.approx(float(_loss(name, 1)(logits, target)), rel=1e-5)
    sets = _target(SETS)
    guess = _guess(SETS).requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(name, SETS)(guess, sets), guess)
    other = torch.where(sets == 255, 255, sets ^ 4)  # the second label wherever it is not
    (changed,) = torch.autograd.grad(_loss(name, SETS)(guess, other), guess)
    torch.testing.assert_close(gradient[:, 0], changed[:, 0])


@every_loss
def test_heavier_labels_pull_harder(name):
    """What a label's weight multiplies is its part of the gradient."""
    target, logits = _target(3), _guess(3)

    def pull(weight):
        at = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(_loss(name, 3, [1, 1, weight, 1])(at, target), at)
        return -gradient[:, 2][target == 2].sum().item()

    assert 0 < pull(0.2) < pull(1) < pull(5)


@every_loss
def test_heavier_labels_that_overlap_pull_harder(name):
    """What a label's weight multiplies is its part of the gradient, beside the other labels."""
    target, logits = _target(SETS), _guess(SETS)
    has = planes_of(target, 3)[:, 1] == 1

    def pull(weight):
        at = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(_loss(name, SETS, [1, 1, weight, 1])(at, target), at)
        return -gradient[:, 1][has].sum().item()

    assert 0 < pull(0.2) < pull(1) < pull(5)


def test_one_label_is_weighed_against_the_background():
    """Weight 3 of a label costs as much as having each of its pixels three times."""
    target = torch.tensor([[[0, 0, 1, 255]]])
    thrice = torch.tensor([[[0, 0, 1, 1, 1]]])
    logits = torch.tensor([[[[-1.0, 0.5, 0.2, 9]]]])
    repeated = torch.tensor([[[[-1.0, 0.5, 0.2, 0.2, 0.2]]]])
    for name in ("cross_entropy", "focal"):
        weighed = _loss(name, 1, [1.0, 3.0])(logits, target)
        assert float(weighed) == pytest.approx(float(_loss(name, 1)(repeated, thrice)))


@every_loss
def test_half_precision_logits_stay_finite(name):
    """Autocast hands over bfloat16; the loss is computed in float32."""
    cost = _loss(name, 1)(_perfect(_target(1), 1, 300.0).bfloat16(), _target(1))
    assert cost.dtype == torch.float32
    assert torch.isfinite(cost)


@exclusive_heads
def test_lovasz_is_that_of_the_library(classes):
    """Where the library's answer is right (something known, all labels there), it is ours."""
    target, logits = _target(classes), _guess(classes)
    if classes == 1:
        expected = smp.losses.LovaszLoss("binary", ignore_index=255)(logits, target)
    else:  # its public loss averages over the background too
        expected = smp.losses.lovasz._lovasz_softmax(
            logits.softmax(dim=1), target, classes=[1, 2, 3], ignore=255
        )
    assert float(_loss("lovasz", classes)(logits, target)) == pytest.approx(float(expected))


@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 0.3), (0.3, 0.7), (0.5, 0.5)])
def test_tversky_is_that_of_the_library(alpha, beta):
    """Alpha is the price of false positives, as in the paper and in the library."""
    target, logits = _target(1), _guess(1)
    library = smp.losses.TverskyLoss(
        "binary", alpha=alpha, beta=beta, ignore_index=255, smooth=0.5
    )(logits, target)
    ours = _loss("tversky", 1, tversky_alpha=alpha, tversky_beta=beta)(logits, target)
    assert float(ours) == pytest.approx(float(library), rel=1e-5)
    if alpha == beta:
        assert float(ours) == pytest.approx(float(_loss("dice", 1)(logits, target)))


@every_head
def test_focal_without_focus_is_cross_entropy(classes):
    """Gamma 0 is cross-entropy; the larger it is, the less sure pixels count."""
    target, logits = _target(classes), _guess(classes)
    plain = _loss("cross_entropy", classes)(logits, target)
    focused = [float(_loss("focal", classes, focal_gamma=g)(logits, target)) for g in (0, 1, 4)]
    assert focused[0] == pytest.approx(float(plain), rel=1e-4)
    assert focused[0] > focused[1] > focused[2]
    for gamma in (0.0, 0.5):
        sure = _perfect(target, classes, 100.0).requires_grad_()
        _loss("focal", classes, focal_gamma=gamma)(sure, target).backward()
        assert torch.isfinite(sure.grad).all()


def test_unknown_loss_lists_the_choices():
    """A wrong name in a recipe is answered with the right ones."""
    with pytest.raises(UnknownName, match="dice_bce"):
        _loss("no such loss", 1)


def test_weights_follow_the_labels_names():
    """Named labels and the background get theirs, others 1, strangers are refused."""
    settings = Training(class_weights={"rare": 5, "background": 0.5})
    assert weights_of(settings, ["cell", "rare"], [1, 1, 1]) == [0.5, 1, 5]
    assert weights_of(Training(), ["cell"], [1, 1]) is None
    with pytest.raises(ConfigError, match=r"'rare'; there are: background, cell"):
        weights_of(settings, ["cell"], [1, 1])
    assert weights_of(settings, ["background", "rare"], [1, 1, 1]) == [1, 0.5, 5]


def test_balanced_weights_follow_the_pixels():
    """Ten times as rare weighs √10 as much, the mean is 1, what never occurs weighs 1."""
    settings = parse_recipe({"training": {"class_weights": "balanced"}}).training
    weights = weights_of(settings, ["a", "b"], [900, 90, 0])
    assert weights[1] / weights[0] == pytest.approx(10**0.5)
    assert weights[0] + weights[1] == pytest.approx(2)
    assert weights[2] == 1
    assert weights_of(settings, ["a"], [0, 0]) == [1, 1]


@pytest.mark.parametrize("weights", [{"cell": 0}, {"cell": -1}, "inverse", {"cell": "much"}])
def test_impossible_weights_are_refused(weights):
    """Weights are positive numbers by name, or `balanced`."""
    with pytest.raises(ConfigError, match=r"training\.class_weights"):
        parse_recipe({"training": {"class_weights": weights}})
