"""What a document says of one image: regions in their order → label map or set map, and objects."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.shapes import Patch
from ml_backend.store.documents.labels import LEFT_OUT, LabelNames
from ml_backend.store.documents.painting import Canvas
from ml_backend.store.mask_reading import MaskReading
from ml_backend.store.mask_values.options import Values

Shape = tuple[int, int]


@dataclass(frozen=True)
class Region:
    """A region of an image.

    `label` as the document writes it. `draw`: (height, width) → its pixels. `number`: regions of
    the same one are one object; None where a region may hold several objects, which are then told
    apart by their connected parts.
    """

    label: str
    draw: Callable[[int, int], Patch]
    number: Hashable | None = None


@dataclass(frozen=True)
class MaskDocument:
    """What a document says of an image.

    `image`: the image's name as the document writes it. `file`: the document's own name. `form`:
    `COCO`, `LabelMe`, `YOLO` or `Cellpose`. `regions`: (height, width) → the regions, as late as
    they are needed. `size`: the image's (height, width), where the document writes them.
    `only_numbers`: its regions are called like objects, by number, and have no label.
    """

    image: str
    file: str
    form: str
    regions: Callable[[], Iterable[Region]] = field(repr=False)
    size: Shape | None = None
    only_numbers: bool = False

    def read(
        self,
        shape: Shape,
        labels: Sequence[str],
        *,
        overlapping: bool = False,
        unknown: Sequence[str] = (),
        background: Sequence[str] = (),
        rest: int = 0,
        values: Values | None = None,
    ) -> MaskReading:
        """Paint the regions over each other as a label map, or a set map where `overlapping`.

        `labels`: all labels that the masks tell apart. Values 1…K count those of them that are
        neither in `unknown`, whose pixels become 255, nor in `background`, whose pixels become 0.
        `rest`: what pixels become that no region covers. `values`: names of the document → number
        of a label, counted in `labels`; 0 leaves regions out, 255 makes their pixels unknown.
        A later region covers an earlier one unless labels overlap; how much is covered is noted.
        Raises `RegionError` for an image of another size, for labels that are not among those
        asked for and for regions that cannot be drawn.
        """
        if self.size is not None and self.size != tuple(shape):
            said = f"{self.size[1]} x {self.size[0]} px"
            raise RegionError(
                f"{self.file} says that {self.image} is {said}, but the image is {shape[1]} x "
                f"{shape[0]} px; give the document that was drawn on it"
            )
        names = LabelNames(
            tuple(labels), tuple(unknown), tuple(background), values, self.only_numbers
        )
        canvas = Canvas(shape, overlapping=overlapping)
        numbers: dict[Hashable, int] = {}
        try:
            regions = list(self.regions())
            kinds = names.values(dict.fromkeys(region.label for region in regions))
            for region in regions:
                if kinds[region.label] == LEFT_OUT and not rest:
                    continue
                number = 0
                if region.number is not None:
                    key = kinds[region.label], region.number
                    number = numbers.setdefault(key, len(numbers) + 1)
                patch = region.draw(*shape)
                canvas.paint(patch, kinds[region.label], number, region.label)
        except DataError as error:
            where = "" if self.image == self.file else f", image {self.image}"
            raise RegionError(f"{self.file}{where}: {error}") from None
        objects = canvas.numbers if numbers and not overlapping else None
        return MaskReading(canvas.mask(rest), objects, tuple(canvas.notes()), self.form)
