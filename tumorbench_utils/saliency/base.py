"""What all ways to make and judge a map share: checks, images embedded batch by batch, cosine distances."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:
    import torch

ROUNDING = 1e-12  # cosine distances below it are what float32 leaves of equal directions
Embed = Callable[["torch.Tensor"], "torch.Tensor"]  # values (n, 1, *size) as an encoder takes them -> (n, dim)


class SaliencyError(ValueError):
    """A map that cannot be made or judged; the message gives the reason."""


def check_image(image: torch.Tensor) -> None:
    """An image is (1, 1, *size) with three axes, of floats that are all finite."""
    shape = tuple(image.shape)
    if len(shape) != 5 or shape[:2] != (1, 1) or not image.is_floating_point():
        raise SaliencyError(f"the image is {shape} of {image.dtype}, must be (1, 1, *size) with three axes, of floats")
    broken = int((~image.isfinite()).sum())
    if broken:
        raise SaliencyError(f"the image holds NaN or infinity in {broken} of {image.numel()} voxels")


def check_map(saliency: np.ndarray) -> np.ndarray:
    """``saliency`` in float64; one that is empty, not finite or the same everywhere is a :class:`SaliencyError`."""
    values = np.asarray(saliency, np.float64)
    broken = np.count_nonzero(~np.isfinite(values))
    if broken or not values.size:
        raise SaliencyError(f"the map holds NaN or infinity in {broken} of {values.size} voxels")
    if values.min() == values.max():
        raise SaliencyError(f"the map is {values.flat[0]:g} in all {values.size} voxels: it points nowhere")
    return values


def value_of(fill: str | float, image: torch.Tensor) -> torch.Tensor | float:
    """The value that stands for nothing: a number as it is, or the mean of the image (on its device) for "mean"."""
    if isinstance(fill, str):
        if fill != "mean":
            raise SaliencyError(f"the value is '{fill}', must be a number or 'mean'")
        return image.mean()
    if not math.isfinite(fill):
        raise SaliencyError(f"the value is {fill}, must be finite")
    return float(fill)


def embedded(
    embed: Embed, make: Callable[[np.ndarray], torch.Tensor], count: int, batch: int, progress: bool = False
) -> np.ndarray:
    """Embeddings (count, dim) float64 of the images 0..count-1, which ``make`` gives (n, 1, *size) by their numbers.

    At most ``batch`` at a time, in batches that differ by one image at most: torch may convolve a lone one by another
    kernel. Vectors stay on their device until the last; nothing is waited for in between.
    """
    import torch

    if batch < 1:
        raise SaliencyError(f"batch is {batch}, must be 1 or more")
    found = []
    with torch.no_grad():
        for numbers in tqdm(np.array_split(np.arange(count), math.ceil(count / batch)), disable=not progress):
            vectors = embed(make(numbers))
            if vectors.ndim != 2 or len(vectors) != len(numbers):
                raise SaliencyError(f"embed gave {tuple(vectors.shape)} for {len(numbers)} images, must be (n, dim)")
            found.append(vectors)
        return torch.cat(found).float().cpu().numpy().astype(np.float64)


def unusable(vectors: np.ndarray) -> np.ndarray:
    """Rows of (n, dim) that have no direction: NaN, infinite or zero."""
    return np.flatnonzero(~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)))


def cosine_distances(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(n,) 1 - cosine similarity of (n, dim) to (dim,)."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference)
    return distances_of(vectors @ reference / lengths)


def distances_of(cosines: np.ndarray) -> np.ndarray:
    """1 - cosine, and exactly 0 where it is rounding, or the map of a constant embedding would be one of noise."""
    distances = 1 - cosines
    return np.where(distances < ROUNDING, 0, distances)
