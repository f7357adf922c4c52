"""A picture of a file before it is read: where its channels are and what their numbers mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ImageUnreadable
from ml_backend.store.readers import Plane, ProjectedReader

Kind = Literal["grey", "colour", "composite"]
Colour = NDArray[np.uint8]
"""(256, 3): what each grey of a channel is shown as."""

USUAL = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 255, 255), (255, 0, 255),
         (255, 255, 0))  # fmt: skip
"""Red, green, blue, grey, cyan, magenta, yellow: the order of ImageJ's composites."""


@dataclass(frozen=True)
class Picture:
    """One picture, as it is stored.

    Attributes:
        planes: A plane for each channel; three of a colour picture.
        kind: One grey channel, red, green and blue, or channels shown in a colour each.
        alpha: Opacity, or None.
        associated: Whether the colours are multiplied by it already.
        inverted: Whether 0 is shown as white.
        orientation: How it is turned, as EXIF counts.
        nodata: The number that means no data, as the file says.
        colours: Colours of the channels of a composite; empty for the usual ones.
        total: How many channels the file has.
        indices: The numbers of a picture with a palette, or None.
        palette: (N, 3) colours of those numbers.
        notes: What is to be said of it.

    """

    planes: tuple[Plane, ...]
    kind: Kind
    alpha: Plane | None = None
    associated: bool = False
    inverted: bool = False
    orientation: int = 1
    nodata: float | None = None
    colours: tuple[Colour, ...] = field(default=(), compare=False)
    total: int = 0
    indices: Plane | None = None
    palette: Colour | None = field(default=None, compare=False)
    notes: tuple[str, ...] = ()

    @property
    def stored(self) -> tuple[int, int]:
        """Rows and columns as stored."""
        return self.planes[0].reader.height, self.planes[0].reader.width

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, upright."""
        height, width = self.stored
        return (width, height) if self.orientation in {5, 6, 7, 8} else (height, width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers."""
        return self.planes[0].reader.dtype

    @property
    def deep(self) -> bool:
        """Whether its numbers are others than bytes."""
        return self.dtype not in (np.dtype(np.uint8), np.dtype(np.bool_))

    def colour(self, channel: int) -> Colour:
        """What the greys of a channel of a composite are shown as."""
        if self.colours:
            return self.colours[channel % len(self.colours)]
        return ramp(USUAL[channel % len(USUAL)])

    def show(self, channels: Sequence[int], name: str) -> "Picture":
        """Show only some of the channels: one in grey, several in the usual colours."""
        lacking = [channel for channel in channels if channel >= len(self.planes)]
        if lacking:
            raise ImageUnreadable(
                f"{name} has {len(self.planes)} channel(s) and none of number {lacking[0] + 1}, "
                "which images.channels asks for; change the recipe or take the file away"
            )
        planes = tuple(self.planes[channel] for channel in channels)
        whole = self.kind == "colour" and tuple(channels) == (0, 1, 2)
        kind: Kind = "colour" if whole else "grey" if len(planes) == 1 else "composite"
        return replace(self, planes=planes, kind=kind, colours=())

    def view(self) -> "Picture":
        """All channels, as a viewer shows them: of a composite no more than seven."""
        many = self.kind == "composite" and len(self.planes) > len(USUAL)
        return replace(self, planes=self.planes[: len(USUAL)]) if many else self


@dataclass(frozen=True)
class Scene:
    """Pictures of one size: `outer` moments, each with `depth` planes of the same place.

    `make` gives the picture of a moment and a plane.
    """

    outer: int
    depth: int
    make: Callable[[int, int], Picture]

    def pages(self, plane: int | str | None, projection: str | None) -> int:
        """How many pictures there are."""
        return self.outer if plane is not None or projection is not None else (
            self.outer * self.depth
        )  # fmt: skip

    def picture(
        self, page: int, plane: int | str | None, projection: str | None, name: str
    ) -> Picture:
        """Give one of them."""
        if projection is not None and self.depth > 1:
            pictures = [self.make(page, z) for z in range(self.depth)]
            return project(pictures, projection)
        if projection is not None:
            return self.make(page, 0)
        if plane is None:
            return self.make(*divmod(page, self.depth))
        number = self.depth // 2 if plane == "middle" else int(plane) - 1
        if number >= self.depth:
            raise ImageUnreadable(
                f"{name} has {self.depth} plane(s) and none of number {plane}, which images.plane "
                "asks for; change the recipe or take the file away"
            )
        return self.make(page, number)


@dataclass(frozen=True)
class Pictures:
    """All pictures of an open file, scene after scene; `notes` are said of all.

    `by_window`: whether a window of one can be read without the rest. `apart`: the same file with
    each channel taken for a plane. `many`: whether that is what is meant unless channels are asked
    for, as there are more than a composite has and none has a name.
    """

    scenes: tuple[Scene, ...]
    notes: tuple[str, ...] = ()
    by_window: bool = False
    apart: "Pictures | None" = None
    many: bool = False

    def view(self, channels: Sequence[int]) -> "Pictures":
        """Give the pictures that are meant where these channels are asked for, or none."""
        return self.apart if self.many and self.apart is not None and not channels else self

    def pages(self, plane: int | str | None = None, projection: str | None = None) -> int:
        """How many there are, of a plane or a projection where one is asked for."""
        return sum(scene.pages(plane, projection) for scene in self.scenes)

    def depth(self) -> int:
        """How many planes the deepest scene has."""
        return max(scene.depth for scene in self.scenes)

    def picture(
        self,
        page: int,
        plane: int | str | None = None,
        projection: str | None = None,
        name: str = "",
    ) -> Picture:
        """Give the picture of a page, from 0."""
        left = page
        for scene in self.scenes:
            count = scene.pages(plane, projection)
            if left < count:
                return scene.picture(left, plane, projection, name)
            left -= count
        raise ImageUnreadable(
            f"{name} has {page - left} page(s) and none of number {page + 1}: the file was "
            "replaced; add the pool again"
        )


def ramp(colour: Sequence[int]) -> Colour:
    """Black to `colour` in 256 steps."""
    return np.asarray(np.arange(256)[:, None] * np.asarray(colour) / 255 + 0.5).astype(np.uint8)


def project(pictures: Sequence[Picture], how: str) -> Picture:
    """One picture of several planes."""
    first = pictures[0]
    made: dict[int, ProjectedReader] = {}
    planes = []
    for number, plane in enumerate(first.planes):
        key = id(plane.reader)
        if key not in made:
            made[key] = ProjectedReader([one.planes[number].reader for one in pictures], how)
        planes.append(Plane(made[key], plane.sample))
    return replace(first, planes=tuple(planes), alpha=None)
