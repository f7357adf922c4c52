"""Images and the files at an address of masks → which image has which masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ml_backend.errors import DataError
from ml_backend.store.image_listing import leave_out_masks
from ml_backend.store.listing import ListedFile, list_files, shown
from ml_backend.store.mask_files import MaskFile, MaskFiles
from ml_backend.store.mask_listing import SUFFIXES, MaskListing
from ml_backend.store.mask_matching import (
    OF_FAULT,
    WITHOUT_IMAGE,
    Match,
    Matches,
    Pair,
    Part,
    match_masks,
)
from ml_backend.store.mask_names import place_of
from ml_backend.store.mask_pages import PageParts, count_pages
from ml_backend.store.mask_places import Places
from ml_backend.store.summary import Summary

WITHOUT_MASK = "image without mask"
_SHOWN = 3


class SourceLike(Protocol):
    """What is needed of an image: see `collection.SourceImage`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def file(self) -> ListedFile: ...  # noqa: D102
    @property
    def stack(self) -> str | None: ...  # noqa: D102
    @property
    def page(self) -> int: ...  # noqa: D102
    @property
    def pages(self) -> int: ...  # noqa: D102


Source = TypeVar("Source", bound=SourceLike)


@dataclass(frozen=True)
class MaskPairs(Generic[Source]):
    """Image name → its masks, and the images: those that were given and are no masks themselves."""

    files: Mapping[str, MaskFiles]
    images: tuple[Source, ...]


def pair_masks(
    images: Iterable[Source],
    masks: Path | str | None,
    labels: Sequence[str] = ("object",),
    *,
    match: Match = "name",
    summary: Summary | None = None,
    needed: bool = True,
) -> MaskPairs[Source]:
    """Find the masks of images in a folder, a file or at an fsspec address.

    What was paired, and how, and what is left over on both sides is noted in `summary`. Masks may
    lie among the images; without an address of masks, only what is sure to be one is left out of
    the images, and noted. An image whose masks are ambiguous has a `fault`, which reading them
    raises. Raises `DataError` where no image has a mask, unless none is `needed`, and as
    `list_files` and `match_masks` do.
    """
    told = Summary() if summary is None else summary
    given = list(images)
    files = {image.file.name: image.file for image in given}
    left = {file.name for file in leave_out_masks(list(files.values()), masks, labels, told)}
    kept = tuple(image for image in given if image.file.name in left)
    if masks is None:
        return MaskPairs({}, kept)
    listed, places = Summary(), Places()
    found = list_files(masks, listed, SUFFIXES)
    pictures = {places.of(file) for file in files.values() if file.name in left}
    if not any(places.is_above(given[0].file, file) for file in found[:1] if given):
        told.update(listed)  # else they were told with the images
    listing = MaskListing([file for file in found if places.of(file) not in pictures], told)
    pairs = _Pairing(kept, listing, labels, match, told, needed).files()
    if needed and not any(one.fault is None for one in pairs.values()):
        raise _none(masks, kept, listing, pairs)
    return MaskPairs(pairs, kept)


@dataclass
class _Pairing(Generic[Source]):
    images: Sequence[Source]
    masks: MaskListing
    labels: Sequence[str]
    match: Match
    summary: Summary
    needed: bool
    _pages: dict[str, int] = field(default_factory=dict)
    _parts: dict[str, PageParts] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def files(self) -> dict[str, MaskFiles]:
        """Image name → its masks, or its fault."""
        stacks = {image.stack: image.file for image in self.images if image.stack}
        by_name = self.match == "name"  # pages have the numbers of their stacks
        names = [image.name for image in self.images if by_name or not image.stack]
        aliases = {i.name: i.file.name for i in self.images if not i.stack}
        aliases |= {stack: file.name for stack, file in stacks.items()}
        matches = match_masks(
            [*names, *stacks], self.masks.names, labels=self.labels, match=self.match,
            stacks=stacks.keys(), aliases=aliases, roots=self._roots(), needed=self.needed,
        )  # fmt: skip
        found = {}
        for image in self.images:
            one = self._of(image, matches)
            if one is None:
                self.summary.add("unpaired", image.name, WITHOUT_MASK)
            else:
                found[image.name] = one
        faults = {i.stack or i.name for i in self.images if _is_fault(found.get(i.name))}
        self._tell(matches, faults)
        return found

    def _roots(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The folders above images and masks."""
        first = [image.file for image in self.images[:1]]
        return _above(first), _above(list(self.masks.files.values())[:1])

    def _of(self, image: Source, matches: Matches) -> MaskFiles | None:
        for name in (image.name, image.stack):
            if name in matches.faults:
                return MaskFiles(fault=matches.faults[name])
            pair = matches.pairs.get(name) if name else None
            if pair is None:
                continue
            try:
                one = self._read(image, pair, whole=name != image.name)
            except DataError as error:
                return MaskFiles(fault=str(error))
            if one is not None:
                self.summary.add("paired", self._paired(image.name, one), pair.how)
            return one
        return None

    def _paired(self, name: str, files: MaskFiles) -> str:
        if files.document is not None:
            return f"{name} ↔ {shown(files.document.file)}"
        more = len(files.files) - 1
        return f"{name} ↔ {shown(files.files[0].name)}" + (f" and {more} more" if more else "")

    def _read(self, image: Source, pair: Pair, *, whole: bool) -> MaskFiles | None:
        """The masks of an image; `whole`: those of its stack."""
        parts = self._of_page(image, pair) if whole else pair.parts
        if not parts:
            return None
        document = self.masks.documents.get(parts[0].mask)
        if document is not None:
            if whole and image.pages > 1:
                raise DataError(
                    f"{document.file} has one mask of {image.stack}, which has {image.pages} "
                    "pages; give a mask for each page"
                )
            self._used.add(parts[0].mask)
            return MaskFiles(document=document, written_in=self.masks.all[document.file])
        files = [self._file(image, p.mask, whole=whole and p.page is None) for p in parts]
        self._used.update(part.mask for part in parts)
        if pair.objects:
            return MaskFiles(objects=tuple(files))
        if parts[0].label is not None:
            by_label = {p.label or "": file for p, file in zip(parts, files, strict=True)}
            return MaskFiles(by_label={n: by_label[n] for n in self.labels if n in by_label})
        return MaskFiles(all=files[0])

    def _of_page(self, image: Source, pair: Pair) -> Sequence[Part]:
        """Those of the masks of a stack that are of one page."""
        stack = image.stack or image.name
        if stack not in self._parts:
            self._parts[stack] = PageParts(stack, image.pages, pair.parts)
        return self._parts[stack].of(image.page)

    def _file(self, image: Source, mask: str, *, whole: bool) -> MaskFile:
        """A mask file, or its page if it has as many as the image's file."""
        file = self.masks.files[mask]
        if image.pages == 1:
            return MaskFile(file)
        if mask not in self._pages:
            self._pages[mask] = count_pages(file)
        pages = self._pages[mask]
        if pages == image.pages:
            return MaskFile(file, image.page)
        if whole:
            raise DataError(
                f"{image.stack} has {image.pages} pages and its mask {mask} has {pages}; give a "
                "mask of as many pages"
            )
        return MaskFile(file)

    def _tell(self, matches: Matches, faults: set[str]) -> None:
        """Note masks that no image has."""
        left = dict(matches.masks)
        for name, pair in matches.pairs.items():
            why = OF_FAULT if name in faults else WITHOUT_IMAGE
            left |= {part.mask: why for part in pair.parts if part.mask not in self._used}
        for name, why in left.items():
            self.summary.add("unpaired", self.masks.shown(name), why)


def _is_fault(files: MaskFiles | None) -> bool:
    return files is not None and files.fault is not None


def _above(files: Sequence[ListedFile]) -> tuple[str, ...]:
    if not files or not files[0].uri.endswith(files[0].name):
        return ()
    return place_of(files[0].uri[: -len(files[0].name)].strip("/").split("/"))


def _none(
    address: Path | str,
    images: Sequence[SourceLike],
    masks: MaskListing,
    pairs: Mapping[str, MaskFiles],
) -> DataError:
    """Why no image has a mask."""
    for files in pairs.values():
        return DataError(files.fault)
    ours = ", ".join(shown(image.name) for image in images[:_SHOWN])
    theirs = ", ".join(masks.shown(name) for name in masks.names[:_SHOWN]) or "none is there"
    return DataError(
        f"no mask in {address} has the name of an image: images are called {ours} …, masks "
        f"{theirs} …; docs/files.md says which names belong together"
    )
