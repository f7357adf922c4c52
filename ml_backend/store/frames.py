"""Which picture of a file is meant, and how its numbers become 8-bit RGB.

A file may hold many pictures: pages, sections, channels, planes. The catalog records for each image
a `Frame`, so that training, prediction and export see the same picture ever after.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from ml_backend.errors import ImageUnreadable
from ml_backend.recipe import Images, choose_pages
from ml_backend.store.raster import MAX_PIXELS, read_raster


@dataclass(frozen=True)
class Frame:
    """One picture of a file.

    Attributes:
        page: Its place among the pictures of the file, from 0; counted as `plane` and `projection`
            leave them.
        scene: Name of the image inside a microscope's own file; None for all others.
        plane: The plane that stands for all, from 1, or `middle`; None where each is a page.
        projection: How planes became one picture, `max` or `mean`; None where they did not.
        channels: The channels shown, from 0; empty for all as a viewer shows them.
        low: The number that is black, one for all or one a channel; empty as before ranges were
            recorded: 8-bit numbers as they are, deeper ones between the picture's percentiles.
        high: The number that is white, likewise.
        nodata: A number that means no data; None for none beside what the file says.

    """

    page: int = 0
    scene: str | None = None
    plane: int | str | None = None
    projection: str | None = None
    channels: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    nodata: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Only what differs from a plain single image; `{}` for one."""
        plain = Frame()
        return {key: value for key, value in asdict(self).items() if value != getattr(plain, key)}

    def text(self) -> str:
        """The same as one line of JSON; equal frames give equal lines."""
        return json.dumps(self.as_json(), sort_keys=True)

    @classmethod
    def parse(cls, data: Mapping[str, Any] | str | None) -> "Frame":
        """Read what `as_json` or `text` gave; None and unknown keys are passed over."""
        if isinstance(data, str):
            data = json.loads(data) if data else {}
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list | tuple) else value
            for key, value in (data or {}).items()
            if key in known
        }
        return cls(**values)


@dataclass(frozen=True)
class FrameInfo:
    """A picture of a file, as a summary tells it.

    `chosen` says what was chosen and how, such as "page 3 of 20"; `problems` what is doubtful.
    """

    frame: Frame
    height: int
    width: int
    chosen: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFile:
    """What stands in a file: how many pictures and channels, and those that were chosen.

    `pages` counts all pictures of the file, whether chosen or not.
    """

    pages: int
    channels: int
    dtype: str
    frames: tuple[FrameInfo, ...]


def inspect_image(
    source: bytes | Path | BinaryIO,
    name: str,
    images: Images = Images(),  # noqa: B008  (frozen)
    pages: str = "each",
    max_pixels: int = MAX_PIXELS,
) -> ImageFile:
    """Read a file once and say which pictures of it become images.

    Args:
        source: The file's bytes, its path, or the file, open and seekable.
        name: For messages.
        images: What the recipe says of channels, planes and the grey range.
        pages: What it says of pages (`pool.pages`).
        max_pixels: Larger pictures are refused.

    Raises:
        ImageUnreadable: It is none, damaged, or has none of the pages asked for.

    """
    raster = read_raster(source, name, max_pixels)
    chosen = choose_pages(pages, raster.pages)
    if not chosen:
        raise ImageUnreadable(
            f"{name} has {raster.pages} pages and none of those that pool.pages asks for ({pages})"
        )
    frames = []
    for page in chosen:
        height, width = read_raster(source, name, max_pixels, page=page).values.shape[:2]
        told = (f"page {page + 1} of {raster.pages}",) if raster.pages > 1 else ()
        frames.append(FrameInfo(Frame(page, nodata=images.nodata), height, width, told))
    return ImageFile(raster.pages, 1, str(raster.values.dtype), tuple(frames))
