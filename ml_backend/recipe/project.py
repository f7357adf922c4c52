"""What people's labels and images are, and what happens without being asked."""

from typing import Literal

from pydantic import Field

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


class Pool(Section):
    """How images become tasks."""

    tile: int | None = Field(
        None, ge=32, description="Cut images into tiles of this side, px; null keeps them whole."
    )
    reference: str | None = Field(
        None,
        description="Address under which Label Studio reads the pool's folder by itself, such as "
        "/data/local-files/?d=scans or s3://bucket/scans; null uploads each chosen image.",
    )


class Loop(Section):
    """What happens without being asked."""

    retrain_every: int | None = Field(
        None,
        ge=1,
        description="Retrain after this many new annotations; null waits for a whole batch.",
    )
    auto_select: bool = Field(
        True, description="Push the next batch when a training ended and few tasks are left open."
    )
    annotators: Annotators = Field(
        "latest", description="Whose annotation counts where a task has several."
    )
    consensus_minimum: int = Field(
        2, ge=1, description="How many people must agree about a pixel for a consensus."
    )
    poll_minutes: int = Field(
        5, ge=1, description="How often the schedule pulls what lost events left behind."
    )
