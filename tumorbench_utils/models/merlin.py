"""Merlin: the image encoder of an abdominal CT and report model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe, monai_alone

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def build() -> Module:
    """An inflated ResNet-152, and the head that projects its 2,048 features to the 512 shared with text."""
    from torch.nn import Conv3d

    with monai_alone():
        from monai.networks.nets import ResNet

    encoder = ResNet(
        block="bottleneck",
        layers=[3, 8, 36, 3],
        block_inplanes=[64, 128, 256, 512],
        spatial_dims=3,
        n_input_channels=3,
        conv1_t_size=(3, 7, 7),
        conv1_t_stride=(1, 2, 2),
        shortcut_type="B",
        feed_forward=False,
        bias_downsample=False,
    )
    encoder.contrastive_head = Conv3d(2048, 512, kernel_size=1)
    return encoder


def features(encoder: Module, batch: Tensor) -> Tensor:
    """The average over space of the last level, (n, 2048), of patches with the axes R, A, S."""
    return encoder(batch.permute(0, 1, 4, 2, 3).expand(-1, 3, -1, -1, -1))


def embed(encoder: Module, batch: Tensor) -> Tensor:
    """The unit vector, (n, 512), that pretraining compares with that of the report."""
    from torch.nn.functional import normalize

    head = encoder.contrastive_head(features(encoder, batch)[:, :, None, None, None])
    return normalize(head.float().flatten(1), dim=1)


WINDOW = ((-1000, 0), (1000, 1))

MODEL = Model(
    id="merlin",
    title="Merlin",
    year=2024,
    released_name="MerlinExtractor",
    build=build,
    benchmark=Recipe(
        BENCHMARK[0],
        "RAS",
        (48, 48, 48),
        WINDOW,
        512,
        embed,
        pooling="average over space, contrastive head, unit length",
    ),
    authors=Recipe(
        Geometry("merlin_authors", (1.5, 1.5, 3), (224, 224, 160), "exact"),
        axes="RAS",
        size=(224, 224, 160),
        window=WINDOW,
        dim=2048,
        embed=features,
    ),
    differences=(
        "Spacing: the authors resample to 1.5 x 1.5 x 3 mm, the benchmark to 1 mm.",
        "Field of view: the authors' input is 224 x 224 x 160 voxels, nearly the whole trunk; the benchmark's 48 mm "
        "cube leaves the last level 3 x 2 x 2 voxels.",
        "Embedding: the authors' image embedding is the average before the contrastive head (2,048 numbers), the "
        "benchmark's is what that head makes of it (512).",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="i3_resnet_clinical_longformer_best_clip_04-02-2024_23-21-36_epoch_99.pt",
        keys=932,
        layouts=(Layout(prefix="encode_image.i3_resnet.", drop=("classifier.*",)),),
        repo="stanfordmimi/Merlin",
        size=1_080_000_000,
        note="The classifier of diagnosis codes, the text encoder and the logit scale are left out. The size is "
        "computed, not read. louisblankemeier/Merlin is an older copy.",
    ),
    objective="diagnosis codes and reports, abdominal CT",
    architecture="inflated 3D ResNet-152",
    pretraining="15,331 abdominal CTs",
    parameters_paper=270.94,
    parameters_encoder=118.415,
    code_licence="MIT",
    weights_licence="not found",
    citation="blankemeier2024merlin",
    note="The paper's count of parameters includes the text encoder.",
)
