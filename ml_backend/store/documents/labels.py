"""The names that documents give to regions → what becomes of their pixels."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from ml_backend.errors import RegionError
from ml_backend.masks.labels import IGNORE
from ml_backend.store.mask_values.options import REST, Values, check_labels

LEFT_OUT = -1
"""Of regions that a person says are nothing: background where no other region lies."""

_CONVENTIONS = {"__ignore__": IGNORE, "_background_": 0}  # LabelMe's own


@dataclass(frozen=True)
class LabelNames:
    """Labels of a project, and what becomes of each: see `MaskDocument.read`."""

    labels: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    given: Values | None = None
    only_numbers: bool = False

    def values(self, names: Iterable[str]) -> dict[str, int]:
        """What the pixels of each name become: 1…K, 0 (background), 255 or `LEFT_OUT`.

        Raises `RegionError` that lists the names which are no label.
        """
        numbers = {name: self._number(name) for name in names}
        strange = [name for name, number in numbers.items() if number is None]
        if strange and self.only_numbers:
            raise RegionError(
                f"it numbers objects without saying which of the labels "
                f"{', '.join(map(repr, self.labels))} they are; say it: --mask-values "
                "'1-2147483647=1' for the first label"
            )
        if strange:
            shown = ", ".join(map(repr, strange[:5])) + (" …" if strange[5:] else "")
            example = "NAME" if set("=,;#") & set(strange[0]) else strange[0]
            raise RegionError(
                f"{shown} {'are' if strange[1:] else 'is'} none of the labels "
                f"{', '.join(map(repr, self.labels))}; say what it stands for: --mask-values "
                f"'{example}=1' for the first label, '{example}=0' to leave it out"
            )
        return {name: self._value(number) for name, number in numbers.items() if number is not None}

    def _number(self, name: str) -> int | None:
        """1… as `labels` count, 0, 255; None for a name that is no label."""
        given = self.given or {}
        check_labels(given, len(self.labels))
        number = int(name) if name.isdecimal() else -1
        said = [given[code] for code in given
                if name == code or (isinstance(code, range) and number in code)]  # fmt: skip
        plain = [_plain(label) for label in self.labels]
        if said:
            found: int | None = said[-1]
        elif self.only_numbers:
            found = given.get(REST, 1 if len(self.labels) == 1 else None)
        elif name in self.labels:
            found = self.labels.index(name) + 1
        elif plain.count(_plain(name)) == 1:
            found = plain.index(_plain(name)) + 1
        else:
            found = _CONVENTIONS.get(name, given.get(REST))
        return found

    def _value(self, number: int) -> int:
        if number in {0, IGNORE}:
            return number or LEFT_OUT
        label = self.labels[number - 1]
        if label in self.background:
            return 0
        if label in self.unknown:
            return IGNORE
        aside = {*self.background, *self.unknown}
        return sum(name not in aside for name in self.labels[:number])


def _plain(name: str) -> str:
    """A name without case, and however its accents are encoded."""
    return unicodedata.normalize("NFC", name).strip().casefold()
