"""FMCIB: a lesion-centred contrastive encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe, monai_alone

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def build() -> Module:
    """A 3D ResNet-50 of double width, pooled over space at its end."""
    with monai_alone():
        from monai.networks.nets import resnet50

    return resnet50(
        pretrained=False,
        n_input_channels=1,
        widen_factor=2,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=True,
    )


def embed(encoder: Module, batch: Tensor) -> Tensor:
    """The average over space of the last level, (n, 4096)."""
    return encoder(batch)


WINDOW = ((-1024, 0), (2048, 1))

MODEL = Model(
    id="fmcib",
    title="FMCIB",
    year=2024,
    released_name="FMCIBExtractor",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "SPL", (48, 48, 48), WINDOW, 4096, embed),
    authors=Recipe(
        Geometry("fmcib_authors", (1, 1, 1), (50, 50, 50), "exact"),
        axes="SPL",
        size=(50, 50, 50),
        window=WINDOW,
        dim=4096,
        embed=embed,
        clip=False,
    ),
    differences=(
        "Size: the authors crop 50 voxels a side, the benchmark 48.",
        "Intensities: the authors divide HU + 1024 by 3072 and clip nothing, the benchmark clips at -1024 and 2048 HU.",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="model_weights.torch",
        keys=322,
        layouts=(
            Layout(container="trunk_state_dict", prefix="module."),
            Layout(container="trunk_state_dict"),
            Layout(container="state_dict", prefix="model.trunk."),
        ),
        url="https://zenodo.org/records/10528450/files/model_weights.torch?download=1",
        size=738_000_000,
        note="Other code reads this file without weights_only: that it holds tensors alone is not proven.",
    ),
    objective="contrast of lesions with other tissue (SimCLR, mined negatives)",
    architecture="3D ResNet-50, twice as wide",
    pretraining="11,467 lesions of DeepLesion",
    parameters_paper=184.48,
    parameters_encoder=184.478,
    code_licence="MIT",
    weights_licence="CC BY 4.0",
    citation="pai2024fmcib",
)
