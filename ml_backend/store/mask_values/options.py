"""What a person says of a mask's values (`--mask-values`) → which pixel has which label."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ml_backend.errors import ConfigError

IGNORE = 255
REST = "*"


@dataclass(frozen=True)
class Band:
    """Numbers from `first` to `last`, decimals among them."""

    first: float
    last: float


Code = range | tuple[int, int, int] | Band | str
Values = Mapping[Code, int]
"""Greys (a range or a band), an RGB colour, the name of a region in a document, or `*` for all that
is not named → label, 1…K, 0 background, 255 ignore."""

_NUMBER = r"-?\d+(?:\.\d+)?"
_BAND = re.compile(rf"^({_NUMBER})(?:\s*-\s*({_NUMBER}))?$")
_COLOUR = re.compile(r"^#([0-9a-f]{6})$", re.IGNORECASE)
_LABEL = re.compile(r"^(\d+|ignore)$", re.IGNORECASE)
_EXAMPLES = "0=1,255=0 or 64-191=1,192-255=2 or #0000ff=1 or cell=1,*=0"


def parse_values(text: str) -> dict[Code, int]:
    """Read `CODE=LABEL,…`.

    CODE is a grey `7`, a band `64-191`, a colour `#0000ff`, the name of a category or region in a
    document, or `*` for all that is not named. LABEL is a number (0 background, 1 the first label,
    …) or `ignore`. Raises `ConfigError`.
    """
    rules: dict[Code, int] = {}
    for part in filter(None, (piece.strip() for piece in re.split("[,;]", text))):
        written, _, label = (piece.strip() for piece in part.rpartition("="))
        if not written or not _LABEL.match(label):
            raise ConfigError(
                f"mask values {text!r}: {part!r} is not CODE=LABEL; write for example {_EXAMPLES}"
            )
        code = _code(written)
        number = IGNORE if label.lower() == "ignore" else int(label)
        if code is None or number > IGNORE or code in rules:
            raise ConfigError(f"mask values {text!r}: {part!r} is empty, too large or said twice")
        rules[code] = number
    if not rules:
        raise ConfigError(f"mask values are empty; write for example {_EXAMPLES}")
    return rules


def _code(text: str) -> Code | None:
    """One code; None for a band without numbers and a colour that is none."""
    colour = _COLOUR.match(text)
    if colour:
        red, green, blue = bytes.fromhex(colour[1])
        return (red, green, blue)
    band = _BAND.match(text)
    if not band:
        return None if text.startswith("#") else text
    first, last = band[1], band[2] or band[1]
    if "." in first + last:
        return Band(float(first), float(last)) if float(first) <= float(last) else None
    return range(int(first), int(last) + 1) or None


def check_labels(values: Values, labels: int) -> None:
    """Raise `ConfigError` for a label that there is not."""
    for label in values.values():
        if label > labels and label != IGNORE:
            raise ConfigError(f"mask values name label {label}, but there are only {labels}")
