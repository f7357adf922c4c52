"""Label Studio results → label maps, or set maps; the way back is in `writing.py`.

A result is one region's share in one control. Where labels and shape are two tags, such as
Labels and Polygon, Label Studio writes two results of the same id, one for each; both carry
the geometry. Brush and bitmask regions are pixels; polygons, rectangles and ellipses are
percent of the image's width and height, filled as `shapes.py` says.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, LabelConfigError, RegionError
from ml_backend.masks.geometry import Geometry, draw, geometry_of
from ml_backend.masks.instances import connected, or_none
from ml_backend.masks.labels import IGNORE, SHAPES, LabelConfig
from ml_backend.masks.sets import code_of
from ml_backend.masks.shapes import Patch
from ml_backend.masks.writing import JSON_LIMIT, encode_results

__all__ = ["JSON_LIMIT", "Decoded", "decode_results", "encode_results"]

_TYPES = SHAPES | {f"{shape}labels" for shape in SHAPES} | {"labels"}
_ELSEWHERE = frozenset({"keypoint", "keypointlabels", "vector", "vectorlabels"})


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
    Regions of all of the config's controls that draw areas count; other results are noted.
    Labels that the config sets aside are painted as it says, and with `unpainted_unknown` what no
    region covers is unknown (255). With `objects` the connected parts of every region are objects
    of their own, also where two regions of one label touch; not where labels may overlap. Raises
    RegionError for unknown labels, several labels on one region that may not overlap, shapes that
    are none and regions drawn on an image of another size, MalformedRLE for brush pixels that
    cannot be read; all name the region.
    """
    notes: dict[str, None] = {}
    asides: dict[str, None] = {}
    former: Counter[str] = Counter()
    label_map = np.full((height, width), IGNORE if unpainted_unknown else 0, np.uint8)
    objects = objects and not config.overlapping
    drawn = np.zeros((height, width) if objects else (0, 0), np.int32)
    for number, region in enumerate(_regions(results, config, notes, asides), 1):
        values = _values(region, config)
        if len(values) > 1 and not config.multiple:
            names = ", ".join(values)
            raise RegionError(f"region {region.id} has several labels ({names}); keep one")
        patch = _patch(region, height, width)
        _paint(label_map[patch.rows, patch.columns], patch.mask, values.values(), config)
        if objects:
            drawn[patch.rows, patch.columns][patch.mask] = number
        former.update(name for name in values if name in config.former)
    for name in filter(former.get, former):
        notes[
            f"the labeling config no longer has the label {name!r}: the pixels of its regions "
            f"({former[name]}) count as unknown; relabel them, or give the config that label again"
        ] = None
    apart = or_none(label_map, connected(drawn)) if objects else None
    return Decoded(label_map, tuple(notes), tuple(asides), apart)


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


@dataclass
class _Region:
    """What the results of one id say together."""

    id: str
    labels: list[str]
    geometry: Geometry | None = None
    size: tuple[Any, Any] = (None, None)


def _regions(
    results: Sequence[Mapping[str, Any]],
    config: LabelConfig,
    notes: dict[str, None],
    asides: dict[str, None],
) -> Iterator[_Region]:
    """Join results by id, in the order in which the ids first occur; note those left out, once."""
    regions: dict[str, _Region] = {}
    for position, result in enumerate(results):
        if not isinstance(result, Mapping):
            raise RegionError(f"result {position} is not a region but {type(result).__name__}")
        kind = result.get("type")
        if kind not in _TYPES | _ELSEWHERE:
            asides[str(kind)] = None
            continue
        reason = _reason_against(result, config)
        if reason is not None:
            notes[reason] = None
            continue
        _take(result, regions, position)
    for region in regions.values():
        if region.geometry is None:
            notes[f"region {region.id} has no brush pixels or shape and was left out"] = None
        elif region.geometry.is_open:
            notes[f"region {region.id} is a polygon that was not closed and was left out"] = None
        elif not region.labels:
            notes[f"region {region.id} has no label and was left out"] = None
        else:
            yield region


def _reason_against(result: Mapping[str, Any], config: LabelConfig) -> str | None:
    """Say why a result does not count; None where it does."""
    kind, origin = result.get("type"), result.get("from_name")
    if kind in _ELSEWHERE:
        return f"results of type {kind} cover no area and were left out"
    is_ours = isinstance(origin, str) and origin in config.controls
    if not is_ours or result.get("to_name", config.to_name) != config.to_name:
        return (
            f"regions of type {kind} of the control {origin} were left out: the labeling config "
            "has no such control for this image"
        )
    if result.get("item_index"):
        return "regions of further images of a list were left out: only the first is read"
    return None


def _take(result: Mapping[str, Any], regions: dict[str, _Region], position: int) -> None:
    """Add a result to the region of its id."""
    key = str(result.get("id", f"#{position}"))
    value, kind = result.get("value"), str(result["type"])
    if not isinstance(value, Mapping):
        raise RegionError(f"region {key} has no value")
    region = regions.setdefault(key, _Region(key, []))
    geometry = geometry_of(value)
    if geometry is not None:
        _check_rotation(key, result.get("image_rotation"))
        region.geometry = geometry
        region.size = (result.get("original_height"), result.get("original_width"))
    for field in dict.fromkeys((kind, "labels")):
        labels = value.get(field) or []
        if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
            raise RegionError(f"region {key} has labels that are no list of names: {labels!r}")
        region.labels += labels


def _check_rotation(key: str, rotation: Any) -> None:
    """Check that an image was turned by quarters, which its regions do not show.

    Label Studio turns the view only: sizes, percentages and brush pixels are those of the image
    as it is, whatever `image_rotation` says.
    """
    if rotation not in (None, 0, 90, 180, 270, -90, -180, -270):
        raise RegionError(
            f"region {key} has the image_rotation {rotation!r}; Label Studio turns images by "
            "quarters (0, 90, 180, 270)"
        )


def _values(region: _Region, config: LabelConfig) -> dict[str, int]:
    """Return the pixel values of a region's labels, by their names."""
    try:
        return {name: config.value(name) for name in region.labels}
    except LabelConfigError as error:
        raise RegionError(f"region {region.id}: {error}") from error


def _patch(region: _Region, height: int, width: int) -> Patch:
    """Return a region's pixels, once its size has been found to be the image's."""
    if region.size not in ((height, width), (None, None)):
        raise RegionError(
            f"region {region.id} was drawn on an image of {region.size[1]} x {region.size[0]} "
            f"pixels, but the image has {width} x {height}; was it replaced?"
        )
    if region.geometry is None:
        raise RegionError(f"region {region.id} has no brush pixels or shape")
    try:
        return draw(region.geometry, height, width)
    except DataError as error:
        raise type(error)(f"region {region.id}: {error}") from error
