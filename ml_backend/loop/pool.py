"""Filling the pool: images of a folder or an address, cut into tiles, each split decided once.

Files stay where they are; the catalog keeps their address and the hash of their
content. A broken file is quarantined with its reason and the rest goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ml_backend.errors import DataError
from ml_backend.loop.context import Context, Progress, silent
from ml_backend.loop.known_images import KnownImages, Splits
from ml_backend.loop.runs import recorded
from ml_backend.loop.source_masks import store_source_mask
from ml_backend.masks.labels import parse_label_config
from ml_backend.masks.tiles import cut_tiles
from ml_backend.recipe import Recipe
from ml_backend.store.collection import (
    SourceFile,
    SourceImage,
    content_ids,
    open_files,
)
from ml_backend.store.image_listing import list_images
from ml_backend.store.label_shares import LabelShares
from ml_backend.store.listing import ListedFile
from ml_backend.store.mask_files import MaskFiles
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_pairing import pair_masks
from ml_backend.store.mask_values import Values
from ml_backend.store.pool_tables import Box
from ml_backend.store.rows import Image, Project
from ml_backend.store.summary import Summary

_AT_ONCE = 100  # images a transaction
STEP = "pool"  # of the runs
Role = Literal["pool", "source"]


@dataclass(frozen=True)
class PoolReport:
    """What became of a folder: `summary` says it of every file, `shares` of the masks' labels.

    `rest`: how many files were left for another call.
    """

    images: int
    tiles: int
    sources: int
    quarantined: tuple[tuple[str, str], ...]
    summary: Summary = field(default_factory=Summary)
    shares: LabelShares = field(default_factory=LabelShares)
    rest: int = 0

    def as_json(self) -> dict[str, Any]:
        """Give the counts, the labels' shares and the summary."""
        counts = {"images": self.images, "tiles": self.tiles, "sources": self.sources}
        return counts | {"shares": self.shares.as_json()} | self.summary.as_json()


def boxes_of(width: int, height: int, recipe: Recipe) -> list[tuple[int, int, int, int]]:
    """Cut an image as the recipe says: (x, y, width, height) of each tile."""
    side = recipe.pool.tile
    if side is None:
        return [(0, 0, width, height)]
    return [(w.x, w.y, w.width, w.height) for w in cut_tiles(height, width, side)]


def add_folder(
    context: Context,
    project_id: int,
    address: Path | str,
    *,
    masks: Path | str | None = None,
    values: Values | None = None,
    match: Match = "name",
    first: int | None = None,
    progress: Progress = silent,
) -> PoolReport:
    """Add every image at an address to the pool of a project; may be repeated.

    `address`: a folder, a file, or any fsspec address of either. With `masks`, images that have one
    join the training as they are and are not asked about; `values` maps the mask files' values to
    labels where the defaults do not fit, `match` says by what they are paired. Files that are masks
    of other images are not added. A file for each label says that labels overlap.

    `first`: of more than so many files without masks add about so many now, spread over all, so
    that a first batch can be chosen; the same call without it adds the rest.
    """
    project = context.catalog.projects.get(project_id)
    with recorded(context, project_id, STEP) as record:
        intake = _Intake(context, project, values, Summary())
        names = parse_label_config(project.label_config).names
        files = list_images(address, intake.summary, masks, names)
        whole = first is None or masks is not None or project.recipe.images.range == "pool"
        some = None if whole else _spread(files, first or 1)
        opened = list(
            open_files(
                files, project.recipe, intake.summary,
                digest=True, progress=progress, wanted=some,
            )
        )  # fmt: skip
        pairs = pair_masks(
            [image for one in opened for image in one.images],
            masks, names, match=match, summary=intake.summary,
        )  # fmt: skip
        report = intake.add(opened, pairs.files, progress)
        record.update(report.as_json())
    progress(len(files), len(files), "pool filled")
    return report if some is None else replace(report, rest=len(files) - len(some))


def _spread(files: Sequence[ListedFile], count: int) -> set[str] | None:
    """Names of about `count` files at even distances; None: take them all."""
    step = len(files) // max(1, count)
    return {file.name for file in files[::step]} if step > 1 else None


def last_intake(context: Context, project_id: int) -> Summary | None:
    """What became of the files of the last `pool add`; None before any."""
    done = [
        run for run in context.catalog.models.runs(project_id, step=STEP) if run.state == "done"
    ]
    return Summary.parse(done[-1].report) if done else None


@dataclass
class _Intake:
    """Files on their way into the catalog."""

    context: Context
    project: Project
    values: Values | None
    summary: Summary
    shares: LabelShares = field(default_factory=LabelShares)
    tiles: int = 0
    sources: int = 0
    images: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting: list[tuple[Image, Sequence[Box]]] = []
        self.known = KnownImages(self.context.catalog.pool.images(self.project.id))

    def add(
        self, opened: Sequence[SourceFile], masks: Mapping[str, MaskFiles], progress: Progress
    ) -> PoolReport:
        """Add the images of files, with their masks."""
        recipe = self.project.recipe
        splits = self.known.split(opened, masks, recipe)
        for done, one in enumerate(opened):
            progress(done, len(opened), one.name)
            if one.problem is not None:
                self._set_file_aside(one, splits)
            for image in one.images:
                self._add_image(one, image, masks.get(image.name), splits)
            for left in self.known.left_out(one):
                why = "in the pool already, and stays, though pool.pages leaves it out by now"
                self.summary.add("warnings", left.name, why)
        self._flush()
        self.shares.warn(self.summary)
        return PoolReport(
            self.images, self.tiles, self.sources, tuple(self.broken), self.summary, self.shares
        )

    def _add_image(
        self, one: SourceFile, source: SourceImage, files: MaskFiles | None, splits: Splits
    ) -> None:
        before = self.known.find(source)
        if before is not None and before.width and before.sha256 not in content_ids(one, source):
            self._set_aside(source.name, _replaced(before, source.file.uri))
            return
        role: Role = "source" if files or (before and before.mask) else "pool"
        image = self._merged(source, before, role, splits)
        boxes = boxes_of(image.width, image.height, self.project.recipe)
        boxes = boxes if role == "pool" else [(0, 0, image.width, image.height)]
        if files is not None:
            try:
                image = self._with_mask(image, files)
            except DataError as error:
                image, boxes = replace(image, status="quarantined", reason=str(error)), []
        self._put(image, boxes)
        if image.status == "quarantined":
            self._set_aside(image.name, image.reason or "")
            return
        self.images += 1
        self.tiles += len(boxes) if role == "pool" else 0
        self.sources += role == "source"
        how = "learned from with their masks" if role == "source" else "to be asked about"
        self.summary.add("taken", image.name, how)

    def _with_mask(self, image: Image, files: MaskFiles) -> Image:
        image, notes = store_source_mask(
            self.context, self.project, image, files, self.values, self.shares
        )
        for note in notes:
            self.summary.add("warnings", image.name, note)
        return image

    def _merged(
        self, source: SourceImage, before: Image | None, role: Role, splits: Splits
    ) -> Image:
        """The image as it is found, but what was decided about it before."""
        image = Image(
            source.name, source.file.uri, source.sha256, source.width, source.height, role,
            splits[source.name], stack=source.stack, frame=source.frame, original=source.original,
        )  # fmt: skip
        if self.project.recipe.images.range == "pool":
            image = replace(image, frame=self.known.in_range(image.frame))
        if before is None or not before.width:
            return image if before is None else replace(image, name=before.name)
        if before.frame != image.frame:
            why = "stays as it was added, though the recipe's images would read it otherwise by now"
            self.summary.add("warnings", before.name, why)
        return replace(
            image, name=before.name, sha256=before.sha256, frame=before.frame, mask=before.mask
        )

    def _set_file_aside(self, one: SourceFile, splits: Splits) -> None:
        """Of a file that cannot be read: images that it had are not used any more."""
        reason = one.problem or "cannot be read any more"
        known = self.known.of_file(one)
        for before in known:
            if before.width:
                self.context.catalog.pool.quarantine(before.id, reason)
        if not any(before.width for before in known):
            name = known[0].name if known else one.name
            image = Image(name, one.file.uri, one.sha256, 0, 0, "pool", splits[one.name],
                          "quarantined", reason)  # fmt: skip
            self._put(image, [])
        self._set_aside(one.name, reason)

    def _put(self, image: Image, boxes: Sequence[Box]) -> None:
        """Add an image to the catalog together with others: a transaction waits for the disk."""
        self._waiting.append((image, boxes))
        if len(self._waiting) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self.context.catalog.pool.add_images(self.project.id, self._waiting)
        self._waiting = []

    def _set_aside(self, name: str, reason: str) -> None:
        self.broken.append((name, reason))
        self.summary.add("set_aside", name, reason)


def _replaced(before: Image, uri: str) -> str:
    if before.uri == uri:
        return "the file was replaced since it was added; put the former one back, or rename it"
    return f"another image of this name was added before, from {before.uri}"
