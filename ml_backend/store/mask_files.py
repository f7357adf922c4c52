"""The masks of images in a folder: a file an image, or a file an image and label.

    masks/a.png             all labels, by their numbers
    masks/<label>/a.png     one label, in a folder that has its name: labels may overlap

The latter holds where any of several labels has its folder, and is how `png_classes` exports.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.masks import sets
from ml_backend.store.mask_values import IGNORE, Values, read_mask
from ml_backend.store.pairs import match_masks


@dataclass(frozen=True)
class MaskFiles:
    """What an image has: one file of `all` labels, or files `by_label`."""

    all: Path | None = None
    by_label: Mapping[str, Path] | None = None

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return [*([self.all] if self.all else []), *(self.by_label or {}).values()]


def find_masks(
    images: Iterable[Path], folder: Path, labels: Sequence[str]
) -> dict[Path, MaskFiles]:
    """Return image → its files in `folder`; images without any are left out.

    Names are paired as by `match_masks`, which raises where they cannot be.
    """
    pictures = list(images)
    folders = {name: folder / name for name in labels if (folder / name).is_dir()}
    if len(labels) < 2 or not folders:
        pairs = match_masks(pictures, folder)
        return {image: MaskFiles(all=path) for image, path in pairs.items()}
    found: dict[Path, dict[str, Path]] = {}
    for name, place in folders.items():
        for image, path in match_masks(pictures, place).items():
            found.setdefault(image, {})[name] = path
    return {image: MaskFiles(by_label=files) for image, files in found.items()}


def read_masks(
    files: MaskFiles,
    labels: Sequence[str],
    *,
    overlapping: bool = False,
    unknown: Sequence[str] = (),
    values: Values | None = None,
    shape: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Read an image's masks as a label map of `labels`, or a set map where they may overlap.

    Where there is a file a label every one of them must be there, so that "not this label" is said
    and not guessed; of labels that may not overlap the last one covers the others. Pixels of labels
    in `unknown` become 255. Raises as `read_mask`, and `DataError` for files that are missing.
    """
    if files.by_label is None:
        if files.all is None:
            raise DataError("an image without masks has none to be read")
        return _of_all(files.all, labels, overlapping, values, shape)
    missing = [name for name in labels if name not in files.by_label]
    if missing:
        some = next(iter(files.by_label.values()))
        raise DataError(
            f"{some.name} has masks of {', '.join(files.by_label)} but none of "
            f"{', '.join(missing)}: an image needs a mask in the folder of every label, an empty "
            "one where the label does not occur"
        )
    planes = [_plane(files.by_label[name], values, shape) for name in labels]
    if len({plane.shape for plane in planes}) > 1:
        raise DataError(f"the masks of {files.by_label[labels[0]].name} differ in size")
    if overlapping:
        mask = sets.from_planes([plane == 1 for plane in planes])
    else:
        mask = np.zeros(planes[0].shape, np.uint8)
        for label, plane in enumerate(planes, 1):
            mask[plane == 1] = label
    aside = [_plane(files.by_label[name], values, shape) > 0 for name in unknown
             if name in files.by_label]  # fmt: skip
    for cover in [*aside, *(plane == IGNORE for plane in planes)]:
        mask[cover] = IGNORE
    return mask


def _of_all(
    path: Path,
    labels: Sequence[str],
    overlapping: bool,
    values: Values | None,
    shape: tuple[int, int] | None,
) -> NDArray[np.uint8]:
    label_map = read_mask(_bytes(path), path.name, len(labels), values=values, shape=shape)
    return sets.from_labels(label_map) if overlapping else label_map


def _plane(path: Path, values: Values | None, shape: tuple[int, int] | None) -> NDArray[np.uint8]:
    return read_mask(_bytes(path), path.name, values=values, shape=shape)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"mask {path.name} cannot be read: {error.strerror}") from None
