"""Layers that let tests foresee what a network does."""

from torch import nn


class PatchNorm(nn.GroupNorm):
    """Stands in for BatchNorm: each patch by itself, without statistics that move."""

    def __init__(self, channels, **_options):
        super().__init__(1, channels)
