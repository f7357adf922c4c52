"""Label Studio results → label maps; the way back is in `writing.py`.

A result is one region's share in one control. Where labels and shape are two tags, such as
Labels and Polygon, Label Studio writes two results of the same id, one for each; both carry
the geometry. Brush and bitmask regions are pixels; polygons, rectangles and ellipses are
percent of the image's width and height, filled as `shapes.py` says.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError, LabelConfigError, RegionError
from ml_backend.masks.geometry import Geometry, draw, geometry_of
from ml_backend.masks.labels import IGNORE, SHAPES, LabelConfig
from ml_backend.masks.shapes import Patch
from ml_backend.masks.writing import JSON_LIMIT, encode_results

__all__ = ["JSON_LIMIT", "Decoded", "decode_results", "encode_results", "label_stack"]

_TYPES = SHAPES | {f"{shape}labels" for shape in SHAPES} | {"labels"}
_ELSEWHERE = frozenset({"keypoint", "keypointlabels", "vector", "vectorlabels"})


@dataclass(frozen=True)
class Decoded:
    """A label map, (H, W) uint8, and what was left out of it, in words for people."""

    label_map: NDArray[np.uint8]
    notes: tuple[str, ...]


def decode_results(
    results: Sequence[Mapping[str, Any]],
    config: LabelConfig,
    height: int,
    width: int,
    *,
    ignore: Collection[str] = (),
    unpainted_unknown: bool = False,
) -> Decoded:
    """Paint an annotation's regions in their order: a later region covers earlier ones.

    Regions of all of the config's controls that draw areas count; other results are noted.
    The labels named in `ignore` are painted as unknown (255), and with `unpainted_unknown` so is
    what no region covers. Raises RegionError for unknown labels, several labels on one region,
    shapes that are none and regions drawn on an image of another size, MalformedRLE for brush
    pixels that cannot be read; all name the region. LabelConfigError where `ignore` names no label.
    """
    values = [config.index(name) for name in ignore]
    notes: list[str] = []
    label_map = np.full((height, width), IGNORE if unpainted_unknown else 0, np.uint8)
    for region in _regions(results, config, notes):
        indices = _indices(region, config)
        if len(indices) > 1:
            names = ", ".join(dict.fromkeys(region.labels))
            raise RegionError(f"region {region.id} has several labels ({names}); keep one")
        patch = _patch(region, height, width)
        value = IGNORE if indices[0] in values else indices[0]
        label_map[patch.rows, patch.columns][patch.mask] = value
    return Decoded(label_map, tuple(notes))


def label_stack(
    results: Sequence[Mapping[str, Any]], config: LabelConfig, height: int, width: int
) -> NDArray[np.bool_]:
    """Paint an annotation's regions as (K, H, W) bool, one layer a label: overlaps are all kept.

    Layer k is the label of pixel value k + 1. A region may have several labels here. Raises as
    `decode_results` does otherwise.
    """
    stack = np.zeros((len(config.labels), height, width), np.bool_)
    for region in _regions(results, config, []):
        indices = _indices(region, config)
        patch = _patch(region, height, width)
        for index in indices:
            stack[index - 1, patch.rows, patch.columns] |= patch.mask
    return stack


@dataclass
class _Region:
    """What the results of one id say together."""

    id: str
    labels: list[str]
    geometry: Geometry | None = None
    size: tuple[Any, Any] = (None, None)


def _regions(
    results: Sequence[Mapping[str, Any]], config: LabelConfig, notes: list[str]
) -> Iterator[_Region]:
    """Join results by id, in the order in which the ids first occur; note those left out."""
    regions: dict[str, _Region] = {}
    for position, result in enumerate(results):
        if not isinstance(result, Mapping):
            raise RegionError(f"result {position} is not a region but {type(result).__name__}")
        reason = _reason_against(result, config)
        if reason is not None:
            if reason not in notes:  # one note for all the choices of an annotation
                notes.append(reason)
            continue
        _take(result, regions, position)
    for region in regions.values():
        if region.geometry is None:
            notes.append(f"region {region.id} has no brush pixels or shape and was left out")
        elif region.geometry.is_open:
            notes.append(f"region {region.id} is a polygon that was not closed and was left out")
        elif not region.labels:
            notes.append(f"region {region.id} has no label and was left out")
        else:
            yield region


def _reason_against(result: Mapping[str, Any], config: LabelConfig) -> str | None:
    """Say why a result does not count; None where it does."""
    kind, origin = result.get("type"), result.get("from_name")
    if kind not in _TYPES:
        drawn = "cover no area" if kind in _ELSEWHERE else "are no regions"
        return f"results of type {kind} {drawn} and were left out"
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


def _indices(region: _Region, config: LabelConfig) -> list[int]:
    """Return the pixel values of a region's labels."""
    try:
        return [config.index(name) for name in dict.fromkeys(region.labels)]
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
