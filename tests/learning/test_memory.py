"""A batch that does not fit into memory is computed in parts, and its gradient stays its own."""

import pytest
import torch
from support.networks import PatchNorm
from torch import nn

from ml_backend.errors import LearningError
from ml_backend.learning.gradient import backward, is_out_of_memory
from ml_backend.learning.losses import LOSSES, make_loss
from ml_backend.learning.team import Team
from ml_backend.learning.training import train


def _network(dropout=0.0, norm=nn.Identity):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), norm(), nn.GELU(), nn.Dropout(dropout), nn.Conv2d(8, 3, 1)
    )


def _batch(count=5, side=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, side, side, generator=generator)
    target = torch.randint(0, 3, (count, side, side), generator=generator)
    target[0] = 255  # a part without any known pixel
    target[1, :4] = 255
    return images, target


def _gradient(model, loss, at_once):
    """The gradients, by parameter, and the loss."""
    images, target = _batch()
    cost, logits, truth = backward(model, model, images, target, loss, at_once=at_once, team=Team())
    assert logits.shape[0] == truth.shape[0] == len(images)
    assert not logits.requires_grad
    return [parameter.grad.clone() for parameter in model.parameters()], cost


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_the_gradient_of_parts_is_the_batchs(recipe, name, at_once):
    """For every loss, with uneven parts and one in which nothing is known, to rounding."""
    loss = make_loss(recipe(loss=name).training, 2, [0.5, 1.0, 4.0])
    whole, cost = _gradient(_network(), loss, 5)
    parts, same = _gradient(_network(), loss, at_once)
    assert same == pytest.approx(float(cost), rel=1e-5)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().max() > 1e-4 for gradient in whole)


def test_both_passes_drop_the_same_and_count_once(recipe):
    """Dropout of a part is the same when its gradient is computed; statistics move once a part."""
    seen = []
    model = _network(0.5, lambda: nn.BatchNorm2d(8))
    images, target = _batch()

    def forward(part):
        seen.append(model(part))
        return seen[-1]

    loss = make_loss(recipe().training, 2)
    backward(model, forward, images, target, loss, at_once=2, team=Team())
    assert [len(logits) for logits in seen] == [2, 2, 1] * 2
    for first, second in zip(seen[:3], seen[3:], strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(seen[0][0], seen[0][1])
    assert int(model[1].num_batches_tracked) == 3


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
                      "allocate memory: you tried to allocate 9 bytes. Error code 12"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError(), False),
    ],
)  # fmt: skip
def test_what_counts_as_short_of_memory(error, short):
    """CUDA's and the processor's allocators; no other fault is hidden by smaller batches."""
    assert is_out_of_memory(error) == short


def test_an_allocation_that_fails_is_recognised():
    """The real message of torch's allocator on a processor."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.fixture
def small_memory(monkeypatch):
    """Networks without BatchNorm, in which more patches or windows than the limits do not fit."""
    limit, seen = [1, 99], []

    class Norm(PatchNorm):
        """Works if it can have the memory."""

        def forward(self, x):
            if self.training:
                seen.append(len(x))
            if len(x) > limit[0 if self.training else 1]:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(x)

    monkeypatch.setattr(nn, "BatchNorm2d", Norm)
    return limit, seen


def test_a_batch_is_halved_until_it_fits(recipe, discs, small_memory, tmp_path, caplog):
    """Said, recorded, remembered for the rest and by the checkpoint; the curve hardly moves."""
    limit, seen = small_memory
    path = tmp_path / "state.safetensors"
    chosen = recipe(batch_size=4, steps=6, epochs=3)

    def go(**options):
        return train(discs(4), discs(1, first=9), recipe=chosen, classes=1, **options)

    class KilledError(Exception):
        pass

    def kill(record):
        if record.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        go(checkpoint=path, on_epoch=kill)
    assert seen[:4] == [4, 2, 1, 1]
    assert max(seen[2:]) == 1
    said = [record.message for record in caplog.records if "out of memory" in record.message]
    assert [text.split(":")[1].split(",")[0] for text in said] == [
        " going on with 2", " going on with 1"
    ]  # fmt: skip
    del seen[:]
    limit[0] = 4
    short = go(checkpoint=path)
    assert max(seen) == 1
    plain = go()
    assert max(seen) == 4
    assert [row.at_once for row in short.epochs] == [1, 1, 1]
    assert [row.at_once for row in plain.epochs] == [4, 4, 4]
    for one, other in zip(short.epochs, plain.epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=0.02)


def test_a_patch_that_does_not_fit_is_an_error_with_ways_out(recipe, discs, small_memory):
    """It names the keys that need less."""
    small_memory[0][0] = 0
    with pytest.raises(LearningError, match=r"not even one patch of 32 px.*training\.patch.*fold"):
        train(discs(2), [], recipe=recipe(), classes=1)


def test_a_validation_that_does_not_fit_names_its_own_keys(recipe, discs, small_memory):
    """Its windows are not the training's patches."""
    small_memory[0][1] = 0
    with pytest.raises(LearningError, match=r"validation.*prediction\.batch_size"):
        train(discs(2), discs(1, first=9), recipe=recipe(), classes=1)
