"""Which picture of a file is meant, and how its numbers become 8-bit RGB.

A file may hold many pictures: pages, sections, channels, planes. The catalog records for each image
a `Frame`, so that training, prediction and export see the same picture ever after.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ml_backend.errors import ImageUnreadable
from ml_backend.recipe import Images, choose_pages
from ml_backend.store.grey_range import Measure, grey_range, measure, measure_bytes, merge
from ml_backend.store.image_files import open_pictures
from ml_backend.store.pictures import Picture, Pictures
from ml_backend.store.readers import MAX_PIXELS, Source
from ml_backend.store.rendering import parts


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
        nodata: Numbers that mean no data and are shown black.

    """

    page: int = 0
    scene: str | None = None
    plane: int | str | None = None
    projection: str | None = None
    channels: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    nodata: tuple[float, ...] = ()

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

    `pages` counts all pictures of the file, whether chosen or not. `measures` has one entry for
    each range that the file's pictures share: what a range for a whole pool is made of.
    """

    pages: int
    channels: int
    dtype: str
    frames: tuple[FrameInfo, ...]
    measures: tuple[Measure, ...] = ()


def inspect_image(
    source: Source,
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
    with open_pictures(source, name, max_pixels) as opened:
        pictures = opened.view(images.channels or ())
        count = pictures.pages(images.plane, images.projection)
        chosen = choose_pages(pages, count)
        if not chosen:
            raise ImageUnreadable(
                f"{name} has {count} pages and none of those that pool.pages asks for ({pages})"
            )
        looks = [_look(pictures, page, name, images) for page in chosen]
        if images.range != "page":
            looks = _share_range(looks)
        told = _file_choices(pictures, images)
        infos = [_describe(look, images, count, told) for look in looks]
    first = looks[0]
    return ImageFile(count, first.total, first.dtype, tuple(infos), first.measures)


def share_range(files: Sequence[ImageFile], images: Images) -> list[ImageFile]:
    """Give all pictures of several files of a pool one range; those of other channels another."""
    alike: dict[tuple[int, str], list[ImageFile]] = {}
    for file in files:
        alike.setdefault((len(file.measures), file.dtype), []).append(file)
    shared = {
        key: [merge(of_channel) for of_channel in zip(*(one.measures for one in same), strict=True)]
        for key, same in alike.items()
    }
    return [_with_range(file, shared[len(file.measures), file.dtype], images) for file in files]


@dataclass(frozen=True)
class _Look:
    """A picture that was measured: what of it does not depend on the others."""

    page: int
    size: tuple[int, int]
    dtype: str
    kind: str
    shown: tuple[int, ...]
    total: int
    notes: tuple[str, ...]
    nodata: tuple[float, ...]
    measures: tuple[Measure, ...]
    problems: tuple[str, ...]


def _look(pictures: Pictures, page: int, name: str, images: Images) -> _Look:
    """Read a picture to its end and measure its channels."""
    picture = pictures.picture(page, images.plane, images.projection, name)
    shown = tuple(channel - 1 for channel in images.channels or ())
    picture = picture.show(shown, name) if shown else picture.view()
    nodata = {number for number in (images.nodata, picture.nodata) if number is not None}
    measures = _measures(picture, sorted(nodata), images)
    nodata |= {one.found for one in measures if one is not None and one.found is not None}
    problems = []
    if None in measures:
        problems.append("holds no number but those that mean no data")
    known = [one if one is not None else Measure(0, 0) for one in measures]
    if any(one.high <= one.low for one in known) and None not in measures:
        problems.append("is the same all over" if len(known) == 1 else "has an empty channel")
    if known and all(one.noise for one in known):
        problems.append("shows nothing but noise")
    if picture.kind == "colour" and known:
        known = [merge(known)]
    return _Look(
        page, picture.size, str(picture.dtype), picture.kind, shown, picture.total or 1,
        picture.notes, tuple(sorted(nodata)), tuple(known), tuple(problems),
    )  # fmt: skip


def _measures(picture: Picture, nodata: Sequence[float], images: Images) -> list[Measure | None]:
    """Measure each channel; colours of 8 bits and black and white are only read."""
    fixed = images.percentiles is None and picture.kind == "colour" and not picture.deep
    if fixed or picture.dtype == np.bool_:
        for _ in parts(picture):
            pass
        return []
    channels = len(picture.planes)
    if picture.dtype == np.uint8 and not nodata and images.percentiles is None:
        found = measure_bytes(parts(picture), channels)
        if found is not None:
            return [*found]
    return measure(lambda: parts(picture), picture.stored, channels, nodata, images.percentiles)


def _share_range(looks: Sequence[_Look]) -> list[_Look]:
    """Pictures of a file with the same channels have one range."""
    alike: dict[tuple[object, ...], list[_Look]] = {}
    for look in looks:
        alike.setdefault((look.kind, look.dtype, len(look.measures)), []).append(look)
    shared = {
        key: tuple(merge(one) for one in zip(*(look.measures for look in same), strict=True))
        for key, same in alike.items()
    }
    return [
        replace(look, measures=shared[look.kind, look.dtype, len(look.measures)]) for look in looks
    ]


def _describe(look: _Look, images: Images, count: int, told: Sequence[str]) -> FrameInfo:
    colour = look.kind == "colour"
    frame = Frame(
        look.page, None, images.plane, images.projection, look.shown, nodata=look.nodata
    )  # fmt: skip
    frame = _with_limits(frame, look.measures, look.dtype, images, colour=colour)
    chosen = [f"page {look.page + 1} of {count}"] if count > 1 else []
    chosen += [*told, *look.notes, *_channel_choice(look)]
    return FrameInfo(frame, *look.size, (*chosen, *_range_choice(frame)), look.problems)


def _channel_choice(look: _Look) -> Sequence[str]:
    total = max(look.total, 1)
    shown = look.shown or tuple(range(len(look.measures) or 1))
    if look.kind == "colour" or (total == 1 and not look.shown):
        return ()
    numbers = [str(channel + 1) for channel in shown]
    if len(numbers) == 1:
        return (f"channel {numbers[0]} of {total}",)
    return (f"channels {', '.join(numbers[:-1])} and {numbers[-1]} of {total} as composite",)


def _range_choice(frame: Frame) -> Sequence[str]:
    pairs = [f"{low:g} to {high:g}" for low, high in zip(frame.low, frame.high, strict=True)]
    nodata = [f"no data where it is {number:g}" for number in frame.nodata]
    return ([f"range {', '.join(pairs)}"] if pairs else []) + nodata


def _file_choices(pictures: Pictures, images: Images) -> Sequence[str]:
    depth = pictures.depth()
    told = list(pictures.notes)
    if depth > 1 and images.projection is not None:
        told.append(f"the {images.projection} of {depth} planes")
    elif depth > 1 and images.plane is not None:
        number = depth // 2 + 1 if images.plane == "middle" else images.plane
        told.append(f"plane {number} of {depth}")
    return told


def _with_limits(
    frame: Frame, measures: Sequence[Measure], dtype: str, images: Images, *, colour: bool
) -> Frame:
    """Record the numbers that are black and white; none where bytes stay as they are."""
    if isinstance(images.range, tuple):
        low, high = images.range
        return replace(frame, low=(low,), high=(high,))
    exact = images.percentiles is not None
    pairs = [grey_range(one, colour=colour, exact=exact) for one in measures]
    if not pairs or (dtype == "uint8" and set(pairs) == {(0.0, 255.0)}):
        return frame
    return replace(frame, low=tuple(low for low, _ in pairs), high=tuple(high for _, high in pairs))


def _with_range(file: ImageFile, measures: Sequence[Measure], images: Images) -> ImageFile:
    """Give a file's pictures the range of a whole pool."""
    infos = []
    for info in file.frames:
        former = _range_choice(info.frame)
        plain = replace(info.frame, low=(), high=())
        colour = len(measures) == 1 and file.channels == 3 and not info.frame.channels
        frame = _with_limits(plain, measures, file.dtype, images, colour=colour)
        kept = tuple(choice for choice in info.chosen if choice not in former)
        infos.append(replace(info, frame=frame, chosen=(*kept, *_range_choice(frame))))
    return replace(file, frames=tuple(infos), measures=tuple(measures))
