"""What a command took of what it was given, and what it did not: counted, and the first named.

One type for every command that reads files of people, so that nothing is left out without a word:
exact, or refused, or told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["taken", "paired", "chosen", "passed_over", "unpaired", "set_aside", "warnings"]
"""What became of a file.

`taken`: it is used. `paired`: an image has a mask; the detail says how they were matched.
`chosen`: a part of the file is used, or its numbers are scaled; the detail says which page,
channels, range. `passed_over`: it is no image that is read; the detail says why (its ending, a
dangling link). `unpaired`: an image without a mask or a mask without an image. `set_aside`: it
should have been used and cannot be; the detail is the reason. `warnings`: it is used, and
something about it is doubtful.
"""

KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_NAMES = 5
_HEADS: Mapping[Kind, str] = {
    "taken": "taken",
    "paired": "paired",
    "chosen": "chosen",
    "passed_over": "passed over",
    "unpaired": "unpaired",
    "set_aside": "set aside",
    "warnings": "warning",
}


@dataclass
class Group:
    """Files of which the same is to be said: how many, and the names of the first few."""

    detail: str
    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count a file; an empty name is counted and not listed."""
        self.count += 1
        if name and len(self.names) < MOST_NAMES:
            self.names.append(name)

    def __str__(self) -> str:
        more = self.count - len(self.names)
        names = ", ".join(self.names) + (f" and {more} more" if more and self.names else "")
        return ": ".join(part for part in (f"{self.count}", self.detail, names) if part)


@dataclass
class Summary:
    """Groups of files by what became of them, in the order in which they were noted."""

    _groups: dict[Kind, dict[str, Group]] = field(default_factory=dict)

    def add(self, kind: Kind, name: str = "", detail: str = "") -> None:
        """Note what became of a file; `detail` says how or why, and groups files."""
        self._group(kind, detail).add(name)

    def update(self, other: "Summary") -> None:
        """Add all that another summary holds."""
        for kind in KINDS:
            for group in other.groups(kind):
                mine = self._group(kind, group.detail)
                mine.names += group.names[: MOST_NAMES - len(mine.names)]
                mine.count += group.count

    def groups(self, kind: Kind) -> list[Group]:
        """The groups of a kind."""
        return list(self._groups.get(kind, {}).values())

    def count(self, kind: Kind) -> int:
        """Count the files of a kind."""
        return sum(group.count for group in self.groups(kind))

    def lines(self, kinds: Sequence[Kind] = KINDS) -> Iterator[str]:
        """Say for people what there is of these kinds, a line a group."""
        for kind in kinds:
            for group in self.groups(kind):
                yield f"{_HEADS[kind]} {group}"

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """Give `{kind: [{detail, count, names}]}`, every kind present."""
        return {
            kind: [
                {"detail": group.detail, "count": group.count, "names": list(group.names)}
                for group in self.groups(kind)
            ]
            for kind in KINDS
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "Summary":
        """Read what `as_json` gave."""
        summary = cls()
        for kind in KINDS:
            for row in data.get(kind, ()):
                group = summary._group(kind, row["detail"])
                group.count, group.names = row["count"], list(row["names"])
        return summary

    def _group(self, kind: Kind, detail: str) -> Group:
        return self._groups.setdefault(kind, {}).setdefault(detail, Group(detail))
