"""MedImageInsight: a 2D encoder, one vector a slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

SIDE = 480  # pixels
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours
SLICES = 8  # that go through the encoder at a time, so that memory stays bounded


def build(width: int = 256, depths: tuple[int, ...] = (1, 1, 9, 1)) -> Module:
    """A DaViT, the image tower of Florence-2, with its last norm and the projection to what is shared with text."""
    import torch
    from transformers.models.florence2 import Florence2VisionConfig
    from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone

    dims = tuple(width * factor for factor in (1, 2, 4, 8))
    heads = tuple(dim // 32 for dim in dims)
    config = Florence2VisionConfig(
        embed_dim=dims, num_heads=heads, num_groups=heads, depths=depths, window_size=12, drop_path_rate=0.0
    )
    encoder = torch.nn.Module()
    encoder.image_encoder = Florence2VisionBackbone(config)
    encoder.image_encoder.norms = torch.nn.LayerNorm(dims[-1])
    encoder.image_projection = torch.nn.Parameter(torch.randn(dims[-1], 1024) * dims[-1] ** -0.5)
    return encoder


def pixels(slices: Tensor) -> Tensor:
    """Slices (m, rows, columns) in [0, 1] as the encoder takes them, (m, 3, 480, 480), by way of 8-bit grey levels.

    The released pipeline saves slices as PNG and enlarges them with Pillow, along the rows and then along the columns,
    both times rounded to 8 bits. Pillow's bicubic kernel is torch's antialiased one.
    """
    from torch.nn.functional import interpolate

    grey = (slices.float() * 255).floor()[:, None]
    for size in ((slices.shape[1], SIDE), (SIDE, SIDE)):
        grey = (interpolate(grey, size, mode="bicubic", antialias=True) + 0.5).floor().clamp(0, 255)
    grey = grey / 255
    mean, deviation = (grey.new_tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
    return (grey - mean) / deviation


def unit_vectors(encoder: Module, slices: Tensor) -> Tensor:
    """Unit vectors (m, 1024) of slices (m, rows, columns) in [0, 1]."""
    from torch.nn.functional import normalize

    space = encoder.image_encoder(pixels(slices)).last_hidden_state
    pooled = encoder.image_encoder.norms(space.float().mean((2, 3)))
    return normalize((pooled @ encoder.image_projection).float(), dim=1)


def embed(encoder: Module, batch: Tensor) -> Tensor:
    """The mean (n, 1024) of the unit vectors of the slices along the first axis; patches go one by one."""
    import torch

    parts = ([unit_vectors(encoder, part) for part in patch.split(SLICES)] for patch in batch[:, 0])
    return torch.stack([torch.cat(vectors).mean(0) for vectors in parts])


def released(encoder: Module, batch: Tensor) -> Tensor:
    """The same of slices along the last axis."""
    return embed(encoder, batch.movedim(-1, 2))


RENAME = (
    (r"^visual\.", "image_encoder."),  # names of older files, which the authors' loader still takes
    (r"^vision_projection$", "image_projection"),
    (r"\.conv_embeds\.", ".convs."),
    (r"\.main_blocks\.", ".blocks."),
    (r"(\.blocks\.\d+\.\d+)\.0\.", r"\1.spatial_block."),
    (r"(\.blocks\.\d+\.\d+)\.1\.", r"\1.channel_block."),
    (r"\.cpe\.0\.proj\.", ".conv1."),
    (r"\.cpe\.1\.proj\.", ".conv2."),
    (r"spatial_block\.attn\.", "spatial_block.window_attn."),
    (r"channel_block\.attn\.", "channel_block.channel_attn."),
    (r"\.mlp\.", ".ffn."),
    (r"(\.convs\.\d+)\.proj\.", r"\1.conv."),  # those of the published file
    (r"\.(conv[12])\.fn\.dw\.", r".\1."),
    (r"\.(?:window|channel)_attn\.norm\.", ".norm1."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.(window_attn|channel_attn)\.fn\.", r".\1."),
    (r"\.ffn\.fn\.net\.", ".ffn."),
)
TEXT = ("lang_encoder.*", "lang_projection", "text.*", "text_projection", "logit_scale")
WINDOW = ((-1000, 0), (1000, 1))
POOLING = "average over space, projection, unit length, average over slices"

MODEL = Model(
    id="medimageinsight",
    title="MedImageInsight",
    year=2024,
    released_name="MedImageInsightExtractor",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "LPS", (48, 48, 48), WINDOW, 1024, released, POOLING),
    authors=Recipe(
        Geometry("medimageinsight_authors", (1, 1, 1), (48, 48, 48), "exact"),
        axes="SPL",
        size=(48, 48, 48),
        window=WINDOW,
        dim=1024,
        embed=embed,
        pooling=POOLING,
    ),
    differences=(
        "Axes: slices are shown as radiologists see them, rows to the back and columns to the left; the released code "
        "gives the encoder their transpose.",
        "Intensities, size and spacing are the same: the authors publish no recipe for patches of CT.",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="2024.09.27/vision_model/medimageinsigt-v1.0.0.pt",
        keys=403,
        layouts=(Layout(drop=TEXT, rename=RENAME),),
        repo="lion-ai/MedImageInsights",
        gated=False,
        size=2_460_000_000,
        note="The text encoder is left out. medimageinsight-v1.0.0.pt of joortif/medimageinsights, safetensors "
        "despite its name, can be given as a file; that both hold the same weights is not proven.",
    ),
    objective="contrast of image, text and label, many modalities",
    architecture="2D vision transformer (DaViT), mean over slices",
    pretraining="3.7 million image-text pairs",
    parameters_paper=616.0,
    parameters_encoder=362.734,
    code_licence="MIT",
    weights_licence="MIT",
    citation="codella2024medimageinsight",
    note="The study's released code never left the training mode, in which blocks are dropped at random (rate up to "
    "0.2): its published features, and their stability, differ from run to run. Here nothing is dropped. The paper's "
    "count of parameters includes the text encoder.",
)
