"""Models Genesis: restoring corrupted chest CT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

GRID = Geometry("models_genesis_authors", (0.703125, 0.703125, 1.25), (64, 64, 32), "exact")
REST = ("*.running_mean", "*.running_var", "*.num_batches_tracked", "up_tr*", "out_tr*")


def build() -> Module:
    """The contracting path of the 3D U-Net."""
    from ..networks.unet3d import UNet3DEncoder

    return UNet3DEncoder()


def average(encoder: Module, batch: Tensor) -> Tensor:
    """Average of the lowest map, (n, 512)."""
    return encoder(batch).mean(dim=(2, 3, 4))


def parts(encoder: Module, batch: Tensor) -> Tensor:
    """Averages of the lowest map over windows of 3 voxels, 2 apart: 2 x 2 x 2 of a patch of 48, so (n, 4096)."""
    from torch.nn.functional import avg_pool3d

    return avg_pool3d(encoder(batch), 3, stride=2).flatten(1)


MODEL = Model(
    id="models_genesis",
    title="Models Genesis",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "RAS", (48, 48, 48), ((-1024, 0), (2048, 1)), 4096, parts, "averages of 8 parts"),
    authors=Recipe(GRID, "LPS", (64, 64, 32), ((-1000, 0), (1000, 1)), 512, average),
    differences=(
        "Spacing: the authors cut LUNA16 in each scan's own; here stands the one to which MONAI's nodule detector "
        "resamples LUNA16, 0.703125 x 0.703125 x 1.25 mm. The released code has 1 mm.",
        "Axes and size: the authors' cubes have 64 x 64 x 32 voxels along L, P, S; the released ones 48 along R, A, S.",
        "Intensities: the authors' window is [-1000, 1000] HU; the released one [-1024, 2048].",
        "Pooling: the authors average over all space, 512 numbers; the released code keeps 2 x 2 x 2 places, 4096.",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="Genesis_Chest_CT.pt",
        keys=32,
        layouts=(Layout(container="state_dict", prefix="module.", drop=REST),),
        repo="MrGiovanni/ModelsGenesis",
        note="Not opened here: 56 tensors of the encoder are expected, of which 24 are running statistics without use.",
    ),
    year=2019,
    released_name="ModelsGenExtractor",
    objective="restoring corrupted volumes",
    architecture="3D U-Net encoder",
    pretraining="623 CTs of LUNA16",
    parameters_paper=7.03,
    parameters_encoder=7.028,
    code_licence="ASU non-commercial",
    weights_licence="Apache-2.0",
    citation="zhou2019modelsgenesis",
    overlap="LUNA16: pretrained on its scans",
    note="Each patch is normalised by itself, as in the published network with one patch at a time: there, patches of "
    "one batch change each other's features.",
)
