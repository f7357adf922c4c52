"""How much of the masks each label covers, and whether that is plausible."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ml_backend.masks.instances import pixel_counts
from ml_backend.store.summary import Summary

IGNORE = 255
_MOST = 0.95


@dataclass
class LabelShares:
    """Pixels of labels, counted over masks.

    `pixels`: of each label. `masks`: in how many each occurs. `known`: pixels that are known in
    all masks together. `count`: the masks.
    """

    pixels: dict[str, int] = field(default_factory=dict)
    masks: dict[str, int] = field(default_factory=dict)
    known: int = 0
    count: int = 0

    def add(self, mask: NDArray[np.uint8], values: Mapping[str, int], *, overlapping: bool) -> None:
        """Count a mask: a label map in which `values` has each label's number, or a set map."""
        counts = pixel_counts(mask)
        self.count += 1
        self.known += int(counts[:IGNORE].sum())
        codes = np.arange(IGNORE)
        for name, value in values.items():
            has = (codes >> value & 1 > 0) if overlapping else codes == value
            found = int(counts[:IGNORE][has].sum())
            self.pixels[name] = self.pixels.get(name, 0) + found
            self.masks[name] = self.masks.get(name, 0) + (found > 0)

    def share(self, name: str) -> float:
        """The share of the known pixels that a label covers, 0 to 1."""
        return self.pixels[name] / self.known if self.known else 0.0

    def as_json(self) -> dict[str, dict[str, float]]:
        """Give label → `{share, masks, of}`: its share of the pixels, how many masks have it."""
        return {
            name: {"share": round(self.share(name), 6), "masks": masks, "of": self.count}
            for name, masks in self.masks.items()
        }

    def lines(self) -> Iterator[str]:
        """Say for people what each label covers, a line a label."""
        for name, masks in self.masks.items():
            yield f"{name}: {self.share(name):.2%} of the pixels, in {masks} of {self.count} masks"

    def warn(self, summary: Summary) -> None:
        """Note labels that cover nothing or almost everything."""
        for name in self.pixels if self.count else ():
            share = self.share(name)
            if self.pixels[name] == 0:
                why = f"covers no pixel of {self.count} masks; is it what the masks' values mean?"
            elif share > _MOST:
                why = f"covers {share:.1%} of {self.count} masks; are values the other way round?"
            else:
                continue
            summary.add("warnings", f"label {name}", why)


def numbers_of(labels: Sequence[str]) -> dict[str, int]:
    """The labels' values in a label map, or their bits in a set map."""
    return {name: number for number, name in enumerate(labels, 1)}
