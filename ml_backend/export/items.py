"""What every format takes and gives: items in, a report out, names and pixels checked.

An exporter is `f(items, folder, config)`. It takes the items one at a time, so that memory
stays flat in their number, and publishes its result inside `folder` whole or not at all:
`png` makes `folder/png/`, `coco` makes `folder/coco.json`, so both may share one folder. The
same items in the same order give the same bytes.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.instances import pixel_counts
from ml_backend.masks.labels import IGNORE, LabelConfig
from ml_backend.registry import Registry

_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class ExportItem:
    """One image's mask.

    `name`: the image's own name, with `/` between sub-folders, unique within an export.
    `label_map`: (H, W) uint8; 0 background, 1..K the labels in the labeling config's order,
    255 unknown. `source`: who drew it, a person or the current model. What more is known:
    `task_url`, the task's page in Label Studio; `annotator`, who submitted it; `version`, of
    the model that drew it; `split`, `train` or `val`.
    """

    name: str
    label_map: NDArray[np.uint8]
    source: Literal["annotation", "model"]
    task_url: str | None = None
    annotator: str | None = None
    version: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Report:
    """What an exporter wrote.

    `path`: the published folder or file. `images` counts items, empty masks included;
    `regions` counts pairs of image and label that hold at least one pixel.
    `by_source`: images by `ExportItem.source`. `notes`: what a reader should be told.
    """

    path: Path
    images: int
    regions: int
    by_source: dict[str, int]
    notes: tuple[str, ...] = ()


Exporter = Callable[[Iterable[ExportItem], Path, LabelConfig], Report]
EXPORTERS: Registry[Exporter] = Registry("export format")


@dataclass
class Tally:
    """Checks items on their way through an exporter, and counts them."""

    labels: int
    images: int = 0
    regions: int = 0
    unknown: int = 0
    by_source: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def checked(self, items: Iterable[ExportItem]) -> Iterator[tuple[ExportItem, list[int]]]:
        """Each item with the labels that occur in it, ascending, ignored pixels left out.

        Raises `DataError` for a name that is unsafe or occurs twice, and `RegionError` for
        pixels that are no label of the config.
        """
        for item in items:
            check_name(item.name)
            if item.name in self._names:
                raise DataError(f"image {item.name!r} is exported twice; names must be unique")
            self._names.add(item.name)
            values = _values_in(item, self.labels)
            present = [value for value in values if 0 < value < IGNORE]
            self.unknown += IGNORE in values
            self.images += 1
            self.regions += len(present)
            self.by_source[item.source] += 1
            yield item, present

    def report(self, path: Path, *, unknown: str | None = None) -> Report:
        """The counts so far, for what now stands at `path`.

        `unknown`: what unknown pixels have become in a format that cannot tell them apart.
        """
        if self.unknown and unknown is not None:
            self.notes.append(f"images with unknown pixels, here {unknown}: {self.unknown}")
        by_source = dict(sorted(self.by_source.items()))
        return Report(path, self.images, self.regions, by_source, tuple(self.notes))


def check_name(name: str) -> None:
    """Raise `DataError` unless `name` is a plain relative path that stays in its folder."""
    parts = name.split("/")
    if (
        any(part in {"", ".", ".."} for part in parts)
        or "\\" in name
        or _DRIVE.match(name)
        or any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name)
    ):
        raise DataError(
            f"image name {name!r} cannot be exported: it must be a relative path with '/' "
            "between folders, without '..', '\\', drive letters or control characters"
        )


def _values_in(item: ExportItem, labels: int) -> list[int]:
    pixels = item.label_map
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or not pixels.size:
        raise RegionError(
            f"the mask of {item.name!r} must be height x width, uint8 and not empty; "
            f"got {pixels.shape} {pixels.dtype}"
        )
    present: list[int] = np.flatnonzero(pixel_counts(pixels)).tolist()
    strangers = [value for value in present if labels < value < IGNORE]
    if strangers:
        raise RegionError(
            f"the mask of {item.name!r} has pixels of label {strangers[0]}, but the labeling "
            f"config has {labels} labels; sync the project after a change of its labels"
        )
    return present
