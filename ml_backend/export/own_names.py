"""`names.csv`: which file each image was, if any has another name than its file, or is a page."""

import csv
import io
from collections.abc import Sequence
from typing import BinaryIO

from ml_backend.export.items import ExportItem
from ml_backend.export.stage import Part

PATH = "names.csv"


class OwnNames:
    """Writes a line (`image`, `file`, `page`) for each image that is called otherwise.

    `file` is the file's own name below the pool's folder, a `file:` URL where it is not UTF-8.
    Without such an image there is no table.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._table: BinaryIO | None = part.growing(PATH) if part.has_grown(PATH) else None

    def add(self, item: ExportItem) -> None:
        """Take an image."""
        if not item.own_name():
            return
        if self._table is None:
            self._table = self._part.growing(PATH)
            self._table.write(_row(["image", "file", "page"]))
        file = item.file or ""
        self._table.write(_row([item.name, file, "" if item.page is None else item.page]))


def _row(cells: Sequence[str | int]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()
