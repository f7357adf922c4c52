"""Folders that hold images and masks: which files are masks."""

from collections.abc import Sequence

from ml_backend.store.mask_index import OTHER, ROLE, ImageIndex
from ml_backend.store.mask_matching import parse_mask
from ml_backend.store.mask_names import (
    MASK_WORDS,
    SURE_WORDS,
    Labels,
    Name,
    are_marks,
    is_mask_folder,
    parse,
    plain,
    words,
)


def masks_among(
    names: Sequence[str], labels: Sequence[str] = (), *, sure: bool = False
) -> set[str]:
    """Which files of a folder of images are masks of the others: by their folder or what is added.

    `sure`: only such whose folder or addition consists of words of masks and that have an image.
    """
    marks = SURE_WORDS if sure else MASK_WORDS
    inside: list[str] = []
    rest: list[str] = []
    for name in names:
        folders = name.split("/")[:-1]
        within = any(is_mask_folder(folder, marks) for folder in folders)
        (inside if within else rest).append(name)
    named = Labels(labels)
    index = ImageIndex([parse(name) for name in rest], named)
    found = {name for name in rest if _marks_a_mask(index, parse(name), sure)}
    if rest and sure:  # a folder of masks has a mask of an image
        owned = {_folder(name) for name in inside if index.claim(parse(name), None)}
        found.update(name for name in inside if _folder(name) in owned)
    elif rest:
        found.update(inside)
    if not sure:
        found |= _in_label_folders([name for name in rest if name not in found], named)
    return found


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _marks_a_mask(index: ImageIndex, name: Name, sure: bool) -> bool:
    for group, claim in index.claims(name):
        if claim.level not in {ROLE, OTHER} or not group.has_place(name.place):
            continue
        found = [word for word in words(claim.added) if plain(word)]
        if sure and are_marks(found, SURE_WORDS):
            return True
        if not sure and (claim.level == ROLE or any(are_marks([word]) for word in found)):
            return True
    return False


def _in_label_folders(names: Sequence[str], labels: Labels) -> set[str]:
    inside = {name for name in names if any(map(labels.find, name.split("/")[:-1]))}
    if not inside:
        return set()
    index = ImageIndex([parse(name) for name in names if name not in inside], labels)
    return {name for name in inside if index.claim(parse_mask(name, labels)[0], None)}
