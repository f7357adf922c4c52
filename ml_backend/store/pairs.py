"""Which mask belongs to which image, by their names."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ml_backend.errors import DataError
from ml_backend.store.images import find_images


def match_masks(images: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Return image → mask from `folder`; images without a mask are left out.

    A mask belongs to the image of the same stem, else to the one with the longest stem that its
    own begins with, followed by a space or one of `_-.` (`a_SEM.png`, `a_SEM_seg-manual.png`).
    Where that names several, their subfolders must agree (`rat1/00.png`, `masks/rat1/00.png`).
    If not a single mask matches by stem, the last number in each name decides (`00.tif`,
    `labels00000000.png`), provided it is unique. Images in `folder` itself are never masks.
    Raises `NotFound` if `folder` is none, `DataError` if two fit equally well.
    """
    pictures = list(images)
    masks = [path.relative_to(folder) for path in find_images(folder) if path not in set(pictures)]
    pairs = _by_stem(pictures, masks) or _by_number(pictures, masks)
    owners: dict[Path, Path] = {}
    for image, mask in pairs.items():
        if owners.setdefault(mask, image) != image:
            raise DataError(
                f"mask {mask} fits both {owners[mask]} and {image}; give each image its own name, "
                "or put the masks into subfolders like those of the images"
            )
    return {image: folder / mask for image, mask in pairs.items()}


def _by_stem(images: list[Path], masks: list[Path]) -> dict[Path, Path]:
    stems = {image.stem.casefold() for image in images}
    exact: dict[str, list[Path]] = defaultdict(list)
    longer: dict[str, list[Path]] = defaultdict(list)
    for mask in masks:
        stem = mask.stem.casefold()
        if stem in stems:
            exact[stem].append(mask)
            continue
        ends = [found.start() for found in re.finditer(r"[ _\-.]", stem)]
        owner = next((stem[:end] for end in reversed(ends) if stem[:end] in stems), None)
        if owner is not None:
            longer[owner].append(mask)
    pairs = {}
    for image in images:
        stem = image.stem.casefold()
        fitting = exact.get(stem) or longer.get(stem)
        if fitting:
            pairs[image] = _one(image, fitting)
    return pairs


def _one(image: Path, fitting: list[Path]) -> Path:
    """The mask that fits, by subfolder if need be."""
    if len(fitting) == 1:
        return fitting[0]
    beside = [mask for mask in fitting if _same_subfolder(image, mask)]
    if len(beside) != 1:
        raise DataError(
            f"{image} has several masks: {', '.join(map(str, fitting))}; keep one of them"
        )
    return beside[0]


def _same_subfolder(image: Path, mask: Path) -> bool:
    inside = mask.parent.parts
    return bool(inside) and image.parent.parts[-len(inside) :] == inside


def _by_number(images: list[Path], masks: list[Path]) -> dict[Path, Path]:
    numbers = [_last_number(path) for path in images]
    numbered = {_last_number(mask): mask for mask in masks}
    unique = len(set(numbers)) == len(images) and len(numbered) == len(masks)
    if not unique or None in numbers or None in numbered:
        return {}
    pairs = zip(images, numbers, strict=True)
    return {image: numbered[number] for image, number in pairs if number in numbered}


def _last_number(path: Path) -> int | None:
    found = re.findall(r"[0-9]+", path.stem)
    return int(found[-1]) if found else None
