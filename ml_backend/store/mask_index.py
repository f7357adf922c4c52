"""Images by what they answer to, and what a mask's name claims of them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ml_backend.store.mask_names import (
    BARE,
    FILE,
    MASK_WORDS,
    Labels,
    Name,
    are_marks,
    cuts,
    image_keys,
    numbered,
    page_number,
    parse,
    plain,
    without_first,
    words,
)

FULL, EXACT, ROLE, OTHER, OBJECT = range(5)
"""How well a mask fits: named after the whole file (`a.jpg.png`), of the same stem, of a stem and
words of a mask or a label, of a stem and anything else, in a folder with the image's name."""

Roots = tuple[Sequence[str], Sequence[str]]
"""Folders above the images, and above the masks."""

_FEW = 16


@dataclass(frozen=True)
class Claim:
    """That a mask belongs to some image: how well it fits, how, as which label or page.

    `added`: what its name has beside the image's.
    """

    mask: Name
    level: int
    how: str
    label: str | None = None
    page: int | None = None
    added: str = ""


@dataclass
class Group:
    """Images that answer to one key, equally surely."""

    rank: int
    how: str
    images: list[Name] = field(default_factory=list)
    stacked: bool = False  # one of them is a stack

    def narrow(self, mask: Name, roots: Roots) -> "Group":
        """Those in the sub-folder of the mask, else below the same folders, else spelled alike."""
        if len(self.images) == 1:
            return self
        best = self._by_place.get(mask.place) or self._by_tail(mask, roots) or self
        if 1 < len(best.images) <= _FEW:
            file = mask.spelling
            alike = [i for i in best.images if file in {i.spelling, i.file}]
            alike = alike or [i for i in best.images if file.startswith(i.spelling)]
            if len(alike) == 1:
                return Group(self.rank, self.how, alike)
        return best

    def has_place(self, place: tuple[str, ...]) -> bool:
        """Whether one of them lies there."""
        return place in self._by_place

    @cached_property
    def _by_place(self) -> dict[tuple[str, ...], "Group"]:
        found: dict[tuple[str, ...], Group] = {}
        for image in self.images:
            found.setdefault(image.place, Group(self.rank, self.how)).images.append(image)
        return found

    def _by_tail(self, mask: Name, roots: Roots) -> "Group | None":
        full = (*roots[1], *mask.place)
        tails = self._tails(tuple(roots[0]))
        return next((tails[full[at:]] for at in range(len(full)) if full[at:] in tails), None)

    def _tails(self, root: tuple[str, ...]) -> dict[tuple[str, ...], "Group"]:
        if self._tailed is None:
            self._tailed = {}
            for image in self.images:
                full = (*root, *image.place)
                for at in range(len(full)):
                    empty = Group(self.rank, self.how)
                    self._tailed.setdefault(full[at:], empty).images.append(image)
        return self._tailed

    _tailed: dict[tuple[str, ...], "Group"] | None = None


def agreement(image: Name, mask: Name, roots: Roots) -> tuple[bool, int]:
    """How well the folders of both agree: whether they are the same, and at how many of the end."""
    ours, theirs = (*roots[0], *image.place), (*roots[1], *mask.place)
    same = 0
    for left, right in zip(reversed(ours), reversed(theirs), strict=False):
        if left != right:
            break
        same += 1
    return image.place == mask.place, same


class ImageIndex:
    """Images by their keys; a key leads to those that answer to it most surely."""

    def __init__(
        self,
        images: Sequence[Name],
        labels: Labels,
        stacks: Collection[str] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._groups: dict[str, Group] = {}
        self._labels, self._stacks = labels, frozenset(stacks)
        self._series: set[str] = set()  # what is common to images that are numbered
        self.places: set[tuple[str, ...]] = set()
        for name in images:
            self._add(name, name)
            self.places.add(name.place)
            if found := numbered(name.stem):
                self._series.add(found[0])
            other = (aliases or {}).get(name.text)
            if other is not None and other != name.text:
                self._add(parse(other), name)

    def _add(self, called: Name, image: Name) -> None:
        for rank, key, how in image_keys(called):
            group = self._groups.get(key)
            if group is None or rank < group.rank:
                group = self._groups[key] = Group(rank, how, [image])
            elif rank == group.rank and group.images[-1] is not image:
                group.images.append(image)
            group.stacked |= image.text in self._stacks

    def claim(self, mask: Name, label: str | None) -> tuple[Group, Claim] | None:
        """Find whose mask it may be; `label`: the one that a folder says it shows."""
        return next(self.claims(mask, label), None)

    def claims(self, mask: Name, label: str | None = None) -> Iterator[tuple[Group, Claim]]:
        """All that it may be a mask of, the surest first."""
        for stem in mask.stems[1:] or mask.stems:
            if group := self._groups.get(stem):
                level = FULL if group.rank == FILE else EXACT
                yield group, Claim(mask, level, group.how, label)
        for stem, rest in cuts(mask.stem):
            if group := self._groups.get(stem):
                claim = self._continued(mask, label, group, stem, rest)
                if claim is not None:
                    yield group, claim
        found = numbered(mask.stem) if self._stacks else None
        if found and (group := self._groups.get(found[0])) and group.stacked:
            yield group, Claim(mask, ROLE, "a file a page", label, int(found[1]))
        yield from self._words_first(mask, label)
        yield from self._by_folder(mask, label)

    def _continued(
        self, mask: Name, label: str | None, group: Group, stem: str, rest: str
    ) -> Claim | None:
        """A name that begins with an image's."""
        found = words(rest)
        page = page_number(rest) if group.stacked else None
        if page is not None:
            return Claim(mask, ROLE, "a file a page", label, page)
        named = self._labels.within(rest)
        if named is not None:
            return Claim(mask, ROLE, "the name and a label", label or named)
        if are_marks([word for word in found if plain(word)]):
            shown = re.sub(r"\d+", "#", rest)
            how = f"the name and {shown!r}"
            how += f", {group.how}" if group.rank >= BARE else ""
            return Claim(mask, ROLE, how, label, added=rest)
        if group.rank >= BARE:
            return None
        if not any(
            map(plain, found)
        ):  # nothing but numbers: such as of a series, one of which is not there
            return (
                None if stem in self._series else Claim(mask, OTHER, "the name and a number", label)
            )
        return Claim(mask, OTHER, "the beginning of a longer name", label, added=rest)

    def _words_first(self, mask: Name, label: str | None) -> Iterator[tuple[Group, Claim]]:
        named = self._labels.before(mask.stem)
        for bare, said in (
            (without_first(mask.stem, MASK_WORDS), label),
            *([(named[1], label or named[0])] if named else []),
        ):
            group = self._groups.get(bare) if bare else None
            if group and bare:
                how = f"the name after {mask.stem.removesuffix(bare)!r}"
                how += f", {group.how}" if group.rank >= BARE else ""
                yield group, Claim(mask, ROLE, how, said, added=mask.stem.removesuffix(bare))

    def _by_folder(self, mask: Name, label: str | None) -> Iterator[tuple[Group, Claim]]:
        if not mask.place:
            return
        group = self._groups.get(mask.place[-1])
        if group is None:
            return
        named = self._labels.find(mask.stem)
        if named is not None or are_marks(words(mask.stem)):
            yield (
                group,
                Claim(mask, ROLE, "the name of the folder", label or named, added=mask.stem),
            )
        else:
            yield group, Claim(mask, OBJECT, "a file an object, in a folder of the image", label)
