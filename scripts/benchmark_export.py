"""COCO and PNG export against label-studio-sdk's converter: what `benchmark.py export` runs.

Tasks are made of the membranes and mitochondria in ../shared/data (drawn shapes without it),
two brush regions each, one JSON file a task as Label Studio exports them. Each side converts the
same files in a process of its own, which reports its duration and its peak of resident memory.
Then both are asked for things that can be counted; there the ratio is ours / target.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from benchmark import DATA, Row, drawn_discs, memory, row, speed

from ml_backend.masks import rle
from ml_backend.masks.labels import make_label_config, parse_label_config

WORKER = Path(__file__).with_name("benchmark_worker.py")
SIDES = ("brushloop", "sdk")
LABELS = ("membrane", "mitochondrion")
XML = make_label_config(LABELS)
Masks = dict[str, np.ndarray]


def rows(*, quick: bool = False) -> Iterator[Row]:
    """Measure 200 tasks, or 4 if `quick`, then compare what was written with what was drawn."""
    count = 4 if quick else 200
    with tempfile.TemporaryDirectory(prefix="brushloop-benchmark-") as place:
        root = Path(place)
        truths = write_tasks(root / "tasks", drawn_tasks(count))
        ours, other = (run(side, root / "tasks", root / side) for side in SIDES)
        case = f"COCO and PNG of {count} tasks"
        yield speed(case, ours["ms"], other["ms"], target=10)
        yield memory(f"peak memory, {case}", ours["peak"], other["peak"], target=1)
        yield from likeness(root, truths)
        shapes = counted_shapes()
        write_tasks(root / "shapes", [{LABELS[0]: mask} for mask in shapes.values()])
        for side in SIDES:
            run(side, root / "shapes", root / f"shapes-{side}")
        yield from counts(root, shapes)


def likeness(root: Path, truths: list[Masks]) -> Iterator[Row]:
    """How the COCO masks of the first tasks agree with the regions that were drawn."""
    drawn = [coco_masks(root / side) for side in SIDES]
    for label in LABELS:
        overlaps: list[list[float]] = [[], []]
        sizes: list[list[float]] = [[], []]
        for number, truth in enumerate(truths):
            for side, found in enumerate(drawn):
                masks = found.get((f"{number}.png", label), [])
                mask = np.logical_or.reduce([np.zeros_like(truth[label]), *masks])
                union = np.logical_or(mask, truth[label]).sum()
                overlaps[side].append(np.logical_and(mask, truth[label]).sum() / union)
                sizes[side].append(mask.sum() / truth[label].sum())
        yield exact(f"COCO's IoU with the annotation, {label}", overlaps, "IoU", 1)
        yield exact(f"COCO's area by the annotation's, {label}", sizes, "times", 1)


def counts(root: Path, shapes: Masks) -> Iterator[Row]:
    """Areas and numbers of annotations of shapes whose answers are known."""
    annotations = [coco_annotations(root / f"shapes-{side}") for side in SIDES]
    for number, (name, mask) in enumerate(shapes.items()):
        areas, numbers = [], []
        for found in annotations:
            mine = found.get(f"{number}.png", [])
            areas.append([float(sum(entry["area"] for entry in mine))])
            numbers.append([float(len(mine))])
        yield exact(f"COCO's area of {name}", areas, "px", int(mask.sum()))
        yield exact(f"COCO's annotations of {name}", numbers, "count", 1)


def exact(case: str, found: list[list[float]], unit: str, target: float) -> Row:
    """Row of two means; it holds if every one of ours is the target."""
    ours, other = (float(np.mean(values)) for values in found)
    return row(
        case, ours, other, ours / target, unit, target, holds=all(v == target for v in found[0])
    )


def counted_shapes() -> Masks:
    """Draw shapes that are one region each, and that contours get wrong."""
    square, stroke, ring, parts = (np.zeros((64, 64), bool) for _ in range(4))
    square[10:20, 10:20] = True
    stroke[5:45, 30] = True
    ring[10:40, 10:40] = True
    ring[15:35, 15:35] = False
    parts[5:20, 5:20] = parts[30:50, 30:50] = True
    return {
        "a 10 x 10 square": square,
        "a stroke of 1 px": stroke,
        "a ring": ring,
        "one region in two parts": parts,
    }


def drawn_tasks(count: int) -> Iterator[Masks]:
    """Masks by label of each task: the data's images in turn, then flipped and rolled."""
    pairs = list(real_pairs()) or [(drawn_discs(512), np.roll(drawn_discs(512), 200))]
    for number in range(count):
        around, image = divmod(number, len(pairs))
        turned = [
            np.roll(mask[:: 1 - 2 * (around % 2)], 37 * around, axis=1) for mask in pairs[image]
        ]
        membrane, mitochondrion = map(np.ascontiguousarray, turned)
        yield {LABELS[0]: membrane & ~mitochondrion, LABELS[1]: mitochondrion}


def real_pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Membranes and mitochondria of each section in the data beside the repository."""
    from ml_backend.store.mask_values import read_mask

    folder = DATA / "vnc_mitochondria/masks"
    for path in sorted((folder / "membranes").glob("*.png")):
        files = (path, folder / "mitochondria" / path.name)
        membrane, mitochondrion = (read_mask(f.read_bytes(), str(f), 1) == 1 for f in files)
        yield membrane, mitochondrion


def write_tasks(folder: Path, tasks: Iterable[Masks], keep: int = 6) -> list[Masks]:
    """Write a file a task as Label Studio exports it; return the masks of the first ones."""
    folder.mkdir()
    folder.with_suffix(".xml").write_text(XML, encoding="utf-8")
    kept = []
    control = parse_label_config(XML).control
    for number, masks in enumerate(tasks):
        result = [
            {
                "id": f"{number}-{label}",
                "type": "brushlabels",
                "from_name": control,
                "to_name": "image",
                "original_width": mask.shape[1],
                "original_height": mask.shape[0],
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": rle.encode_array(mask),
                    "brushlabels": [label],
                },
            }
            for label, mask in masks.items()
        ]
        annotation = {
            "id": number,
            "completed_by": 1,
            "was_cancelled": False,
            "created_at": "2025-01-01T00:00:00Z",
            "result": result,
        }
        data = {"image": f"/data/upload/1/{number}.png"}
        task = [{"id": number, "data": data, "annotations": [annotation]}]
        text = orjson.dumps(task, option=orjson.OPT_SERIALIZE_NUMPY)
        (folder / f"{number:05}.json").write_bytes(text)
        if number < keep:
            kept.append(masks)
    return kept


def coco_annotations(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Annotations of a COCO file by file name, each with its category's name and image's size."""
    [path] = folder.rglob("*coco.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    images = {entry["id"]: entry for entry in document["images"]}
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in document["annotations"]:
        image = images[entry["image_id"]]
        size = (image["height"], image["width"])
        more = {"label": names[entry["category_id"]], "size": size}
        found.setdefault(image["file_name"], []).append(entry | more)
    return found


def coco_masks(folder: Path, keep: int = 6) -> dict[tuple[str, str], list[np.ndarray]]:
    """Masks by file name and label, as pycocotools draws them, of the first tasks."""
    from pycocotools import mask as coco_mask

    wanted = {f"{number}.png" for number in range(keep)}
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, entries in coco_annotations(folder).items():
        for entry in entries if name in wanted else ():
            coded = entry["segmentation"]
            if isinstance(coded, list):
                coded = coco_mask.merge(coco_mask.frPyObjects(coded, *entry["size"]))
            mask = coco_mask.decode(coded).astype(bool)
            found.setdefault((name, entry["label"]), []).append(mask)
    return found


def run(side: str, tasks: Path, target: Path) -> dict[str, float]:
    """Convert in a process of its own; duration in ms, peak of resident memory in bytes."""
    target.mkdir()
    command = [sys.executable, str(WORKER), side, str(tasks), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed to convert:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
