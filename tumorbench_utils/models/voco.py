"""VoCo: pretrained to place crops in the body."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe, last_level, monai_alone

if TYPE_CHECKING:
    from torch.nn import Module


def build() -> Module:
    """The Swin transformer of a SwinUNETR without its convolutional blocks; it gives a list of five levels."""
    with monai_alone():
        from monai.networks.nets.swin_unetr import SwinTransformer

    return SwinTransformer(
        in_chans=1,
        embed_dim=192,
        window_size=(7, 7, 7),
        patch_size=(2, 2, 2),
        depths=(2, 2, 2, 2),
        num_heads=(3, 6, 12, 24),
        use_v2=True,
        spatial_dims=3,
    )


# As published, the names stand bare; other files of the authors wrap the network, or name it after its first release.
PREFIXES = [
    f"{outer}{name}." for name in ("swinViT", "swin_vit") for outer in ("", "module.", "backbone.", "module.backbone.")
]

MODEL = Model(
    id="voco",
    title="VoCo",
    year=2024,
    released_name="VocoExtractor",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "RAS", (64, 64, 64), ((-1024, 0), (2048, 1)), 3072, last_level),
    authors=Recipe(
        Geometry("voco_authors", (1.5, 1.5, 1.5), (64, 64, 64), "exact"),
        axes="RAS",
        size=(64, 64, 64),
        window=((-175, 0), (250, 1)),
        dim=3072,
        embed=last_level,
    ),
    differences=(
        "Spacing: the authors resample to 1.5 mm, the benchmark to 1 mm.",
        "Intensities: the authors' window is -175 to 250 HU; the benchmark's, -1024 to 2048 HU, leaves soft tissue a "
        "seventh of that contrast.",
        "Embedding: in pretraining the authors join the averages of five convolutional blocks behind the Swin "
        "transformer (4,608 numbers); the encoder here is the Swin transformer alone and both recipes take its last "
        "level.",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="VoCo_H_SSL_head.pt",
        keys=134,
        layouts=tuple(Layout(container, prefix) for container, prefix in product(("", "state_dict"), PREFIXES)),
        repo="Luffy503/VoCo",
        sha256="a88216d079191bf7c81319ab468e0f45a0c2e7d3eb46f5964f34a3e1e6a6f4a3",
        size=3_400_000_000,
        note="The 11 tensors of the convolutional blocks, encoder1 to encoder10, are left out. That the file has bare "
        "keys follows from its size and from what is said of a smaller file of the same series; it is not proven.",
    ),
    objective="geometric context of crops",
    architecture="3D SwinUNETR encoder",
    pretraining="160,000 CTs of 30 public sets",
    parameters_paper=294.86,
    parameters_encoder=294.864,
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    citation="wu2024voco",
    overlap="not excluded: pretrained on public sets",
)
