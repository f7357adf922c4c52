"""A COCO document written as it grows: images and annotations of any number in flat memory."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, BinaryIO

from ml_backend.errors import LabelConfigError
from ml_backend.export.items import ExportItem
from ml_backend.export.stage import Part
from ml_backend.masks.labels import Label, LabelConfig
from ml_backend.text import shorten

_INFO = {"description": "Masks exported by Brushloop", "version": "1.0"}


@dataclass
class CocoDocument:
    """The two lists of an open document. Images are numbered 1, 2, … in the order given."""

    _images: BinaryIO
    _annotations: BinaryIO
    _counts: Counter[str]
    _categories: tuple[int, ...]

    def category_of(self, label: int) -> int:
        """The category's id of a label 1..K."""
        return self._categories[label - 1]

    def image(self, item: ExportItem) -> int:
        """Add an image; its id."""
        number = self._next("images")
        height, width = item.label_map.shape
        entry = {"id": number, "file_name": item.name, "width": width, "height": height}
        entry |= {"source": item.source, **item.own_name()}
        _append(self._images, entry, first=number == 1)
        return number

    def annotation(self, fields: Mapping[str, Any]) -> None:
        """Add an annotation as it is."""
        first = self._next("annotations") == 1
        _append(self._annotations, fields, first=first)

    def region(self, image_id: int, label: int, fields: Mapping[str, Any]) -> None:
        """Add an annotation with an id of its own: 1, 2, …."""
        number = self._counts["annotations"] + 1
        ids = {"id": number, "image_id": image_id, "category_id": self.category_of(label)}
        self.annotation({**ids, **fields})

    def _next(self, kind: str) -> int:
        self._counts[kind] += 1
        return self._counts[kind]


@contextmanager
def coco_document(
    part: Part, path: str, categories: Sequence[Mapping[str, Any]]
) -> Iterator[CocoDocument]:
    """An open document that is complete at `path` when the block ends well."""
    # Images and annotations come interleaved but stand apart: the latter wait in a file
    document, waiting = part.growing(path), part.growing(path, scratch=True)
    if not document.tell():
        fields = {"info": _INFO, "licenses": [], "categories": list(categories)}
        lines = [f"{_dump(name)}: {_dump(value)},\n" for name, value in fields.items()]
        document.write(("{\n" + "".join(lines) + '"images": [\n').encode())
    ids = tuple(category["id"] for category in categories)
    yield CocoDocument(document, waiting, part.counts, ids)
    document.write(b'\n],\n"annotations": [\n')
    waiting.seek(0)
    shutil.copyfileobj(waiting, document)
    document.write(b"\n]\n}\n")


def categories_of(config: LabelConfig) -> list[dict[str, Any]]:
    """The labels as COCO's categories, in the labeling config's order.

    Ids are the labels' `category` in the labeling config, and of those without one the lowest that
    are free: 1..K where none has one. Raises LabelConfigError for a category that is no number,
    and for one that two labels have.
    """
    given = {label.name: _category(label) for label in config.labels if label.category is not None}
    for name, number in given.items():
        twin = next(other for other, taken in given.items() if taken == number)
        if twin != name:
            raise LabelConfigError(
                f"the labels '{shorten(twin)}' and '{shorten(name)}' of the labeling config both "
                f'have category="{number}": COCO files need another number for each'
            )
    free = (number for number in count(1) if number not in set(given.values()))
    return [
        {
            "id": given[label.name] if label.name in given else next(free),
            "name": label.name,
            "supercategory": "",
        }
        for label in config.labels
    ]


def _category(label: Label) -> int:
    text = (label.category or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise LabelConfigError(
            f"the label '{shorten(label.name)}' of the labeling config has "
            f'category="{shorten(text)}", which is no number: COCO files need one, such as "3", or '
            "none"
        )
    return int(text)


def _append(file: BinaryIO, entry: Mapping[str, Any], *, first: bool) -> None:
    file.write(b"" if first else b",\n")
    file.write(_dump(entry).encode())


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
