"""A table of what there is: one line an image, with its areas, in `manifest.csv`.

Columns: `image`; `source`, who drew it: annotation, given (with the image), model or both (people
and the model); `task_url` and `annotator`, with a space between several, `version` and `split`,
empty where they are not known; `file`, the own name of the image's file where that is another (a
`file:` URL where it is not UTF-8), and `page`, its number in a file of several; `width`, `height`
and `unknown`, px; then one column a label, `area:<label>`, px; what overlaps counts for each.
UTF-8, commas, quotes where needed, lines end in LF.
"""

import csv
import io
from collections.abc import Iterator, Sequence

from ml_backend.export.formats import Add, exporter
from ml_backend.export.items import ExportItem
from ml_backend.export.stage import Part
from ml_backend.masks.instances import pixel_counts
from ml_backend.masks.labels import IGNORE, LabelConfig

_KNOWN = ("image", "source", "task_url", "annotator", "version", "split", "file", "page")
_SIZES = ("width", "height", "unknown")


@exporter("manifest", "manifest.csv")
def write_manifest(part: Part, config: LabelConfig) -> Iterator[Add]:
    """Write `manifest.csv`."""
    table = part.growing("manifest.csv")
    if not table.tell():
        table.write(_row([*_KNOWN, *_SIZES, *(f"area:{name}" for name in config.names)]))

    def add(item: ExportItem, _present: list[int]) -> None:
        table.write(_row(_cells(item, len(config.labels))))

    yield add


def _row(cells: Sequence[str | int]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()


def _cells(item: ExportItem, labels: int) -> list[str | int]:
    known = [item.name, item.source, item.task_url, item.annotator, item.version, item.split]
    known += [item.file, None if item.page is None else str(item.page)]
    height, width = item.label_map.shape
    counts = pixel_counts(item.label_map).tolist()
    areas = counts[1 : labels + 1]
    if item.overlapping:
        areas = [int(item.pixels_of(label).sum()) for label in range(1, labels + 1)]
    texts = ["" if text is None else text for text in known]
    return [*texts, width, height, counts[IGNORE], *areas]
