"""The contracting path of the 3D U-Net of Models Genesis and SuPreM.

Their own networks normalise with the statistics of the batch at hand, in evaluation too, so that a patch's features
hang on its neighbours and running statistics are never used. For a batch of one that is instance normalisation, which
is what stands here: the same numbers as theirs one patch at a time, whatever the batch. Written from a description
(Zhou et al., Med Image Anal 67, 101840, 2021); names of tensors are those of the published files.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = ((1, 32, 64), (64, 64, 128), (128, 128, 256), (256, 256, 512))  # channels before, between, after


class Unit(nn.Module):
    """Convolution, normalisation of each sample by itself, ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(before, after, 3, padding=1)
        self.bn1 = nn.InstanceNorm3d(after, affine=True)  # eps 1e-5, as in the published batch normalisation

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, x, y, z) to (n, after, x, y, z)."""
        return F.relu(self.bn1(self.conv1(x)))


class Level(nn.Module):
    """Two units at one resolution."""

    def __init__(self, before: int, between: int, after: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(Unit(before, between), Unit(between, after))

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, x, y, z) to (n, after, x, y, z)."""
        return self.ops(x)


class UNet3DEncoder(nn.Module):
    """The encoder, 7.028 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        for widths in WIDTHS:
            self.add_module(f"down_tr{widths[-1]}", Level(*widths))

    def forward(self, volume: Tensor) -> Tensor:
        """The lowest map (n, 512, x // 8, y // 8, z // 8) of a volume (n, 1, x, y, z).

        Raises :class:`ValueError` if the volume is too small for a map of more than one voxel, which cannot be
        normalised.
        """
        size = tuple(volume.shape[2:])
        if min(size) < 8 or max(size) < 16:
            raise ValueError(f"the 3D U-Net takes sides of at least 8 voxels and one of 16 or more, not {size}")
        for depth, level in enumerate(self.children()):
            volume = level(F.max_pool3d(volume, 2) if depth else volume)
        return volume
