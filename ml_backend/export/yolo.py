"""Instances as YOLO segmentation labels, as Ultralytics reads them.

    yolo/labels/<image>.txt   one line an instance: class, then x y of its outline's points
    yolo/data.yaml            class names, and where the lists of images are
    yolo/train.txt, val.txt   the images of each split, as ./images/<image>

Readers look for the labels of an image where the last `/images/` of its path is `/labels/`: those
of `a/images/b.png` lie in `yolo/images/a/labels/b.txt`. They know one label file for `z.jpg` and
`z.png`, so the second is listed as `z.png.png`: give its copy that name; the report says so.

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

from collections.abc import Iterator
from pathlib import PurePosixPath

import yaml

from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.outlines import outlines
from ml_backend.export.stage import Part
from ml_backend.masks.labels import LabelConfig

_SUFFIX = ".txt"


@exporter("yolo", "yolo", unknown="background")
def write_yolo(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `yolo/`."""
    names, counts = part.names(_SUFFIX), part.counts
    lists = {split: part.growing(f"yolo/{split}.txt") for split in ("train", "val")}
    part.folder("yolo/labels")

    def add(item: ExportItem, present: list[int]) -> None:
        text, holes = _lines(item, present)
        listed = _listed(item.name, names.take(item.name))
        part.write(f"yolo/{_label_file(listed)}", text.encode())
        split = "val" if item.split == "val" else "train"
        lists[split].write(f"./images/{listed}\n".encode())
        counts.update({split: 1, "holes": holes, "renamed": listed != item.name})

    yield add
    part.write("yolo/data.yaml", _data(config, has_val=counts["val"] > 0))
    if counts["renamed"]:
        part.notes.append(
            "images that would share a label file, listed under another name that their copies in "
            f"yolo/images/ need: {counts['renamed']}"
        )
    if counts["holes"]:
        part.notes.append(f"holes, joined to the outline by cuts: {counts['holes']}")
    if counts["train"] and not counts["val"]:
        part.notes.append("no image is of split val; data.yaml validates on the training images")


def _listed(image: str, label_file: str) -> str:
    """The name under which readers find the image and, by it, its labels and no other's."""
    plain = PurePosixPath(image)
    if label_file == plain.with_suffix(_SUFFIX).as_posix():
        return image
    return label_file.removesuffix(_SUFFIX) + plain.suffix


def _label_file(listed: str) -> str:
    """Where readers look for the labels of `./images/<listed>`, below `yolo/`."""
    before, after = f"/images/{listed}".rsplit("/images/", 1)
    return PurePosixPath(f"{before}/labels/{after}").with_suffix(_SUFFIX).as_posix().lstrip("/")


def _lines(item: ExportItem, present: list[int]) -> tuple[str, int]:
    """The label file of an image, and how many holes it has."""
    height, width = item.label_map.shape
    lines, holes = [], 0
    for label in present:
        for outline in outlines(item.pixels_of(label)):
            shares = (outline.points + 0.5) / (width, height)
            lines.append(f"{label - 1} " + " ".join(f"{share:.6f}" for share in shares.flat))
            holes += outline.holes
    return "".join(f"{line}\n" for line in lines), holes


def _data(config: LabelConfig, *, has_val: bool) -> bytes:
    table = {
        "train": "train.txt",
        "val": "val.txt" if has_val else "train.txt",
        "names": dict(enumerate(config.names)),
    }
    text: str = yaml.safe_dump(table, sort_keys=False, allow_unicode=True)
    return text.encode()
