"""A COCO document written as it grows: images and annotations of any number in flat memory."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from ml_backend.export.items import ExportItem
from ml_backend.export.stage import Part
from ml_backend.masks.labels import LabelConfig

_INFO = {"description": "Masks exported by Brushloop", "version": "1.0"}


@dataclass
class CocoDocument:
    """The two lists of an open document. Images are numbered 1, 2, … in the order given."""

    _images: BinaryIO
    _annotations: BinaryIO
    _counts: Counter[str]

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

    def region(self, image_id: int, category_id: int, fields: Mapping[str, Any]) -> None:
        """Add an annotation with an id of its own: 1, 2, …."""
        number = self._counts["annotations"] + 1
        ids = {"id": number, "image_id": image_id, "category_id": category_id}
        self.annotation({**ids, **fields})

    def _next(self, kind: str) -> int:
        self._counts[kind] += 1
        return self._counts[kind]


@contextmanager
def coco_document(
    part: Part, path: str, categories: Iterable[Mapping[str, Any]]
) -> Iterator[CocoDocument]:
    """An open document that is complete at `path` when the block ends well."""
    # Images and annotations come interleaved but stand apart: the latter wait in a file
    document, waiting = part.growing(path), part.growing(path, scratch=True)
    if not document.tell():
        fields = {"info": _INFO, "licenses": [], "categories": list(categories)}
        lines = [f"{_dump(name)}: {_dump(value)},\n" for name, value in fields.items()]
        document.write(("{\n" + "".join(lines) + '"images": [\n').encode())
    yield CocoDocument(document, waiting, part.counts)
    document.write(b'\n],\n"annotations": [\n')
    waiting.seek(0)
    shutil.copyfileobj(waiting, document)
    document.write(b"\n]\n}\n")


def categories_of(config: LabelConfig) -> list[dict[str, Any]]:
    """The labels as COCO's categories, ids 1..K in the labeling config's order."""
    return [
        {"id": number, "name": label.name, "supercategory": ""}
        for number, label in enumerate(config.labels, start=1)
    ]


def _append(file: BinaryIO, entry: Mapping[str, Any], *, first: bool) -> None:
    file.write(b"" if first else b",\n")
    file.write(_dump(entry).encode())


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
