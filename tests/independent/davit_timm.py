"""MedImageInsight's image tower against timm's DaViT, the same random weights in both, through a true-layout file."""

import re
import sys
import tempfile
from pathlib import Path

import timm
import torch
from torch.nn.functional import normalize

from tumorbench_utils.models import loading, medimageinsight

TOLERANCE = 1e-4  # of the largest number
PUBLISHED = (  # timm's names to those of the published file
    (r"^stem\.conv\.", "convs.0.proj."),
    (r"^stem\.norm\.", "convs.0.norm."),
    (r"^stages\.(\d+)\.downsample\.conv\.", r"convs.\1.proj."),
    (r"^stages\.(\d+)\.downsample\.norm\.", r"convs.\1.norm."),
    (r"^stages\.(\d+)\.blocks\.", r"blocks.\1."),
    (r"\.cpe([12])\.proj\.", r".conv\1.fn.dw."),
    (r"spatial_block\.norm1\.", "spatial_block.window_attn.norm."),
    (r"channel_block\.norm1\.", "channel_block.channel_attn.norm."),
    (r"spatial_block\.attn\.", "spatial_block.window_attn.fn."),
    (r"channel_block\.attn\.", "channel_block.channel_attn.fn."),
    (r"\.norm2\.", ".ffn.norm."),
    (r"\.mlp\.", ".ffn.fn.net."),
    (r"^head\.norm\.", "norms."),
)


def published(name: str) -> str:
    """Name in the published file of a tensor of timm's network."""
    for pattern, replacement in PUBLISHED:
        name = re.sub(pattern, replacement, name)
    return f"image_encoder.{name}"


def main() -> int:
    """Print the largest relative difference of two slices' vectors; 1 if it is beyond the tolerance."""
    torch.manual_seed(0)
    theirs = timm.create_model("davit_huge_fl", pretrained=False, num_classes=0).eval().requires_grad_(False)
    for parameter in theirs.parameters():
        if parameter.ndim == 1:  # else norms and biases would be ones and zeros, which hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    projection = torch.randn(2048, 1024) / 2048**0.5
    content = {published(name): tensor for name, tensor in theirs.state_dict().items()}
    content |= {"image_projection": projection, "lang_projection": torch.zeros(8, 8), "logit_scale": torch.zeros(())}
    ours = medimageinsight.build().eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        torch.save(content, path)
        loaded = loading.load(ours, medimageinsight.MODEL.checkpoint, path)
    slices = torch.rand(2, 48, 48)
    expected = normalize(theirs(medimageinsight.pixels(slices)) @ projection, dim=1)
    difference = (medimageinsight.unit_vectors(ours, slices) - expected).abs().max() / expected.abs().max()
    print(
        f"{loaded.loaded} tensors, {loaded.dropped} dropped; timm {timm.__version__}, torch {torch.__version__}: "
        f"largest relative difference {difference:.1e}"
    )
    return int(not difference <= TOLERANCE)  # not a number is no success


if __name__ == "__main__":
    sys.exit(main())
