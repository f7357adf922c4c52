"""Files of a folder of masks → the documents among them, and what each says of which image."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson

from ml_backend.errors import DataError
from ml_backend.store.documents import cellpose, coco, labelme, yolo
from ml_backend.store.documents.entry import MaskDocument
from ml_backend.store.summary import Summary

SUFFIXES = frozenset({".json", ".txt", ".npy", ".yaml", ".yml", ".names"})
"""Endings of documents, and of the files that name the classes of YOLO's."""

_NO_MASKS = "a document without masks: COCO, LabelMe, YOLO polygons and Cellpose _seg.npy are read"


class File(Protocol):
    """A file that was listed; `name` is its path below the listed folder, `/` between folders."""

    @property
    def name(self) -> str: ...  # noqa: D102
    def read(self) -> bytes: ...  # noqa: D102


def open_documents(
    files: Iterable[File], summary: Summary | None = None
) -> dict[str, MaskDocument]:
    """Image name as the document writes it → what it says of that image.

    Files of other endings are left alone. Documents that hold no masks are noted in `summary` as
    passed over, those that are damaged or of another kind as set aside. Raises `DataError` where
    two documents speak of one image.
    """
    told = Summary() if summary is None else summary
    listed = [file for file in files if _ending(file.name) in SUFFIXES]
    classes = _Classes(listed)
    found: list[MaskDocument] = []
    for file in listed:
        ending = _ending(file.name)
        try:
            if file.name.endswith(cellpose.ENDING):
                found.append(cellpose.read_cellpose(file.read, file.name))
            elif ending == ".json":
                found += _of_json(file, told)
            elif ending == ".txt" and _base(file.name) not in yolo.CLASS_FILES:
                found += _of_text(file, classes, told)
            elif ending == ".npy":
                told.add("passed_over", file.name, "no Cellpose _seg.npy")
        except DataError as error:
            told.add("set_aside", file.name, str(error))
    return _by_image(found)


def _of_json(file: File, summary: Summary) -> list[MaskDocument]:
    try:
        document: Any = orjson.loads(file.read())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{file.name} is no JSON ({error})") from None
    if isinstance(document, dict) and labelme.is_labelme(document):
        return [labelme.read_labelme(document, file.name)]
    if isinstance(document, dict) and coco.is_coco(document):
        return coco.read_coco(document, file.name, summary)
    summary.add("passed_over", file.name, _NO_MASKS)
    return []


def _of_text(file: File, classes: "_Classes", summary: Summary) -> list[MaskDocument]:
    text = _text(file)
    is_empty = not text.strip() and "labels" in file.name.split("/")[:-1]
    if yolo.is_yolo(text) or is_empty:
        return [yolo.read_yolo(text, file.name, classes.of(file.name))]
    summary.add("passed_over", file.name, _NO_MASKS)
    return []


class _Classes:
    """The names of YOLO's classes by the folder in which they stand."""

    def __init__(self, files: Iterable[File]) -> None:
        self._files: dict[str, list[File]] = defaultdict(list)
        self._known: dict[str, Mapping[int, str] | None] = {}
        for file in files:
            if _ending(file.name) in {".yaml", ".yml"} or _base(file.name) in yolo.CLASS_FILES:
                self._files[_folder(file.name)].append(file)

    def of(self, name: str) -> Mapping[int, str] | None:
        """The names that hold for a label file: of its folder, or the nearest one above it."""
        folder = _folder(name)
        while True:
            names = self._in(folder)
            if names is not None or not folder:
                return names
            folder = _folder(folder)

    def _in(self, folder: str) -> Mapping[int, str] | None:
        if folder not in self._known:
            said = [self._read(file) for file in self._files[folder]]
            known = [names for names in said if names]
            if any(names != known[0] for names in known):
                files = ", ".join(file.name for file in self._files[folder])
                raise DataError(f"{files} name the classes differently; keep one of them")
            self._known[folder] = known[0] if known else None
        return self._known[folder]

    @staticmethod
    def _read(file: File) -> Mapping[int, str] | None:
        text = _text(file)
        is_list = _base(file.name) in yolo.CLASS_FILES
        return yolo.names_of_list(text) if is_list else yolo.names_of_yaml(text)


def _by_image(found: list[MaskDocument]) -> dict[str, MaskDocument]:
    """The entries by their images' names; by folder and name where two documents say the same."""
    said: dict[str, list[MaskDocument]] = defaultdict(list)
    for entry in found:
        said[_plain(entry.image)].append(entry)
    entries: dict[str, MaskDocument] = {}
    for name, same in said.items():
        for entry in same:
            folder = _folder(entry.file)
            key = name if len(same) == 1 else f"{folder}/{name}".removeprefix("/")
            other = entries.setdefault(key, entry)
            if other is not entry:
                raise DataError(
                    f"{other.file} and {entry.file} both have masks of {key}; keep one, or name "
                    "it alone as the masks"
                )
    return entries


def _plain(image: str) -> str:
    """A path as documents write it, without what leads out of the folder."""
    path = image.replace("\\", "/")
    return re.sub(r"^(\.{0,2}/)+", "", path) or path


def _text(file: File) -> str:
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{file.name} is no text in UTF-8") from None


def _ending(name: str) -> str:
    base = _base(name)
    return f".{base.rsplit('.', 1)[1]}".casefold() if "." in base else ""


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
