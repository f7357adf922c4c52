"""Between this room and the rest of the house: weights as arrays, and how many cores to use."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[Any]]


def to_arrays(state: Mapping[str, Tensor]) -> Arrays:
    """Weights as numpy arrays, which the store can write without knowing torch."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}


def to_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """The inverse of `to_arrays`; the arrays are copied, so they may be read-only."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def use_threads(threads: int | None) -> None:
    """Let torch use this many processor threads; None leaves its own choice, all cores."""
    if threads is not None:
        torch.set_num_threads(threads)
