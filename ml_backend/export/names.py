"""Names of files made for images: readable, and never the same twice on any file system."""

import unicodedata
from collections.abc import Iterator
from itertools import count
from pathlib import PurePosixPath


class FileNames:
    """Hands out a file name for each image so that none is given twice.

    The file of `a/b.tif` is `a/b` and `suffix`, such as `a/b.png`. Where several images would
    share that name, also when they differ only in case, the first keeps it and each later one
    keeps its own suffix: `a/b.jpg` gets `a/b.jpg.png`, and failing that `a/b.jpg~2.png`, `~3`, ….
    An empty `suffix` leaves names as they are until they meet.
    """

    def __init__(self, suffix: str, notes: list[str] | None = None) -> None:
        self._suffix = suffix
        self._notes = notes
        self._taken: set[str] = set()

    def take(self, image_name: str) -> str:
        """The first free name for this image's file; any but the plain one is noted."""
        name = next(name for name in self._candidates(image_name) if self._claim(name))
        plain = self.plain(image_name)
        if name != plain and self._notes is not None:
            self._notes.append(f"{image_name}: mask written as {name}, as {plain} was taken")
        return name

    def plain(self, image_name: str) -> str:
        """The name that an image's file has unless another took it."""
        if not self._suffix:
            return image_name
        return PurePosixPath(image_name).with_suffix(self._suffix).as_posix()

    def _candidates(self, image_name: str) -> Iterator[str]:
        """Names for an image, the most wanted first; never ends."""
        yield self.plain(image_name)
        yield f"{image_name}{self._suffix}"
        yield from (f"{image_name}~{number}{self._suffix}" for number in count(2))

    def _claim(self, name: str) -> bool:
        # Some file systems take A.png for a.png, and some compose accents
        key = unicodedata.normalize("NFC", name.casefold())
        if key in self._taken:
            return False
        self._taken.add(key)
        return True
