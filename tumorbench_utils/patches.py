"""From a CT volume to patches: the sampling grids, and what the released pipeline makes of a seed point.

Arrays of this module have the axes R, A, S (x to the right, y to the front, z upwards: the order and directions of
the released pipeline's own arrays); seed points are LPS mm, as in every table. ``released`` sampling is that of
tumorimagingbench 0.1.4 on MONAI: the whole volume is resampled to a grid that starts in its own lowest corner, the
seed is truncated to a voxel of that grid, and the patch is cut there, clamped at the borders and padded. Here only
the voxels of the patch are computed. ``exact`` sampling puts the centre of the patch on the seed point itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .imaging import Volume

AIR = -1024  # HU, of voxels that no CT voxel lies under
RAS_OF_LPS = np.array([-1.0, -1.0, 1.0])
AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
ALIGNED = 1e-7  # rotation, in voxels a voxel, up to which a volume counts as axis-parallel
HIDDEN = 1e-8  # mm: how far a corner may be off the lowest on an axis and still start the grid, as in MONAI


@dataclass(frozen=True)
class Geometry:
    """A sampling grid: ``spacing`` (3,) mm along x, y, z, the largest patch ``size`` (3,) voxels, and the sampling.

    Patches of any smaller even size can be read from the same samples.
    """

    id: str
    spacing: tuple[float, float, float]
    size: tuple[int, int, int]
    sampling: str = "released"

    def __post_init__(self) -> None:
        if self.sampling not in ("released", "exact"):
            raise ValueError(f"geometry {self.id}: sampling is '{self.sampling}', must be released or exact")
        if min(self.spacing) <= 0 or any(n < 2 or n % 2 for n in self.size):
            raise ValueError(f"geometry {self.id}: spacing must be positive and sizes even, the released crop is")


# What the ten models' `benchmark` recipes need: CT-CLIP's spacing is applied to x, y, z before its axes are turned.
BENCHMARK = (
    Geometry("iso_1mm", (1.0, 1.0, 1.0), (64, 64, 64)),
    Geometry("ct_clip", (1.5, 0.75, 0.75), (60, 60, 60)),
)


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a resampled volume lie: the index-to-RAS ``affine`` (4, 4) in mm, without rotation, and
    ``shape`` (3,)."""

    affine: np.ndarray
    shape: np.ndarray

    def voxel(self, seed: np.ndarray) -> np.ndarray:
        """Voxel (3,) of an LPS seed point (3,), truncated towards zero as the released crop does."""
        index = np.linalg.inv(self.affine) @ np.append(np.asarray(seed) * RAS_OF_LPS, 1.0)
        return np.trunc(index[:3]).astype(int)

    def to_lps(self, voxels: np.ndarray) -> np.ndarray:
        """LPS points (..., 3) in mm of voxels (..., 3)."""
        return (np.asarray(voxels) @ self.affine[:3, :3].T + self.affine[:3, 3]) * RAS_OF_LPS


def released_grid(volume: Volume, spacing: tuple[float, float, float]) -> Grid:
    """The grid to which MONAI's ``Spacing(diagonal=True)`` resamples a volume after ``Orientation("LPS")``.

    It starts in the corner that is lowest on every axis; where no corner is (oblique volumes), the centres match.
    """
    turned, affine = _lps_oriented(volume)
    out = _affine(spacing, np.zeros(3))
    ends = [(0.0, size - 1.0) for size in turned.shape]
    corners = lattice(ends) @ affine[:3, :3].T + affine[:3, 3]
    scaled = corners / spacing
    shape = np.round(np.ptp(scaled, axis=0) + 1).astype(int)
    lowest = np.abs(scaled - scaled.min(axis=0)).max(axis=1) <= HIDDEN
    if lowest.any():
        out[:3, 3] = corners[lowest.argmax()]
    else:
        half = np.array(turned.shape) / 2
        out[:3, 3] = affine[:3, :3] @ half + affine[:3, 3] - out[:3, :3] @ (shape / 2)
    # MONAI multiplies the step between the two onto the old affine; its rounding decides where a seed that lies
    # between two voxels falls
    return Grid(affine @ np.linalg.solve(affine, out), shape)


def centred_grid(seed: np.ndarray, geometry: Geometry) -> Grid:
    """The grid of an exact patch: its centre lies on the LPS seed point (3,)."""
    spacing, size = np.asarray(geometry.spacing, float), np.asarray(geometry.size)
    return Grid(_affine(spacing, np.asarray(seed) * RAS_OF_LPS - spacing * (size - 1) / 2), size)


def lattice(axes: Sequence[Sequence[float]]) -> np.ndarray:
    """All points (n, 3) whose coordinates are among those given of each axis: of two ends each, a box's corners."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _affine(spacing: tuple[float, float, float], origin: np.ndarray) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def _lps_oriented(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """The array as a view with axes x, y, z that run most nearly to L, P, S, and its index-to-RAS affine (4, 4)."""
    from nibabel import orientations

    affine = np.eye(4)
    affine[:3, :3] = volume.steps * RAS_OF_LPS[:, None]
    affine[:3, 3] = volume.origin * RAS_OF_LPS
    array = volume.array.T  # (x, y, z)
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt("LPS"))
    turned = orientations.apply_orientation(array, turn)
    return turned, affine @ orientations.inv_ornt_aff(turn, array.shape)


def sample(volume: Volume, grid: Grid, start: np.ndarray, stop: np.ndarray, beyond: float = 0) -> np.ndarray:
    """HU (float32) of the grid's voxels from ``start`` up to ``stop``, both (3,), by linear interpolation.

    Outside the volume the image is taken to be ``beyond`` HU, 0 in the released pipeline (``padding_mode="zeros"``).
    """
    array, affine = _lps_oriented(volume)
    size = np.asarray(stop) - start
    inverse = np.linalg.inv(affine[:3, :3])
    step = inverse @ grid.affine[:3, :3]  # CT voxels per grid voxel, (3 CT axes, 3 grid axes)
    first = inverse @ (grid.affine[:3, :3] @ start + grid.affine[:3, 3] - affine[:3, 3])
    aligned = np.abs(step - np.diag(np.diag(step))).max() <= ALIGNED
    ends = np.stack([np.zeros(3), size - 1]).T  # the box of CT voxels needed is that of the corners
    corners = first + lattice(ends) @ step.T
    low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, array.shape)
    high = np.clip(np.floor(corners.max(axis=0)).astype(int) + 2, low, array.shape)
    if (low == high).any():
        return np.full(size, beyond, np.float32)
    box = array[tuple(map(slice, low, high))].astype(np.float32)
    if not aligned:
        index = np.tensordot(step, np.indices(size), axes=1) + (first - low)[:, None, None, None]
        return ndimage.map_coordinates(box, index, np.float32, order=1, mode="grid-constant", cval=beyond)
    for axis in np.argsort(size / box.shape):  # what shrinks first, so that least is left to do
        box = _along(box, axis, first[axis] - low[axis] + step[axis, axis] * np.arange(size[axis]), beyond)
    return box


def _along(array: np.ndarray, axis: int, index: np.ndarray, beyond: float) -> np.ndarray:
    """Linear interpolation of ``array`` along one axis at fractional indices; ``beyond`` outside."""
    below = np.floor(index).astype(int)
    weight = (index - below).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(3)])

    def values(which: np.ndarray) -> np.ndarray:
        taken = np.take(array, which, axis=axis, mode="clip")
        outside = (which < 0) | (which >= array.shape[axis])
        if outside.any():
            np.moveaxis(taken, axis, 0)[outside] = beyond
        return taken

    low, high = values(below), values(below + 1)
    return low + weight * (high - low)


def crop(voxel: np.ndarray, size: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First voxel and end (each (..., 3)) of the released crop around ``voxel``, clamped to a grid of ``shape``."""
    half = np.asarray(size) // 2
    return np.maximum(voxel - half, 0), np.minimum(voxel + half, shape)


def oriented(patch: np.ndarray, axes: str = "RAS") -> np.ndarray:
    """A patch (..., R, A, S) turned to ``axes``, e.g. "SPL": a view whose axes run to S, P and L."""
    if sorted(AXES.get(letter, (-1,))[0] for letter in axes) != [0, 1, 2]:
        raise ValueError(f"axes are '{axes}', must be one letter each of R or L, A or P, S or I")
    lead = patch.ndim - 3
    flips = [lead + axis for axis, sign in map(AXES.get, axes) if sign < 0]
    return np.flip(patch, flips).transpose([*range(lead), *(lead + AXES[letter][0] for letter in axes)])


def padded(patch: np.ndarray, size: tuple[int, int, int], value: float) -> np.ndarray:
    """A patch (..., 3 axes) padded with ``value`` to ``size``, as much after as before, the odd voxel after.

    The released pipeline pads what the border cut off, after it has turned the axes (MONAI's ``SpatialPad``).
    """
    lack = np.maximum(np.asarray(size) - patch.shape[-3:], 0)
    if not lack.any():
        return patch
    widths = [(0, 0)] * (patch.ndim - 3) + [(n // 2, n - n // 2) for n in lack]
    return np.pad(patch, widths, constant_values=value)
