"""Contact sheets: many small pictures with their masks outlined, in one picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ml_backend.masks.colours import PALETTE
from ml_backend.masks.labels import IGNORE

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

CELL = 256
"""Longest side of a picture on the sheet, px."""

_GAP = 4
_TEXT = 16
_PAPER, _INK = (32, 32, 32), (235, 235, 235)


@dataclass(frozen=True)
class Row:
    """Pictures (h, w, 3) uint8 side by side, and the line of text above them."""

    title: str
    pictures: Sequence[U8]


def outlined(image: U8, label_map: U8, side: int = CELL) -> U8:
    """Show an (H, W, 3) image at most `side` px long, its labels outlined, the unknown hatched.

    Outlines are drawn at the size of the answer, so that they stay thin and visible, and not
    where the unknown begins. Small images are enlarged by whole factors only.
    """
    (height, width), how = _fitting(label_map.shape, side)
    shown = np.array(cv2.resize(image, (width, height), interpolation=how), np.uint8)
    labels = np.asarray(cv2.resize(label_map, (width, height), interpolation=cv2.INTER_NEAREST))
    y, x = np.mgrid[:height, :width]
    hatch = (labels == IGNORE) & ((x + y) % 6 < 2)
    shown[hatch] = shown[hatch] // 2 + 64
    for label in np.unique(labels):
        if label in {0, IGNORE}:
            continue
        inside = ((labels == label) | (labels == IGNORE)).astype(np.uint8)
        deep = cv2.erode(inside, np.ones((3, 3), np.uint8), borderValue=1)
        shown[(labels == label) & (deep == 0)] = ImageColor.getrgb(
            PALETTE[(int(label) - 1) % len(PALETTE)]
        )
    return shown


def shrunk(map_HW: NDArray[np.floating[Any]], side: int = CELL) -> F32:
    """Bring a map (H, W) to the size at which `outlined` shows its image; float32."""
    (height, width), how = _fitting(map_HW.shape, side)
    values = np.asarray(map_HW, np.float32)
    return np.asarray(cv2.resize(values, (width, height), interpolation=how), np.float32)


def heated(map_HW: F32, ceiling: float) -> U8:
    """Colour a map (h, w) from 0, black, over red to `ceiling`, pale yellow; above it, too."""
    shares = np.clip(map_HW / ceiling if ceiling > 0 else np.zeros_like(map_HW), 0, 1)
    colours_BGR = cv2.applyColorMap(np.round(shares * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(colours_BGR[..., ::-1], np.uint8)


def _fitting(shape: tuple[int, ...], side: int) -> tuple[tuple[int, int], int]:
    """Height and width of what is shown of an image of this shape, and how it gets there."""
    longest = max(shape[:2])
    factor = max(side // longest, 1) if longest <= side else side / longest
    height, width = (max(round(size * factor), 1) for size in shape[:2])
    return (height, width), cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST


def shorten(name: str, letters: int) -> str:
    """As much of a name as fits into so many letters: its beginning and its end."""
    end = letters // 3
    return name if len(name) <= letters else f"{name[: letters - end - 1]}…{name[-end:]}"


def contact_sheet(rows: Sequence[Row]) -> bytes:
    """Lay rows of pictures out below their titles; returns the bytes of a PNG."""
    heights = [max((len(p) for p in row.pictures), default=0) + _TEXT + 2 * _GAP for row in rows]
    widths = [sum(p.shape[1] + _GAP for p in row.pictures) for row in rows]
    paper = Image.new("RGB", (max([*widths, 320]) + _GAP, sum([*heights, _GAP])), _PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(size=12)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        pen.text((_GAP, top), row.title, fill=_INK, font=font)
        left = _GAP
        for picture in row.pictures:
            paper.paste(Image.fromarray(picture), (left, top + _TEXT))
            left += picture.shape[1] + _GAP
        top += height
    buffer = io.BytesIO()
    paper.save(buffer, "PNG")
    return buffer.getvalue()
