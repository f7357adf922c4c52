"""Label maps in the storage: indexed by content, written once, never changed.

A file names the labels of its values, so that a labeling config whose labels were put into
another order, or given more of them, still reads it rightly. Where people told touching objects
apart the file is a colour PNG: red is the label, green + 256 · blue the object's number.

Where labels overlap (`overlapping`) masks are set maps (`masks/sets.py`), and the file says so: it
is read as what is asked for. Of several labels of a pixel a label map has the last one.
"""

import hashlib
import json
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from ml_backend.errors import NotFound
from ml_backend.masks import sets
from ml_backend.masks.instances import Objects, components, told_apart
from ml_backend.store.blobs import Blobs

_LABELS, _OVERLAPPING = "labels", "overlapping"  # of the PNG's texts
UNKNOWN = 255
_MOST_OBJECTS = 2**16 - 1


def store_mask(
    blobs: Blobs,
    project_id: int,
    label_map: NDArray[np.uint8],
    labels: Sequence[str],
    objects: NDArray[np.int32] | None = None,
    *,
    overlapping: bool = False,
) -> str:
    """Write a label map ((H, W) uint8; value n is the n-th of `labels`) as PNG; its key.

    `objects`: (H, W) numbers that tell objects apart which touch; None where none do.
    """
    height, width = label_map.shape
    pixels = _with_objects(label_map, objects)
    names = json.dumps(list(labels)) + overlapping * _OVERLAPPING
    identity = f"{width}x{height}:{names}:".encode()
    digest = hashlib.sha256(identity + pixels.tobytes()).hexdigest()
    key = f"masks/{project_id}/{digest}.png"
    if not blobs.exists(key):
        write_mask(blobs, key, pixels, labels, overlapping=overlapping)
    return key


def keep_mask(
    blobs: Blobs,
    project_id: int,
    label_map: NDArray[np.uint8],
    labels: Sequence[str],
    former: str | None,
    objects: NDArray[np.int32] | None = None,
    *,
    overlapping: bool = False,
) -> str:
    """Give the key `former` if its file says the same of `labels`; else store the label map.

    So reading an annotation again, with more labels or fewer, makes no new mask of an old one.
    """
    if former is not None and blobs.exists(former):
        known = _read(blobs, former, labels, overlapping=overlapping)
        if np.array_equal(known, _with_objects(label_map, objects)):
            return former
    return store_mask(blobs, project_id, label_map, labels, objects, overlapping=overlapping)


def _with_objects(
    label_map: NDArray[np.uint8], objects: NDArray[np.int32] | None
) -> NDArray[np.uint8]:
    """What a file holds: the label map, or three planes. More than 65,535 objects are not told."""
    if objects is None or objects.max(initial=0) > _MOST_OBJECTS:
        return np.ascontiguousarray(label_map, np.uint8)
    return np.stack([label_map, objects % 256, objects // 256], axis=2).astype(np.uint8)


def write_mask(
    blobs: Blobs,
    key: str,
    label_map: NDArray[np.uint8],
    labels: Sequence[str],
    *,
    overlapping: bool = False,
) -> None:
    """Write a label map, or one with objects, as PNG under a key of the caller's."""
    buffer = BytesIO()
    notes = PngInfo()
    notes.add_text(_LABELS, json.dumps(list(labels)))
    if overlapping:
        notes.add_text(_OVERLAPPING, "true")
    Picture.fromarray(label_map).save(buffer, "PNG", compress_level=3, pnginfo=notes)
    blobs.write(key, buffer.getvalue())


def load_mask(
    blobs: Blobs, key: str, labels: Sequence[str] | None = None, *, overlapping: bool = False
) -> NDArray[np.uint8]:
    """(H, W) uint8 label map, or a set map. Raises `NotFound` when the file is gone.

    With `labels`, its values are theirs, whatever the order was when it was written; a label
    that is not among them any more becomes unknown (255).
    """
    pixels = _read(blobs, key, labels, overlapping=overlapping)
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])


def load_objects(
    blobs: Blobs, key: str, labels: Sequence[str]
) -> tuple[NDArray[np.uint8], Objects]:
    """The label map as `load_mask` gives it, and its objects.

    Objects are told apart as people did; where they did not, those that touch are one.
    """
    pixels = _read(blobs, key, labels)
    if pixels.ndim == 2:
        return pixels, components(pixels)
    label_map = np.ascontiguousarray(pixels[..., 0])
    return label_map, told_apart(label_map, pixels[..., 1] + 256 * pixels[..., 2].astype(np.int32))


def _read(
    blobs: Blobs, key: str, labels: Sequence[str] | None, *, overlapping: bool = False
) -> NDArray[np.uint8]:
    """The file's planes, the labels' values in the order of `labels`."""
    try:
        data = blobs.read(key)
    except NotFound:
        raise NotFound(
            f"the mask {key} is gone from {blobs.url}: restore it from a backup, or forget the "
            "cursor with `brushloop sync --all` to pull it from Label Studio again"
        ) from None
    with Picture.open(BytesIO(data)) as picture:
        pixels = np.array(picture)
        written = json.loads(picture.info.get(_LABELS, "[]"))
        as_sets = _OVERLAPPING in picture.info
    wanted = written if labels is None else labels
    if list(wanted)[: len(written)] == written and as_sets == overlapping:
        return pixels
    if overlapping:  # what told objects apart does not: they have one label a pixel
        plane = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])
        if as_sets:
            return np.take(sets.renamed(written, wanted), plane)
        return sets.from_labels(np.take(values_among(written, wanted, UNKNOWN), plane))
    if as_sets:
        return sets.on_top(np.take(sets.renamed(written, wanted), pixels))
    table = values_among(written, wanted, UNKNOWN)
    if pixels.ndim == 2:
        return np.take(table, pixels)
    pixels[..., 0] = np.take(table, pixels[..., 0])
    return pixels


def values_among(written: Sequence[str], labels: Sequence[str], missing: int) -> NDArray[np.uint8]:
    """Give the table (256,) from values of `written` to those of `labels`, by their names."""
    table = np.arange(256, dtype=np.uint8)
    for value, name in enumerate(written, 1):
        table[value] = list(labels).index(name) + 1 if name in labels else missing
    return table


def mean_dice(
    shown: NDArray[np.uint8], submitted: NDArray[np.uint8], *, overlapping: bool = False
) -> float:
    """Dice of two label maps over all foreground labels together; 1.0 where both are empty.

    Pixels that the person left unknown (255) do not count; equal maps give exactly 1.
    """
    if overlapping:
        return sets.dice(shown, submitted)
    known = submitted != UNKNOWN
    shown, submitted = shown[known], submitted[known]
    total = int((shown > 0).sum()) + int((submitted > 0).sum())
    if total == 0:
        return 1.0
    same = int(((shown == submitted) & (shown > 0)).sum())
    return 2 * same / total


def corrected(shown: NDArray[np.uint8], submitted: NDArray[np.uint8]) -> int:
    """Count the pixels of a submission that the prediction had otherwise.

    Pixels that the person left unknown (255) do not count.
    """
    return int(((shown != submitted) & (submitted != UNKNOWN)).sum())
