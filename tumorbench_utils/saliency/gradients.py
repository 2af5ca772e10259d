"""Integrated gradients: what each voxel adds to the likeness with the whole image, on the way from a blank one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..models.encoder import reproducible
from .base import Embed, SaliencyError, check_image, cosine_distances, unusable, value_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Gradients:
    """``map`` (*size) float32, signed: its sum should be what the likeness gains from the blank image to the whole.

    ``gain`` is that difference of cosine similarities, ``completeness`` by how much of it the sum is off: with more
    steps it goes to 0, and a map of which it is large should not be believed.
    """

    map: np.ndarray
    gain: float
    completeness: float


def integrated(
    embed: Embed,
    image: torch.Tensor,
    start: str | float = "mean",
    steps: int = 16,
    method: str = "gausslegendre",
    internal_batch_size: int = 4,
) -> Gradients:
    """Captum's integrated gradients of f(x) = cosine of embed(x) and embed(image), for ``image`` (1, 1, *size).

    ``embed`` takes (n, 1, *size), gives (n, dim) and lets gradients through. ``start`` is the value of the blank image
    in which the path begins, a number or "mean" for that of the image; ``steps`` points lie on the path, of which
    ``internal_batch_size`` are in memory together; ``method`` is a quadrature rule of Captum's. Sundararajan et al.
    2017, arXiv 1703.01365, eq. 1; completeness is its proposition 1.

    :class:`SaliencyError` where the embedding has no direction or no gradient, or the blank image is embedded as the
    whole one is.
    """
    import torch
    from captum.attr import IntegratedGradients

    check_image(image)
    if steps < 1 or internal_batch_size < 1:
        raise SaliencyError(f"steps is {steps} and internal_batch_size {internal_batch_size}, must be 1 or more")
    image = image.detach()
    blank = torch.zeros_like(image) + value_of(start, image)
    with torch.no_grad():
        target = embed(image)
        ends = torch.cat([target, embed(blank)]).float().cpu().numpy().astype(np.float64)
    for number in unusable(ends):
        name = ("whole", "blank")[number]
        raise SaliencyError(f"the embedding of the {name} image holds NaN or infinity or is zero")
    gain = float(cosine_distances(ends, ends[0])[1])
    if not gain:
        raise SaliencyError("the blank image is embedded as the whole one is: there is nothing to explain")

    def likeness(values: torch.Tensor) -> torch.Tensor:
        vectors = embed(values)
        if not vectors.requires_grad:
            raise SaliencyError("embed lets no gradients through; take the encoder's differentiable form")
        return torch.nn.functional.cosine_similarity(vectors, target)

    rule = IntegratedGradients(likeness, multiply_by_inputs=True)
    with reproducible():
        found = rule.attribute(image, blank, n_steps=steps, method=method, internal_batch_size=internal_batch_size)
    found = found[0, 0].detach().cpu().numpy().astype(np.float64)
    broken = np.count_nonzero(~np.isfinite(found))
    if broken:
        raise SaliencyError(f"the gradients are NaN or infinite in {broken} of {found.size} voxels")
    return Gradients(found.astype(np.float32), gain, float(abs(found.sum() - gain) / abs(gain)))
