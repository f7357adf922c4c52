"""YOLO's polygons: a text file an image, a line an object: its class and x y … as shares.

Names of classes stand in a `.yaml` with `names`, or in `classes.txt` or `obj.names`, beside the
files or in a folder above. The outline is painted as Ultralytics does it: points in whole pixels,
decimals cut off, the outline itself included.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import yaml

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.shapes import Patch
from ml_backend.store.documents.entry import MaskDocument, Region

_LINE = re.compile(r"\d+(\s|$)")
CLASS_FILES = ("classes.txt", "obj.names")


def is_yolo(text: str) -> bool:
    """Whether a text begins as a label file does, with a whole number; an empty one does not."""
    return _LINE.match(text.lstrip()) is not None


def read_yolo(text: str, file: str, names: Mapping[int, str] | None) -> MaskDocument:
    """The entry of a label file. `names` of its classes, None where no file has them."""
    return MaskDocument(file, file, "YOLO", partial(_regions, text, names))


def names_of_yaml(text: str) -> dict[int, str] | None:
    """The classes of a `data.yaml`; None where it is none. Raises `DataError` for key points."""
    try:
        table = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return None
    names: Any = table.get("names") if isinstance(table, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(number, int) for number in names):
        return None
    if "kpt_shape" in table:
        raise DataError("its labels are boxes with key points, not masks")
    return {number: str(name) for number, name in names.items()}


def names_of_list(text: str) -> dict[int, str]:
    """The classes of a `classes.txt`, a name a line."""
    return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))


def _regions(text: str, names: Mapping[int, str] | None) -> Iterable[Region]:
    for place, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        number, shares_N2 = _parse(line, place)
        if names is not None and number not in names:
            raise RegionError(
                f"line {place}: class {number} has no name; there are {len(names)}: "
                f"{', '.join(map(repr, list(names.values())[:5]))}"
            )
        label = str(number) if names is None else names[number]
        yield Region(label, partial(_draw, shares_N2), place)


def _parse(line: str, place: int) -> tuple[int, Any]:
    try:
        first, *rest = line.split()
        number, shares = int(first), np.array([float(word) for word in rest])
    except ValueError:
        raise RegionError(f"line {place} is not a class and its points") from None
    if shares.size == 4:
        raise RegionError(
            f"line {place} is a box (5 numbers) for detection, which is no mask; export polygons "
            "for segmentation"
        )
    if shares.size < 6 or shares.size % 2:
        raise RegionError(f"line {place} has {shares.size} numbers, which are no polygon")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise RegionError(f"line {place}: points are shares of width and height, from 0 to 1")
    return number, shares.reshape(-1, 2)


def _draw(shares_N2: Any, height: int, width: int) -> Patch:
    points_N2 = (shares_N2 * (width, height)).astype(np.int32)
    left, top = points_N2.min(axis=0)
    right, bottom = np.minimum(points_N2.max(axis=0) + 1, (width, height))
    left, top = min(left, width - 1), min(top, height - 1)
    rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
    canvas = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillPoly(canvas, [points_N2 - np.array([left, top], np.int32)], 1)
    return Patch(rows, columns, canvas > 0)
