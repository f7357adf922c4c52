"""The project: `configs/*.yaml` → one frozen `Recipe`.

Every key has a default, so a recipe file says only what differs. Unknown keys and
impossible combinations are refused with the key's path.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from ml_backend.errors import ConfigError
from ml_backend.schedule import Step, numbers, stepped

Annotators = Literal["latest", "all", "consensus"]


UNETS = frozenset({"unet", "unetplusplus", "manet"})


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Labels(_Section):
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


class Network(_Section):
    """Which network, by the names of segmentation-models-pytorch."""

    architecture: str = Field("Unet", description="Decoder, such as Unet, FPN, DeepLabV3Plus.")
    encoder: str = Field("resnet18", description="Encoder, such as resnet34, efficientnet-b0.")
    encoder_weights: str | None = Field(
        None, description="Name of pretrained encoder weights such as imagenet; null for none."
    )
    depth: int = Field(
        4, ge=3, le=5, description="Stages of a U-Net's encoder; each halves the resolution."
    )
    decoder_width: int = Field(
        16,
        ge=4,
        description="Channels of a U-Net's last decoder stage; each deeper one has twice as many.",
    )
    fold: Literal[1, 2] = Field(
        2,
        description="Fold squares of this side, px, into channels: the network works at that "
        "fraction of the resolution and still answers for every pixel.",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the head.")

    @property
    def stages(self) -> int:
        """Of the encoder; smp's decoders other than U-Nets are made for all five."""
        return self.depth if self.architecture.lower() in UNETS else 5

    @property
    def stride(self) -> int:
        """Sides of what goes in must be multiples of this, px."""
        return self.fold << self.stages


class Training(_Section):
    """How a candidate is trained."""

    steps: int = Field(300, ge=1, description="Optimizer steps of one training.")
    epochs: int = Field(
        6, ge=1, description="Into how many epochs the steps are divided; each is validated."
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


class Validation(_Section):
    """The frozen split and the gate."""

    share: float = Field(
        0.25, gt=0, lt=1, description="Share of the source images frozen for validation."
    )
    tolerance: float = Field(
        0.0, ge=0, lt=1, description="How much lower the mean IoU of a promoted model may be."
    )


class Prediction(_Section):
    """How an image becomes a mask."""

    window: int = Field(256, ge=32, multiple_of=32, description="Side of an inference window, px.")
    overlap: int = Field(64, ge=0, description="Overlap of neighbouring windows, px.")
    batch_size: int = Field(8, ge=1, description="Windows a forward pass.")
    minimum_area: int = Field(
        0, ge=0, description="Objects of fewer pixels are left out of the predictions people see."
    )
    payload_limit: int = Field(
        10_000_000,
        ge=1000,
        description="Bytes of JSON that one task's predicted regions may take; of a larger "
        "prediction small objects are left out, and all if that is not enough.",
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> "Prediction":
        if self.overlap >= self.window:
            raise ValueError(f"overlap {self.overlap} must be smaller than window {self.window}")
        return self


class Scoring(_Section):
    """How uncertain the model is about an image."""

    passes: Literal["tta", "mc_dropout", "single"] = Field(
        "tta", description="Where the passes come from: tta, mc_dropout, or one plain pass."
    )
    views: int = Field(4, ge=2, le=8, description="How many test-time views of an image.")
    samples: int = Field(10, ge=2, description="How many passes of mc_dropout.")
    score: str = Field("entropy", description="Name of the uncertainty score.")
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        {}, description="Label or background → its weight in weighted_entropy; others weigh 1."
    )
    reduction: str = Field("mean", description="Pixels → one number: mean, foreground or top.")
    top_share: float = Field(
        0.1, gt=0, le=1, description="Share of the pixels that the reduction top looks at."
    )

    @property
    def key(self) -> str:
        """What scores are kept under: it changes with whatever changes their numbers."""
        count = {"tta": self.views, "mc_dropout": self.samples}.get(self.passes, 1)
        parts = json.dumps([sorted(self.weights.items()), self.top_share])
        return f"{self.passes}-{count}-{hashlib.sha256(parts.encode()).hexdigest()[:8]}"


_Beta = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Selection(_Section):
    """What is asked next."""

    strategy: str = Field("stochastic_batch", description="Name of the strategy.")
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
        description="How little power and class_power are blurred by noise: 1 is nearly random, "
        "100 nearly top. A pair goes from the first to the second over the rounds; null is 5 for "
        "power and [1, 100] for class_power.",
    )
    beta_rounds: int = Field(
        5, ge=1, description="Rounds chosen by a model until a pair beta has reached its second."
    )
    candidates: int | None = Field(
        None,
        ge=1,
        description="How many of the most uncertain images suggestive chooses among; null is "
        "twice the batch.",
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


class Pool(_Section):
    """How images become tasks."""

    tile: int | None = Field(
        None, ge=32, description="Cut images into tiles of this side, px; null keeps them whole."
    )
    reference: str | None = Field(
        None,
        description="Address under which Label Studio reads the pool's folder by itself, such as "
        "/data/local-files/?d=scans or s3://bucket/scans; null uploads each chosen image.",
    )


class Loop(_Section):
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


class Instances(_Section):
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


class Tuning(_Section):
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


_FOR_EVER = 10**6  # rounds


class Recipe(_Section):
    """Everything a project decides."""

    labels: Labels = Labels()
    network: Network = Network()
    training: Training = Training()
    validation: Validation = Validation()
    prediction: Prediction = Prediction()
    scoring: Scoring = Scoring()
    selection: Selection = Selection()
    pool: Pool = Pool()
    loop: Loop = Loop()
    instances: Instances = Instances()
    tuning: Tuning = Tuning()
    schedule: dict[str, Step] = Field(
        {}, description="Settings of the training that change with the rounds, by their paths."
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Recipe":
        try:
            self.at_round(_FOR_EVER)
        except ValidationError as error:
            fault = error.errors()[0]
            raise ValueError(
                f"schedule: training.{fault['loc'][0]} would become {fault['input']:g} one day: "
                f"{fault['msg']}; say with `most` or `least` where it ends"
            ) from None
        return self

    def at_round(self, number: int) -> "Recipe":
        """What a training after round `number` uses: the schedule is carried out, and gone."""
        known = {f"training.{name}": name for name in numbers(Training)}
        strange = [path for path in self.schedule if path not in known]
        if strange:
            raise ValueError(
                f"schedule: {strange[0]} is no number of the training; such are: {', '.join(known)}"
            )
        steps = {known[path]: step for path, step in self.schedule.items()}
        values = stepped(self.training, steps, number, {"patch": max(32, self.network.stride)})
        training = Training.model_validate(self.training.model_dump() | values)
        return self.model_copy(update={"training": training, "schedule": {}})

    @model_validator(mode="after")
    def _dropout_to_sample(self) -> "Recipe":
        if self.scoring.passes == "mc_dropout" and not self.network.dropout:
            raise ValueError(
                "scoring.passes: mc_dropout samples the network's dropout, and network.dropout "
                "is 0; set it to 0.2, say"
            )
        return self

    def changed(self, changes: Mapping[str, object]) -> "Recipe":
        """Replace keys by their path (`"pool.tile"`); None leaves a key as it is."""
        data = self.model_dump()
        for path, value in changes.items():
            section, key = path.split(".")
            if value is not None:
                data[section][key] = value
        return parse_recipe(data)


def parse_recipe(data: object, where: str = "recipe") -> Recipe:
    """Check `data` (nested mappings). Raises `ConfigError` with the path of each bad key."""
    try:
        return Recipe.model_validate(data if data is not None else {})
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'the whole'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(f"{where}: {faults}") from None


def load_recipe(path: Path) -> Recipe:
    """Read a YAML file. Raises `ConfigError` with the file's name and the place in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"recipe {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {path} is not UTF-8 text: {error}") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe {path} is not YAML: {error}") from None
    return parse_recipe(data, where=f"recipe {path}")
