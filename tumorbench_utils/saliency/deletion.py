"""Deletion: if a map is right, the embedding moves fast when the most salient voxels go first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .base import Embed, SaliencyError, check_image, check_map, cosine_distances, embedded, unusable, value_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Deletion:
    """``share`` (steps + 1,) of the voxels replaced, 0 to 1, and the cosine ``distance`` (steps + 1,) of the embedding
    to that of the whole image; ``area`` under the curve after division by its last value. The larger the area the
    earlier the map named what matters: 0.5 for a straight line, above 1 if the embedding moves farther than in the end.

    ``displaced_distance`` (3, steps + 1) and ``displaced_area`` (3,) are those of the same map displaced by half the
    patch along each axis, ends in common.
    """

    share: np.ndarray
    distance: np.ndarray
    area: float
    displaced_distance: np.ndarray
    displaced_area: np.ndarray

    @property
    def counts(self) -> bool:
        """Whether the place of the map matters: its area is larger than all three of the displaced maps."""
        return bool((self.area > self.displaced_area).all())


def deletion(
    embed: Embed,
    image: torch.Tensor,
    saliency: np.ndarray,
    steps: int = 8,
    fill: str | float = "mean",
    batch: int = 8,
    seed: int = 0,
) -> Deletion:
    """Replace voxels of ``image`` (1, 1, *size) by ``fill`` (a scaled value, or "mean"), most salient first.

    ``saliency`` is (*size); equally salient voxels go in a random order drawn with ``seed``. Petsiuk et al. 2018,
    arXiv 1806.07421, sec. 4.2, with the distance of embeddings in place of a class probability.

    The control is the same map in the wrong place: displaced by half the patch along each axis in turn, what leaves on
    one side coming back on the other. It replaces voxels in the same patterns, be they clumps or single voxels sown
    over the image, which move an encoder more than clumps do whatever they hide. A map of noise has a larger area than
    all three once in four times.

    :class:`SaliencyError` for a map that is constant or not finite, embeddings that are zero, NaN or infinite, and an
    embedding that does not move when every voxel is replaced.
    """
    check_image(image)
    values = check_map(saliency)
    if values.shape != tuple(image.shape[2:]):
        raise SaliencyError(f"the map is {values.shape}, the image {tuple(image.shape[2:])}")
    if steps < 2 or min(values.shape) < 2:
        raise SaliencyError(f"steps is {steps}, the map {values.shape}: both must be 2 or more, on every axis")
    share = np.linspace(0, 1, steps + 1)
    counts = np.rint(share * values.size).astype(int)
    places = _places(values, seed)
    # displaced maps begin and end with the images of the map's own curve
    asked = [(0, count) for count in counts]
    asked += [(order, count) for order in range(1, len(places)) for count in counts[1:-1]]
    vectors = embedded(embed, _maker(image, places, asked, fill), len(asked), batch)
    broken = unusable(vectors)
    if len(broken):
        raise SaliencyError(
            f"{len(broken)} of {len(vectors)} embeddings hold NaN or infinity or are zero, "
            f"the first with {asked[broken[0]][1]} of {values.size} voxels replaced"
        )
    found = cosine_distances(vectors, vectors[0])
    distance, last = found[: steps + 1], found[steps]
    if not last:
        raise SaliencyError("the embedding does not move when every voxel is replaced: no area")
    between = found[steps + 1 :].reshape(3, steps - 1)
    displaced = np.column_stack([np.full(3, distance[0]), between, np.full(3, last)])
    area, displaced_area = (np.trapezoid(curve, share) / last for curve in (distance, displaced))
    return Deletion(share, distance, float(area), displaced, displaced_area)


def _places(values: np.ndarray, seed: int) -> np.ndarray:
    """(4, *size) place of each voxel in the order of replacement, 0 first: the map's, and displaced along each axis."""
    tie = np.random.default_rng(seed).permutation(values.size)
    places = np.empty(values.size, np.int64)
    places[np.lexsort((tie, -values.ravel()))] = np.arange(values.size)
    places = places.reshape(values.shape)
    return np.stack([places, *(np.roll(places, length // 2, axis) for axis, length in enumerate(values.shape))])


def _maker(image: torch.Tensor, places: np.ndarray, asked: list[tuple[int, int]], fill: str | float):
    """Images by number: of which order, and how many voxels are replaced, is ``asked``."""
    import torch

    value = torch.zeros((), dtype=image.dtype, device=image.device) + value_of(fill, image)
    places = torch.from_numpy(places).to(image.device)

    def make(numbers: np.ndarray) -> torch.Tensor:
        chosen = [asked[number] for number in numbers]
        return torch.cat([torch.where(places[order] < int(count), value, image) for order, count in chosen])

    return make
