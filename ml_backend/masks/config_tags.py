"""The tags of a labeling config, with their places in its text.

Label Studio's configs are XML whose tag and attribute names it reads without regard to case.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from ml_backend.errors import LabelConfigError

_EMPTY = re.compile(rb"""<[^\s/>]+(?:[^>"']|"[^"]*"|'[^']*')*/>""")


@dataclass
class Tag:
    """One element; `start` and `end` are offsets into the UTF-8 bytes of the config.

    Attributes go by their names in lower case, and `kind` is the tag's name in lower case. `end`
    is where the element is over.
    """

    name: str
    attributes: dict[str, str]
    start: int
    end: int = -1
    children: list["Tag"] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The tag's name in lower case."""
        return self.name.lower()

    def get(self, attribute: str) -> str:
        """Return an attribute by its name in lower case; empty where there is none."""
        return self.attributes.get(attribute, "")

    @property
    def targets(self) -> list[str]:
        """The names of what this control labels."""
        return [name.strip() for name in self.get("toname").split(",")]

    def __str__(self) -> str:
        name = self.get("name")
        return f'<{self.name} name="{name}">' if name else f"<{self.name}>"

    def iterate(self) -> Iterator["Tag"]:
        """Yield this tag and all below it, in the order of the text."""
        waiting = [self]
        while waiting:
            tag = waiting.pop()
            yield tag
            waiting += reversed(tag.children)


def parse_tags(xml: str) -> Tag:
    """Read a labeling config and return its outermost tag.

    CDATA is text, which no tag needs. Raises LabelConfigError for what is not XML, and for a
    document type: its entities are how XML blows up, and Label Studio refuses it as well.
    """
    reader = _Reader()
    try:
        reader.read(xml.encode())
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise LabelConfigError(f"the labeling config is not XML: {error}") from error
    return reader.root


class _Reader:
    def __init__(self) -> None:
        self.parser = expat.ParserCreate("utf-8")  # the text is no longer in what it declares
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse
        self._open: list[Tag] = []
        self._text = b""
        self.root = Tag("", {}, 0)

    def read(self, text: bytes) -> None:
        self._text = text
        self.parser.Parse(text, True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        lower = {key.lower(): value for key, value in attributes.items()}
        tag = Tag(name, lower, self.parser.CurrentByteIndex)
        if self._open:
            self._open[-1].children.append(tag)
        else:
            self.root = tag
        self._open.append(tag)

    def _end(self, _name: str) -> None:
        tag, here = self._open.pop(), self.parser.CurrentByteIndex
        # Of <a/> expat tells the place behind it, of <a></a> that of the closing tag.
        is_empty = _EMPTY.fullmatch(self._text, tag.start, here)
        tag.end = here if is_empty else self._text.index(b">", here) + 1

    @staticmethod
    def _refuse(*_: object) -> None:
        raise LabelConfigError("the labeling config has a document type; remove it")
