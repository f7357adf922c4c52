"""What tuning may change: recipe keys and the values that they may take.

A key's values are written as `4,8,16` (one of these), `1e-4..1e-2:log` (between these, evenly in
the logarithm) or `0.1..0.5`; whole bounds such as `2..6` mean whole numbers.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from ml_backend.errors import ConfigError
from ml_backend.recipe import Recipe, parse_recipe

Value = str | int | float | bool | None
TUNABLE = ("network", "training")
"""The recipe's sections that decide how well a network learns."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True)
class Choices:
    """One of these."""

    values: tuple[Value, ...]


Space = dict[str, Range | Choices]


def parse_space(over: Mapping[str, str], recipe: Recipe) -> Space:
    """Read recipe key → values. Raises `ConfigError` that names the key and what is wrong."""
    if not over:
        raise ConfigError("nothing to tune: name keys with --over or in the recipe's tuning.over")
    known = keys_of(recipe)
    space: Space = {}
    for key, text in over.items():
        if key not in known:
            raise ConfigError(f"--over {key}: no such key; choose from: {', '.join(known)}")
        space[key] = _parse(key, text)
    return space


def keys_of(recipe: Recipe) -> dict[str, Value]:
    """The keys that may be tuned, with the recipe's values."""
    sections: dict[str, BaseModel] = {name: getattr(recipe, name) for name in TUNABLE}
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section}


def with_values(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """The recipe with other values. Raises `ConfigError` for those it does not allow."""
    data = recipe.model_dump()
    for path, value in values.items():
        section, key = path.split(".")
        data[section][key] = value
    return parse_recipe(data)


def combinations(space: Space) -> Iterator[dict[str, Value]]:
    """Every combination of a grid. Raises `ConfigError` for ranges, which have no end."""
    for key, values in space.items():
        if isinstance(values, Range):
            raise ConfigError(f"--over {key}: a grid needs a list of values, such as 1e-4,1e-3")
    lists = [values.values for values in space.values() if isinstance(values, Choices)]
    for row in itertools.product(*lists):
        yield dict(zip(space, row, strict=True))


def contains(space: Space, values: Mapping[str, Value]) -> bool:
    """Whether the space holds these values of its keys."""
    return all(_holds(allowed, values[key]) for key, allowed in space.items())


def _holds(allowed: Range | Choices, value: Value) -> bool:
    if isinstance(allowed, Choices):
        return value in allowed.values
    return isinstance(value, int | float) and allowed.low <= value <= allowed.high


def _parse(key: str, text: str) -> Range | Choices:
    if ".." not in text:
        values = [_scalar(part.strip()) for part in text.split(",")]
        if "" in values or len(set(values)) < len(values):
            raise ConfigError(f"--over {key}={text}: a value is missing or said twice")
        return Choices(tuple(values))
    bounds, _, scale = text.partition(":")
    low, high = (_scalar(part.strip()) for part in bounds.split("..", 1))
    whole = isinstance(low, int) and isinstance(high, int)
    if not isinstance(low, int | float) or not isinstance(high, int | float) or low >= high:
        raise ConfigError(f"--over {key}={text}: give two numbers, the smaller one first")
    if scale not in {"", "log"} or (scale == "log" and low <= 0):
        raise ConfigError(f"--over {key}={text}: after the bounds only :log, and those above 0")
    return Range(low, high, log=scale == "log", whole=whole)


def _scalar(text: str) -> Value:
    named: dict[str, Value] = {"true": True, "false": False, "null": None}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
