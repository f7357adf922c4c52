"""The images of a folder or an address: one a file, or one a page where a file holds several."""

import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.recipe import Recipe
from ml_backend.store.blobs import local_folder
from ml_backend.store.frames import Frame, FrameInfo, ImageFile, inspect_image, share_range
from ml_backend.store.image_listing import list_images
from ml_backend.store.images import decode_image
from ml_backend.store.listing import ListedFile, shown
from ml_backend.store.names import marked_name, original_text, page_name, safe_names
from ml_backend.store.summary import Summary

Progress = Callable[[int, int, str], None]
_RANGE = "range "
_CHUNK = 2**20
_AT_ONCE = 4 * 2**20  # bytes of a remote file that are not read by parts
_IN_MEMORY = 64 * 2**20  # bytes of a remote file that need no temporary file


@dataclass(frozen=True)
class SourceImage:
    """A picture that people gave: a file, or a page of one.

    Attributes:
        name: Unique in its collection and safe wherever names are written; page 7 of 20 of
            `a/stack.tif` is `a/stack_p07.tif`.
        file: Where it is.
        frame: What of the file it is.
        stack: Name of the file that holds several; the unit of splits. None for a file of one.
        page: Its place in the file, from 0.
        pages: How many pictures the file holds.
        height: In pixels.
        width: In pixels.
        sha256: Of its content: the file's, or of the file's and the page. Empty if not asked for.
        channels: How many the file has.
        problems: What is doubtful about how it was read.

    """

    name: str
    file: ListedFile
    frame: Frame
    stack: str | None
    page: int
    pages: int
    height: int
    width: int
    sha256: str = ""
    channels: int = 1
    problems: tuple[str, ...] = ()

    @property
    def original(self) -> str | None:
        """The file's own name as plain text, where the image's is another because of safety."""
        plain = self.stack or self.name
        return None if plain == self.file.name else original_text(self.file.name)

    @property
    def identity(self) -> bytes:
        """Another value where content or reading is another; needs the hash to have been asked."""
        reading = "" if self.frame == Frame(self.frame.page) else self.frame.text()
        return bytes.fromhex(self.sha256) + reading.encode()

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB. Raises `DataError`."""
        with _opened(self.file) as source:
            return decode_image(source, self.name, self.frame)


@dataclass(frozen=True)
class SourceFile:
    """A file with the images that were chosen of it, or the reason why it has none."""

    file: ListedFile
    name: str
    images: tuple[SourceImage, ...] = ()
    sha256: str = ""
    problem: str | None = None


def open_collection(
    address: Path | str,
    recipe: Recipe,
    summary: Summary | None = None,
    *,
    digest: bool = False,
    progress: Progress | None = None,
    problems: list[tuple[str, str]] | None = None,
    masks: Path | str | None = None,
    labels: Sequence[str] = (),
) -> list[SourceImage]:
    """Return the images of a folder or an fsspec address, in natural order.

    The recipe's `images` and `pool.pages` say what of each file is used. Files that cannot be read
    are noted in `summary` as `set_aside`, what was chosen as `chosen`; who takes images says so.
    With `digest` images have their content's hash. `problems` gets the names and reasons of all
    that cannot be read. Masks among the images are left out as by `list_images`. Raises `DataError`
    where there is no image that can, and as `list_files`.
    """
    broken: list[tuple[str, str]] = [] if problems is None else problems
    told = Summary() if summary is None else summary
    found: list[SourceImage] = []
    files = list_images(address, told, masks, labels)
    for one in open_files(files, recipe, told, digest=digest, progress=progress):
        if one.problem is not None:
            told.add("set_aside", one.name, one.problem)
            broken.append((one.name, one.problem))
        found += one.images
    if not found:
        raise DataError(f"no image in {address} can be read: {broken[0][1]}")
    return found


def open_files(
    files: Sequence[ListedFile],
    recipe: Recipe,
    summary: Summary,
    *,
    digest: bool = False,
    progress: Progress | None = None,
    wanted: Collection[str] | None = None,
) -> Iterator[SourceFile]:
    """Look into each file for the images that the recipe chooses; one that is broken says why.

    With `digest` the content's hash is made too, for which each file is read once as a whole.
    `wanted`: the files' own names of those to look into, if not all; the others count for names.
    """
    names = safe_names(file.name for file in files)
    taken = set(names)
    given = [
        (file, name)
        for file, name in zip(files, names, strict=True)
        if wanted is None or file.name in wanted
    ]

    def inspected() -> Iterator[_Inspected]:
        for done, (file, name) in enumerate(given):
            if progress is not None:
                progress(done, len(given), name)
            yield _inspect(file, name, recipe, digest=digest)

    found = inspected()
    if recipe.images.range == "pool":
        found = _in_one_range(list(found), recipe)
    for one in found:
        yield _source_file(one, recipe, summary, taken)


@dataclass(frozen=True)
class _Inspected:
    """A file, its hash, and what is in it or why that cannot be said."""

    file: ListedFile
    name: str
    sha256: str
    inside: ImageFile | None = None
    problem: str | None = None


def _inspect(file: ListedFile, name: str, recipe: Recipe, *, digest: bool) -> _Inspected:
    sha256 = ""
    try:
        with _fetched(file) if digest else _opened(file) as source:
            sha256 = _digest(source) if digest else ""
            inside = inspect_image(source, name, recipe.images, recipe.pool.pages)
    except DataError as error:
        return _Inspected(file, name, sha256, problem=str(error))
    return _Inspected(file, name, sha256, inside)


def _in_one_range(found: Sequence[_Inspected], recipe: Recipe) -> Iterator[_Inspected]:
    """Give all readable files the range that they share."""
    shared = iter(share_range([one.inside for one in found if one.inside], recipe.images))
    return (replace(one, inside=next(shared)) if one.inside else one for one in found)


def _source_file(one: _Inspected, recipe: Recipe, summary: Summary, taken: set[str]) -> SourceFile:
    file, name, sha256, inside = one.file, one.name, one.sha256, one.inside
    if inside is None:
        return SourceFile(file, name, sha256=sha256, problem=one.problem)
    stacked = inside.pages > 1 and recipe.pool.pages != "first"
    images = []
    for info in inside.frames:
        page = info.frame.page
        image = SourceImage(
            _name_of(name, page, inside.pages, taken) if stacked else name,
            file, info.frame, name if stacked else None, page, inside.pages,
            info.height, info.width, _page_digest(sha256, info.frame) if stacked else sha256,
            inside.channels, info.problems,
        )  # fmt: skip
        images.append(image)
        _tell(image, info, summary)
    if inside.pages > 1:
        summary.add("chosen", name, f"{len(images)} of {inside.pages} pages")
    return SourceFile(file, name, tuple(images), sha256)


def _name_of(stack: str, page: int, pages: int, taken: set[str]) -> str:
    """Name a page, another way where a file has that name already."""
    name = page_name(stack, page, pages)
    return marked_name(name, f"{stack}#{page}") if name in taken else name


def _tell(image: SourceImage, info: FrameInfo, summary: Summary) -> None:
    for chosen in info.chosen:
        if chosen == f"page {image.page + 1} of {image.pages}":
            continue  # told of the file, not of each
        if chosen.startswith(_RANGE):  # each has other numbers
            numbers = chosen.removeprefix(_RANGE)
            summary.add("chosen", f"{image.name} ({numbers})", "grey range")
        else:
            summary.add("chosen", image.name, chosen)
    for problem in info.problems:
        summary.add("warnings", image.name, problem)
    if image.original is not None and image.page == 0:
        name = f"{image.stack or image.name} ← {shown(image.file.name)}"
        summary.add("warnings", name, "names made safe for every file system and format")


def content_ids(file: SourceFile, image: SourceImage) -> set[str]:
    """Hashes under which an image's content may have been added, by whatever rule of pages."""
    whole = {file.sha256} if image.page == 0 else set()
    return {image.sha256, _page_digest(file.sha256, image.frame), *whole}


def _page_digest(sha256: str, frame: Frame) -> str:
    """The content of a page; that of a file alone would make all its pages twins."""
    if not sha256:
        return ""
    return hashlib.sha256(f"{sha256} {frame.scene or ''} {frame.page}".encode()).hexdigest()


@contextmanager
def _opened(file: ListedFile) -> Iterator[Path | BinaryIO]:
    """Give what the file can be read from by parts: a local path, or an open remote file."""
    path = local_folder(file.uri)
    if path is not None:
        yield path
        return
    if file.size <= _AT_ONCE:  # one request is quicker than several
        yield io.BytesIO(file.read())
        return
    with file.open() as remote:
        yield remote


@contextmanager
def _fetched(file: ListedFile) -> Iterator[Path | BinaryIO]:
    """As `_opened`, but a remote file is fetched as a whole, once."""
    path = local_folder(file.uri)
    if path is not None:
        yield path
        return
    if file.size <= _IN_MEMORY:
        yield io.BytesIO(file.read())
        return
    with tempfile.NamedTemporaryFile(prefix="brushloop-") as copy:
        with file.open() as remote:
            shutil.copyfileobj(remote, copy, _CHUNK)
        copy.flush()
        yield Path(copy.name)


def _digest(source: Path | BinaryIO) -> str:
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
        source.seek(0)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from None
    return digest.hexdigest()
