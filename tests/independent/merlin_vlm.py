"""Merlin's image encoder against merlin-vlm's I3ResNet, the same random weights in both, through a true-layout file.

Only that class is used: constructing the package's ``Merlin`` would download weights.
"""

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from merlin.models.i3res import I3ResNet
from torch.nn.functional import normalize
from torchvision.models import resnet152

from tumorbench_utils.models import loading, merlin

TOLERANCE = 1e-4  # of the largest number


def disturb(module: torch.nn.Module) -> None:
    """Random statistics and offsets, and weights off the middle slice, which inflation leaves at zero."""
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(0.1 * torch.randn_like(tensor))
        elif tensor.ndim == 5:
            tensor.normal_(std=tensor[0].numel() ** -0.5)


def relative(some: torch.Tensor, others: torch.Tensor) -> float:
    """Largest difference, as part of the largest number."""
    return float((some - others).abs().max() / others.abs().max())


def main() -> int:
    """Print the largest relative differences of two patches' vectors; 1 if one is beyond the tolerance."""
    torch.manual_seed(0)
    theirs = I3ResNet(resnet152(weights=None), class_nb=1692, conv_class=True).eval().requires_grad_(False)
    disturb(theirs)
    content = {f"encode_image.i3_resnet.{name}": tensor for name, tensor in theirs.state_dict().items()}
    content |= {"encode_text.linear_layer.bias": torch.zeros(512), "logit_scale": torch.zeros(())}
    ours = merlin.build().eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        torch.save(content, path)
        loaded = loading.load(ours, merlin.MODEL.checkpoint, path)
    patches = torch.rand(2, 1, 48, 64, 32)  # R, A, S of different lengths, so that a wrong order shows
    contrastive = normalize(theirs(patches)[0], dim=1)
    theirs.ImageEmbedding = True
    features = theirs(patches)[0]
    differences = {
        "contrastive": relative(merlin.embed(ours, patches), contrastive),
        "features": relative(merlin.features(ours, patches), features),
    }
    print(
        f"{loaded.loaded} tensors, {loaded.dropped} dropped, {loaded.other} other; merlin-vlm {version('merlin-vlm')}, "
        f"torch {torch.__version__}: largest relative difference "
        + ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    )
    return int(not all(value <= TOLERANCE for value in differences.values()))  # not a number is no success


if __name__ == "__main__":
    sys.exit(main())
