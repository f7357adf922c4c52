"""The processes that train one network together: what part each does, and how parts are joined.

Hugging Face Accelerate talks between them. The network is not wrapped in torch's
DistributedDataParallel: a step may take several backward passes, some encoders have parameters
that take no part, and one sum of all gradients after the last pass is right for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """`size` processes, each with an equal share of every batch, of which this is number `rank`.

    All of them call `joined`, `add_up` and `agreed` in the same order, and wait for each other.
    One by itself is a team that never waits.
    """

    size: int = 1
    rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this one validates, writes checkpoints and reports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process' rows of a batch of `count`, a multiple of `size`."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def own(self, whole: Tensor) -> Tensor:
        """This process' rows of a whole batch."""
        return whole[self.share(len(whole))]

    def joined(self, part: Tensor) -> Tensor:
        """The whole batch, of which `part` are this process' rows; without a gradient."""
        if self.size == 1:
            return part
        from accelerate.utils import gather  # slow to import, and seldom needed

        whole: Tensor = gather(part)
        return whole

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size == 1:
            return
        from accelerate.utils import reduce

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        sums = reduce(flat, reduction="sum").split([tensor.numel() for tensor in tensors])
        for tensor, values in zip(tensors, sums, strict=True):
            tensor.copy_(values.view(tensor.shape))

    def agreed(self, place: torch.device, *, word: bool) -> bool:
        """The leader's word, on every process."""
        if self.size == 1:
            return word
        from accelerate.utils import broadcast

        return bool(broadcast(torch.tensor(int(word), device=place)).item())

    def prepared(self, model: nn.Module, place: torch.device) -> nn.Module:
        """The network, whose BatchNorm sees the patches of all processes where torch can."""
        if self.size == 1 or place.type != "cuda":
            return model
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        return cast("nn.Module", convert(model))  # type: ignore[no-untyped-call]
