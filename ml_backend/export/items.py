"""What every format is given: an image's mask and what is known of it, checked and counted."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.instances import Objects, components, pixel_counts
from ml_backend.masks.labels import IGNORE
from ml_backend.masks.sets import mask_of, on_top, strangers

PART_BYTES = 200  # of a name between slashes: room for endings within a file system's 255
_DRIVE = re.compile(r"[A-Za-z]:")
Source = Literal["annotation", "given", "model", "both"]


@dataclass(frozen=True)
class ExportItem:
    """One image's mask.

    `name`: the image's own name, with `/` between sub-folders, unique within an export.
    `label_map`: (H, W) uint8; 0 background, 1..K the labels in the labeling config's order,
    255 unknown. `overlapping`: labels may overlap, and it is a set map (`masks/sets.py`).
    `source`: who drew it: people in Label Studio (`annotation`), whoever made the
    mask that came with the image (`given`), the model, or people and the model (`both`). What
    more is known: `task_url`, pages in Label Studio, and `annotator`, who submitted it, each
    with a space between several; `version`, of the model that drew; `split`, `train` or `val`;
    `file`, the own name of the image's file where that is another, and `page`, its number from 1;
    `objects`, which gives the mask's objects where some touch that are told apart.
    """

    name: str
    label_map: NDArray[np.uint8]
    source: Source
    task_url: str | None = None
    annotator: str | None = None
    version: str | None = None
    split: str | None = None
    objects: Callable[[], Objects] | None = None
    overlapping: bool = False
    file: str | None = None
    page: int | None = None

    def own_name(self) -> dict[str, str | int]:
        """`file` and `page`, where the image's name says less: what the tables of formats add."""
        known = {"file": self.file, "page": self.page}
        return {key: value for key, value in known.items() if value is not None}

    def pixels_of(self, label: int) -> NDArray[np.bool_]:
        """(H, W): the pixels of a label, 1..K."""
        return mask_of(self.label_map, label, overlapping=self.overlapping)

    def instances(self) -> Objects:
        """Number the objects, and give the label of each; where nothing is said, components.

        Where labels may overlap, those that are seen of `on_top`.
        """
        return components(self.on_top()) if self.objects is None else self.objects()

    def layers(self, labels: Sequence[int]) -> Iterator[Objects]:
        """The objects in layers in which none lies over another: one, or one for each label.

        `labels`: those that occur. Each layer is numbered from 1.
        """
        if not self.overlapping:
            yield self.instances()
            return
        for label in labels:
            numbers, labels_of = components(self.pixels_of(label).astype(np.uint8))
            yield numbers, [label] * len(labels_of)

    def on_top(self) -> NDArray[np.uint8]:
        """The label map; where labels overlap, of several the last in the config's order."""
        return on_top(self.label_map) if self.overlapping else self.label_map


@dataclass(frozen=True)
class Planned:
    """An image that is to be exported, its mask not loaded yet.

    `key` is another one whenever anything of the item is: an export that carries on takes over
    what was finished under the same name and key.
    """

    name: str
    key: str
    load: Callable[[], ExportItem]


@dataclass(frozen=True)
class Report:
    """What a format wrote.

    `path`: the published folder or file, or its address. `images` counts items, empty masks too;
    `regions` counts pairs of image and label that hold at least one pixel.
    `by_source`: images by `ExportItem.source`. `notes`: what a reader should be told.
    """

    path: Path | str
    images: int
    regions: int
    by_source: dict[str, int]
    notes: tuple[str, ...] = ()


@dataclass
class Tally:
    """Checks items on their way to the formats, and counts them."""

    labels: int
    images: int = 0
    regions: int = 0
    unknown: int = 0
    overlaps: int = 0
    by_source: Counter[str] = field(default_factory=Counter)
    names: dict[str, None] = field(default_factory=dict)  # in the order of the export

    def check(self, item: ExportItem) -> list[int]:
        """Count an item; the labels that occur in it, ascending, unknown pixels left out.

        Raises `DataError` for a name that is unsafe or occurs twice, and `RegionError` for
        pixels that are no label of the config.
        """
        self.name(item.name)
        values = _values_in(item, self.labels)
        present = [value for value in values if 0 < value < IGNORE]
        if item.overlapping:
            codes = present
            self.overlaps += any(code.bit_count() > 1 for code in codes)
            labels = range(1, self.labels + 1)
            present = [label for label in labels if any(code >> label & 1 for code in codes)]
        self.unknown += IGNORE in values
        self.images += 1
        self.regions += len(present)
        self.by_source[item.source] += 1
        return present

    def name(self, name: str) -> None:
        """Take a name. Raises `DataError` where it is unsafe or was taken."""
        check_name(name)
        if name in self.names:
            raise DataError(f"image {name!r} is exported twice; names must be unique")
        self.names[name] = None

    def numbers(self) -> dict[str, Any]:
        """The counts, as JSON."""
        counts = {
            "images": self.images,
            "regions": self.regions,
            "unknown": self.unknown,
            "overlaps": self.overlaps,
        }
        return counts | {"by_source": dict(self.by_source)}

    def restore(self, numbers: dict[str, Any]) -> None:
        """Take over counts that `numbers` gave."""
        self.images, self.regions = numbers["images"], numbers["regions"]
        self.unknown, self.overlaps = numbers["unknown"], numbers["overlaps"]
        self.by_source = Counter(numbers["by_source"])


def check_name(name: str) -> None:
    """Raise `DataError` unless `name` is a plain relative path that stays in its folder."""
    parts = name.split("/")
    if (
        any(part in {"", ".", ".."} or _too_long(part) for part in parts)
        or "\\" in name
        or _DRIVE.match(name)
        or any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name)
    ):
        raise DataError(
            f"image name {name!r} cannot be exported: it must be a relative path with '/' "
            "between folders, without '..', '\\', drive letters or control characters, and no "
            f"more than {PART_BYTES} bytes between two slashes"
        )


def _too_long(part: str) -> bool:
    return len(part.encode("utf-8", "surrogatepass")) > PART_BYTES


def _values_in(item: ExportItem, labels: int) -> list[int]:
    pixels = item.label_map
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or not pixels.size:
        raise RegionError(
            f"the mask of {item.name!r} must be height x width, uint8 and not empty; "
            f"got {pixels.shape} {pixels.dtype}"
        )
    present: list[int] = np.flatnonzero(pixel_counts(pixels)).tolist()
    if item.overlapping:
        strange = strangers(pixels, labels)
    else:
        strange = [value for value in present if labels < value < IGNORE]
    if strange:
        raise RegionError(
            f"the mask of {item.name!r} has pixels of label {strange[0]}, but the labeling "
            f"config has {labels} labels; sync the project after a change of its labels"
        )
    return present
