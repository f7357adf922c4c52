"""What images and masks hold, as `pool add` would take them, before anything is added."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.loop.context import Progress, silent
from ml_backend.loop.mask_folder import label_use
from ml_backend.masks import sets
from ml_backend.masks.instances import components, told_apart
from ml_backend.masks.sheet import Row, contact_sheet, outlined, shorten
from ml_backend.recipe import Recipe
from ml_backend.store.blobs import Blobs
from ml_backend.store.collection import SourceFile, SourceImage, open_files
from ml_backend.store.documents import MaskReading
from ml_backend.store.frames import Frame
from ml_backend.store.image_listing import list_images
from ml_backend.store.label_shares import LabelShares, numbers_of
from ml_backend.store.mask_files import LabelUse, MaskFiles
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_pairing import pair_masks
from ml_backend.store.mask_values import Values
from ml_backend.store.summary import Summary

U8 = NDArray[np.uint8]

SHOWN = 60
"""Most images on a sheet, evenly chosen from all."""
_IN_A_ROW = 6
_LETTERS = 36


@dataclass(frozen=True)
class InspectedImage:
    """One image as it would be taken.

    Attributes:
        name: Its name in the pool.
        size: (width, height) in pixels; None where the file cannot be read.
        pages: How many pictures its file holds.
        channels: How many its file has.
        range: The numbers that become black and white, one pair or one a channel; None where
            8-bit numbers stay as they are.
        mask: Where its mask is; None without one.
        shares: Label → its share of the pixels, 0..1; empty without a mask that can be read.
        objects: How many objects the mask holds; None likewise.
        problems: Why it or its mask cannot be used, and what is doubtful.

    """

    name: str
    size: tuple[int, int] | None
    pages: int
    channels: int
    range: tuple[float, float] | tuple[tuple[float, float], ...] | None
    mask: str | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    objects: int | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """All images of a folder, and what else is to be told of it."""

    images: tuple[InspectedImage, ...]
    summary: Summary
    shares: LabelShares

    def as_json(self) -> dict[str, Any]:
        """Give the images, what labels cover of all masks together, and the summary."""
        images = [asdict(image) for image in self.images]
        return {"images": images, "shares": self.shares.as_json()} | self.summary.as_json()


def inspect_folder(
    address: Path | str,
    recipe: Recipe,
    *,
    labels: Sequence[str] = ("object",),
    masks: Path | str | None = None,
    values: Values | None = None,
    match: Match = "name",
    sheet: Path | None = None,
    progress: Progress = silent,
) -> Inspection:
    """Look at images and masks as `pool add` reads them; nothing is kept.

    Args:
        address: A folder of images, one file, or an fsspec address of either.
        recipe: Its `images`, `pool.pages` and `labels` count.
        labels: Names of the labels that the masks tell apart.
        masks: Where the masks are, likewise; None for images alone.
        values: What the masks' values mean, where that is not plain.
        match: How names are paired.
        sheet: A PNG to write, of up to `SHOWN` images with their masks drawn in.
        progress: Told after each image.

    Raises:
        ConfigError: The recipe does not fit the labels.
        DataError: There is no image, or no mask that fits one.

    """
    summary = Summary()
    files = list_images(address, summary, masks, labels)
    opened = list(open_files(files, recipe, summary, progress=progress))
    given = [image for one in opened for image in one.images]
    pairs = pair_masks(given, masks, labels, match=match, summary=summary)
    by_label = any(files.by_label for files in pairs.files.values())
    reader = _Reader(label_use(recipe, labels, values, by_label=by_label), pairs.files)
    found = [_broken(one, summary) for one in opened if one.problem is not None]
    shown = _chosen(pairs.images) if sheet is not None else set()
    pictures: list[tuple[str, U8]] = []
    for done, image in enumerate(pairs.images):
        progress(done, len(pairs.images), image.name)
        inspected, mask = reader.inspect(image, summary)
        found.append(inspected)
        if image.name in shown:
            pictures += _picture(image, mask, overlapping=reader.use.overlapping)
    if sheet is not None and pictures:
        Blobs(sheet.absolute().parent).write(sheet.name, _sheet(pictures))
    reader.shares.warn(summary)
    return Inspection(tuple(found), summary, reader.shares)


@dataclass(frozen=True)
class _Reader:
    use: LabelUse
    files: Mapping[str, MaskFiles]
    shares: LabelShares = field(default_factory=LabelShares)

    def inspect(self, image: SourceImage, summary: Summary) -> tuple[InspectedImage, U8 | None]:
        """What there is to say of an image, and its mask if it can be read."""
        facts = InspectedImage(
            image.name, (image.width, image.height), image.pages, image.channels,
            _range(image.frame), problems=image.problems,
        )  # fmt: skip
        files = self.files.get(image.name)
        if files is None:
            summary.add("taken", image.name, "without a mask")
            return facts, None
        where = ", ".join(file.name for file in files.files) or (
            files.document.file if files.document is not None else None
        )
        try:
            reading = files.read((image.height, image.width), self.use)
        except DataError as error:
            summary.add("set_aside", image.name, str(error))
            problems = (*image.problems, str(error))
            return _with(facts, mask=where, problems=problems), None
        summary.add("taken", image.name, "with a mask")
        for note in reading.notes:
            summary.add("warnings", image.name, note)
        problems = (*image.problems, *reading.notes)
        numbers = numbers_of(self.use.learned)
        self.shares.add(reading.mask, numbers, overlapping=self.use.overlapping)
        shares, objects = self._shares(reading.mask), self._count(reading)
        inspected = _with(facts, mask=where, shares=shares, objects=objects, problems=problems)
        return inspected, reading.mask

    def _shares(self, mask: U8) -> dict[str, float]:
        overlapping = self.use.overlapping
        return {
            name: round(float(sets.mask_of(mask, k, overlapping=overlapping).mean()), 6)
            for k, name in enumerate(self.use.learned, 1)
        }

    def _count(self, reading: MaskReading) -> int:
        """Objects as they are told apart; of labels that overlap, the connected parts of each."""
        if self.use.overlapping:
            planes = (
                sets.mask_of(reading.mask, k, overlapping=True).astype(np.uint8)
                for k in range(1, len(self.use.learned) + 1)
            )
            return sum(len(components(plane)[1]) for plane in planes)
        if reading.objects is None:
            return len(components(reading.mask)[1])
        return len(told_apart(reading.mask, reading.objects)[1])


def _with(facts: InspectedImage, **changes: Any) -> InspectedImage:
    return InspectedImage(**vars(facts) | changes)


def _broken(one: SourceFile, summary: Summary) -> InspectedImage:
    problem = one.problem or ""
    summary.add("set_aside", one.name, problem)
    return InspectedImage(one.name, None, 0, 0, None, problems=(problem,))


def _range(
    frame: Frame,
) -> tuple[float, float] | tuple[tuple[float, float], ...] | None:
    pairs = tuple(zip(frame.low, frame.high, strict=True))
    return pairs[0] if len(pairs) == 1 else pairs or None


def _chosen(images: Sequence[SourceImage]) -> set[str]:
    """Names of the images on the sheet."""
    if not images:
        return set()
    spread = np.unique(np.linspace(0, len(images) - 1, SHOWN).astype(int))
    return {images[index].name for index in spread}


def _picture(image: SourceImage, mask: U8 | None, *, overlapping: bool) -> list[tuple[str, U8]]:
    try:
        pixels = image.pixels()
    except DataError:
        return []  # the inspection says why
    plain = np.zeros(pixels.shape[:2], np.uint8) if mask is None else mask
    drawn = sets.on_top(plain) if overlapping and mask is not None else plain
    return [(image.name, outlined(pixels, drawn))]


def _sheet(pictures: Sequence[tuple[str, U8]]) -> bytes:
    parts = [pictures[at : at + _IN_A_ROW] for at in range(0, len(pictures), _IN_A_ROW)]
    rows = [
        Row(" · ".join(shorten(name, _LETTERS) for name, _ in p), [one for _, one in p])
        for p in parts
    ]
    return contact_sheet(rows)
