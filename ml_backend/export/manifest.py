"""A table of what there is: one line an image, with its areas, in `manifest.csv`.

Columns: `image`; `source`, annotation or model; `task_url`, `annotator`, `version` and `split`,
empty where they are not known; `width`, `height` and `unknown`, px; then one column a label,
`area:<label>`, px. UTF-8, commas, quotes where needed, lines end in LF.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

from ml_backend.export.items import EXPORTERS, ExportItem, Report, Tally
from ml_backend.export.publish import staged_file
from ml_backend.masks.instances import pixel_counts
from ml_backend.masks.labels import IGNORE, LabelConfig

_KNOWN = ("image", "source", "task_url", "annotator", "version", "split")
_SIZES = ("width", "height", "unknown")


@EXPORTERS.register("manifest")
def write_manifest(items: Iterable[ExportItem], folder: Path, config: LabelConfig) -> Report:
    """Write `folder/manifest.csv`, whole or not at all. Raises as `write_coco`."""
    target = folder / "manifest.csv"
    tally = Tally(labels=len(config.labels))
    with (
        staged_file(target) as parts,
        (parts / target.name).open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*_KNOWN, *_SIZES, *(f"area:{name}" for name in config.names)])
        for item, _ in tally.checked(items):
            table.writerow(_line(item, len(config.labels)))
    return tally.report(target)


def _line(item: ExportItem, labels: int) -> list[str | int]:
    known = [item.name, item.source, item.task_url, item.annotator, item.version, item.split]
    height, width = item.label_map.shape
    counts = pixel_counts(item.label_map).tolist()
    texts = ["" if text is None else text for text in known]
    return [*texts, width, height, counts[IGNORE], *counts[1 : labels + 1]]
