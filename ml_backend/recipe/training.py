"""How a candidate is trained, judged and tuned."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from ml_backend.recipe.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class Training(Section):
    """How a candidate is trained."""

    steps: int = Field(300, ge=1, description="Optimizer steps of one training.")
    epochs: int = Field(
        6, ge=1, description="Into how many epochs the steps are divided; each is validated."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="End after this many epochs without a higher validation IoU; null never does.",
    )
    batch_size: int = Field(8, ge=1, description="Patches a step.")
    patch: int = Field(192, ge=32, multiple_of=32, description="Side of a training patch, px.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay of AdamW.")
    loss: str = Field("dice_bce", description="Name of the loss.")
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = Field(
        None,
        description="Weights of labels in the loss, by their names (background too; 1 where not "
        "named), or balanced by their pixels; null weighs all alike.",
    )
    tversky_alpha: float = Field(0.7, gt=0, description="What false positives cost in tversky.")
    tversky_beta: float = Field(0.3, gt=0, description="What false negatives cost in tversky.")
    focal_gamma: float = Field(
        2.0, ge=0, description="How little sure pixels count in focal; 0 is cross-entropy."
    )
    augmentation: str = Field("basic", description="Name of the augmentation recipe.")
    source_augmentation: str | None = Field(
        "specialized",
        description="The same while there are only source images to learn from, and a pool whose "
        "looks can be borrowed; null is `augmentation`.",
    )
    foreground_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the patches centred on a labelled pixel, each label equally often.",
    )
    target_weight: float = Field(
        10.0, gt=0, description="How often annotations are drawn for each time a source image is."
    )
    average: float = Field(
        0.98, ge=0, lt=1, description="Decay of the moving average of the weights; 0 for none."
    )
    warm_start: bool = Field(
        True, description="Start from the current model's weights when they fit."
    )
    freeze_encoder: bool = Field(
        False,
        description="Keep the encoder as it came (pretrained, or the current model's) and train "
        "the decoder alone.",
    )
    seed: int = Field(0, description="Seed of weights, patches and augmentation.")


class Validation(Section):
    """The frozen split and the gate."""

    share: float = Field(
        0.25, gt=0, lt=1, description="Share of the source images frozen for validation."
    )
    tolerance: float = Field(
        0.0, ge=0, lt=1, description="How much lower the mean IoU of a promoted model may be."
    )
    class_tolerance: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="How much lower the IoU of each single label may be; null looks at the mean.",
    )
    floors: dict[str, Share] = Field(
        {}, description="Label → the validation IoU that a promoted model has at least."
    )


class Tuning(Section):
    """What `brushloop tune` tries; a model does not depend on it."""

    trials: int = Field(20, ge=1, description="How many recipes are tried.")
    over: dict[str, str] = Field(
        {
            "training.learning_rate": "1e-4..1e-2:log",
            "training.batch_size": "4,8,16",
        },
        description="Keys of network and training to tune, and the values they may take.",
    )
    grid: dict[str, str] = Field(
        {
            "network.architecture": "Unet,DeepLabV3Plus",
            "training.freeze_encoder": "false,true",
            "training.learning_rate": "1e-4,3e-4,1e-3",
            "training.batch_size": "4,8",
        },
        description="Keys and values of which `tune --grid` tries every combination.",
    )
