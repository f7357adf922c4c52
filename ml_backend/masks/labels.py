"""A labeling config: its controls that draw on the image, their labels and colours.

Label Studio's configs are XML whose tag and attribute names it reads without regard to
case. Pixels are labelled 1..K in the order in which the config lists its labels.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import NamedTuple
from xml.etree import ElementTree as ET

from ml_backend.errors import LabelConfigError
from ml_backend.masks.colours import as_hex, colour_of

IGNORE = 255  # the value of unknown pixels in a label map
MAX_LABELS = IGNORE - 1

# What draws areas; each occurs as a tag beside <Labels> and as one tag with labels of its own.
SHAPES = frozenset({"brush", "magicwand", "bitmask", "polygon", "rectangle", "ellipse"})
_DRAWING = SHAPES | {f"{shape}labels" for shape in SHAPES} | {"labels"}


@dataclass(frozen=True)
class Label:
    """A label as results name it (its alias if it has one), and its colour as #rrggbb."""

    name: str
    colour: str


class BrushControl(NamedTuple):
    """The control that holds the labels of a brush, and the Brush tag where that is another."""

    control: str
    brush: str | None


@dataclass(frozen=True)
class LabelConfig:
    """What Brushloop uses of a labeling config.

    `control` names the brush control that predictions are written to; `brush` the Brush tag
    beside it where labels and brush are two tags. `image_key` is the key of the image in a
    task's data. `labels` are those of all controls that draw on the image, each name once, in
    the order of first appearance; `others` names the further controls. `brushes` says for each
    label which brush control has it, None where no brush has it; empty: `control` has them all.

    Further labels may be painted without being learned, see `setting_aside`: those of `unknown`
    and of `former`, which the config had once, become 255, those of `background` become 0.

    `multiple`: a pixel may have several labels, by the config's `choice="multiple"`. Then masks are
    set maps (`sets.py`) where there are several labels, see `overlapping`.
    """

    control: str
    to_name: str
    image_key: str
    labels: tuple[Label, ...]
    brush: str | None = None
    others: tuple[str, ...] = ()
    brushes: tuple[BrushControl | None, ...] = ()
    unknown: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    multiple: bool = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels' names; the label of pixel value k is `names[k - 1]`."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def controls(self) -> frozenset[str]:
        """The names of all controls whose regions are read."""
        return frozenset({self.control, self.brush or self.control, *self.others})

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
                f"the labeling config has no label {name!r}; it has: {known}"
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


def parse_label_config(xml: str) -> LabelConfig:
    """Read a labeling config; its first brush control that labels an image says which image.

    Labels are merged by name from all controls that draw areas on that image. Raises
    LabelConfigError where there is no brush control, or where labels or image are unusable.
    """
    tags = list(_tags(xml))
    images = {tag.get("name"): tag for tag in tags if tag.kind == "image"}
    first, to_name = _first_brush(tags, images)
    drawing = [tag for tag in tags if tag.kind in _DRAWING and to_name in tag.targets]
    if not any(tag.kind in SHAPES for tag in drawing):  # then <Labels> has nothing to label
        drawing = [tag for tag in drawing if tag.kind != "labels"]
    main = BrushControl(first.get("name"), _brush_of(first, drawing))
    colours: dict[str, str | None] = {}
    written = dict.fromkeys(_labels(first), main)
    if not written:
        raise LabelConfigError(
            f"the control {main.control!r} of the labeling config has no <Label>; labels that "
            "come from the task's data are not supported"
        )
    for tag in drawing:
        brush = _brush_of(tag, drawing)
        for name, colour in _labels(tag).items():
            colours[name] = colours.get(name) or colour
            if tag.kind == "brushlabels" or brush:
                written.setdefault(name, BrushControl(tag.get("name"), brush))
    _check_names(tuple(colours))
    others = dict.fromkeys(tag.get("name") for tag in drawing if tag.get("name") not in main)
    return LabelConfig(
        control=main.control,
        to_name=to_name,
        image_key=_image_key(images[to_name].get("value")),
        labels=tuple(
            Label(name, colour or colour_of(index))
            for index, (name, colour) in enumerate(colours.items())
        ),
        brush=main.brush,
        others=tuple(others),
        brushes=tuple(written.get(name) for name in colours) if others else (),
        multiple=any(tag.get("choice").lower() == "multiple" for tag in drawing),
    )


def make_label_config(
    names: Sequence[str], title: str | None = None, *, multiple: bool = False
) -> str:
    """Write a labeling config for images in `data.image` and brush labels of these names.

    Colours are the palette's, in order. `multiple`: labels may overlap, and a region have several.
    Raises LabelConfigError for unusable names.
    """
    _check_names(tuple(names))
    view = ET.Element("View")
    if title:
        ET.SubElement(view, "Header", value=title)
    controls = ("zoom", "zoomControl", "brightnessControl", "contrastControl", "gammaControl")
    image = {"name": "image", "value": "$image", **dict.fromkeys(controls, "true")}
    ET.SubElement(view, "Image", image)
    control = ET.SubElement(view, "BrushLabels", name="label", toName="image")
    if multiple:
        control.set("choice", "multiple")
    for index, name in enumerate(names):
        ET.SubElement(control, "Label", value=name, background=colour_of(index))
    ET.indent(view)
    return ET.tostring(view, encoding="unicode")


class _Tag:
    """One element, its tag and attribute names in lower case."""

    def __init__(self, element: ET.Element) -> None:
        self.element = element
        self.kind = element.tag.lower()
        self.attributes = {key.lower(): value for key, value in element.attrib.items()}

    def get(self, attribute: str) -> str:
        return self.attributes.get(attribute, "")

    @property
    def targets(self) -> list[str]:
        """The names of what this control labels."""
        return [name.strip() for name in self.get("toname").split(",")]


def _first_brush(tags: list[_Tag], images: dict[str, _Tag]) -> tuple[_Tag, str]:
    """Return the first control that labels brush regions of an image, and the image's name."""
    brushed = {name for tag in tags if tag.kind == "brush" for name in tag.targets}
    for tag in tags:
        target = next((name for name in tag.targets if name in images), None)
        if target and (tag.kind == "brushlabels" or (tag.kind == "labels" and target in brushed)):
            return tag, target
    found = ", ".join(dict.fromkeys(f"<{tag.element.tag}>" for tag in tags)) or "no tags"
    raise LabelConfigError(
        "the labeling config has no brush control for an image: add <BrushLabels> with "
        f'toName="..." naming an <Image>, or <Brush> and <Labels>; found: {found}'
    )


def _brush_of(control: _Tag, drawing: list[_Tag]) -> str | None:
    """Return the name of the Brush tag whose regions a <Labels> control labels."""
    brushes = (tag.get("name") for tag in drawing if tag.kind == "brush")
    return next(brushes, None) if control.kind == "labels" else None


def _tags(xml: str) -> Iterator[_Tag]:
    # Entities are how XML blows up; no labeling config needs them.
    if "<!" in re.sub(r"<!--.*?-->", "", xml, flags=re.DOTALL):
        raise LabelConfigError("the labeling config has a document type or CDATA; remove it")
    try:
        root = ET.fromstring(xml)  # noqa: S314  (no document type, hence no entities)
    except ET.ParseError as error:
        raise LabelConfigError(f"the labeling config is not XML: {error}") from error
    return (_Tag(element) for element in root.iter())


def _labels(control: _Tag) -> dict[str, str | None]:
    """Return a control's labels and the colours that the config gives them."""
    tags = [tag for tag in map(_Tag, control.element.iter()) if tag.kind == "label"]
    names = [tag.get("alias") or tag.get("value") for tag in tags]
    for name in names:
        if names.count(name) > 1:
            raise LabelConfigError(
                f"the label {name!r} occurs twice in the control {control.get('name')!r}; each "
                "must have its own name"
            )
    return {name: as_hex(tag.get("background")) for name, tag in zip(names, tags, strict=True)}


def _check_names(names: tuple[str, ...]) -> None:
    if not 0 < len(names) <= MAX_LABELS:
        raise LabelConfigError(f"{len(names)} labels; there must be 1 to {MAX_LABELS}")
    for name in names:
        if not name.strip() or not name.isprintable():
            raise LabelConfigError(f"{name!r} cannot be a label: it must be printable text")
        if names.count(name) > 1:
            raise LabelConfigError(f"the label {name!r} occurs twice; each must have its own name")


def _image_key(value: str) -> str:
    found = re.search(r"\$([^\s$/&?]+)", value)
    if found is None:
        raise LabelConfigError(
            f'the <Image> of the labeling config has value="{value}"; it must name a key of the '
            'task\'s data, such as value="$image" (lists of images are not supported)'
        )
    return found[1]
