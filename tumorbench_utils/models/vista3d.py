"""VISTA3D: the image encoder of an interactive segmentation model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe, last_level, monai_alone

if TYPE_CHECKING:
    from torch.nn import Module


def build() -> Module:
    """The encoder of a SegResNet with instance normalisation, which gives a list of five levels."""
    with monai_alone():
        from monai.networks.nets.segresnet_ds import SegResEncoder

    return SegResEncoder(spatial_dims=3, in_channels=1, init_filters=48, blocks_down=(1, 2, 2, 4, 4), norm="instance")


MODEL = Model(
    id="vista3d",
    title="VISTA3D",
    year=2024,
    released_name="VISTA3DExtractor",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "RAS", (48, 48, 48), ((-1024, 0), (2048, 1)), 768, last_level),
    authors=Recipe(
        Geometry("vista3d_authors", (1.5, 1.5, 1.5), (128, 128, 128), "exact"),
        axes="RAS",
        size=(128, 128, 128),
        window=((-963.8247715525971, 0), (1053.678477684517, 1)),
        dim=768,
        embed=last_level,
    ),
    differences=(
        "Spacing: the authors resample to 1.5 mm, the benchmark to 1 mm.",
        "Field of view: the authors' patches are 128 voxels, 192 mm a side; the benchmark's are 48 mm.",
        "Intensities: the authors' window is -963.8 to 1053.7 HU, the benchmark's -1024 to 2048 HU.",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="model_vista3d.pt",
        keys=83,
        layouts=(Layout(prefix="image_encoder.encoder."), Layout(prefix="network.image_encoder.encoder.")),
        url="https://developer.download.nvidia.com/assets/Clara/monai/tutorials/model_zoo/model_vista3d.pt",
        size=870_000_000,
        note="The copies of nvidia/NV-Segment-CT and MONAI/VISTA3D-HF on the Hugging Face hub can be given as a file; "
        "the prefix 'network.' of the latter's wrapper is presumed, not proven. Decoder and heads are left out.",
    ),
    objective="supervised segmentation, supervoxels, interactive",
    architecture="3D SegResNet encoder",
    pretraining="11,454 CTs of 15 public sets",
    parameters_paper=174.95,
    parameters_encoder=174.951,
    code_licence="Apache-2.0",
    weights_licence="contradictory: NVIDIA Open Model or non-commercial",
    citation="he2024vista3d",
    overlap="not excluded: pretrained on public sets",
)
