"""A brush control for labeling configs that have none, with the labels that are there."""

import html
from dataclasses import dataclass
from itertools import count

from ml_backend.errors import LabelConfigError
from ml_backend.masks.config_tags import Tag, parse_tags
from ml_backend.text import shorten

_REGIONS = tuple(
    f"{shape}labels"
    for shape in ("rectangle", "polygon", "ellipse", "keypoint", "vector", "bitmask", "magicwand")
)
_CHOICES = ("choices", "taxonomy", "pairwise", "rating")
_OPTIONS = {"label", "choice"}
_KEPT = ("value", "alias", "background", "category")
DEFAULT_LABEL = "Object"


@dataclass(frozen=True)
class BrushAddition:
    """A labeling config with a brush, and what that changed, a line each; none if it had one."""

    xml: str
    changes: tuple[str, ...] = ()


def add_brush(xml: str, labels: tuple[str, ...] = ()) -> BrushAddition:
    """Give a labeling config a brush for its image, and leave all that is there as it is.

    `<Labels>` of the image get a `<Brush>`. Else a `<BrushLabels>` gets the labels of the controls
    that draw on the image, or, where none has any, the options of its choices. Where the config
    has neither it gets `labels`, by default one label, "Object". Raises LabelConfigError for a
    config that is no XML or has no image.
    """
    tags = list(parse_tags(xml).iterate())
    images = {tag.get("name"): tag for tag in tags if tag.kind == "image" and tag.get("name")}
    if not images:
        raise LabelConfigError(
            "the labeling config has no <Image> with a name, so there is nothing to paint on: "
            "choose a template with images in Label Studio (Settings, Labeling Interface)"
        )
    controls = [tag for tag in tags if not set(tag.targets).isdisjoint(images)]
    if any(tag.kind in ("brush", "brushlabels") for tag in controls):
        return BrushAddition(xml)
    image, sources = _sources(images, controls)
    name = _free_name(tags)
    pairs = [tag for tag in sources if tag.kind == "labels"]
    if pairs and not labels:
        new = f"<Brush {_attributes({'name': name, 'toName': image})}/>"
        what = f"{new}: the labels of {pairs[0]} can be painted"
        return BrushAddition(_insert(xml, pairs[0], [new]), (what,))
    options = {text: {"value": text} for text in labels} or _options(sources)
    change = f"<BrushLabels {_attributes({'name': name, 'toName': image})}>"
    said = [f"{change}: {', '.join(map(shorten, options))}"]
    if not options:
        options = {DEFAULT_LABEL: {"value": DEFAULT_LABEL}}
        said = [f'{change}: the config names no labels, so there is one, "{DEFAULT_LABEL}"']
    lines = [change]
    lines += [f"  <Label {_attributes(option)}/>" for option in options.values()]
    lines += ["</BrushLabels>"]
    place = sources[-1] if sources else images[image]
    return BrushAddition(_insert(xml, place, lines), tuple(said))


def _sources(images: dict[str, Tag], controls: list[Tag]) -> tuple[str, list[Tag]]:
    """Return the image to be painted on, and the controls that have the labels for it."""
    for kinds in (("labels",), _REGIONS, _CHOICES):
        found = [tag for tag in controls if tag.kind in kinds]
        if kinds == ("labels",):
            found = [tag for tag in found if _options([tag])]
        if found:
            image = next(name for name in found[0].targets if name in images)
            return image, [tag for tag in found if image in tag.targets]
    targets = [name for tag in controls for name in tag.targets if name in images]
    return next(iter([*targets, *images])), []


def _options(controls: list[Tag]) -> dict[str, dict[str, str]]:
    """Return the labels or choices of controls by name, of a tree of choices its ends."""
    options: dict[str, dict[str, str]] = {}
    for tag in (tag for control in controls for tag in control.iterate()):
        is_end = tag.kind in _OPTIONS and not any(sub.kind in _OPTIONS for sub in tag.children)
        name = tag.get("alias") or tag.get("value")
        if is_end and name and not name.startswith("$"):
            options.setdefault(name, {key: tag.get(key) for key in _KEPT if tag.get(key)})
    return options


def _free_name(tags: list[Tag]) -> str:
    taken = {tag.get("name") for tag in tags}
    names = ("brush" if number == 1 else f"brush{number}" for number in count(1))
    return next(name for name in names if name not in taken)


def _attributes(values: dict[str, str]) -> str:
    return " ".join(f'{key}="{html.escape(text, quote=True)}"' for key, text in values.items())


def _insert(xml: str, after: Tag, lines: list[str]) -> str:
    """Write lines behind a tag, indented as it is."""
    text = xml.encode()
    before = text[: after.start].rpartition(b"\n")[2]
    indent = before if not before.strip() else b""
    new = b"".join(b"\n" + indent + line.encode() for line in lines)
    return (text[: after.end] + new + text[after.end :]).decode()
