"""Which network a project learns with."""

from typing import Literal

from pydantic import Field

from ml_backend.recipe.section import Section

UNETS = frozenset({"unet", "unetplusplus", "manet"})


class Network(Section):
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
