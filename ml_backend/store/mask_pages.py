"""Pages of masks: of a stack of masks, or a file a page."""

import io
from collections.abc import Collection, Sequence
from functools import cached_property

import tifffile
from PIL import Image

from ml_backend.errors import DataError
from ml_backend.store.listing import ListedFile
from ml_backend.store.mask_matching import Part
from ml_backend.store.raster import read_raster


def count_pages(file: ListedFile) -> int:
    """How many pictures a mask file holds. Raises `DataError` if it cannot be read."""
    with file.open() as source:
        return read_raster(source, file.name).pages


def read_page(file: ListedFile, page: int) -> bytes | None:
    """A page of a mask as a file of its own, with the same numbers and colours.

    None where pages are no parts of the file, so that it must be read as a whole.
    """
    buffer = io.BytesIO()
    try:
        with file.open() as source:
            if not _is_tiff(source.read(4)):
                source.seek(0)
                with Image.open(source) as image:
                    image.seek(page)
                    image.save(buffer, "PNG")
                return buffer.getvalue()
            source.seek(0)
            with tifffile.TiffFile(source) as tiff:
                if page >= len(tiff.pages):
                    return None
                found = tiff.pages[page]
                kept = found.aspage()
                tifffile.imwrite(
                    buffer, found.asarray(), photometric=_photometric(kept),
                    colormap=kept.colormap if kept.photometric == _PALETTE else None,
                    metadata=None,
                )  # fmt: skip
    except DataError:
        raise
    except Exception as error:  # the libraries raise whatever they meet in a damaged file
        raise _unreadable(file, error) from error
    return buffer.getvalue()


_PALETTE = tifffile.PHOTOMETRIC.PALETTE
_KEPT = {_PALETTE, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK}


def _photometric(page: tifffile.TiffPage) -> tifffile.PHOTOMETRIC:
    """Colours that were packed as YCbCr or the like are unpacked by now."""
    kept = tifffile.PHOTOMETRIC(page.photometric)
    return kept if kept in _KEPT else tifffile.PHOTOMETRIC.RGB


def _is_tiff(head: bytes) -> bool:
    return head in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def _unreadable(file: ListedFile, error: Exception) -> DataError:
    return DataError(f"mask {file.name} cannot be read: {type(error).__name__}: {error}")


def first_number(stack: str, pages: int, numbers: Collection[int]) -> int:
    """The number by which masks call the first page of a stack: 0 or 1.

    Raises `DataError` with both counts where the numbers do not fit or do not tell.
    """
    said = ", ".join(map(str, sorted(numbers)[:5])) + (" …" if len(numbers) > 5 else "")
    if max(numbers) > pages or (0 in numbers and max(numbers) == pages):
        raise DataError(
            f"{stack} has {pages} pages, and its masks are those of pages {said}: give the masks "
            "that were drawn on this stack"
        )
    if 0 in numbers:
        return 0
    if max(numbers) == pages:
        return 1
    number = str(min(numbers)).zfill(len(str(pages)))
    raise DataError(
        f"{stack} has {pages} pages, and its masks are called {said}, which does not say whether "
        f"pages are counted from 0 or 1; call that of page {min(numbers)}, counted from 1, "
        f"like the image: …_p{number}"
    )


class PageParts:
    """The masks of a stack: some of one page each, the others of all."""

    def __init__(self, stack: str, pages: int, parts: Sequence[Part]) -> None:
        self._stack, self._pages = stack, pages
        self._by_page: dict[int | None, list[Part]] = {}
        for part in parts:
            self._by_page.setdefault(part.page, []).append(part)

    def of(self, page: int) -> list[Part]:
        """Those of a page, counted from 0. Raises `DataError` as `first_number` does."""
        return [*self._by_page.get(None, ()), *self._by_page.get(page + self._first, ())]

    @cached_property
    def _first(self) -> int:
        numbers = [number for number in self._by_page if number is not None]
        return first_number(self._stack, self._pages, numbers) if numbers else 0
