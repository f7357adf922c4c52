"""The masks of a folder of images, read as the recipe's `labels` would have annotations read.

A mask stands for what a person painted: pixels of labels that are set aside become unknown or
background, and where `labels.unpainted` is unknown, so does what has no label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ConfigError
from ml_backend.loop.labels import learned
from ml_backend.loop.masks import UNKNOWN
from ml_backend.masks.labels import LabelConfig, make_label_config, parse_label_config
from ml_backend.recipe import Recipe
from ml_backend.store.collection import SourceImage
from ml_backend.store.documents import MaskReading
from ml_backend.store.mask_files import LabelUse, MaskFiles
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_pairing import pair_masks
from ml_backend.store.mask_values import Values
from ml_backend.store.summary import Summary

U8 = NDArray[np.uint8]

_WHO = "this folder of masks"
_NONE = ((), (), "background")  # nothing that a recipe sets aside
_WAY_OUT = "correct the recipe, or name the labels that the masks tell apart with --label"


@dataclass(frozen=True)
class MaskFolder:
    """Images that have masks, and what becomes of the masks' labels.

    `files`: what each image has, by its name. `images`: all that were given and are no masks.
    `written`: the labels that masks tell apart, in the order of their numbers. `labels`: those of
    them that are learned, and those that are not. `values` and `instances`: as for `read_mask`.
    """

    files: Mapping[str, MaskFiles] = field(repr=False)
    images: tuple[SourceImage, ...] = field(repr=False)
    written: tuple[str, ...]
    labels: LabelConfig
    unpainted: str
    values: Values | None = None
    instances: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that are learned."""
        return self.labels.names

    @property
    def overlapping(self) -> bool:
        """Whether masks are read as set maps."""
        return self.labels.overlapping

    @property
    def question(self) -> tuple[object, ...]:
        """What decides how masks are read: another one gives other label maps."""
        aside = (self.labels.unknown, self.labels.background, self.unpainted)
        said = ["overlapping"] * self.overlapping + ["instances"] * self.instances
        return (self.written, self.values, *said, *([aside] if aside != _NONE else []))

    @property
    def paired(self) -> list[SourceImage]:
        """The images that have masks, in natural order."""
        return [image for image in self.images if image.name in self.files]

    def read(self, image: SourceImage) -> U8:
        """(H, W) uint8: the label map of an image, or its set map.

        Raises `DataError` where there is no mask that can be read or that fits.
        """
        return self.reading(image).mask

    def reading(self, image: SourceImage) -> MaskReading:
        """Read the mask of an image, its objects and what is to be told of them."""
        return self.files[image.name].read((image.height, image.width), self.use)

    @property
    def use(self) -> LabelUse:
        """What becomes of the labels that masks tell apart."""
        rest = UNKNOWN if self.unpainted == "unknown" else 0
        return LabelUse(
            self.written, self.labels.unknown, self.labels.background, rest, self.overlapping,
            self.values, self.instances,
        )  # fmt: skip


def open_masks(
    images: Sequence[SourceImage],
    address: Path | str,
    written: Sequence[str],
    recipe: Recipe,
    values: Values | None = None,
    match: Match = "name",
    summary: Summary | None = None,
) -> MaskFolder:
    """Find the masks of images, by the recipe's `labels`; images without any are left out.

    Labels overlap where the recipe says so, or where each has a folder of masks and it leaves that
    to them. What was paired and what was not is noted in `summary`. Raises `ConfigError` with the
    recipe's key where it does not fit the labels, `NotFound` and `DataError` as `pair_masks` does.
    """
    check_recipe(recipe, written)
    pairs = pair_masks(images, address, written, match=match, summary=summary)
    by_label = any(found.by_label for found in pairs.files.values())
    labels = _learned(recipe, written, multiple=by_label)
    return MaskFolder(
        pairs.files, pairs.images, tuple(written), labels, recipe.labels.unpainted, values,
        recipe.instances.enabled,
    )  # fmt: skip


def label_use(
    recipe: Recipe, written: Sequence[str], values: Values | None = None, *, by_label: bool = False
) -> LabelUse:
    """Say what becomes of the labels `written` that masks tell apart, by the recipe's `labels`.

    `by_label`: each has masks of its own, so that they may overlap. Raises as `open_masks`.
    """
    check_recipe(recipe, written)
    labels = _learned(recipe, written, multiple=by_label)
    return MaskFolder(
        {}, (), tuple(written), labels, recipe.labels.unpainted, values, recipe.instances.enabled
    ).use


def check_recipe(recipe: Recipe, written: Sequence[str]) -> LabelConfig:
    """The labels that are learned of those that masks tell apart.

    Raises `ConfigError` with the key of a recipe that does not fit them.
    """
    labels = _learned(recipe, written, multiple=False)
    if recipe.labels.unpainted == "unknown" and not labels.background:
        raise ConfigError(
            "the recipe's labels.unpainted: unknown leaves masks without a background to learn "
            "or judge by: name the label that stands for it in labels.background "
            "and with --label, or set labels.unpainted: background"
        )
    return labels


def _learned(recipe: Recipe, written: Sequence[str], *, multiple: bool) -> LabelConfig:
    config = parse_label_config(make_label_config(written, multiple=multiple))
    return learned(config, recipe, _WHO, _WAY_OUT)
