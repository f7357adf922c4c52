"""Label maps, or set maps → Label Studio results: brush regions, one a label or one an object."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import RegionError
from ml_backend.masks.instances import Objects, each_component, each_object, without_specks
from ml_backend.masks.labels import IGNORE, BrushControl, LabelConfig
from ml_backend.masks.rle import encode_array
from ml_backend.masks.sets import mask_of, strangers
from ml_backend.text import shorten

JSON_LIMIT = 10_000_000  # bytes of one task's regions; pages with more stop answering

Scores = Mapping[int, float] | NDArray[np.floating[Any]]


def encode_results(
    label_map: NDArray[np.uint8],
    config: LabelConfig,
    scores: Scores | None = None,
    *,
    salt: str = "",
    as_arrays: bool = False,
    instances: bool = False,
    objects: Objects | None = None,
    minimum_area: int = 0,
    limit: int | None = JSON_LIMIT,
) -> list[dict[str, Any]]:
    """Write a label map as brush regions; background and ignored pixels are written as none.

    Where the config's labels may overlap it is a set map (`sets.py`), and so are the regions.

    One region a label; with `instances` one a connected component, with `objects` one an object
    of these (see `watershed.objects`). Components or objects of fewer than
    `minimum_area` pixels are left out, and so are labels that no brush control of the config
    has. `scores`: confidence 0..1 by label, for the regions that have one; or of each pixel,
    (H, W), or (K, H, W) where labels may overlap, of which a region gets the mean. Ids follow from
    control, label, pixels and `salt`, so the same mask has the same ids. `as_arrays` leaves the
    streams as uint8 arrays for orjson. Raises RegionError for values that are no label, and for
    streams that take more than `limit` bytes of JSON together (None: no limit).
    """
    _check(label_map, config, scores)
    results: list[dict[str, Any]] = []
    size = 0
    for value, name in enumerate(config.names, 1):
        target = config.written_by(name)
        if target is None:
            continue
        masks = (
            each_object(objects, value, minimum_area)
            if objects is not None
            else _masks(
                mask_of(label_map, value, overlapping=config.overlapping),
                instances=instances,
                minimum_area=minimum_area,
            )
        )
        for mask in masks:
            stream = encode_array(mask)
            size += json_size(stream) * (1 if target.brush is None else 2)
            if limit is not None and size > limit:
                raise RegionError(
                    f"the brush regions of this label map take more than {limit} bytes of JSON "
                    f"({size} with label '{shorten(name)}'), which a browser does not draw in "
                    "time: leave out specks (minimum_area), or cut the image into smaller tiles"
                )
            identity = f"{salt}\0{target.control}\0{name}\0{mask.shape[0]}\0{mask.shape[1]}\0"
            common: dict[str, Any] = {
                "id": hashlib.blake2b(identity.encode() + stream.data, digest_size=8).hexdigest(),
                "to_name": config.to_name,
                "original_width": mask.shape[1],
                "original_height": mask.shape[0],
                "image_rotation": 0,
            }
            score = _score(scores, value, mask)
            if score is not None:
                common["score"] = score
            rle = stream if as_arrays else list(stream.tobytes())
            results += _region(common, target, name, rle)
    return results


def json_size(stream: NDArray[np.uint8]) -> int:
    """Return how many bytes a brush stream takes as a JSON list, written without spaces."""
    digits = stream.size + np.count_nonzero(stream >= 10) + np.count_nonzero(stream >= 100)
    return int(digits) + stream.size + 1


def _check(label_map: NDArray[np.uint8], config: LabelConfig, scores: Scores | None) -> None:
    if label_map.ndim != 2 or label_map.dtype != np.uint8:
        raise RegionError(
            f"a label map of shape {label_map.shape} and type {label_map.dtype}; it must be "
            "(height, width) uint8"
        )
    labels = len(config.labels)
    wanted = (labels, *label_map.shape) if config.overlapping else label_map.shape
    if isinstance(scores, np.ndarray) and scores.shape != wanted:
        raise RegionError(
            f"scores of shape {scores.shape} for a label map of shape {label_map.shape}; there "
            "must be one a pixel"
        )
    if config.overlapping:
        strange = strangers(label_map, labels)
    else:
        strange = label_map[(label_map > labels) & (label_map != IGNORE)][:1].tolist()
    if strange:
        raise RegionError(
            f"the label map holds the value {strange[0]}, but the labeling config has only "
            f"{len(config.labels)} labels: {', '.join(config.names)}"
        )


def _masks(
    mask: NDArray[np.bool_], *, instances: bool, minimum_area: int
) -> Iterator[NDArray[np.bool_]]:
    """Yield the masks of a label's regions, none of them empty."""
    if not mask.any():
        return
    if instances:
        yield from each_component(mask, minimum_area)
        return
    kept = without_specks(mask, minimum_area)
    if kept.any():
        yield kept


def _score(scores: Scores | None, value: int, mask: NDArray[np.bool_]) -> float | None:
    if isinstance(scores, np.ndarray):
        of_label = scores if scores.ndim == 2 else scores[value - 1]
        return float(of_label[mask].mean(dtype=np.float64))
    return float(scores[value]) if scores is not None and value in scores else None


def _region(
    common: Mapping[str, Any], target: BrushControl, name: str, rle: Any
) -> Iterator[dict[str, Any]]:
    """Yield a region's results: two of one id where labels and brush are two tags."""
    pixels = {"format": "rle", "rle": rle}
    if target.brush is not None:
        yield {**common, "type": "brush", "from_name": target.brush, "value": pixels}
    kind = "brushlabels" if target.brush is None else "labels"
    labelled = pixels | {kind: [name]}
    yield {**common, "type": kind, "from_name": target.control, "value": labelled}
