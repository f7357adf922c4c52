"""How an image becomes a mask, and a mask becomes objects."""

from pydantic import Field, model_validator

from ml_backend.recipe.section import Section


class Prediction(Section):
    """How an image becomes a mask."""

    window: int = Field(256, ge=32, multiple_of=32, description="Side of an inference window, px.")
    overlap: int = Field(64, ge=0, description="Overlap of neighbouring windows, px.")
    batch_size: int = Field(8, ge=1, description="Windows a forward pass.")
    views: int = Field(
        1,
        ge=1,
        le=8,
        description="How many flips and turns of each window a prediction is the mean of; 1 for "
        "the window as it is.",
    )
    minimum_area: int = Field(
        0, ge=0, description="Objects of fewer pixels are left out of the predictions people see."
    )
    payload_limit: int = Field(
        10_000_000,
        ge=1000,
        description="Bytes of JSON that one task's predicted regions may take; of a larger "
        "prediction small objects are left out, and all if that is not enough.",
    )
    region_limit: int = Field(
        100,
        ge=1,
        description="Objects that one task may show as regions of their own; of a prediction with "
        "more of them a label is one region.",
    )

    @property
    def key(self) -> str:
        """What label maps are kept under: it changes with whatever changes their pixels."""
        return f"{self.window}-{self.overlap}-{self.views}"

    @property
    def shown_key(self) -> str:
        """The same for the regions that people see."""
        return f"{self.key}-{self.minimum_area}-{self.payload_limit}"

    @model_validator(mode="after")
    def _overlap_fits(self) -> "Prediction":
        if self.overlap >= self.window:
            raise ValueError(f"overlap {self.overlap} must be smaller than window {self.window}")
        return self


class Instances(Section):
    """Objects one by one, also where they touch; takes effect with the next model."""

    enabled: bool = Field(
        False, description="Cut touching objects apart, and show and count each for itself."
    )
    neck: float | None = Field(
        0.75,
        ge=0,
        description="How much narrower than the smaller of two objects, px of radius, the neck "
        "between them is where they are cut; null never cuts.",
    )
    smoothing: float = Field(
        0.5, ge=0, le=50, description="Blur of the distances from the edge, px: ragged edges."
    )
    minimum_area: int = Field(0, ge=0, description="Smaller objects are left out, px.")
    tune: bool = Field(
        True, description="Choose neck and smoothing on the validation images after a training."
    )
