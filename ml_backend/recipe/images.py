"""What of an image file is used, and how its numbers become greys."""

import math
import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ml_backend.recipe.section import Section

Projection = Literal["max", "mean"]
Share = Literal["page", "file", "pool"]


class Images(Section):
    """Which numbers of a file make a picture, and which of them is black and which white."""

    channels: tuple[int, ...] | None = Field(
        None,
        description="Channels by number from 1: one is shown in grey, several as a composite in "
        "the order red, green, blue, grey, cyan, magenta, yellow; null is all, as a viewer shows "
        "them.",
    )
    plane: int | Literal["middle"] | None = Field(
        None,
        description="Of a file with several planes only this one, by number from 1, or middle; "
        "null makes each plane a page.",
    )
    projection: Projection | None = Field(
        None, description="Planes become one picture by their max or mean; null keeps them apart."
    )
    range: Share | tuple[float, float] = Field(
        "file",
        description="Which numbers are black and white: found for each page, each file or the "
        "whole pool, or given, such as [0, 4095].",
    )
    percentiles: tuple[float, float] | None = Field(
        None,
        description="Percentiles that become black and white, such as [0.1, 99.9]; null finds "
        "the range by the rule of docs/files.md.",
    )
    nodata: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Number that means no data, beside nan and what the file itself says.",
    )

    @field_validator("channels")
    @classmethod
    def _channels_exist(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not (
            1 <= len(value) <= 7 and min(value) >= 1 and len(set(value)) == len(value)
        ):
            raise ValueError("give one to seven different channels, counted from 1")
        return value

    @field_validator("plane")
    @classmethod
    def _plane_exists(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and value < 1:
            raise ValueError("planes are counted from 1")
        return value

    @field_validator("range")
    @classmethod
    def _low_below_high(cls, value: object) -> object:
        if isinstance(value, tuple):
            _check_pair(value, -math.inf, math.inf)
        return value

    @field_validator("percentiles")
    @classmethod
    def _percentiles_in_order(cls, value: tuple[float, float] | None) -> object:
        if value is not None:
            _check_pair(value, 0, 100)
        return value

    @model_validator(mode="after")
    def _one_way_through_planes(self) -> "Images":
        if self.plane is not None and self.projection is not None:
            raise ValueError("give a plane or a projection, not both")
        if isinstance(self.range, tuple) and self.percentiles is not None:
            raise ValueError("give a range in numbers or percentiles, not both")
        return self


def _check_pair(pair: tuple[float, float], least: float, most: float) -> None:
    low, high = pair
    if not (math.isfinite(low) and math.isfinite(high) and least <= low < high <= most):
        raise ValueError("give two numbers, the lower one first")


def read_pages(rule: object) -> str:
    """Check a rule of pages: each, first, or numbers and ranges such as `3-20` or `1,4-6,9-`.

    Raises `ValueError`.
    """
    text = str(rule).replace(" ", "")
    if text in {"each", "first"}:
        return text
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(-([0-9]+)?)?", part)
        if match is None or int(match[1]) < 1 or (match[3] and int(match[3]) < int(match[1])):
            raise ValueError("pages are each, first, or numbers from 1 such as 3-20 or 1,4-6")
    return text


def choose_pages(rule: str, count: int) -> list[int]:
    """Which of `count` pages a rule means, counted from 0, in order; a single page always is."""
    if rule == "each" or count == 1:
        return list(range(count))
    if rule == "first":
        return [0]
    chosen: set[int] = set()
    for part in rule.split(","):
        first, dash, last = part.partition("-")
        end = int(last) if last else count if dash else int(first)
        chosen.update(range(int(first) - 1, min(end, count)))
    return sorted(page for page in chosen if page < count)
