"""The image of a task: how the labeling config finds it in the task's data, and how it gets there.

Two programs read the value of an `<Image>`. Label Studio's page puts the task's data in place of
every `$variable`, whose letters are a-z, digits and _ and which may be a path (`$image.url`,
`$images[0]`). Its server asks each imported task for the keys that it finds in the values, by
rules of its own. Data that are written here satisfy both.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from ml_backend.errors import LabelConfigError
from ml_backend.masks.config_tags import Tag
from ml_backend.text import shorten

_VARIABLE = re.compile(r"\$[A-Za-z0-9_\[\].{}]+")  # what the page puts data in place of
_WORD = re.compile(r"\$(\w+)")  # what the server finds in text
_UNDEFINED = "$undefined$"  # the key of data that were imported without one
_LISTS = frozenset(
    {"Choices", "PolygonLabels", "Labels", "BrushLabels", "EllipseLabels", "HyperTextLabels",
     "KeyPointLabels", "ParagraphLabels", "RectangleLabels", "TimeSeriesLabels", "Taxonomy",
     "Ranker", "List", "Paragraphs", "Chat"}
)  # fmt: skip
_OBJECTS = frozenset({"Table", "TimeSeries", "TimeSeriesChannel"})
_TEXTS = frozenset({"Text", "Header"})
_MISSING = object()
_MOST_VARIABLES = 3


@dataclass(frozen=True)
class DataKey:
    """A key that Label Studio's server wants in the data of every task.

    `path`: the key, or the steps to it in nested data. `kind` is the tag that wants it, such as
    Text, and `many` whether its value must be a list.
    """

    path: tuple[str, ...]
    kind: str
    many: bool = False

    @property
    def name(self) -> str:
        """The key as a config spells it."""
        return ".".join(self.path)

    def accepts(self, value: object) -> bool:
        """Whether the server takes this value."""
        if self.many:
            return isinstance(value, list)
        if self.kind in _TEXTS:
            return isinstance(value, str | int | float) or (
                self.kind == "Text" and isinstance(value, list)
            )
        if self.kind in _OBJECTS:
            return isinstance(value, dict | list | str)
        if self.kind == "Taxonomy" and value is None:
            return True
        if self.kind == "Image" or self.kind in _LISTS:
            return isinstance(value, str | list)
        return isinstance(value, str)

    def filler(self, address: str) -> Any:
        """Return what stands there in a task that has nothing to say: no text, the same image."""
        if self.kind.lower() == "image":
            return [address] if self.many else address
        if self.many or self.kind in _LISTS:
            return []
        return {} if self.kind in _OBJECTS else ""


@dataclass(frozen=True)
class TaskImage:
    """Where the labeling config has the image of a task.

    `template` is the value of the tag (`$image`), or its `valueList` where it shows a list of
    images, `many`; of a list the first image counts. `keys` are those that Label Studio's server
    wants in the data of a task.
    """

    tag: str = "<Image>"
    template: str = "$image"
    many: bool = False
    keys: tuple[DataKey, ...] = (DataKey(("image",), "Image"),)

    def read(self, data: Mapping[str, Any]) -> str:
        """Return the address of the image in a task's data; empty where they have none."""
        value = self._resolve(data)
        if isinstance(value, list):
            value = value[0] if value else ""
        return value.strip() if isinstance(value, str) else ""

    def write(
        self,
        address: str,
        given: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the data of a task whose image has this address.

        The config finds the address in them, and Label Studio's server all keys that it wants: a
        key that is not the image's is empty, or shows the same image where it is one.

        Args:
            address: what the task is to show, such as `/data/upload/3/scan.png`.
            given: data that must stand in the task as they are.
            texts: what other keys are to say, by their names in the config.

        Raises:
            LabelConfigError: No data can do that; names the tag and the way out.
        """
        shares = dict(zip(self._variables(), self._shares(address), strict=True))
        for put in (_put_nested, _put_whole):
            data = deepcopy(dict(given or {}))
            try:
                for key, text in (texts or {}).items():
                    _put_nested(data, key, text)
                for place, share in shares.items():
                    put(data, place, share)
                self._fill(data, address)
            except _Taken as error:
                problem = str(error)
                continue
            problem = self._problem(data, address)
            if not problem:
                return data
        raise LabelConfigError(self._refusal(problem))

    def is_own(self, key: DataKey) -> bool:
        """Whether a key is the image's own."""
        return any(key.path[0] in (name, _steps(name)[0]) for name in self._variables())

    def _resolve(self, data: Mapping[str, Any]) -> Any:
        plain = self.template.removeprefix("$")
        if plain != self.template and plain in data:
            return data[plain]
        found = self._shown(data)
        if found in (None, "") and len({key.name for key in self.keys}) <= 1:
            return data.get(_UNDEFINED)
        return found

    def _shown(self, data: Mapping[str, Any]) -> Any:
        """Return what Label Studio's page shows; None where a variable has no value."""
        if _VARIABLE.fullmatch(self.template):
            return _look_up(data, self.template[1:])
        values = {name: _look_up(data, name) for name in self._variables()}
        if not values or any(value is None for value in values.values()):
            return None
        return _VARIABLE.sub(lambda found: str(values[found[0][1:]]), self.template)

    def _variables(self) -> list[str]:
        return [name[1:] for name in _VARIABLE.findall(self.template)]

    def _shares(self, address: str) -> list[Any]:
        """Return what each variable must be for the address to come out."""
        parts = _VARIABLE.split(self.template.strip())
        if not 1 < len(parts) <= _MOST_VARIABLES + 1:
            raise LabelConfigError(
                self._refusal("it must name one key of the task's data, or few, with a $ before it")
            )
        if self.many:
            return [[address]] * (len(parts) - 1)
        form = "(.*?)".join(map(re.escape, parts))
        found = re.fullmatch(form, address, re.DOTALL)
        if found is None:
            raise LabelConfigError(
                self._refusal(
                    f"the page puts data in place of {', '.join(_VARIABLE.findall(self.template))}"
                    f" there, so it would not show the address {shorten(address)}, unless "
                    "pool.reference in the recipe makes all addresses be of that form"
                )
            )
        return list(found.groups())

    def _fill(self, data: dict[str, Any], address: str) -> None:
        for key in self.keys:
            if _descend(data, key.path) is _MISSING:
                _put(data, list(key.path), key.filler(address))

    def _problem(self, data: Mapping[str, Any], address: str) -> str:
        for key in self.keys:
            if not key.accepts(_descend(data, key.path)):
                return (
                    f"Label Studio wants {key.name!r} in the data of every task, for "
                    f"<{key.kind}>, and does not take what can be written there"
                )
        shown = self._shown(data)
        shown = shown[0] if isinstance(shown, list) and shown else shown
        if not isinstance(shown, str) or shown.strip() != address:
            return "the page of Label Studio would not find the image (it reads a-z, 0-9, _ and .)"
        return ""

    def _refusal(self, problem: str) -> str:
        attribute = "valueList" if self.many else "value"
        return (
            f"{self.tag} of the labeling config has {attribute}="
            f'"{shorten(self.template)}": {problem}; write {attribute}="$image" in Label Studio '
            "(Settings, Labeling Interface)"
        )


def task_image(image: Tag, tags: list[Tag]) -> TaskImage:
    """Read from a config's tags where the data of its tasks have this image.

    Raises LabelConfigError for a value without a variable, and for one that is repeated.
    """
    many = bool(image.get("valuelist"))
    template = image.get("valuelist") if many else image.get("value")
    found = TaskImage(str(image), template, many, _keys(tags))
    if "{" in template:
        raise LabelConfigError(
            f'{image} of the labeling config has value="{shorten(template)}": images inside '
            "<Repeater> are not supported; use one <Image> a task"
        )
    if "$" not in template:
        raise LabelConfigError(
            f'{image} of the labeling config has value="{shorten(template)}"; it must name a key '
            'of the task\'s data, such as value="$image"'
        )
    return found


def _keys(tags: list[Tag]) -> tuple[DataKey, ...]:
    """Find the keys that Label Studio's server wants, as its `extract_data_types` does."""
    keys: dict[str, str] = {}
    lists: dict[str, DataKey] = {}
    for tag in tags[1:]:
        value, several = tag.get("value"), tag.get("valuelist")
        if tag.get("name") and len(value) > 1 and value[0] == "$":
            keys[value[1:]] = tag.name
        elif tag.get("name") and (found := _WORD.search(value)):
            keys[found[1]] = tag.name
        elif tag.get("name") and _VARIABLE.fullmatch(several) and "[" not in several:
            lists[several] = DataKey(tuple(several[1:].split(".")), tag.name, many=True)
    wanted = {name: _data_key(name, kind) for name, kind in keys.items()}
    return (*wanted.values(), *lists.values())


def _data_key(name: str, kind: str) -> DataKey:
    head, bracket, _ = name.partition("[")
    return DataKey(tuple(head.split(".")), kind, many=bool(bracket))


class _Taken(Exception):
    """A place in the data holds something else already."""


def _look_up(data: Mapping[str, Any], path: str) -> Any:
    """Return what the page finds under a variable: a key of that name, else the path's end."""
    if path in data:
        return data[path]
    found = _descend(data, _steps(path))
    return None if found is _MISSING else found


def _descend(data: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(data, Mapping) and step in data:
            data = data[step]
        elif isinstance(data, list) and step.isdecimal() and int(step[:6]) < len(data):
            data = data[int(step[:6])]
        else:
            return _MISSING
    return data


def _steps(path: str) -> list[str]:
    return [step for step in re.split(r"[.\[\]]+", path) if step]


def _put_whole(data: dict[str, Any], path: str, value: Any) -> None:
    """Write a value under the path as one key, which the page finds first."""
    _put(data, [path], value)


def _put_nested(data: dict[str, Any], path: str, value: Any) -> None:
    """Write a value where a path leads, through lists where it counts."""
    steps = _steps(path)
    numbers = {found[1] for found in re.finditer(r"\[(\d{1,4})\]", path)}
    _put(data, steps, value, numbers)


def _put(data: dict[str, Any], steps: list[str], value: Any, numbers: Collection[str] = ()) -> None:
    place: Any = data
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        new = value if after is None else [] if after in numbers else {}
        if isinstance(place, list) and step.isdecimal():
            place += [""] * (int(step) + 1 - len(place))
            if after is None or place[int(step)] == "":
                place[int(step)] = new
            place = place[int(step)]
        elif isinstance(place, dict):
            if after is None and place.get(step, value) != value:
                raise _Taken(f"the key {step!r} is taken: Brushloop writes it into every task")
            place = place.setdefault(step, new)
        else:
            raise _Taken(f"the data have no place for {step!r}")
