"""Which mask belongs to which image, by their names alone; docs/files.md has a table of layouts.

A mask belongs to the image whose stem it has, or to the one with the longest stem that its own
begins with, followed by a separator. Words that mark a mask or an image (`mask_names.py`) and
nnU-Net's channels are left out where that is needed. Where a name fits several files, their
sub-folders decide. What is still ambiguous is a fault of the images that it concerns.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ml_backend.errors import DataError
from ml_backend.store.blobs import natural_order
from ml_backend.store.mask_index import (
    OBJECT,
    ROLE,
    Claim,
    Group,
    ImageIndex,
    Roots,
    agreement,
)
from ml_backend.store.mask_names import (
    CHANNEL,
    Labels,
    Name,
    parse,
    words,
)
from ml_backend.store.mask_numbers import pair_by_number, refuse_guess

Match = Literal["name", "number"]

WITHOUT_IMAGE = "mask without image"
OF_SEVERAL = "mask that fits several images"
ELSEWHERE = "mask in the folder of other images"
SECOND = "mask of an image that has a better one"
OF_FAULT = "mask of an image that is set aside"
_SHOWN = 6


@dataclass(frozen=True)
class Part:
    """A mask of an image: all of it, or its part of one label, or of one page of a stack."""

    mask: str
    label: str | None = None
    page: int | None = None


@dataclass(frozen=True)
class Pair:
    """The masks of an image and how they were found; of `objects` each file shows one."""

    how: str
    parts: tuple[Part, ...]
    objects: bool = False


@dataclass(frozen=True)
class Matches:
    """What became of every name: each image is in one of the first three, each mask used or told.

    `pairs`: image → its masks. `faults`: image → why it has none though some fit. `images`: those
    without a mask. `masks`: mask → why no image has it.
    """

    pairs: dict[str, Pair] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    masks: dict[str, str] = field(default_factory=dict)


def match_masks(
    images: Sequence[str],
    masks: Sequence[str],
    *,
    labels: Sequence[str] = (),
    match: Match = "name",
    stacks: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    roots: Roots = ((), ()),
    needed: bool = True,
) -> Matches:
    """Pair names of images with names of masks, both unlike each other, `/` between folders.

    `labels`: of several each may have files of its own, told by a folder or by what is added to the
    image's name. `match`: `number` pairs by a number in the names and by nothing else. `stacks`:
    those of the images that are stacks, which may have a mask a page. `aliases`: another name that
    an image goes by. `roots`: the folders above images and masks, as a last resort.

    Raises `DataError` where a pairing by number was asked for and does not work, and, if a pair is
    `needed`, where no image has a mask though some fit, or would have one by number.
    """
    names = [parse(image) for image in images]
    folders = {folder for image in names for folder in image.folders}
    named = Labels(labels)
    parsed = [parse_mask(mask, named, folders) for mask in masks]
    if match == "number":
        return _match_numbers(names, parsed, labels)
    index = ImageIndex(names, named, stacks, aliases)
    settlement = _Settlement(index, roots, {name.place for name, _ in parsed})
    for name, label in parsed:
        settlement.note(name, label)
    matches = settlement.settle(images, labels if len(labels) > 1 else ())
    if matches.pairs or not needed:
        return matches
    if matches.faults:
        raise DataError(next(iter(matches.faults.values())))
    if settlement.doubt is not None:
        raise DataError(settlement.doubt)
    guessed = pair_by_number(names, [name for name, _ in parsed])
    if guessed:
        raise refuse_guess(guessed)
    return matches


def parse_mask(mask: str, labels: Labels, folders: Collection[str] = ()) -> tuple[Name, str | None]:
    """A mask's name, and the label that its folder has unless images have such a folder, too."""
    name = parse(mask)
    for at, folder in enumerate(name.folders):
        label = None if folder in folders else labels.find(folder)
        if label is not None:
            return name.without_folder(at), label
    return name, None


def _match_numbers(
    names: Sequence[Name], masks: Sequence[tuple[Name, str | None]], labels: Sequence[str]
) -> Matches:
    named = Labels(labels)
    images = [name.text for name in names]
    by_label: dict[str | None, list[Name]] = {}
    for name, label in masks:
        said = label or next(filter(None, map(named.find, words(name.stem))), None)
        by_label.setdefault(said if len(labels) > 1 else None, []).append(name)
    parts: dict[str, list[Part]] = {}
    for label, group in by_label.items():
        found = pair_by_number(names, group)
        if found is None:
            raise DataError(
                "masks cannot be paired by number: each image and each mask needs a number in its "
                "name that no other one has; name masks like their images"
            )
        for image, mask in found.items():
            parts.setdefault(image, []).append(Part(mask, label))
    pairs = {image: Pair("by number", tuple(parts[image])) for image in images if image in parts}
    used = {part.mask for pair in pairs.values() for part in pair.parts}
    left = {name.text: WITHOUT_IMAGE for name, _ in masks if name.text not in used}
    return Matches(pairs, {}, tuple(image for image in images if image not in pairs), left)


class _Settlement:
    """Which of the images that a mask may belong to has it, and which of its masks an image."""

    def __init__(
        self, index: ImageIndex, roots: Roots, places: Collection[tuple[str, ...]]
    ) -> None:
        self._index, self._roots, self._places = index, roots, places
        self._own: dict[str, tuple[Name, list[Claim]]] = {}
        self._shared: dict[int, tuple[Group, list[Claim]]] = {}
        self._left: dict[str, str] = {}
        self.doubt: str | None = None

    def note(self, mask: Name, label: str | None) -> None:
        """Find out whose mask it is, or may be."""
        found = self._index.claim(mask, label)
        if found is None:
            self._left[mask.text] = WITHOUT_IMAGE
            return
        group, claim = found[0].narrow(mask, self._roots), found[1]
        if len(group.images) > 1:
            self._shared.setdefault(id(group), (group, []))[1].append(claim)
        else:
            self._give(group.images[0], claim)

    def _give(self, image: Name, claim: Claim) -> None:
        if self._is_elsewhere(image, claim.mask):
            self._left[claim.mask.text] = ELSEWHERE
        else:
            self._own.setdefault(image.text, (image, []))[1].append(claim)

    def _is_elsewhere(self, image: Name, mask: Name) -> bool:
        """Whether both lie in folders that both have, and not in the same."""
        here, there = image.place, mask.place
        return bool(
            here and there and here != there
            and here in self._places and there in self._index.places
        )  # fmt: skip

    def settle(self, images: Sequence[str], labels: Sequence[str]) -> Matches:
        """Decide for every name; `labels`: those that may have files of their own."""
        faults: dict[str, str] = {}
        for group, claims in sorted(self._shared.values(), key=lambda item: item[1][0].level):
            faults |= self._share(group, claims)
        pairs: dict[str, Pair] = {}
        for text, (image, claims) in self._own.items():
            chosen = _choose(image, claims, labels, self._roots)
            if isinstance(chosen, Pair):
                pairs[text] = chosen
            else:
                faults[text] = chosen
            used = {part.mask for part in chosen.parts} if isinstance(chosen, Pair) else set()
            why = SECOND if used else OF_FAULT
            self._left |= {c.mask.text: why for c in claims if c.mask.text not in used}
        rest = tuple(image for image in images if image not in pairs and image not in faults)
        faults = {image: fault for image, fault in faults.items() if image not in pairs}
        order = {image: at for at, image in enumerate(images)}
        return Matches(
            {image: pairs[image] for image in sorted(pairs, key=order.__getitem__)},
            {image: faults[image] for image in sorted(faults, key=order.__getitem__)},
            rest,
            self._left,
        )

    def _share(self, group: Group, claims: list[Claim]) -> dict[str, str]:
        """Give masks to the only image of several that has no better one; else say why not."""
        level = min(claim.level for claim in claims)
        levels = {i.text: min((c.level for c in self._own[i.text][1]), default=OBJECT + 1)
                  for i in group.images if i.text in self._own}  # fmt: skip
        wanting = [i for i in group.images if levels.get(i.text, level) >= level]
        if len(wanting) == 1:
            for claim in claims:
                self._give(wanting[0], claim)
            return {}
        self._left |= {claim.mask.text: OF_SEVERAL for claim in claims}
        without = [image for image in wanting if image.text not in levels]
        both = "both " if len(group.images) == 2 else ""
        names = _listed([image.text for image in group.images], " and ")
        fits = f"mask {claims[0].mask.text} fits {both}{names}"
        if group.rank >= CHANNEL or level > ROLE:  # not sure enough to set images aside
            self.doubt = self.doubt or f"{fits}; give the images of one channel, or name it better"
            return {}
        reason = (
            f"{fits}; give each image its own name, or put the masks into subfolders like those of "
            "the images"
        )
        return dict.fromkeys((image.text for image in without), reason)


def _choose(
    image: Name, claims: Sequence[Claim], labels: Sequence[str], roots: Roots
) -> Pair | str:
    """The masks of an image, or why there are too many."""
    if len(claims) == 1 and claims[0].level != OBJECT:
        [only] = claims
        label = only.label if only.label in labels else None
        how = only.how if label is None else "a file a label"
        return Pair(how, (Part(only.mask.text, label, only.page),))
    best = min(claim.level for claim in claims)
    labelled = [claim for claim in claims if claim.label in labels]
    bare = [claim for claim in claims if claim.label not in labels]
    if labelled and min(c.level for c in labelled) <= min((c.level for c in bare), default=OBJECT):
        fitting, how = labelled, "a file a label"
    else:
        fitting = [claim for claim in bare if claim.level == best]
        how = fitting[0].how
    slots: dict[tuple[str | None, int | None], list[Claim]] = {}
    for claim in fitting:
        slots.setdefault((claim.label if fitting is labelled else None, claim.page), []).append(
            claim
        )
    if best == OBJECT and fitting is not labelled:
        texts = sorted((claim.mask.text for claim in fitting), key=natural_order)
        return Pair(how, tuple(map(Part, texts)), objects=True)
    parts = []
    for (label, page), rivals in slots.items():
        winner = _one(image, rivals, roots)
        if winner is None:
            names = sorted((claim.mask.text for claim in rivals), key=natural_order)
            return f"{image.text} has several masks: {_listed(names, ', ')}; keep one of them"
        parts.append(Part(winner.mask.text, label, page))
    return Pair(how, tuple(parts))


def _one(image: Name, claims: Sequence[Claim], roots: Roots) -> Claim | None:
    """The one that fits best of those that an image may have for one thing, None for several."""
    for prefer in (
        lambda claim: -claim.level,
        lambda claim: claim.label is not None,
        lambda claim: agreement(image, claim.mask, roots),
        lambda claim: claim.mask.spelling in {image.spelling, image.file},
    ):
        most = max(map(prefer, claims))
        claims = [claim for claim in claims if prefer(claim) == most]
    return claims[0] if len(claims) == 1 else None


def _listed(names: Sequence[str], last: str) -> str:
    more = len(names) - _SHOWN
    shown = last.join(names) if len(names) <= 2 else ", ".join(names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
