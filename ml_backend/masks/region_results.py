"""Results of an annotation → regions: which results are one region, and which are none.

A result is one region's share in one control. Where labels and shape are two tags, such as
Labels and Polygon, Label Studio writes two results of the same id, one for each; both carry
the geometry. Results that were imported may repeat an id for another region.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_backend.errors import RegionError
from ml_backend.masks.geometry import Geometry, geometry_of
from ml_backend.masks.labels import SHAPES, LabelConfig
from ml_backend.text import shorten

_TYPES = SHAPES | {f"{shape}labels" for shape in SHAPES} | {"labels"}
_NO_AREA = frozenset({"keypoint", "keypointlabels", "vector", "vectorlabels"})
_NO_REGION = frozenset(
    {"choices", "textarea", "rating", "number", "taxonomy", "datetime", "pairwise", "ranker",
     "hypertextlabels", "htmllabels", "paragraphlabels", "timeserieslabels", "timelinelabels",
     "videorectangle"}
)  # fmt: skip
_TURNS = (None, 0, 90, 180, 270, -90, -180, -270)


@dataclass
class Region:
    """What results say together about one region.

    `sources`: the controls and types of the results. `strange` says why its label cannot be
    trusted, empty where it can: then its pixels are unknown.
    """

    id: str
    labels: list[str] = field(default_factory=list)
    geometry: Geometry | None = None
    size: tuple[Any, Any] = (None, None)
    sources: set[tuple[str, str]] = field(default_factory=set)
    strange: str = ""
    unread: str = ""

    def takes(self, source: tuple[str, str], geometry: Geometry | None) -> bool:
        """Whether a further result of this id is of this region, not of another one."""
        same = geometry is None or self.geometry is None or geometry == self.geometry
        return same and source not in self.sources


class Remarks:
    """What is to be said of regions, those of which the same is said together."""

    def __init__(self) -> None:
        self._regions: dict[str, list[str]] = {}

    def add(self, what: str, region: str = "") -> None:
        """Note something of a region, or what holds for all results of its kind."""
        self._regions.setdefault(what, []).extend([region] if region else [])

    def __iter__(self) -> Iterator[str]:
        for what, regions in self._regions.items():
            if not regions:
                yield what
                continue
            names = ", ".join(shorten(name, 40) for name in regions[:3])
            many = f"{len(regions)} regions ({names}{', …' if len(regions) > 3 else ''})"
            yield f"{many if len(regions) > 1 else f'region {names}'} {what}"


def join_results(
    results: Sequence[Mapping[str, Any]],
    config: LabelConfig,
    remarks: Remarks,
    asides: dict[str, None],
) -> list[Region]:
    """Join results into regions, in the order in which these first occur.

    Remarked are those that are left out: of other tags and images, and what covers no area.
    `asides` gets the types of results that are no regions at all, such as choices, and of prompts.
    Raises RegionError for results whose parts are none, and names the region.
    """
    regions: dict[str, list[Region]] = {}
    order: list[Region] = []
    for position, result in enumerate(results):
        if not isinstance(result, Mapping):
            raise RegionError(f"result {position} is not a region but {type(result).__name__}")
        key = str(f"#{position}" if result.get("id") is None else result["id"])
        kind = str(result.get("type")).lower()
        if kind not in _TYPES and (kind in _NO_REGION or not _names(result.get("value"))):
            if kind in _NO_AREA:
                remarks.add(f"results of type {kind} cover no area and were left out")
            else:
                asides[shorten(result.get("type"), 40)] = None
            continue
        if reason := _reason_against(result, kind, config):
            remarks.add(reason)
            continue
        _take(result, kind, key, regions.setdefault(key, []), order, config)
    return [region for region in order if not _is_prompt(region, config, asides)]


def _reason_against(result: Mapping[str, Any], kind: str, config: LabelConfig) -> str:
    """Say why a result is none of this image's regions; empty where it is one."""
    if kind in _NO_AREA or (kind == "labels" and _is_point(result.get("value"))):
        return f"results of type {kind} without an area were left out"
    target = result.get("to_name", config.to_name)
    if target in config.elsewhere:
        return (
            f"regions of '{shorten(target, 40)}' were left out: only "
            f"'{shorten(config.to_name, 40)}' is learned from"
        )
    if result.get("item_index"):
        return "regions of further images of a list were left out: only the first is read"
    return ""


def _take(
    result: Mapping[str, Any],
    kind: str,
    key: str,
    same_id: list[Region],
    order: list[Region],
    config: LabelConfig,
) -> None:
    """Add a result to the region of its id that it is of, or begin one."""
    value = result.get("value")
    if not isinstance(value, Mapping):
        raise RegionError(f"region {shorten(key)} has no value")
    geometry = geometry_of(value)
    source = (str(result.get("from_name")), kind)
    region = next((each for each in same_id if each.takes(source, geometry)), None)
    if region is None:
        region = Region(key)
        same_id.append(region)
        order.append(region)
    region.sources.add(source)
    region.labels += _labels(key, value)
    region.strange = region.strange or _strange(result, kind, config)
    if geometry is None:
        region.unread = region.unread or ", ".join(sorted({"touches", "maskDataURL"} & {*value}))
    else:
        if result.get("image_rotation") not in _TURNS:
            raise RegionError(
                f"region {shorten(key)} has the image_rotation "
                f"'{shorten(result['image_rotation'])}'; Label Studio turns images by quarters "
                "(0, 90, 180, 270)"
            )
        region.geometry = geometry
        region.size = (_pixels(result, "original_height"), _pixels(result, "original_width"))


def _strange(result: Mapping[str, Any], kind: str, config: LabelConfig) -> str:
    """Say why a result cannot be trusted to have a label of the config; empty where it can."""
    if kind not in _TYPES:
        return f"of the type '{shorten(result.get('type'), 40)}', which is not read"
    target, origin = result.get("to_name", config.to_name), result.get("from_name")
    if target != config.to_name:
        return f"of '{shorten(target, 40)}', which the labeling config has not"
    if origin not in config.controls:
        return (
            f"of the control '{shorten(origin, 40)}', which the labeling config does not have for "
            "this image"
        )
    return ""


def _is_prompt(region: Region, config: LabelConfig, asides: dict[str, None]) -> bool:
    """Whether a region is a question to an assistant: then it is no mask, and that is told."""
    for control, kind in region.sources:
        prompts = [config.is_prompt(control, label) for label in region.labels]
        if prompts and all(prompts):
            asides[f"prompts ({kind})"] = None
            return True
    return False


def _is_point(value: object) -> bool:
    """Whether a value is that of a key point or a vector, which <Labels> may label as well."""
    if not isinstance(value, Mapping) or geometry_of(value) is not None:
        return False
    return "vertices" in value or {"x", "y", "width"} <= {*value}


def _names(value: object) -> list[str]:
    """Return the keys of a result's value that hold labels."""
    if not isinstance(value, Mapping):
        return []
    return [key for key in value if str(key).lower().endswith("labels") and value[key]]


def _labels(key: str, value: Mapping[str, Any]) -> list[str]:
    """Return the labels of a result, under whatever key of its value they stand."""
    labels: list[str] = []
    for name in _names(value):
        found = value[name]
        if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
            raise RegionError(
                f"region {shorten(key)} has labels that are no list of names: '{shorten(found)}'"
            )
        labels += found
    return labels


def _pixels(result: Mapping[str, Any], key: str) -> Any:
    """Return a size, which may be written as text."""
    size = result.get(key)
    text = size.strip() if isinstance(size, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else size
