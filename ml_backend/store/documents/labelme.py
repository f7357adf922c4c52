"""LabelMe's JSON: the shapes of one image, drawn in their order."""

import base64
import binascii
import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ml_backend.errors import DataError, ImageUnreadable, RegionError
from ml_backend.masks import shapes
from ml_backend.masks.shapes import Patch
from ml_backend.store.documents.entry import MaskDocument, Region
from ml_backend.store.documents.shapes import points_of
from ml_backend.store.raster import read_raster

Fields = Mapping[str, Any]
_AREAS = "polygon, rectangle, circle and mask are read"


def is_labelme(document: Fields) -> bool:
    """Whether a JSON object is LabelMe's."""
    return isinstance(document.get("shapes"), list)


def read_labelme(document: Fields, file: str) -> MaskDocument:
    """The entry of a document. Raises `DataError` where its shapes are no shapes."""
    found = document["shapes"]
    if not all(isinstance(shape, dict) and isinstance(shape.get("label"), str) for shape in found):
        raise DataError(f"{file} is damaged: a shape of it has no label")
    height, width = document.get("imageHeight"), document.get("imageWidth")
    path = document.get("imagePath")
    if not isinstance(path, str) or not path:
        path = file.rsplit("/", 1)[-1]
    keys = ("label", "shape_type", "points", "group_id", "mask")
    kept = [{key: shape.get(key) for key in keys} for shape in found]  # not the image's own data
    return MaskDocument(
        image=path,
        file=file,
        form="LabelMe",
        regions=partial(_regions, kept),
        size=(height, width) if isinstance(height, int) and isinstance(width, int) else None,
    )


def _regions(found: list[dict[str, Any]]) -> Iterable[Region]:
    for place, shape in enumerate(found, 1):
        group = shape["group_id"]
        number = f"shape {place}" if group is None else f"group {group}"
        yield Region(shape["label"], partial(_draw, shape, place), number)


def _draw(shape: Fields, place: int, height: int, width: int) -> Patch:
    try:
        return _area(shape, height, width)
    except RegionError as error:
        raise RegionError(f"shape {place} ({shape['label']}): {error}") from None


def _area(shape: Fields, height: int, width: int) -> Patch:
    kind = shape["shape_type"] or "polygon"
    if kind in {"polygon", "rotation"}:
        return shapes.polygon(points_of(shape["points"], at_least=3), height, width)
    if kind == "rectangle":
        points_N2 = points_of(shape["points"], at_least=2)
        if len(points_N2) == 2:
            (x0, y0), (x1, y1) = points_N2
            points_N2 = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return shapes.polygon(points_N2, height, width)
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points_of(shape["points"], at_least=2)[:2].tolist()
        radius = math.hypot(edge_x - x, edge_y - y)
        return shapes.ellipse(x, y, radius, radius, 0, height, width)
    if kind == "mask":
        return _pasted(shape, height, width)
    raise RegionError(
        f"a {kind} has no area; {_AREAS}: draw it as one of these, or remove it from the document"
    )


def _pasted(shape: Fields, height: int, width: int) -> Patch:
    """A mask that stands in the document as a PNG of its box."""
    (x, y), *_ = points_of(shape["points"], at_least=2)
    try:
        data = base64.b64decode(shape["mask"], validate=True)
        pixels = read_raster(data, "mask").values
    except (TypeError, ValueError, binascii.Error, ImageUnreadable):
        raise RegionError("its mask is no PNG in base64") from None
    if pixels.ndim != 2:
        raise RegionError("its mask is coloured")
    left, top = int(x), int(y)
    box = slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
    if min(left, top) < 0 or box[0].stop > height or box[1].stop > width:
        raise RegionError("its mask reaches beyond the image")
    return Patch(*box, pixels > 0)
