"""What a project's pool holds already of files that are added, and the split of what is new."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from ml_backend.loop.splits import Page, Split, split_pages
from ml_backend.recipe import Recipe
from ml_backend.store.collection import SourceFile, SourceImage
from ml_backend.store.frames import Frame
from ml_backend.store.rows import Image

Splits = Mapping[str, Split]
Place = tuple[str, int, str | None]  # address, page, scene


class KnownImages:
    """Images of the catalog by where they are and by name; a file's place comes first."""

    def __init__(self, images: Iterable[Image]) -> None:
        self._all = list(images)
        self._by_name = {image.name: image for image in self._all}
        self._by_place: dict[Place, Image] = {}
        self._by_file: dict[str, list[Image]] = defaultdict(list)
        for image in self._all:
            self._by_place[image.uri, image.frame.page, image.frame.scene] = image
            self._by_file[image.uri].append(image)

    def find(self, source: SourceImage) -> Image | None:
        """The image that was added from the same place, else the one of the same name."""
        place = (source.file.uri, source.frame.page, source.frame.scene)
        found = self._by_place.get(place) or self._by_name.get(source.name)
        if found is None and source.page == 0 and source.stack is not None:
            return self._by_name.get(source.stack)  # added when only first pages were read
        return found

    def of_file(self, one: SourceFile) -> list[Image]:
        """Images that were added from the same file, else the one of its name."""
        named = self._by_name.get(one.name)
        return self._by_file.get(one.file.uri) or ([named] if named else [])

    def in_range(self, frame: Frame) -> Frame:
        """Give a picture the range that the pool's pictures of as many channels have already."""
        for image in self._all:
            known = image.frame
            if known.low and (len(known.low), known.channels) == (len(frame.low), frame.channels):
                return replace(frame, low=known.low, high=known.high)
        return frame

    def left_out(self, one: SourceFile) -> list[Image]:
        """Images of a readable file that are not chosen any more."""
        chosen = {(image.frame.page, image.frame.scene) for image in one.images}
        return [
            image
            for image in self._by_file.get(one.file.uri, ())
            if one.images and (image.frame.page, image.frame.scene) not in chosen and image.width
        ]

    def split(
        self, opened: Sequence[SourceFile], masks: Container[str], recipe: Recipe
    ) -> dict[str, Split]:
        """Give the side of each image and broken file, by the name that it is found under.

        A picture that is there under another name already stands on that one's side.
        """
        stacks = self._stacks(opened)
        pages = [
            Page(one.name, one.role, stacks.get(one.name, one.stack), one.frame.page, one.split)
            for one in self._all
        ]
        sides: dict[str, Split] = {image.sha256: image.split for image in self._all if image.width}
        firsts: dict[str, str] = {}
        for file in opened:
            if file.problem is not None and not self.of_file(file):
                pages.append(Page(file.name, "pool"))
            for image in file.images:
                if self.find(image) is None:
                    role = "source" if image.name in masks else "pool"
                    side = sides.get(image.sha256)
                    pages.append(Page(image.name, role, image.stack, image.page, side))
                    firsts.setdefault(image.sha256, image.name)
        split = split_pages(pages, recipe.validation.share, recipe.selection.seed)
        for file in opened:
            for image in file.images:
                before = self.find(image)
                first = firsts.get(image.sha256, image.name)
                split[image.name] = split[first] if before is None else before.split
            known = self.of_file(file)
            if file.problem is not None and known:
                split[file.name] = known[0].split
        return split

    def _stacks(self, opened: Sequence[SourceFile]) -> dict[str, str]:
        """Known image → its stack, also of those that were added when one page was read of it."""
        found = {}
        for image in (image for file in opened for image in file.images):
            before = self.find(image)
            if before is not None and image.stack is not None:
                found[before.name] = image.stack
        return found
