"""PASTA: pretrained on synthetic tumours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

GRID = Geometry("pasta_authors", (1.0, 1.0, 1.0), (128, 128, 128), "exact")
WINDOW = ((-1000, 0), (-200, 0.2), (200, 0.9), (1000, 1))
REST = ("tu.*", "conv_blocks_localization.*", "seg_outputs.*", "head.*")


def build() -> Module:
    """The contracting path of the nnU-Net, with its bottleneck."""
    from ..networks.plain_conv import PlainConvEncoder

    return PlainConvEncoder()


def bottleneck(encoder: Module, batch: Tensor) -> Tensor:
    """Average of the bottleneck's map, (n, 1024)."""
    return encoder(batch).mean(dim=(2, 3, 4))


def before_bottleneck(encoder: Module, batch: Tensor) -> Tensor:
    """Average of the map of the fifth stage, (n, 1024)."""
    return encoder(batch, stages=5).mean(dim=(2, 3, 4))


MODEL = Model(
    id="pasta",
    title="PASTA",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "LPS", (48, 48, 48), ((-1024, 0), (2048, 1)), 1024, bottleneck),
    authors=Recipe(GRID, "SAL", (128, 128, 128), WINDOW, 1024, before_bottleneck),
    differences=(
        "Axes: the authors' arrays run along S, A, L; those of the released code along L, P, S.",
        "Intensities: soft tissue lies at 0.55 to 0.73 on the authors' four points, at 0.33 to 0.37 as released.",
        "Size: the authors cut cubes of 128 mm; the released code of 48 mm.",
        "Pooling: the authors average the fifth stage; the released code the bottleneck after it, of 8 voxels here.",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="PASTA final.pth",
        keys=48,
        layouts=(Layout(container="network_weights", drop=REST), Layout(drop=REST)),
        repo="surajpaib/PASTA-Model",
        note="Not opened here, and a copy: the authors' own lies on Google Drive (link in their README). Their loaders "
        "disagree on whether the tensors lie under a key of their own, so both are tried.",
    ),
    year=2025,
    released_name="PASTAExtractor",
    objective="segmentation of synthetic tumours, then text alignment",
    architecture="nnU-Net encoder",
    pretraining="30,000 CTs of PASTA-Gen-30K",
    parameters_paper=127.11,
    parameters_encoder=113.155,
    code_licence="MIT",
    weights_licence="not stated",
    citation="lei2025pasta",
    note="The authors' README says RAS, their scripts turn to LPS or LAS: the axes here are those of their classifier. "
    "Their feature uses 56.526 of the 113.155 million parameters.",
)
