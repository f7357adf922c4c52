"""A labeling config, read and written: its controls that draw on the image, labels and colours.

Pixels are labelled 1..K in the order in which the config lists its labels.
"""

import unicodedata
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from ml_backend.errors import LabelConfigError
from ml_backend.masks.colours import as_hex, colour_of
from ml_backend.masks.config_tags import Tag, parse_tags
from ml_backend.masks.label_config import IGNORE, MAX_LABELS, BrushControl, Label, LabelConfig
from ml_backend.masks.task_image import task_image
from ml_backend.text import shorten

__all__ = [
    "IGNORE",
    "MAX_LABELS",
    "SHAPES",
    "BrushControl",
    "Label",
    "LabelConfig",
    "make_label_config",
    "parse_label_config",
]

# What draws areas; each occurs as a tag beside <Labels> and as one tag with labels of its own.
SHAPES = frozenset({"brush", "magicwand", "bitmask", "polygon", "rectangle", "ellipse"})
_DRAWING = SHAPES | {f"{shape}labels" for shape in SHAPES} | {"labels"}
_UNUSABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters and ends of lines
_INVISIBLE = {"Cf", "Zs"}


def parse_label_config(xml: str) -> LabelConfig:
    """Read a labeling config; its first brush control that labels an image says which image.

    Labels are merged by name from all controls that draw areas on that image. Raises
    LabelConfigError where there is no brush control, or where labels or image are unusable.
    """
    tags = list(parse_tags(xml).iterate())
    images = {tag.get("name"): tag for tag in tags if tag.kind == "image"}
    first, to_name = _first_brush(tags, images)
    drawing = [tag for tag in tags if tag.kind in _DRAWING and to_name in tag.targets]
    if not any(tag.kind in SHAPES for tag in drawing):  # then <Labels> has nothing to label
        drawing = [tag for tag in drawing if tag.kind != "labels"]
    main = BrushControl(first.get("name"), _brush_of(first, drawing))
    labels: dict[str, Label] = {}
    written = dict.fromkeys(_labels(first), main)
    if not written:
        raise LabelConfigError(
            f"the control {main.control!r} of the labeling config has no <Label>; labels that "
            "come from the task's data are not supported"
        )
    for tag in drawing:
        brush = _brush_of(tag, drawing)
        for name, label in _labels(tag).items():
            known = labels.setdefault(name, label)
            labels[name] = Label(
                name, known.colour or label.colour, known.category or label.category
            )
            if tag.kind == "brushlabels" or brush:
                written.setdefault(name, BrushControl(tag.get("name"), brush))
    _check_names(tuple(labels))
    others = dict.fromkeys(tag.get("name") for tag in drawing if tag.get("name") not in main)
    return LabelConfig(
        control=main.control,
        to_name=to_name,
        image=task_image(images[to_name], tags),
        labels=tuple(
            Label(label.name, label.colour or colour_of(index), label.category)
            for index, label in enumerate(labels.values())
        ),
        brush=main.brush,
        others=tuple(others),
        brushes=tuple(written.get(name) for name in labels) if others else (),
        multiple=any(tag.get("choice").lower() == "multiple" for tag in drawing),
        prompts=_prompts(drawing, main),
        elsewhere=tuple(
            dict.fromkeys(
                name
                for tag in tags
                if (name := tag.get("name")) and name != to_name and not tag.get("toname")
            )
        ),
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


def _first_brush(tags: list[Tag], images: dict[str, Tag]) -> tuple[Tag, str]:
    """Return the first control that labels brush regions of an image, and the image's name."""
    brushed = {name for tag in tags if tag.kind == "brush" for name in tag.targets}
    # A brush that prompts an assistant comes last: predictions are written to a plain one.
    for tag in sorted(tags, key=_is_smart):
        target = next((name for name in tag.targets if name in images), None)
        if target and (tag.kind == "brushlabels" or (tag.kind == "labels" and target in brushed)):
            return tag, target
    found = ", ".join(dict.fromkeys(f"<{tag.name}>" for tag in tags)) or "no tags"
    raise LabelConfigError(
        "the labeling config has no brush control for an image: add <BrushLabels> with "
        f'toName="..." naming an <Image>, or <Brush> and <Labels>; found: {shorten(found, 400)}'
    )


def _brush_of(control: Tag, drawing: list[Tag]) -> str | None:
    """Return the name of the Brush tag whose regions a <Labels> control labels."""
    brushes = (tag.get("name") for tag in drawing if tag.kind == "brush")
    return next(brushes, None) if control.kind == "labels" else None


def _is_smart(tag: Tag) -> bool:
    """Whether a control prompts an assistant."""
    return "true" in (tag.get("smart").strip().lower(), tag.get("smartonly").strip().lower())


def _prompts(drawing: list[Tag], main: BrushControl) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Give the controls beside the main one that prompt an assistant, and their labels.

    Only the labels that something else draws as well: what nothing else draws is no question.
    """
    smart = [tag for tag in drawing if _is_smart(tag) and tag.get("name") not in main]
    if not smart:
        return ()
    plain = [tag for tag in drawing if not _is_smart(tag) or tag.get("name") in main]
    has_shape = any(tag.kind in SHAPES for tag in plain)
    # What <Labels> labels is drawn only where a plain shape is beside it.
    drawn = {name for tag in plain if tag.kind != "labels" or has_shape for name in _labels(tag)}
    of_pairs = [name for tag in drawing if tag.kind == "labels" for name in _labels(tag)]
    found = []
    for tag in smart:
        own = of_pairs if tag.kind in SHAPES else list(_labels(tag))
        if both := tuple(name for name in own if name in drawn):
            found.append((tag.get("name"), both))
    return tuple(found)


def _labels(control: Tag) -> dict[str, Label]:
    """Return a control's labels, with the colours that the config gives them, empty for none."""
    labels: dict[str, Label] = {}
    tags = [tag for tag in control.iterate() if tag.kind == "label"]
    for number, tag in enumerate(tags, 1):
        name = tag.get("alias") or tag.get("value")
        if not name:
            raise LabelConfigError(
                f"<{tag.name}> number {number} of {len(tags)} in {control} of the labeling config "
                'has no value: give it one (value="..."), or remove the tag'
            )
        if name in labels:
            raise LabelConfigError(
                f"the label '{shorten(name)}' occurs twice in the control "
                f"{control.get('name')!r}; each must have its own name"
            )
        colour = as_hex(tag.get("background")) or ""
        labels[name] = Label(name, colour, tag.get("category") or None)
    return labels


def _check_names(names: tuple[str, ...]) -> None:
    if not 0 < len(names) <= MAX_LABELS:
        raise LabelConfigError(f"{len(names)} labels; there must be 1 to {MAX_LABELS}")
    for name in names:
        kinds = {unicodedata.category(letter) for letter in name}
        if kinds <= _INVISIBLE or kinds & _UNUSABLE or not set(name).isdisjoint("\ufffe\uffff"):
            raise LabelConfigError(
                f"'{shorten(name)}' cannot be a label: it must be printable text on one line"
            )
        if names.count(name) > 1:
            raise LabelConfigError(
                f"the label '{shorten(name)}' occurs twice; each must have its own name"
            )
