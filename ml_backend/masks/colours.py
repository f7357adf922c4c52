"""The colours of labels."""

import re

from PIL import ImageColor

# Okabe and Ito (2008): eight colours that colour-blind people tell apart, then darker ones.
PALETTE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999",
    "#8a5f00", "#2a6f98", "#00523c", "#8f8700", "#003f63", "#7f3800", "#7d4163", "#4d4d4d",
)  # fmt: skip


def colour_of(index: int) -> str:
    """The palette's colour of the label of this index, from 0, as #rrggbb."""
    return PALETTE[index % len(PALETTE)]


def as_hex(colour: str) -> str | None:
    """Write a CSS colour as #rrggbb; None for what is none, such as an empty attribute."""
    opaque = re.sub(r"^rgba\((.*),.*\)$", r"rgb(\1)", colour.strip())
    try:
        red, green, blue = ImageColor.getrgb(opaque)[:3]
    except ValueError:
        return None
    return f"#{red:02x}{green:02x}{blue:02x}"
