"""CT-CLIP: the image tower of a chest CT and report model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

GRID = Geometry("ct_clip_authors", (0.75, 0.75, 1.5), (60, 60, 60), "exact")
WINDOW = ((-1000, -1), (1000, 1))
POOLING = "average of quantised tokens"
UNUSED = ("to_pixels*", "to_patch_emb_first_frame.*", "dec_*", "vq._codebook.initted", "vq._codebook.cluster_size")


def build() -> Module:
    """CT-ViT without its decoder."""
    from ..networks.ct_vit import CTViT

    return CTViT()


def embed(encoder: Module, batch: Tensor) -> Tensor:
    """Average of the quantised tokens, (n, 512)."""
    return encoder(batch).mean(dim=(1, 2, 3))


MODEL = Model(
    id="ct_clip",
    title="CT-CLIP",
    build=build,
    benchmark=Recipe(BENCHMARK[1], "SLP", (60, 60, 60), WINDOW, 512, embed, POOLING, pad=0),
    authors=Recipe(GRID, "SLP", (60, 60, 60), WINDOW, 512, embed, POOLING, pad=-1000),
    differences=(
        "Spacing: the authors' 1.5 mm are along S; the released code sets them before it turns the axes, so along L.",
        "Padding: the authors pad with -1, which is air; the released code with 0 after scaling, which is 0 HU.",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
        "Size and pooling are the released ones in both: the authors' image vector needs their whole 240 x 480 x 480.",
    ),
    checkpoint=Checkpoint(
        file="models/CT-CLIP-Related/CT-CLIP_v2.pt",
        keys=145,
        layouts=(Layout(prefix="visual_transformer.", drop=UNUSED),),
        repo="ibrahimhamamci/CT-RATE",
        repo_type="dataset",
        gated=True,
        note="Not opened here: 157 tensors of the image tower are expected, of which 12 are for its decoder, for "
        "single slices, or for the training of the codes.",
    ),
    year=2024,
    released_name="CTClipVitExtractor",
    objective="contrast of image and report, chest CT",
    architecture="3D vision transformer (CT-ViT)",
    pretraining="25,692 CTs of CT-RATE",
    parameters_paper=25.89,
    parameters_encoder=23.426,
    code_licence="CC BY-NC-SA 4.0",
    weights_licence="CC BY-NC-SA 4.0",
    citation="hamamci2024ctclip",
    note="A token near the border of two codes jumps between them, so a small change, also of precision, may show.",
)
