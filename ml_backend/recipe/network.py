"""Which network a project learns with."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ml_backend.recipe.section import Section

_WEIGHT_FILES = {".safetensors", ".pth", ".pt"}
UNETS = frozenset({"unet", "unetplusplus", "manet"})


class Network(Section):
    """Which network, by the names of segmentation-models-pytorch."""

    architecture: str = Field("Unet", description="Decoder, such as Unet, FPN, DeepLabV3Plus.")
    encoder: str = Field("resnet18", description="Encoder, such as resnet34, efficientnet-b0.")
    encoder_weights: str | None = Field(
        None,
        description="What the encoder starts from: a name of the hub such as imagenet, a file, "
        "byol (the project's newest self-supervised encoder), a version such as p7-byol1 or "
        "p7-v3, or null for random weights.",
    )
    require_weights: bool = Field(
        False,
        description="Refuse to train where encoder_weights cannot be had; otherwise the encoder "
        "starts from random weights, and the model's card says so.",
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
    def weights_file(self) -> Path | None:
        """The local file that `encoder_weights` names, if it names one."""
        path = Path(self.encoder_weights or "").expanduser()
        return path if path.suffix in _WEIGHT_FILES else None

    @property
    def stages(self) -> int:
        """Of the encoder; smp's PSPNet is made for three, its others but U-Nets for all five."""
        architecture = self.architecture.lower()
        return self.depth if architecture in UNETS else 3 if architecture == "pspnet" else 5

    @property
    def stride(self) -> int:
        """Sides of what goes into the encoder must be multiples of this, px."""
        return self.fold << self.stages

    @property
    def multiple(self) -> int:
        """Sides of what goes into the whole network must be multiples of this, px.

        PAN's decoder halves what its encoder leaves, a sixteenth, three times more.
        """
        return self.fold << 7 if self.architecture.lower() == "pan" else self.stride
