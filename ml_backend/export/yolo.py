"""Instances as YOLO segmentation labels, as Ultralytics reads them.

    yolo/labels/<image>.txt   one line an instance: class, then x y of its outline's points
    yolo/data.yaml            class names, and where the lists of images are
    yolo/train.txt, val.txt   the images of each split, as ./images/<image>

Classes count from 0 in the labeling config's order; coordinates are shares of width and height,
six decimals. Put the images, or a link to them, into `yolo/images/`. Images without a split, or
of another than `val`, are for training; without any `val`, data.yaml validates on those of
training, and the report says so. Images without instances have an empty file.

The points are the centres of border pixels, (x + ½) / width: a reader that cuts off decimals and
fills with `cv2.fillPoly`, as Ultralytics does, draws every instance exactly in images below
500,000 px a side. A reader that fills between the points without painting the outline loses up
to half a pixel all around, and thus strokes of one pixel. The format has no holes: each is
joined to the outline by a cut, a line walked there and back, which an even-odd filling leaves
open; the report counts them. Unknown pixels are background.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import yaml

from ml_backend.export.items import EXPORTERS, ExportItem, Report, Tally
from ml_backend.export.names import FileNames
from ml_backend.export.outlines import outlines
from ml_backend.export.publish import staged_folder, sync, write_synced
from ml_backend.masks.labels import LabelConfig


@EXPORTERS.register("yolo")
def write_yolo(items: Iterable[ExportItem], folder: Path, config: LabelConfig) -> Report:
    """Write `folder/yolo/`, whole or not at all. Raises as `write_png`."""
    target = folder / "yolo"
    tally = Tally(labels=len(config.labels))
    names = FileNames(".txt", tally)
    holes, has_val = 0, False
    with (
        staged_folder(target) as fresh,
        (fresh / "train.txt").open("wb") as train,
        (fresh / "val.txt").open("wb") as val,
    ):
        (fresh / "labels").mkdir()
        for item, present in tally.checked(items):
            text, joined = _lines(item, present)
            holes += joined
            write_synced(fresh / "labels" / names.take(item.name), text.encode())
            is_val = item.split == "val"
            has_val |= is_val
            _list(val if is_val else train, item.name)
        sync(train)
        sync(val)
        write_synced(fresh / "data.yaml", _data(config, has_val=has_val))
    if holes:
        tally.notes.append(f"holes, joined to the outline by cuts: {holes}")
    if tally.images and not has_val:
        tally.notes.append("no image is of split val; data.yaml validates on the training images")
    return tally.report(target, unknown="background")


def _lines(item: ExportItem, present: list[int]) -> tuple[str, int]:
    """The label file of an image, and how many holes it has."""
    height, width = item.label_map.shape
    lines, holes = [], 0
    for label in present:
        for outline in outlines(item.label_map == label):
            shares = (outline.points + 0.5) / (width, height)
            lines.append(f"{label - 1} " + " ".join(f"{share:.6f}" for share in shares.flat))
            holes += outline.holes
    return "".join(f"{line}\n" for line in lines), holes


def _list(file: BinaryIO, image_name: str) -> None:
    file.write(f"./images/{image_name}\n".encode())


def _data(config: LabelConfig, *, has_val: bool) -> bytes:
    table = {
        "train": "train.txt",
        "val": "val.txt" if has_val else "train.txt",
        "names": dict(enumerate(config.names)),
    }
    text: str = yaml.safe_dump(table, sort_keys=False, allow_unicode=True)
    return text.encode()
