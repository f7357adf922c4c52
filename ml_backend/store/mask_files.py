"""The masks of images at an address, and how they are read.

An image has one file of all labels, a file a label, a file an object, a page of a stack of masks,
or what a document says of it. docs/files.md has a table of the layouts that are known.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.masks import sets
from ml_backend.store.blobs import local_folder
from ml_backend.store.documents import MaskDocument, MaskReading
from ml_backend.store.listing import ListedFile
from ml_backend.store.mask_pages import read_page
from ml_backend.store.mask_values import IGNORE, Values, read_mask_file

U8 = NDArray[np.uint8]
Shape = tuple[int, int]


@dataclass(frozen=True)
class MaskFile:
    """A mask that is a picture: a file, or a page of one, from 0."""

    file: ListedFile
    page: int | None = None

    @property
    def name(self) -> str:
        """Its name, as messages say it."""
        page = "" if self.page is None else f" (page {self.page + 1})"
        return self.file.name + page

    def digest(self) -> bytes:
        """What is in it: another value where any of it differs."""
        page = b"" if self.page is None else str(self.page).encode()
        return _digest(self.file) + page

    def read(self, shape: Shape, use: "LabelUse", labels: int = 1) -> MaskReading:
        """Read it as so many labels. Raises `DataError` as `read_mask_file` does."""
        alone = None if self.page is None else read_page(self.file, self.page)
        return read_mask_file(
            self.file.read() if alone is None else alone, self.name, labels, values=use.values,
            shape=shape, page=self.page if alone is None else None, instances=use.instances,
        )  # fmt: skip


@dataclass(frozen=True)
class MaskFiles:
    """What an image has: one file of `all` labels, files `by_label`, `objects`, a `document`.

    `written_in`: the document's file. `fault`: why it has none of them although masks fit it;
    reading it raises that.
    """

    all: MaskFile | None = None
    by_label: Mapping[str, MaskFile] | None = None
    objects: tuple[MaskFile, ...] = ()
    document: MaskDocument | None = None
    written_in: ListedFile | None = None
    fault: str | None = None

    @property
    def files(self) -> list[MaskFile]:
        """Its pictures."""
        some = [self.all] if self.all else []
        return [*some, *(self.by_label or {}).values(), *self.objects]

    def digest(self) -> bytes:
        """What is in them: another value where any of it differs."""
        drawn = [file.digest() for file in self.files]
        labels = repr(tuple(self.by_label)).encode() if self.by_label else b""
        written = b"" if self.written_in is None else _digest(self.written_in)
        return labels + b"".join(drawn) + written

    def read(self, shape: Shape, use: "LabelUse") -> MaskReading:
        """Read them as a label map, or a set map where labels overlap, with its objects.

        Where there is a file a label every learned one must be there, so that "not this label" is
        said and not guessed; of labels that may not overlap the last one covers the others, the
        background covers the learned ones, and what is unknown covers all. Raises `DataError` for
        masks that cannot be read, do not fit or are missing, as `read_mask` does.
        """
        if self.fault is not None:
            raise DataError(self.fault)
        if self.document is not None:
            return self.document.read(
                shape, use.written, overlapping=use.overlapping, unknown=use.unknown,
                background=use.background, rest=use.rest,
                values=use.values,
            )  # fmt: skip
        if self.by_label is not None:
            return _planes(self.by_label, shape, use)
        if self.objects:
            return _objects(self.objects, shape, use)
        if self.all is None:
            raise DataError("an image without masks has none to be read")
        return _one_file(self.all, shape, use)


def _digest(file: ListedFile) -> bytes:
    path = local_folder(file.uri)
    changed = path.stat().st_mtime_ns if path is not None and path.exists() else 0
    return _digest_of(file, changed)


@lru_cache(maxsize=4)  # a stack or a document of many images is read once
def _digest_of(file: ListedFile, _changed: int) -> bytes:
    return hashlib.sha256(file.read()).digest()


@dataclass(frozen=True)
class LabelUse:
    """What becomes of the labels that masks tell apart.

    `written`: all of them, in the order of their numbers. Values 1…K count those that are neither
    `unknown`, whose pixels become 255, nor `background`. `rest`: what nobody painted, 0 or 255.
    `values` and `instances`: as for `read_mask`.
    """

    written: Sequence[str]
    unknown: Sequence[str] = ()
    background: Sequence[str] = ()
    rest: int = 0
    overlapping: bool = False
    values: Values | None = None
    instances: bool = False

    @property
    def learned(self) -> tuple[str, ...]:
        """The labels that have a value."""
        aside = {*self.unknown, *self.background}
        return tuple(name for name in self.written if name not in aside)


def _one_file(file: MaskFile, shape: Shape, use: LabelUse) -> MaskReading:
    reading = file.read(shape, use, len(use.written))
    numbers = None if use.overlapping else reading.objects
    return replace(_labelled(reading.mask, numbers, use, reading.notes), rule=reading.rule)


def _labelled(
    written: U8, numbers: NDArray[np.int32] | None, use: LabelUse, notes: tuple[str, ...] = ()
) -> MaskReading:
    """What each number of a mask becomes."""
    table = np.full(256, IGNORE, np.uint8)
    table[0] = use.rest
    learned = use.learned
    for number, name in enumerate(use.written, 1):
        if name in use.background:
            table[number] = 0
        elif name in learned:
            table[number] = learned.index(name) + 1
    mask = np.take(table, written)
    return MaskReading(sets.from_labels(mask) if use.overlapping else mask, numbers, notes)


def _objects(files: Sequence[MaskFile], shape: Shape, use: LabelUse) -> MaskReading:
    """Each file is one object, the numbers count them; where they overlap the first one stays."""
    if len(use.written) > 1:
        raise DataError(
            f"{files[0].name} and {len(files) - 1} more files show an object each and do not say "
            f"which of the labels {', '.join(use.written)} it has; give a folder for each label"
        )
    written, numbers = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
    twice = 0
    notes: list[str] = []
    for number, file in enumerate(files, 1):
        reading = file.read(shape, use)
        plane = reading.mask
        notes += reading.notes
        twice += int(np.count_nonzero((plane == 1) & (numbers > 0)))
        numbers[(plane == 1) & (numbers == 0)] = number
        written[(plane == 1) & (written != IGNORE)] = 1
        written[plane == IGNORE] = IGNORE
    if twice:
        notes.append(f"{twice} px lie in several objects and count for the first")
    told = tuple(dict.fromkeys(notes))
    return _labelled(written, None if use.overlapping else numbers, use, told)


def _planes(by_label: Mapping[str, MaskFile], shape: Shape, use: LabelUse) -> MaskReading:
    """Of a file a label."""
    grounds = [name for name in use.background if use.rest or name in by_label]
    missing = [name for name in (*use.learned, *grounds) if name not in by_label]
    if missing:
        some = next(iter(by_label.values()))
        raise DataError(
            f"{some.name} has masks of {', '.join(by_label)} but none of "
            f"{', '.join(missing)}: an image needs a mask of every label, an empty one where the "
            "label does not occur"
        )
    readings = {
        name: file.read(shape, use) for name, file in by_label.items() if name in use.written
    }
    learned = [readings[name] for name in use.learned]
    if use.overlapping:
        mask = sets.from_planes([reading.mask == 1 for reading in learned])
    else:
        mask = np.zeros(shape, np.uint8)
        for value, reading in enumerate(learned, 1):
            mask[reading.mask == 1] = value
    painted = np.zeros(shape, np.bool_)
    unknown = np.zeros(shape, np.bool_)
    for name, reading in readings.items():
        if name in grounds:
            painted |= reading.mask == 1
        unknown |= (reading.mask > 0) if name in use.unknown else (reading.mask == IGNORE)
    mask[painted] = 0
    if use.rest:
        mask[(mask == 0) & ~painted] = use.rest
    mask[unknown] = IGNORE
    notes = [f"{name}: {note}" for name, reading in readings.items() for note in reading.notes]
    return MaskReading(mask, None if use.overlapping else _numbers(learned), tuple(notes))


def _numbers(readings: Iterable[MaskReading]) -> NDArray[np.int32] | None:
    """The numbers of the objects of several labels, of which the last one covers the others."""
    numbers: NDArray[np.int32] | None = None
    for reading in readings:
        if numbers is None:
            numbers = np.zeros(reading.mask.shape, np.int32)
        count = numbers.max(initial=0)
        own = 0 if reading.objects is None else reading.objects
        numbers = np.where(reading.mask == 1, np.where(own > 0, own + count, 0), numbers)
    return numbers if numbers is not None and numbers.any() else None
