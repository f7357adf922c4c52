"""Label Studio results → label maps, or set maps; the way back is in `writing.py`.

Brush and bitmask regions are pixels; polygons, rectangles and ellipses are percent of the image's
width and height, filled as `shapes.py` says. Nothing that people painted becomes background
because it could not be read: its pixels are unknown, or the annotation is refused.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, LabelConfigError, RegionError
from ml_backend.masks.geometry import draw
from ml_backend.masks.instances import connected, or_none
from ml_backend.masks.labels import IGNORE, LabelConfig
from ml_backend.masks.region_results import Region, Remarks, join_results
from ml_backend.masks.sets import code_of
from ml_backend.masks.shapes import Patch
from ml_backend.masks.writing import JSON_LIMIT, encode_results
from ml_backend.text import shorten

__all__ = ["JSON_LIMIT", "Decoded", "decode_results", "encode_results"]


@dataclass(frozen=True)
class Decoded:
    """A label map, (H, W) uint8, and what was left out of it, in words for people.

    Where the config's labels may overlap, `label_map` is a set map (`sets.py`).

    `asides`: the types of the results that are no regions at all, such as choices. `objects`,
    (H, W) int32: numbers that tell objects apart which touch; None where none do, or unasked.
    """

    label_map: NDArray[np.uint8]
    notes: tuple[str, ...]
    asides: tuple[str, ...] = ()
    objects: NDArray[np.int32] | None = None


def decode_results(
    results: Sequence[Mapping[str, Any]],
    config: LabelConfig,
    height: int,
    width: int,
    *,
    unpainted_unknown: bool = False,
    objects: bool = False,
) -> Decoded:
    """Paint an annotation's regions in their order: a later region covers earlier ones.

    Where labels may overlap, a region adds its labels, of which it may have several, to those that
    are there; only labels that are set aside cover what lies below them and are covered by others.
    Regions of all of the config's controls that draw areas count; other results are noted. Pixels
    that somebody painted, but nobody knows as what, are unknown (255) and noted: of regions without
    a label, of controls or types that the config does not have, of outlines that were not closed.
    Labels that the config sets aside are painted as it says, and with `unpainted_unknown` what no
    region covers is unknown (255). With `objects` the connected parts of every region are objects
    of their own, also where two regions of one label touch; not where labels may overlap. Raises
    RegionError for unknown labels, several labels on one region that may not overlap, shapes that
    are none and regions drawn on an image of another size, MalformedRLE for brush pixels that
    cannot be read; all name the region.
    """
    remarks, asides = Remarks(), dict[str, None]()
    former: Counter[str] = Counter()
    label_map = np.full((height, width), IGNORE if unpainted_unknown else 0, np.uint8)
    objects = objects and not config.overlapping
    drawn = np.zeros((height, width) if objects else (0, 0), np.int32)
    for number, region in enumerate(join_results(results, config, remarks, asides), 1):
        if region.geometry is None:
            _leave_out(region, remarks)
            continue
        unknown = _unknown(region)
        values = {unknown: IGNORE} if unknown else _values(region, config)
        if len(values) > 1 and not config.multiple:
            names = ", ".join(map(shorten, values))
            raise RegionError(f"region {shorten(region.id)} has several labels ({names}); keep one")
        patch = _patch(region, height, width)
        if unknown:
            remarks.add(f"{unknown}: unknown pixels", region.id)
        if not patch.mask.any():
            remarks.add(
                f"({', '.join(region.labels) or 'no label'}) that covers no pixel", region.id
            )
        _paint(label_map[patch.rows, patch.columns], patch.mask, values.values(), config)
        if objects and not unknown:
            drawn[patch.rows, patch.columns][patch.mask] = number
        former.update(name for name in values if name in config.former)
    for name in filter(former.get, former):
        remarks.add(
            f"the labeling config no longer has the label '{shorten(name)}': the pixels of its "
            f"regions ({former[name]}) count as unknown; relabel them, or give the config "
            "that label again"
        )
    apart = or_none(label_map, connected(drawn)) if objects else None
    return Decoded(label_map, tuple(remarks), tuple(asides), apart)


def _leave_out(region: Region, remarks: Remarks) -> None:
    """Remark a region without pixels; refuse it where it has a label, which is then lost.

    Raises RegionError.
    """
    if not region.labels:
        remarks.add("without pixels, shape or label: left out", region.id)
        return
    unread = f" (only {region.unread}, as in a draft)" if region.unread else ""
    raise RegionError(
        f"region {shorten(region.id)} has the label '{shorten(region.labels[0])}', but no brush "
        f"pixels or shape that can be read{unread}: open the annotation in Label Studio and "
        "submit it again, or remove the region"
    )


def _unknown(region: Region) -> str:
    """Say why nobody knows what the pixels of a region are; empty where one does."""
    if region.strange:
        return region.strange
    if not region.labels:
        return "without a label"
    is_open = region.geometry is not None and region.geometry.is_open
    return "of a polygon that was not closed" if is_open else ""


def _paint(
    canvas: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    values: Collection[int],
    config: LabelConfig,
) -> None:
    """Paint a region of these pixel values."""
    labels = set(values) - {0, IGNORE}
    if IGNORE in values or not config.overlapping or not labels:
        canvas[mask] = max(values)
        return
    below = canvas[mask]
    below[below == IGNORE] = 0
    canvas[mask] = below | np.uint8(code_of(labels))


def _values(region: Region, config: LabelConfig) -> dict[str, int]:
    """Return the pixel values of a region's labels, by their names."""
    try:
        return {name: config.value(name) for name in region.labels}
    except LabelConfigError as error:
        raise RegionError(f"region {shorten(region.id)}: {error}") from error


def _patch(region: Region, height: int, width: int) -> Patch:
    """Return a region's pixels, once its size has been found to be the image's."""
    if region.size not in ((height, width), (None, None)):
        raise RegionError(
            f"region {shorten(region.id)} was drawn on an image of {shorten(region.size[1])} x "
            f"{shorten(region.size[0])} pixels, but the image has {width} x {height}; was it "
            "replaced?"
        )
    if region.geometry is None:  # a region without one is no mask
        return Patch(slice(0, 0), slice(0, 0), np.zeros((0, 0), bool))
    try:
        return draw(region.geometry, height, width)
    except DataError as error:
        raise type(error)(f"region {shorten(region.id)}: {error}") from error
