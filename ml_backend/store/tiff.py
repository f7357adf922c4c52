"""The pictures of a TIFF: pages, OME and ImageJ stacks, channels, pyramids.

Photometric tag, extra samples, colour map and metadata of ImageJ, OME and GDAL say what the numbers
mean. Of a pyramid the full resolution counts, of a slide scanner's file the slide.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import tifffile

from ml_backend.errors import ImageUnreadable
from ml_backend.store.pictures import USUAL, Kind, Picture, Pictures, Scene
from ml_backend.store.readers import (
    ArrayReader,
    ConvertedReader,
    Plane,
    RawReader,
    Reader,
    check_size,
)  # fmt: skip
from ml_backend.store.tiff_colours import (
    channel_colours,
    cmyk_to_rgb,
    has_channel_names,
    lab_to_rgb,
    needs_pillow,
    pillow_page,
)  # fmt: skip
from ml_backend.store.tiff_pages import check_page, page_readers

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SLIDES = {"svs", "ndpi", "scn", "bif", "philips", "qpi", "avs", "indica"}
_ORIENTATION = 274
_NARROW = 10
"""Pages of at most so many columns, written as rows of an array, are the channels of a picture."""


def open_tiff(file: BinaryIO, tiff: tifffile.TiffFile, name: str, max_pixels: int) -> Pictures:
    """List the pictures of a TIFF; none of their pixels is read."""
    layout = Layout(file, tiff, name, max_pixels)
    series = [one.levels[0] for one in tiff.series]
    if not series:
        raise ValueError("it has no page")
    kind = series[0].kind
    if kind in {"generic", "uniform"}:
        return layout.plain(series)
    if kind in _SLIDES:
        others = [one.name for one in tiff.series[1:]]
        note = (f"the slide, not its {', '.join(others)}",) if others else ()
        return Pictures((layout.scene(series[0], 0),), note, by_window=True)
    kept = [
        (one, number)
        for number, one in enumerate(series)
        if one.kind != "lsmreduced" and not getattr(one.keyframe, "is_reduced", False)
    ] or [(series[0], 0)]
    apart = None
    channels = max(_channels(one) for one, _ in kept)
    many = channels > len(USUAL) and not has_channel_names(tiff)
    if channels > 1:
        note = (f"its {channels} channels as planes",) if many else ()
        scenes = tuple(layout.scene(*one, apart=True) for one in kept)
        apart = Pictures(scenes, note, by_window=True)
    scenes = tuple(layout.scene(*one) for one in kept)
    return Pictures(scenes, by_window=True, apart=apart, many=many)


def _channels(series: Any) -> int:
    """How many channels lie in pages of their own."""
    if _is_interleaved(series.axes, series.shape):
        return 1
    return int(dict(zip(series.axes, series.shape, strict=True)).get("C", 1))


class Layout:
    """Where the pictures of an open TIFF are."""

    def __init__(self, file: BinaryIO, tiff: tifffile.TiffFile, name: str, max_pixels: int) -> None:
        self._file, self._tiff, self._name, self._max = file, tiff, name, max_pixels
        self._size = tiff.filehandle.size

    def plain(self, series: Sequence[Any]) -> Pictures:
        """Pages without more meaning, in the order of the file; masks and thumbnails left out."""
        pages = [page for one in series for page in one.pages if page is not None]
        kept = sorted(
            (page for page in pages if not (page.keyframe.is_reduced or page.keyframe.is_mask)),
            key=lambda page: page.index,
        )
        kept = kept or pages[:1]
        depths = [page.keyframe.imagedepth for page in kept]
        places = [(page, z) for page, depth in zip(kept, depths, strict=True) for z in range(depth)]
        if len({page.keyframe.shape for page in kept}) == 1:
            return Pictures((Scene(1, len(places), self._maker(places)),), by_window=True)
        scenes = tuple(Scene(1, 1, self._maker([place])) for place in places)
        return Pictures(scenes, by_window=True)

    def _maker(self, places: Sequence[Any]) -> Callable[[int, int], Picture]:
        return lambda _t, z: self._picture([places[z]])

    def scene(self, series: Any, number: int, *, apart: bool = False) -> Scene:
        """A series of pages whose order is known by the letters of its axes.

        `apart`: each channel is a plane.
        """
        axes, shape = _without(series.axes, series.shape, "YXS")
        axes = axes.replace("C", "Z") if apart else axes
        if _is_interleaved(series.axes, series.shape):
            return self._interleaved(series)
        sizes = {
            role: int(np.prod([n for a, n in zip(axes, shape, strict=True) if _role(a) == role]))
            for role in ("outer", "depth", "channel")
        }
        colours = channel_colours(self._tiff, number, sizes["channel"])

        def make(t: int, z: int) -> Picture:
            places = [
                self._place(series, _index(axes, shape, {"outer": t, "depth": z, "channel": c}))
                for c in range(sizes["channel"])
            ]
            found = [place for place in places if place is not None]
            if len(found) < len(places):
                raise ImageUnreadable(
                    f"{self._name} says that {len(places) - len(found)} of its {len(places)} "
                    f"channels lie in another file; put them into one"
                )
            return replace(self._picture(found), colours=colours)

        present = [
            t
            for t in range(sizes["outer"])
            if self._place(series, _index(axes, shape, {"outer": t})) is not None
        ]
        return Scene(len(present), sizes["depth"], lambda t, z: make(present[t], z))

    def _place(self, series: Any, index: int) -> Any:
        """A page and its depth, or the place in the file of one that has no directory."""
        pages = series.pages
        if len(pages) > 1 or series.dataoffset is None:
            depth = getattr(series.keyframe, "imagedepth", 1)
            page = pages[index // depth]
            return None if page is None else (page, index % depth)
        return (pages[0], 0) if not index else (pages[0], series.dataoffset, index)

    def _picture(self, places: Sequence[Any]) -> Picture:
        """The channels of several pages together, or of one."""
        if len(places) == 1:
            return self._of_page(places[0])
        pictures = [self._of_page(place, plain=True) for place in places]
        planes = tuple(plane for picture in pictures for plane in picture.planes)
        return replace(pictures[0], planes=planes, kind="composite", alpha=None, total=len(planes))

    def _of_page(self, place: Any, *, plain: bool = False) -> Picture:
        """A page as its tags say; `plain`: its numbers are a channel's, whatever its colours."""
        page, readers = self._readers(place)
        tag = page.tags.get(_ORIENTATION)
        picture = _picture_of(page, readers, plain=plain)
        if needs_pillow(page) and not plain:
            picture = replace(picture, planes=pillow_page(self._file, page.index), kind="colour")
            return replace(picture, alpha=None, total=3)
        orientation = int(tag.value) if tag is not None else 1
        return replace(picture, orientation=orientation if orientation in range(1, 9) else 1)

    def _readers(self, place: Any) -> tuple[Any, list[Reader]]:
        page = place[0].aspage() if isinstance(place[0], tifffile.TiffFrame) else place[0]
        check_page(page, self._name, self._size, self._max)
        if len(place) == 2:
            return page, page_readers(page, self._file, place[1])
        _, offset, index = place
        shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
        dtype = np.dtype(page.dtype).newbyteorder(self._tiff.byteorder)
        offset += index * int(np.prod(shape)) * dtype.itemsize
        if offset + int(np.prod(shape)) * dtype.itemsize > self._size:
            raise ImageUnreadable(
                f"{self._name} is truncated: page {index + 1} ends beyond the file; copy or "
                "export it again"
            )
        return page, [RawReader(self._file, offset, shape, dtype)]

    def _interleaved(self, series: Any) -> Scene:
        """(…, H, W, channels) written as pages of W rows: the channels of one picture."""
        height, width, samples = series.shape[-3:]
        check_size(self._name, height, width, self._max)
        keyframe = series.keyframe
        dtype = np.dtype(keyframe.dtype).newbyteorder(self._tiff.byteorder)
        size = height * width * samples * dtype.itemsize
        outer = int(np.prod(series.shape[:-3]))

        def make(t: int, _z: int) -> Picture:
            reader: Reader
            if series.dataoffset is not None:
                start = series.dataoffset + t * size
                reader = RawReader(self._file, start, (height, width, samples), dtype)
            else:
                values = series.asarray().reshape(outer, height, width, samples)
                reader = ArrayReader(values[t])
            planes = tuple(Plane(reader, sample) for sample in range(samples))
            return Picture(planes, "colour" if samples == 3 else "composite", total=samples)

        return Scene(outer, 1, make)


def _picture_of(page: Any, readers: list[Reader], *, plain: bool) -> Picture:
    """What the tags of a page say of its samples."""
    photometric = page.photometric
    planes = [Plane(reader, sample) for reader in readers for sample in range(reader.samples)]
    extra = tuple(int(code) for code in page.extrasamples)
    alpha = next((n for n, code in enumerate(extra) if code in {1, 2}), None)
    if alpha is not None:
        at = len(planes) - len(extra) + alpha
        opacity, associated = planes.pop(at), extra[alpha] == 1
    else:
        opacity, associated = None, False
    common = {
        "alpha": opacity,
        "associated": associated,
        "inverted": photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        "nodata": _nodata(page),
    }
    if plain:
        return Picture(tuple(planes), "grey", **common)
    if page.colormap is not None and photometric == tifffile.PHOTOMETRIC.PALETTE:
        table = np.asarray(page.colormap.T >> 8, np.uint8)
        reader = ConvertedReader(planes[0].reader, lambda v: table[v[..., 0]], 3)
        shown = tuple(Plane(reader, n) for n in range(3))
        return Picture(shown, "colour", total=3, indices=planes[0], palette=table)
    if photometric == tifffile.PHOTOMETRIC.SEPARATED and len(readers) == 1 and len(planes) == 4:
        reader = ConvertedReader(readers[0], cmyk_to_rgb, 3)
        return Picture(tuple(Plane(reader, n) for n in range(3)), "colour", opacity, total=3)
    if photometric == tifffile.PHOTOMETRIC.CIELAB and len(readers) == 1 and len(planes) == 3:
        reader = ConvertedReader(readers[0], lab_to_rgb, 3)
        return Picture(tuple(Plane(reader, n) for n in range(3)), "colour", opacity, total=3)
    colour = photometric in {tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR}
    if len(planes) == 1:
        return Picture(tuple(planes), "grey", **common, total=1)
    kind: Kind = "colour" if len(planes) == 3 and colour else "composite"
    return Picture(tuple(planes), kind, **common, total=len(planes))


def _nodata(page: Any) -> float | None:
    tag = page.tags.get(42113)  # GDAL_NODATA
    try:
        return None if tag is None else float(str(tag.value).strip(" \0"))
    except ValueError:
        return None


def _role(axis: str) -> str:
    return "channel" if axis == "C" else "depth" if axis in "ZIQ" else "outer"


def _without(axes: str, shape: Iterable[int], letters: str) -> tuple[str, tuple[int, ...]]:
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if a not in letters]
    return "".join(a for a, _ in kept), tuple(n for _, n in kept)


def _index(axes: str, shape: tuple[int, ...], numbers: dict[str, int]) -> int:
    """The place of a page among all, from its number in each role."""
    left = dict(numbers)
    places = []
    for axis, count in reversed(list(zip(axes, shape, strict=True))):
        role = _role(axis)
        left[role], place = divmod(left.get(role, 0), count)
        places.append(place)
    return int(np.ravel_multi_index(places[::-1], shape)) if shape else 0


def _is_interleaved(axes: str, shape: Sequence[int]) -> bool:
    if len(shape) < 3 or axes.endswith("S"):
        return False
    if axes.endswith("YXC"):
        return True
    return (
        axes.endswith("YX") and axes[-3] in "QI" and shape[-1] <= _NARROW
        and min(shape[-3:-1]) > _NARROW
    )  # fmt: skip
