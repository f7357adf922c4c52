"""What reading a mask gives, whatever it was read from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MaskReading:
    """What was read of an image's mask.

    `mask`: (H, W) uint8, a label map (0 background, 1…K, 255 unknown) or a set map
    (`masks/sets.py`). `objects`: (H, W) int32, the objects' numbers, 0 where the mask does not say
    (there, connected parts are objects); None where it says nothing about objects. `notes`: what
    a person should be told, without the mask's name. `rule`: in words, how its values were read.
    """

    mask: NDArray[np.uint8]
    objects: NDArray[np.int32] | None = None
    notes: tuple[str, ...] = ()
    rule: str = ""
