"""What people's labels and images are, and what happens without being asked."""

from typing import Literal

from pydantic import Field, field_validator

from ml_backend.hours import read_hour, read_periods, read_zone
from ml_backend.recipe.images import read_pages
from ml_backend.recipe.section import Section

Annotators = Literal["latest", "all", "consensus"]


class Labels(Section):
    """What people's labels mean to the network; by default all are learned."""

    ignore: tuple[str, ...] = Field(
        (), description="Labels whose pixels are unknown: neither learned from nor judged."
    )
    background: tuple[str, ...] = Field(
        (), description="Labels whose pixels are background, said by painting it."
    )
    unpainted: Literal["background", "unknown"] = Field(
        "background", description="What pixels are that nobody painted in an annotation."
    )
    overlap: Literal["auto", "exclusive", "multiple"] = Field(
        "auto",
        description="Whether a pixel may have several labels: multiple, exclusive (the later "
        'region wins), or auto: as choice="multiple" in the labeling config says.',
    )
    smart: Literal["prompts", "masks"] = Field(
        "prompts",
        description='What regions of controls with smart="true" are whose label another control '
        "draws as well: prompts of an assistant, which are left out, or masks.",
    )


class Pool(Section):
    """How images become tasks."""

    tile: int | None = Field(
        None, ge=32, description="Cut images into tiles of this side, px; null keeps them whole."
    )
    pages: str = Field(
        "each",
        description="Which pages of a file with several become images: each, first, or numbers "
        "from 1 such as 3-20.",
    )
    reference: str | None = Field(
        None,
        description="Address under which Label Studio reads the pool's folder by itself, such as "
        "/data/local-files/?d=scans or s3://bucket/scans; null uploads each chosen image.",
    )
    data: dict[str, str] = Field(
        {},
        description="What further keys of a pushed task's data say that the labeling config names, "
        "such as {caption: 'Field {name}'}; {name} is the image's name, {image} its address. "
        "Others are empty.",
    )

    @field_validator("pages", mode="before")
    @classmethod
    def _pages(cls, value: object) -> str:
        return read_pages(value)


class Advice(Section):
    """From when on people are told to stop, or to change something."""

    gain: float = Field(
        0.005, gt=0, lt=1, description="Gain in validation IoU for which a round is worth its work."
    )
    dice: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Dice of prediction to submission with which a model is good enough.",
    )


class Loop(Section):
    """What happens without being asked."""

    retrain_every: int | None = Field(
        None,
        ge=1,
        description="Retrain after this many new annotations; null waits for a whole batch.",
    )
    retrain_hours: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Retrain so many hours after the last training if anything is new; null does "
        "not look at the clock.",
    )
    auto_select: bool = Field(
        True, description="Push the next batch when a training ended and few tasks are left open."
    )
    select_below: int | None = Field(
        None,
        ge=1,
        description="Few are fewer than so many, and no training is waited for; null is at most "
        "half a batch, after a training.",
    )
    select_at: str | None = Field(
        None,
        description="When a batch is pushed by the clock, if few tasks are open: an hour such as "
        "02:00, or five fields of cron; null for never.",
    )
    uncertain_first: bool = Field(
        True,
        description="Have Label Studio serve the tasks first of which the model is least sure.",
    )
    quiet: str | None = Field(
        None,
        description="When no training and no selection begins by itself, such as 08:00-18:00 or "
        "mon-fri 08:00-18:00, several separated by commas.",
    )
    timezone: str = Field("UTC", description="By which clock select_at and quiet are read.")
    annotators: Annotators = Field(
        "latest", description="Whose annotation counts where a task has several."
    )
    consensus_minimum: int = Field(
        2, ge=1, description="How many people must agree about a pixel for a consensus."
    )
    poll_minutes: int = Field(
        5, ge=1, description="How often the schedule pulls what lost events left behind."
    )

    @field_validator("select_at", mode="before")
    @classmethod
    def _an_hour(cls, value: object) -> str | None:
        return None if value is None else read_hour(value)

    @field_validator("quiet")
    @classmethod
    def _periods(cls, value: str | None) -> str | None:
        if value is not None:
            read_periods(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _a_zone(cls, value: str) -> str:
        read_zone(value)
        return value
