"""What every section of a recipe is: frozen, and strict about its keys."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One group of keys; unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")
