"""Settings that change with the rounds: from which on, by how much a round, how far at most."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field


class Step(BaseModel):
    """How one numeric setting grows, or shrinks, with the rounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_round: int = Field(alias="from", ge=1, description="The first round that differs.")
    step: float = Field(description="What each round adds; less than 0 to shrink.")
    most: float | None = Field(None, description="Where growing ends.")
    least: float | None = Field(None, description="Where shrinking ends.")

    def value(self, base: float, number: int, unit: float | None) -> float:
        """What `base` has become in round `number`, rounded towards it to whole `unit`s."""
        wanted = base + self.step * max(number - self.from_round + 1, 0)
        if self.most is not None:
            wanted = min(wanted, max(self.most, base))
        if self.least is not None:
            wanted = max(wanted, min(self.least, base))
        return wanted if unit is None else base + int((wanted - base) / unit) * unit


def numbers(section: type[BaseModel]) -> dict[str, bool]:
    """The fields that are numbers, and whether whole ones."""
    kinds = {name: field.annotation for name, field in section.model_fields.items()}
    return {name: kind is int for name, kind in kinds.items() if kind in (int, float)}


def stepped(
    section: BaseModel, steps: Mapping[str, Step], number: int, units: Mapping[str, int]
) -> dict[str, float]:
    """The values that fields of `section` have in round `number`; whole numbers stay whole.

    `units`: of which number a field's change must be a multiple.
    """
    whole = {
        name: units.get(name, 1) for name, is_whole in numbers(type(section)).items() if is_whole
    }
    return {
        name: step.value(getattr(section, name), number, whole.get(name))
        for name, step in steps.items()
    }
