"""An image's mask, and its objects, out of what the model, a file and people's tiles say of it."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.context import Context
from ml_backend.loop.drawings import Drawing
from ml_backend.loop.masks import UNKNOWN, load_mask, load_objects, write_mask
from ml_backend.loop.models import Serving
from ml_backend.masks.instances import Objects, join_across, numbered
from ml_backend.masks.watershed import objects
from ml_backend.store.rows import Image, Tile

LabelMap = NDArray[np.uint8]
Place = tuple[slice, slice]
Layer = tuple[Place, LabelMap, NDArray[np.bool_]]


@dataclass(frozen=True)
class Sources:
    """Where masks come from, and the labels that their values stand for.

    `overlapping`: they are set maps.
    """

    context: Context
    serving: Serving | None
    labels: Sequence[str]
    overlapping: bool = False

    def load(self, key: str) -> LabelMap:
        """A stored mask."""
        return load_mask(self.context.blobs, key, self.labels, overlapping=self.overlapping)


def stitched(sources: Sources, drawing: Drawing) -> LabelMap:
    """The model's prediction of the whole image, with people's tiles laid over it."""
    canvas = _ground(sources, drawing)
    for place, mask, taken in _layers(sources, drawing, canvas):
        canvas[place][taken] = mask[taken]
    return canvas


def stitched_objects(sources: Sources, drawing: Drawing) -> Objects:
    """The objects of `stitched`: people's as they told them apart, the model's as it cuts them.

    An object that goes on in the neighbouring tile is one.
    """
    canvas = _ground(sources, drawing)
    numbers = _ground_objects(sources, drawing, canvas)[0].copy()
    patches = np.zeros(canvas.shape, np.int32)
    for index, (place, mask, taken) in enumerate(_layers(sources, drawing, canvas)):
        key = drawing.people[index].mask
        own = load_objects(sources.context.blobs, key, sources.labels)[1][0]
        above = numbers.max(initial=0)
        numbers[place][taken] = np.where(own > 0, own + above, 0)[taken]
        patches[place][taken] = index + 1
        canvas[place][taken] = mask[taken]
    return numbered(canvas, join_across(canvas, numbers, patches))


def _ground(sources: Sources, drawing: Drawing) -> LabelMap:
    """What lies below people's tiles: the image's own mask, the model's, or nothing known."""
    if drawing.given is not None:
        return sources.load(drawing.given)
    if drawing.version is not None and sources.serving is not None:
        return sources.load(_predicted(sources.context, drawing.image, sources.serving))
    return np.full((drawing.image.height, drawing.image.width), UNKNOWN, np.uint8)


def _ground_objects(sources: Sources, drawing: Drawing, ground: LabelMap) -> Objects:
    if drawing.given is not None:
        return load_objects(sources.context.blobs, drawing.given, sources.labels)[1]
    if drawing.version is not None and sources.serving is not None:
        return objects(ground, sources.serving.instances)
    return np.zeros(ground.shape, np.int32), []


def _layers(sources: Sources, drawing: Drawing, canvas: LabelMap) -> Iterator[Layer]:
    """Each of people's tiles: its place, its mask, and the pixels of it that count.

    To be painted on `canvas` before the next is asked for.
    """
    drawn: set[int] = set()
    for one in drawing.people:
        tile = one.tile
        place = np.s_[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        mask = sources.load(one.mask)
        taken = np.ones(mask.shape, np.bool_)
        if tile.id in drawn:  # another person's: background covers only what is unknown
            taken = (mask != UNKNOWN) & ((mask != 0) | (canvas[place] == UNKNOWN))
        yield place, mask, taken
        drawn.add(tile.id)


def _predicted(context: Context, image: Image, serving: Serving) -> str:
    """The key of what a version says of a whole image; kept for the next export."""
    tiles = _apart(context, image)
    layout = hashlib.sha256(repr([tile.content for tile in tiles]).encode()).hexdigest()[:16]
    key = f"predicted/{serving.version}/{serving.key}/{image.id}-{layout}.png"
    if not context.blobs.exists(key):
        sets = serving.overlapping
        canvas = np.zeros((image.height, image.width), np.uint8)
        pixels = (context.pixels(tile) for tile in tiles)
        said = serving.likeliest_many(pixels, serving.labels, overlapping=sets)
        for tile, (label_map, *_) in zip(tiles, said, strict=True):
            canvas[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = label_map
        write_mask(context.blobs, key, canvas, serving.labels, overlapping=sets)
    return key


def _apart(context: Context, image: Image) -> list[Tile]:
    """What an image is predicted in: its tiles, so that an export says what their tasks showed."""
    tiles = context.catalog.pool.tiles_of(image.id)
    return [tile for tile in tiles if tile.whole][:1] or tiles
