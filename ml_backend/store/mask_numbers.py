"""Pairs of images and masks by a number in their names: a guess, made only when it is asked for."""

import re
from collections.abc import Callable, Sequence

from ml_backend.errors import DataError
from ml_backend.store.mask_names import Name

_SHOWN = 3
Key = Callable[[Name], object]


def pair_by_number(images: Sequence[Name], masks: Sequence[Name]) -> dict[str, str] | None:
    """Image → mask of the same last number, or first, or last in the same folder.

    None where none of these is told by every name and different for each.
    """
    for key in (_last, _first, _last_in_folder):
        numbers = [key(image) for image in images]
        numbered = {key(mask): mask for mask in masks}
        unique = len(set(numbers)) == len(images) and len(numbered) == len(masks)
        if unique and None not in numbers and None not in numbered:
            pairs = zip(images, numbers, strict=True)
            return {i.text: numbered[n].text for i, n in pairs if n in numbered}
    return None


def refuse_guess(pairs: dict[str, str]) -> DataError:
    """Say which pairs numbers would make, and how to ask for them."""
    first = ", ".join(f"{image} with {mask}" for image, mask in list(pairs.items())[:_SHOWN])
    more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return DataError(
        f"no mask has the name of an image; by a number in their names they would be paired: "
        f"{first}{more}; say --match number if that is right, or name masks like their images"
    )


def _last(name: Name) -> object:
    found = re.findall(r"[0-9]+", name.stem)
    return int(found[-1]) if found else None


def _first(name: Name) -> object:
    found = re.findall(r"[0-9]+", name.stem)
    return int(found[0]) if found else None


def _last_in_folder(name: Name) -> object:
    number = _last(name)
    return None if number is None else (name.place, number)
