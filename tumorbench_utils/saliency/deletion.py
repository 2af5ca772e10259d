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

    ``random_distance`` (steps + 1,) and ``random_area`` are those of blocks in a random order, ends in common.
    """

    share: np.ndarray
    distance: np.ndarray
    area: float
    random_distance: np.ndarray
    random_area: float


def deletion(
    embed: Embed,
    image: torch.Tensor,
    saliency: np.ndarray,
    steps: int = 10,
    fill: str | float = "mean",
    batch: int = 8,
    block: int = 6,
    seed: int = 0,
) -> Deletion:
    """Replace voxels of ``image`` (1, 1, *size) by ``fill`` (a scaled value, or "mean"), most salient first.

    ``saliency`` is (*size); equally salient voxels go in a random order drawn with ``seed``. Petsiuk et al. 2018,
    arXiv 1806.07421, sec. 4.2, with the distance of embeddings in place of a class probability.

    The control replaces blocks of ``block`` voxels a side in a random order. Single voxels (``block`` 1) sown over the
    image are a noise that moves an encoder more than most maps do: a control that says little about the map.

    :class:`SaliencyError` for a map that is constant or not finite, embeddings that are zero, NaN or infinite, and an
    embedding that does not move when every voxel is replaced.
    """
    check_image(image)
    values = check_map(saliency)
    if values.shape != tuple(image.shape[2:]):
        raise SaliencyError(f"the map is {values.shape}, the image {tuple(image.shape[2:])}")
    if steps < 2 or block < 1:
        raise SaliencyError(f"steps is {steps}, must be 2 or more; block is {block}, must be 1 or more")
    share = np.linspace(0, 1, steps + 1)
    counts = np.rint(share * values.size).astype(int)
    places = _places(values, block, seed)
    # the control begins and ends with the images of the map's own curve
    asked = [(0, count) for count in counts] + [(1, count) for count in counts[1:-1]]
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
    control = np.concatenate([[distance[0]], found[steps + 1 :], [last]])
    area, random_area = (float(np.trapezoid(curve, share) / last) for curve in (distance, control))
    return Deletion(share, distance, area, control, random_area)


def _places(values: np.ndarray, block: int, seed: int) -> np.ndarray:
    """(2, *size) place of each voxel in the order of replacement, 0 first: by saliency, and by random blocks."""
    rng = np.random.default_rng(seed)
    tie = rng.permutation(values.size)
    coarse = rng.permutation(int(np.prod([-(-length // block) for length in values.shape])))
    coarse = coarse.reshape([-(-length // block) for length in values.shape])
    blocks = coarse[np.ix_(*(np.arange(length) // block for length in values.shape))]
    places = np.empty((2, values.size), np.int64)
    for row, first in zip(places, (-values, blocks), strict=True):
        row[np.lexsort((tie, first.ravel()))] = np.arange(values.size)
    return places.reshape(2, *values.shape)


def _maker(image: torch.Tensor, places: np.ndarray, asked: list[tuple[int, int]], fill: str | float):
    """Images by number: of which order, and how many voxels are replaced, is ``asked``."""
    import torch

    value = torch.zeros((), dtype=image.dtype, device=image.device) + value_of(fill, image)
    places = torch.from_numpy(places).to(image.device)

    def make(numbers: np.ndarray) -> torch.Tensor:
        chosen = [asked[number] for number in numbers]
        return torch.cat([torch.where(places[order] < int(count), value, image) for order, count in chosen])

    return make
