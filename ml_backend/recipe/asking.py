"""How uncertain the model is, and what is asked next."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ml_backend.recipe.section import Section

_ROW = 2
"""Another number whenever a row of scores has other entries, so that pools are scored again."""
_COMPARING = frozenset({"bald", "jsd", "variance"})
"""Scores that say how far passes differ."""


class Scoring(Section):
    """How uncertain the model is about an image."""

    passes: Literal["tta", "mc_dropout", "ensemble", "single"] = Field(
        "single",
        description="Where the passes come from: one plain pass, tta, mc_dropout or ensemble.",
    )
    views: int = Field(4, ge=2, le=8, description="How many test-time views of an image.")
    samples: int = Field(10, ge=2, description="How many passes of mc_dropout.")
    members: int = Field(
        4, ge=2, le=32, description="How many models an ensemble has, the one that serves included."
    )
    member_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Which share of training.steps each of the others is trained for.",
    )
    score: str = Field("entropy", description="Name of the uncertainty score.")
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        {}, description="Label or background → its weight in weighted_entropy; others weigh 1."
    )
    reduction: str = Field("mean", description="Pixels → one number: mean, foreground or top.")
    top_share: float = Field(
        0.1, gt=0, le=1, description="Share of the pixels that the reduction top looks at."
    )

    @model_validator(mode="after")
    def _several_where_passes_are_compared(self) -> "Scoring":
        if self.passes == "single" and self.score in _COMPARING:
            raise ValueError(
                f"score {self.score} compares passes and is 0 for a single one: set passes to "
                "tta, mc_dropout or ensemble"
            )
        return self

    @property
    def key(self) -> str:
        """What scores are kept under: it changes with whatever changes their numbers."""
        counts = {"tta": self.views, "mc_dropout": self.samples, "ensemble": self.members}
        count = counts.get(self.passes, 1)
        parts = json.dumps([_ROW, sorted(self.weights.items()), self.top_share])
        return f"{self.passes}-{count}-{hashlib.sha256(parts.encode()).hexdigest()[:8]}"


_Beta = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Selection(Section):
    """What is asked next."""

    strategy: str = Field("power", description="Name of the strategy.")
    first: Literal["clusters", "random"] = Field(
        "clusters",
        description="How a batch is chosen while there is no model: some of each kind of image, "
        "or at random.",
    )
    batch: int = Field(20, ge=1, description="Tiles a round.")
    variant: Literal["partition", "resample"] = Field(
        "resample", description="How stochastic_batch draws its candidate batches."
    )
    draws: int = Field(50, ge=1, description="Candidate batches of the resample variant.")
    beta: _Beta | tuple[_Beta, _Beta] | None = Field(
        None,
        description="How little power, per_object and class_power are blurred by noise: 1 is "
        "nearly random, 100 nearly top. A pair goes from the first to the second over the rounds; "
        "null is 5 for power and per_object, and [1, 100] for class_power.",
    )
    beta_rounds: int = Field(
        5, ge=1, description="Rounds chosen by a model until a pair beta has reached its second."
    )
    candidates: int | None = Field(
        None,
        ge=1,
        description="How many of the most uncertain images suggestive and diverse_batch choose "
        "among; null is twice the batch for suggestive and four times for diverse_batch.",
    )
    look_cost: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="What looking at a tile costs in per_object, in objects to outline.",
    )
    per_image: int | None = Field(
        None, ge=1, description="At most so many tiles of one image in a round; null for no limit."
    )
    audit_share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="Share of a round drawn uniformly from the validation images.",
    )
    seed: int = Field(0, description="Seed of every draw; the round's number is mixed in.")
