"""Occlusion: how far the embedding moves when a window of the image is hidden (Zeiler and Fergus, arXiv 1311.2901).

As MONAI's ``OcclusionSensitivity`` does it, which the study uses: a window slides over the image, every position is
embedded, a voxel gets the weighted average of the embeddings of the windows over it, and the map is the cosine distance
of that average to the embedding of the whole image. MONAI holds the average, dim x voxels; here it is never formed.
With weights W (voxels, windows), embeddings E (windows, dim) and b of the whole image, its product with b is W (E b)
and its squared length the sum over pairs of windows of W_i W_j (E E^T)_ij.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..models.base import monai_alone
from .base import Embed, SaliencyError, check_image, cosine_distances, distances_of, embedded, unusable, value_of

if TYPE_CHECKING:
    import torch

FILLS = ("gaussian", "mean", "local")


@dataclass(frozen=True)
class Occlusion:
    """A map and what it was made of.

    ``map`` (*size) float32, cosine distances; ``windows`` (N, 3) first voxels of windows of ``size`` voxels;
    ``distances`` (N,) cosine distance of each window's own embedding; ``baseline`` (dim,) embedding of the whole image;
    ``forwards`` images that were embedded, the whole one included.
    """

    map: np.ndarray
    windows: np.ndarray
    size: tuple[int, int, int]
    distances: np.ndarray
    baseline: np.ndarray
    forwards: int


def occlude(
    embed: Embed,
    image: torch.Tensor,
    size: int | Sequence[int] = 12,
    overlap: float = 0.25,
    fill: str | float = "gaussian",
    batch: int = 8,
    progress: bool = False,
) -> Occlusion:
    """Slide a window of ``size`` voxels (one number, or one an axis) over ``image`` (1, 1, *size) of scaled values.

    ``embed`` takes (n, 1, *size) and gives (n, dim). Neighbouring windows share ``overlap`` of their width, and the
    last ends with the image. ``fill`` says what stands in a window:

    "gaussian": the values times 1 - Gaussian, so zero in the middle and nearly unchanged at the edge; windows are
        averaged by Gaussian weights. This is the study: MONAI's default, which the released code does not change.
    "mean": the mean of the image; "local": the mean of the window; a number: that (scaled) value, as of air.

    :class:`SaliencyError` for a window larger than the image, and for embeddings that are zero, NaN or infinite.
    """
    check_image(image)
    shape = tuple(image.shape[2:])
    size = _window(size, shape, overlap)
    windows = _positions(shape, size, overlap)
    replaced = _replacement(fill, image, size)
    boxes = [_box(first, size) for first in windows]

    def make(numbers: np.ndarray) -> torch.Tensor:
        """Image 0 is the whole one, image n lacks window n - 1."""
        copies = image.expand(len(numbers), *image.shape[1:]).clone()
        for copy, number in zip(copies, numbers, strict=True):
            if number:
                box = boxes[number - 1]
                copy[box] = replaced(image[0][box])
        return copies

    vectors = embedded(embed, make, len(windows) + 1, batch, progress)
    baseline, vectors = vectors[0], vectors[1:]
    _check(baseline, vectors, windows)
    return Occlusion(
        map=_combined(vectors, baseline, windows, _weights(fill, size), shape),
        windows=windows,
        size=size,
        distances=cosine_distances(vectors, baseline),
        baseline=baseline.astype(np.float32),
        forwards=len(windows) + 1,
    )


def _window(size: int | Sequence[int], shape: tuple, overlap: float) -> tuple[int, int, int]:
    size = (size,) * 3 if np.ndim(size) == 0 else tuple(size)
    if len(size) != 3 or any(each < 1 or each != int(each) for each in size):
        raise SaliencyError(f"the window is {size}, must be a whole number of voxels, or three")
    if any(each > whole for each, whole in zip(size, shape, strict=True)):
        raise SaliencyError(f"the window of {size} voxels is larger than the image of {shape}; take a smaller one")
    if not 0 <= overlap < 1:
        raise SaliencyError(f"overlap is {overlap}, must be 0 or more and less than 1")
    return tuple(int(each) for each in size)


def _positions(shape: tuple, size: tuple, overlap: float) -> np.ndarray:
    """First voxels (N, 3) of the windows, as MONAI's ``sliding_window_inference`` places them."""
    with monai_alone():
        from monai.data.utils import dense_patch_slices

    step = [max(1, int(each * (1 - overlap))) for each in size]
    return np.array([[part.start for part in box] for box in dense_patch_slices(shape, size, step)])


def _box(first: np.ndarray, size: tuple) -> tuple[slice, ...]:
    """Where a window lies in an image (1, *size)."""
    return (slice(None), *(slice(int(start), int(start) + each) for start, each in zip(first, size, strict=True)))


def _replacement(fill: str | float, image: torch.Tensor, size: tuple) -> Callable:
    """What a window (1, *size) becomes; everything stays on the device of the image."""
    if fill == "gaussian":
        with monai_alone():
            from monai.visualize import OcclusionSensitivity

        factor, _ = OcclusionSensitivity.gaussian_occlusion(image.new_zeros(1, 1, 1, device="cpu"), size)
        factor = factor[0].to(image.device)
        return lambda window: window * factor
    if fill == "local":
        return lambda window: window.mean()
    if isinstance(fill, str) and fill not in FILLS:
        raise SaliencyError(f"fill is '{fill}', must be a number or one of {', '.join(FILLS)}")
    value = value_of(fill, image)
    return lambda window: value


def _weights(fill: str | float, size: tuple) -> np.ndarray:
    """(*size) weight of a window's embedding at each of its voxels."""
    with monai_alone():
        from monai.data.utils import compute_importance_map

    return compute_importance_map(size, mode="gaussian" if fill == "gaussian" else "constant").numpy().astype(float)


def _check(baseline: np.ndarray, vectors: np.ndarray, windows: np.ndarray) -> None:
    if len(unusable(baseline[None])):
        raise SaliencyError("the embedding of the whole image holds NaN or infinity or is zero")
    broken = unusable(vectors)
    if len(broken):
        first = tuple(windows[broken[0]].tolist())
        raise SaliencyError(
            f"{len(broken)} of {len(vectors)} embeddings hold NaN or infinity or are zero, "
            f"the first with the window at voxel {first} hidden"
        )


def _combined(
    vectors: np.ndarray, baseline: np.ndarray, windows: np.ndarray, weights: np.ndarray, shape: tuple
) -> np.ndarray:
    """The map (*shape) float32 of embeddings (N, dim) of windows.

    The edges of the windows cut the image into cells, in each of which the same few windows lie over every voxel.
    Weights need not sum to 1, since a cosine does not depend on lengths.
    """
    along = vectors @ baseline
    pairs = vectors @ vectors.T
    starts = [np.unique(windows[:, axis]) for axis in range(3)]
    numbers = np.arange(len(windows)).reshape([len(each) for each in starts])  # windows run along the last axis first
    cosine = np.empty(shape)
    cells = [_cells(starts[axis], weights.shape[axis], shape[axis]) for axis in range(3)]
    for cell in itertools.product(*cells):
        over = numbers[np.ix_(*(members for _, members, _ in cell))].ravel()
        weight = _weights_in([offsets for _, _, offsets in cell], weights)
        squared = np.einsum("iv,iv->v", weight, pairs[np.ix_(over, over)] @ weight)
        place = tuple(where for where, _, _ in cell)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = along[over] @ weight / np.sqrt(squared)
        cosine[place] = found.reshape(cosine[place].shape)
    cosine /= np.linalg.norm(baseline)
    opposed = np.count_nonzero(~np.isfinite(cosine))
    if opposed:
        raise SaliencyError(f"the embeddings of the windows over {opposed} of {math.prod(shape)} voxels cancel out")
    return distances_of(cosine).astype(np.float32)


def _cells(starts: np.ndarray, width: int, length: int) -> list[tuple[slice, np.ndarray, np.ndarray]]:
    """Along one axis: each cell, the windows over it, and where in each of them its voxels lie (windows, voxels)."""
    edges = np.unique([0, length, *starts, *(starts + width)])
    cells = []
    for first, stop in itertools.pairwise(edges):
        members = np.flatnonzero((starts <= first) & (starts + width >= stop))
        cells.append((slice(first, stop), members, np.arange(first, stop) - starts[members, None]))
    return cells


def _weights_in(offsets: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """(windows, voxels) weights in a cell from the offsets (windows, voxels) along each axis."""
    x, y, z = offsets
    found = weights[x[:, None, None, :, None, None], y[:, None, None, :, None], z[:, None, None, :]]
    return found.reshape(len(x) * len(y) * len(z), -1)
