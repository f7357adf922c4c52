"""Images with masks → the tiles of a pool and of a frozen test set, in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, NothingToLearn
from ml_backend.loop.context import Progress, silent
from ml_backend.loop.mask_folder import MaskFolder, open_masks
from ml_backend.loop.masks import UNKNOWN
from ml_backend.loop.simulate.plan import Source
from ml_backend.loop.splits import split_images
from ml_backend.masks import sets
from ml_backend.masks.instances import components, told_apart
from ml_backend.masks.tiles import Window, cut_tiles
from ml_backend.recipe import Recipe
from ml_backend.store.collection import SourceImage, open_collection
from ml_backend.store.mask_values import parse_values
from ml_backend.store.rows import Image, Tile
from ml_backend.store.summary import Summary

if TYPE_CHECKING:
    from ml_backend.learning.data import Sample

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A source image (H, W, 3), its mask (H, W), and the number of each pixel's object.

    `numbers` are (H, W), of labels that may overlap (K, H, W): each has objects of its own.
    """

    pixels: U8
    mask: U8
    numbers: NDArray[np.int32]


@dataclass(frozen=True)
class Material:
    """The pool's tiles, whose ids are 0..N-1, with what they show, and the test set.

    `foreground_N`: labelled pixels; `objects_N`: objects of which a tile shows a part, each of
    which an annotator outlines. `labels` are those that are learned; where they are `overlapping`
    the samples' masks are set maps. `test_of_N`: the number of the image that each test tile is
    cut from, 0..test_images-1. `fingerprint` changes with any file. `set_aside`: images that
    cannot be used, and why; `summary` says what became of every file.
    """

    tiles: tuple[Tile, ...]
    samples: "tuple[Sample, ...]"
    foreground_N: NDArray[np.int64]  # noqa: N815
    objects_N: NDArray[np.int64]  # noqa: N815
    test: "tuple[Sample, ...]"
    test_of_N: NDArray[np.int64]  # noqa: N815
    labels: tuple[str, ...]
    fingerprint: str
    set_aside: tuple[tuple[str, str], ...] = ()
    overlapping: bool = False
    summary: Summary = field(default_factory=Summary)

    @property
    def test_images(self) -> int:
        """How many images the tiles to judge by are cut from."""
        return len(np.unique(self.test_of_N))

    @property
    def images(self) -> int:
        """How many images the pool's tiles are cut from."""
        return len({tile.image.id for tile in self.tiles})


def read_material(source: Source, recipe: Recipe, progress: Progress = silent) -> Material:
    """Read a folder, divide it by source image, and cut it into tiles, as the recipe says.

    Of large folders some tiles of each image are taken, always the same ones. Raises `DataError`
    where no mask fits an image, `ConfigError` where the recipe does not fit the labels, and
    `NothingToLearn` without an object on both sides.
    """
    from ml_backend.learning.data import Sample

    values = parse_values(source.values) if source.values else None
    summary = Summary()
    faults: list[tuple[str, str]] = []
    found = open_collection(
        source.images, recipe, summary, digest=True, progress=progress, problems=faults,
        masks=source.masks, labels=source.labels,
    )  # fmt: skip
    masks = open_masks(
        found, source.masks, source.labels, recipe, values, source.match, summary=summary
    )
    images = masks.paired
    if len(images) < 2:
        raise DataError(
            f"{source.images} has {len(images)} images with a mask in {source.masks}: at "
            "least two are needed, one to choose from and one to judge by"
        )
    sides = _sides(images, source)
    quota = {
        "train": -(-source.most_pool // sides.count("train")),
        "val": -(-source.most_test // sides.count("val")),
    }
    digest = hashlib.sha256()
    cut: dict[str, list[tuple[Tile, Sample, int, int]]] = {"train": [], "val": []}
    for ordinal, (one, side) in enumerate(zip(images, sides, strict=True)):
        progress(ordinal, len(images), f"reading {one.name}")
        try:
            digest.update(repr((one.name, side)).encode() + one.identity)
            digest.update(masks.files[one.name].digest())
            picture, notes = _read(one, masks)
        except DataError as error:
            faults.append((one.name, str(error)))
            summary.add("set_aside", one.name, str(error))
            continue
        for note in notes:
            summary.add("warnings", one.name, note)
        summary.add("taken", one.name, "to choose from" if side == "train" else "to judge by")
        height, width = picture.mask.shape
        image = Image(
            one.name, one.file.uri, "", width, height, split="train", stack=one.stack, id=ordinal
        )
        tile = recipe.pool.tile
        windows = cut_tiles(height, width, tile) if tile else [Window(0, 0, width, height)]
        for window in _some(windows, quota[side], ordinal):
            row = Tile(-1, image, *window)
            cut[side].append((row, *_cut(picture, window, row.title)))
    pool = _some(cut["train"], source.most_pool, len(images))
    test = _some(cut["val"], source.most_test, len(images) + 1)
    _check(pool, test, faults)
    return Material(
        tuple(replace(row[0], id=number) for number, row in enumerate(pool)),
        tuple(row[1] for row in pool),
        np.array([row[2] for row in pool], np.int64),
        np.array([row[3] for row in pool], np.int64),
        tuple(row[1] for row in test),
        np.unique([row[0].image.id for row in test], return_inverse=True)[1],
        masks.names,
        digest.hexdigest(),
        tuple(faults),
        masks.overlapping,
        summary,
    )


def _sides(images: Sequence[SourceImage], source: Source) -> list[str]:
    """The side of each image: drawn as a project would, a stack as one source, or the last ones."""
    count = len(images)
    if source.test_part == "last":
        held = min(count - 1, max(1, round(source.test_share * count)))
        return ["train"] * (count - held) + ["val"] * held
    split = split_images(images, source.test_share, 0)
    sides: list[str] = [split[image.name] for image in images]
    if len(set(sides)) < 2:  # a few images may all lie on one side
        sides[-1] = "train" if sides[0] == "val" else "val"
    return sides


def _read(image: SourceImage, masks: MaskFolder) -> tuple[Picture, tuple[str, ...]]:
    """Read an image and its mask, and what is to be told of the mask."""
    pixels = image.pixels()
    reading = masks.reading(image)
    mask, numbers = reading.mask, reading.objects
    if masks.overlapping:
        return Picture(pixels, mask, _objects(mask, len(masks.names))), reading.notes
    objects = components(mask) if numbers is None else told_apart(mask, numbers)
    return Picture(pixels, mask, objects[0]), reading.notes


def _objects(set_map: U8, labels: int) -> NDArray[np.int32]:
    """(K, H, W): the components of every label for itself, no number twice."""
    numbers_KHW = np.zeros((labels, *set_map.shape), np.int32)
    count = 0
    for numbers, plane in zip(numbers_KHW, sets.planes_of(set_map, labels), strict=True):
        found, labels_of = components(plane.astype(np.uint8))
        numbers[:] = np.where(found > 0, found + count, 0)
        count += len(labels_of)
    return numbers_KHW


def _cut(picture: Picture, window: Window, title: str) -> "tuple[Sample, int, int]":
    """A tile as a sample, its labelled pixels and its objects; whole images are let go."""
    from ml_backend.learning.data import Sample

    image = np.ascontiguousarray(picture.pixels[window.slices])
    mask = np.ascontiguousarray(picture.mask[window.slices])
    labelled = int(np.count_nonzero((mask > 0) & (mask != UNKNOWN)))
    numbers = np.unique(picture.numbers[(..., *window.slices)])
    sample = Sample(title, partial(_pair, image, mask))
    return sample, labelled, int(np.count_nonzero(numbers))


def _pair(image: U8, mask: U8) -> tuple[U8, U8]:
    return image, mask


def _some(rows: Sequence[Any], most: int, number: int) -> list[Any]:
    """At most so many of the rows, drawn by the number alone, in their order."""
    if len(rows) <= most:
        return list(rows)
    chosen = np.random.default_rng([most, number]).choice(len(rows), most, replace=False)
    return [rows[index] for index in sorted(chosen)]


def _check(pool: Sequence[Any], test: Sequence[Any], faults: Sequence[tuple[str, str]]) -> None:
    if sum(row[2] for row in pool) and sum(row[2] for row in test):
        return
    why = "".join(
        f"; {len(faults)} images cannot be used, the first: {name}: {fault}"
        for name, fault in faults[:1]
    )
    raise NothingToLearn(
        f"the masks of {len(pool)} tiles to choose from and {len(test)} to judge by must both "
        f"show an object{why}"
    )
