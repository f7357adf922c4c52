"""How an encoder learns from unlabelled images."""

from pydantic import Field

from ml_backend.recipe.section import Section


class Pretraining(Section):
    """What `brushloop pretrain` does (BYOL)."""

    steps: int = Field(600, ge=1, description="Optimizer steps of one pretraining.")
    epochs: int = Field(
        12,
        ge=1,
        description="Into how many epochs the steps are divided; a kill costs one.",
    )
    batch_size: int = Field(32, ge=2, description="Places a step, each seen in two views.")
    patch: int = Field(128, ge=32, multiple_of=32, description="Side of a view, px.")
    augmentation: str = Field("domain", description="Name of the augmentation that makes views.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay of AdamW.")
    momentum: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Decay with which the target network follows at first; it ends at 1.",
    )
    hidden: int = Field(512, ge=2, description="Width of the projector's and predictor's layer.")
    projection: int = Field(128, ge=2, description="Numbers that a view is projected to.")
    seed: int = Field(0, description="Seed of weights, places and views.")
