"""The contracting path of nnU-Net's plain convolutional network, as PASTA has it.

Written from a description (Isensee et al., Nat Methods 18, 203, 2021; Lei et al., PASTA, 2025); names of tensors are
those of the published file.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (1, 64, 128, 256, 512, 1024)  # channels of the volume and of each stage
STAGES = 6  # with the bottleneck


class Unit(nn.Module):
    """Convolution, normalisation of each sample by itself, leaky ReLU."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(before, after, 3, stride, padding=1)
        self.instnorm = nn.InstanceNorm3d(after, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, x, y, z) to (n, after, x / stride, y / stride, z / stride), rounded up."""
        return F.leaky_relu(self.instnorm(self.conv(x)), 0.01)


class Stage(nn.Module):
    """Units one after the other."""

    def __init__(self, *units: Unit) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, x, y, z) to (n, after, ...)."""
        return self.blocks(x)


class PlainConvEncoder(nn.Module):
    """The encoder, 113.155 M parameters, of which 56.526 M in the five stages before the bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        stages = [
            Stage(Unit(before, after, stride=2 if depth else 1), Unit(after, after))
            for depth, (before, after) in enumerate(pairwise(WIDTHS))
        ]
        widest = WIDTHS[-1]
        bottleneck = nn.Sequential(Stage(Unit(widest, widest, stride=2)), Stage(Unit(widest, widest)))
        self.conv_blocks_context = nn.ModuleList([*stages, bottleneck])

    def forward(self, volume: Tensor, stages: int = STAGES) -> Tensor:
        """The map (n, 1024, ...) after ``stages`` stages, 5 or 6, of a volume (n, 1, x, y, z).

        Its sides are those of the volume halved ``stages - 1`` times, rounded up. Raises :class:`ValueError` if that
        is a single voxel, which cannot be normalised.
        """
        size, halved = tuple(volume.shape[2:]), 2 ** (stages - 1)
        if prod(-(-side // halved) for side in size) < 2:
            raise ValueError(
                f"{stages} stages leave one voxel of a patch of {size}; one side must be larger than {halved} voxels"
            )
        for stage in self.conv_blocks_context[:stages]:
            volume = stage(volume)
        return volume
