"""The family of export formats: one decorated function each.

A format is `f(part, config)`, a generator that yields once: before, it prepares its files; what
it yields takes each image, `add(item, present)` with the labels that occur in it; after, it
completes its files. It writes only through its `Part` (stage.py), below its own `target`, so that
what it wrote is published whole or not at all and can be carried on with after an interruption.
The same items in the same order give the same bytes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from ml_backend.export.items import ExportItem
from ml_backend.export.stage import Part
from ml_backend.masks.labels import LabelConfig
from ml_backend.registry import Registry

Add = Callable[[ExportItem, list[int]], None]
Format = Callable[[Part, LabelConfig], Iterator[Add]]


@dataclass(frozen=True)
class Exporter:
    """A format. `target`: the file or folder that it makes.

    `unknown`: what becomes of unknown pixels, if the format cannot tell them apart and its
    readers should be told. `hides`: a pixel has one label in it, so that of labels that overlap the
    last one hides the others.
    """

    target: str
    open: Callable[[Part, LabelConfig], AbstractContextManager[Add]]
    unknown: str | None = None
    hides: bool = False


EXPORTERS: Registry[Exporter] = Registry("export format")


def exporter(
    name: str, target: str, *, unknown: str | None = None, hides: bool = False
) -> Callable[[Format], Format]:
    """Decorator: file a format under `name`."""

    def file(function: Format) -> Format:
        EXPORTERS.register(name)(Exporter(target, contextmanager(function), unknown, hides))
        return function

    return file
