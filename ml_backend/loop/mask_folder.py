"""The masks of a folder of images, read as the recipe's `labels` would have annotations read.

A mask stands for what a person painted: pixels of labels that are set aside become unknown or
background, and where `labels.unpainted` is unknown, so does what has no label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ConfigError, DataError
from ml_backend.loop.labels import learned
from ml_backend.loop.masks import UNKNOWN
from ml_backend.masks import sets
from ml_backend.masks.labels import LabelConfig, make_label_config, parse_label_config
from ml_backend.recipe import Recipe
from ml_backend.store.mask_files import MaskFiles, find_masks, read_masks
from ml_backend.store.mask_values import Values, read_objects

U8 = NDArray[np.uint8]

_WHO = "this folder of masks"
_NONE = ((), (), "background")  # nothing that a recipe sets aside
_WAY_OUT = "correct the recipe, or name the labels that the masks tell apart with --label"


@dataclass(frozen=True)
class MaskFolder:
    """Images that have masks, and what becomes of the masks' labels.

    `written`: the labels that masks tell apart, in the order of their numbers. `labels`: those of
    them that are learned, and those that are not. `values`: as for `read_mask`.
    """

    files: Mapping[Path, MaskFiles] = field(repr=False)
    written: tuple[str, ...]
    labels: LabelConfig
    unpainted: str
    values: Values | None = None

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
        said = ["overlapping"] if self.overlapping else []
        return (self.written, self.values, *said, *([aside] if aside != _NONE else []))

    def read(self, image: Path, shape: tuple[int, int]) -> U8:
        """(H, W) uint8: the label map of an image of this shape, or its set map.

        Raises `DataError` where there is no mask that can be read or that fits.
        """
        files = self.files[image]
        if files.by_label is not None:
            return self._of_planes(files, files.by_label, shape)
        label_map = read_masks(files, self.written, values=self.values, shape=shape)
        mask = np.take(self._table(), label_map)
        return sets.from_labels(mask) if self.overlapping else mask

    def numbers(self, image: Path) -> NDArray[np.int32] | None:
        """Give the numbers (H, W) of objects where masks of one label tell them, else None."""
        path = self.files[image].all
        if path is None or len(self.written) > 1 or self.values is not None:
            return None
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"mask {path.name} cannot be read: {error.strerror}") from None
        return read_objects(data, path.name)

    def _table(self) -> U8:
        """What each number of a mask becomes."""
        table = np.full(256, UNKNOWN, np.uint8)
        table[0] = self._rest
        for number, name in enumerate(self.written, 1):
            table[number] = self.labels.value(name)
        return table

    @property
    def _rest(self) -> int:
        return UNKNOWN if self.unpainted == "unknown" else 0

    def _of_planes(
        self, files: MaskFiles, by_label: Mapping[str, Path], shape: tuple[int, int]
    ) -> U8:
        """The background's labels cover the learned ones, and those to be ignored cover all."""
        mask = read_masks(
            files, self.names, overlapping=self.overlapping, unknown=self.labels.unknown,
            values=self.values, shape=shape,
        )  # fmt: skip
        grounds = [name for name in self.labels.background if self._rest or name in by_label]
        painted = np.zeros(shape, np.bool_)
        if grounds:
            said = read_masks(files, grounds, values=self.values, shape=shape)
            painted = (said > 0) & (said != UNKNOWN)
        rest = np.where(painted, np.uint8(0), np.uint8(self._rest))
        return np.where((mask == 0) | (painted & (mask != UNKNOWN)), rest, mask)


def open_masks(
    images: Sequence[Path],
    folder: Path,
    written: Sequence[str],
    recipe: Recipe,
    values: Values | None = None,
) -> MaskFolder:
    """Find the masks of images, by the recipe's `labels`; images without any are left out.

    Labels overlap where the recipe says so, or where each has a folder of masks and it leaves that
    to them. Raises `ConfigError` with the recipe's key where it does not fit the labels, `NotFound`
    and `DataError` as `find_masks` does.
    """
    check_recipe(recipe, written)
    files = find_masks(images, folder, written)
    by_label = any(found.by_label for found in files.values())
    labels = _learned(recipe, written, multiple=by_label)
    return MaskFolder(files, tuple(written), labels, recipe.labels.unpainted, values)


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
