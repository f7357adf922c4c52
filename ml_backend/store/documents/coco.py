"""COCO JSON: `images`, `categories` and `annotations` with polygons or run lengths.

Every image of the list is an entry; one without annotations has an empty mask. An annotation is an
object, but for two kinds: of a crowd (`iscrowd`), and of documents such as the export `coco`, in
which no image has two annotations of one category, the connected parts are the objects.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.shapes import Patch
from ml_backend.store.documents.entry import MaskDocument, Region, Shape
from ml_backend.store.documents.rle import decode_rle
from ml_backend.store.documents.shapes import points_of, union
from ml_backend.store.summary import Summary

Fields = Mapping[str, Any]


def is_coco(document: Fields) -> bool:
    """Whether a JSON object is COCO's, of whatever kind."""
    return isinstance(document.get("images"), list) and "annotations" in document


def read_coco(document: Fields, file: str, summary: Summary) -> list[MaskDocument]:
    """The entries of a document. Raises `DataError` where it is no COCO or is of another kind."""
    names = _names(document, file)
    by_image: dict[Any, list[Fields]] = defaultdict(list)
    for annotation in _objects(document, "annotations", file):
        if "segments_info" in annotation:
            raise DataError(
                f"{file} is COCO panoptic, whose masks are PNG beside it; export it as COCO "
                "instances"
            )
        by_image[_id(annotation, "image_id", file)].append(annotation)
    images = {_id(image, "id", file): image for image in _objects(document, "images", file)}
    lost = sum(len(found) for number, found in by_image.items() if number not in images)
    if lost:
        summary.add("warnings", file, f"{lost} annotations are of images that it does not list")
    separate = _has_objects(by_image.values())
    return [
        MaskDocument(
            image=_file_name(image, file),
            file=file,
            form="COCO",
            regions=partial(_regions, by_image.get(number, []), names, separate),
            size=_size(image),
        )
        for number, image in images.items()
    ]


def _names(document: Fields, file: str) -> dict[Any, str]:
    """Category id → name."""
    return {
        _id(category, "id", file): str(category.get("name", ""))
        for category in _objects(document, "categories", file)
    }


def _objects(document: Fields, key: str, file: str) -> list[Fields]:
    found = document.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise DataError(f"{file} has no list of {key}, so it is not COCO as masks are read from")
    return found


def _id(entry: Fields, key: str, file: str) -> int | str:
    found = entry.get(key)
    if not isinstance(found, int | str):
        raise DataError(f"{file} is damaged: an entry has no {key}")
    return found


def _file_name(image: Fields, file: str) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{file} is damaged: image {image.get('id')} has no file_name")
    return name


def _size(image: Fields) -> Shape | None:
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _has_objects(by_image: Iterable[list[Fields]]) -> bool:
    """Whether an annotation is an object rather than all there is of a label in its image."""
    for annotations in by_image:
        labels = [str(annotation.get("category_id")) for annotation in annotations]
        if len(set(labels)) < len(labels):
            return True
    return False


def _regions(
    annotations: list[Fields], names: Mapping[Any, str], separate: bool
) -> Iterable[Region]:
    numbers = count(1)
    for annotation in annotations:
        category = annotation.get("category_id")
        if category not in names:
            raise RegionError(f"annotation {annotation.get('id')} has no category of the document")
        is_object = separate and not annotation.get("iscrowd")
        number = next(numbers) if is_object else None
        yield Region(names[category], partial(_draw, annotation), number)


def _draw(annotation: Fields, height: int, width: int) -> Patch:
    try:
        return _segmentation(annotation.get("segmentation"), height, width)
    except RegionError as error:
        raise RegionError(f"annotation {annotation.get('id')}: {error}") from None


def _segmentation(segmentation: Any, height: int, width: int) -> Patch:
    if isinstance(segmentation, dict):
        mask = decode_rle(segmentation, height, width)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return Patch(slice(0, 0), slice(0, 0), mask[:0, :0])
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return Patch(*box, mask[box])
    if not isinstance(segmentation, list) or not segmentation:
        raise RegionError(
            "it has no segmentation, only a box, which is no mask; draw polygons or masks"
        )
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
    return union([points_of(ring, at_least=3) for ring in rings], height, width)
