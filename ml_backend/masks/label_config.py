"""What Brushloop uses of a labeling config: labels and the controls that draw them."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import NamedTuple

from ml_backend.errors import LabelConfigError
from ml_backend.masks.task_image import DataKey, TaskImage
from ml_backend.text import shorten

IGNORE = 255  # the value of unknown pixels in a label map
MAX_LABELS = IGNORE - 1


@dataclass(frozen=True)
class Label:
    """A label as results name it (its alias if it has one), and its colour as #rrggbb.

    `category`: what the config says its number is in COCO files, if anything.
    """

    name: str
    colour: str
    category: str | None = None


class BrushControl(NamedTuple):
    """The control that holds the labels of a brush, and the Brush tag where that is another."""

    control: str
    brush: str | None


@dataclass(frozen=True)
class LabelConfig:
    """What Brushloop uses of a labeling config.

    `control` names the brush control that predictions are written to; `brush` the Brush tag
    beside it where labels and brush are two tags. `image` finds the image in a task's data, and
    writes them. `labels` are those of all controls that draw on the image, each name once, in
    the order of first appearance; `others` names the further controls. `brushes` says for each
    label which brush control has it, None where no brush has it; empty: `control` has them all.

    Further labels may be painted without being learned, see `setting_aside`: those of `unknown`
    and of `former`, which the config had once, become 255, those of `background` become 0.

    `multiple`: a pixel may have several labels, by the config's `choice="multiple"`. Then masks are
    set maps (`sets.py`) where there are several labels, see `overlapping`.

    `prompts`: controls that prompt an assistant (`smart="true"`), each with the labels that other
    controls draw as well: what they draw of those is a question to the assistant, and no mask.
    `elsewhere` names what else of a task can be labelled, such as a second image.
    """

    control: str
    to_name: str
    image: TaskImage
    labels: tuple[Label, ...]
    brush: str | None = None
    others: tuple[str, ...] = ()
    brushes: tuple[BrushControl | None, ...] = ()
    unknown: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    multiple: bool = False
    prompts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    elsewhere: tuple[str, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels' names; the label of pixel value k is `names[k - 1]`."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def controls(self) -> frozenset[str]:
        """The names of all controls whose regions are read."""
        return frozenset({self.control, self.brush or self.control, *self.others})

    @property
    def other_keys(self) -> tuple[DataKey, ...]:
        """The keys besides the image's that Label Studio wants in the data of every task."""
        return tuple(key for key in self.image.keys if not self.image.is_own(key))

    def is_prompt(self, control: str, label: str) -> bool:
        """Whether a control's regions of a label are prompts of an assistant."""
        return label in dict(self.prompts).get(control, ())

    @property
    def overlapping(self) -> bool:
        """Whether masks are set maps, in which labels overlap; one label has none to overlap."""
        return self.multiple and len(self.labels) > 1

    def index(self, name: str) -> int:
        """Return the pixel value 1..K of a label. Raises LabelConfigError for unknown names."""
        try:
            return self.names.index(name) + 1
        except ValueError:
            known = ", ".join(map(repr, (*self.names, *self.unknown, *self.background)))
            raise LabelConfigError(
                f"the labeling config has no label '{shorten(name)}'; it has: {shorten(known, 800)}"
            ) from None

    def value(self, name: str) -> int:
        """Return what the pixels of a label become: 1..K, 0 or 255. Raises LabelConfigError."""
        if name in self.background:
            return 0
        return IGNORE if name in (*self.unknown, *self.former) else self.index(name)

    def setting_aside(
        self,
        *,
        unknown: Collection[str] = (),
        background: Collection[str] = (),
        former: Collection[str] = (),
    ) -> "LabelConfig":
        """Return the config without some labels, whose regions are then unknown or background.

        `former`: names that are none of its labels any more, but may stand in old annotations.
        Raises LabelConfigError for other names that it does not have, for one that would be both
        and where no label is left.
        """
        for name in (*unknown, *background):
            self.index(name)
        if both := set(unknown) & set(background):
            raise LabelConfigError(f"the label {min(both)!r} cannot be unknown and background")
        kept = [name not in {*unknown, *background} for name in self.names]
        if not any(kept):
            raise LabelConfigError("no label is left that could be learned")
        return replace(
            self,
            labels=tuple(compress(self.labels, kept)),
            brushes=tuple(compress(self.brushes, kept)),
            unknown=tuple(unknown),
            background=tuple(background),
            former=tuple(former),
        )

    def written_by(self, name: str) -> BrushControl | None:
        """Return the brush control that can write a label: `control` where that has it.

        None for a label of polygons, rectangles or ellipses only: no mask can be written as it.
        """
        if not self.brushes:
            return BrushControl(self.control, self.brush)
        return self.brushes[self.index(name) - 1]
