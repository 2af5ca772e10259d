"""Where one tumour lies and how large it is: measured on its mask, or given as a seed point in one of three ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .. import masks
from ..imaging import ImageError, Volume

NEAR_MM = 30.0  # a seed point further from the mask than this is of another tumour, or in other coordinates
UNMEASURED = dict.fromkeys(("volume_ml", "diameter_mm", "parts"), float("nan"))


@dataclass(frozen=True)
class Convention:
    """A way to write a seed point: three ``columns`` of a table, and ``signs`` that make LPS mm of it.

    Without ``signs`` it is a voxel index as the file counts, the first one 0.
    """

    columns: tuple[str, str, str]
    title: str
    signs: tuple[int, int, int] | None = None

    def point(self, values: np.ndarray, ct: Volume) -> np.ndarray:
        """LPS mm (3,) of three ``values``."""
        return ct.to_physical(values) if self.signs is None else np.asarray(values) * self.signs


LPS = Convention(("x", "y", "z"), "mm in LPS", (1, 1, 1))
RAS = Convention(("x_ras", "y_ras", "z_ras"), "mm in RAS", (-1, -1, 1))
VOXEL = Convention(("i", "j", "k"), "voxel indices")
CONVENTIONS = (LPS, RAS, VOXEL)


class Seed(NamedTuple):
    """A seed point as a table gives it: three numbers, and how they are meant."""

    values: tuple[float, float, float]
    convention: Convention = LPS

    def __str__(self) -> str:
        return f"({', '.join(f'{value:g}' for value in self.values)})"


def located(seed: Seed, ct: Volume) -> np.ndarray:
    """LPS mm (3,) of a seed point; one outside the image is an :class:`ImageError` that says how it may be meant."""
    point = seed.convention.point(np.array(seed.values), ct)
    if ct.contains(point):
        return point
    others = [each for each in CONVENTIONS if each != seed.convention]
    inside = [each for each in others if ct.contains(each.point(np.array(seed.values), ct))]
    meant = " or ".join(f"{each.title} (columns {', '.join(each.columns)})" for each in inside)
    todo = f"it would lie inside as {meant}" if inside else "take the CT that it was set on"
    raise ImageError(f"{ct.source}: the seed point {seed}, {seed.convention.title}, lies outside the image; {todo}")


def described(ct: Volume, mask: np.ndarray | None, seed: Seed | None = None) -> dict[str, float]:
    """x, y, z (LPS mm) of a tumour's seed point, its size, and what quality control looks at.

    ``mask`` is (z, y, x) on the grid of ``ct``; its largest component is the tumour, whose centroid is the seed point
    unless a ``seed`` is given, which must then lie within ``NEAR_MM`` of it. Without a mask volume_ml, diameter_mm and
    parts are NaN, and tumour_hu is the mean of the 27 voxels around the seed. Raises :class:`ImageError`.
    """
    point = None if seed is None else located(seed, ct)
    if mask is None:
        found = UNMEASURED | {"tumour_hu": _around(ct, point)}
    else:
        largest = masks.largest_component(mask)
        tumour = masks.tumour(largest, ct)
        if point is not None:
            _check_near(point, largest, ct)
        point = tumour.centroid if point is None else point
        parts = ndimage.label(mask[masks.box_of(mask)], np.ones((3, 3, 3)))[1]
        found = {"volume_ml": tumour.volume_ml, "diameter_mm": tumour.diameter_mm, "parts": parts}
        found["tumour_hu"] = float(ct.array[largest].mean())
    return {
        **dict(zip("xyz", map(float, point), strict=True)),
        **found,
        "slices": len(ct.array),
        "pixel_mm": float(ct.spacing[0]),
        "slice_mm": float(ct.spacing[2]),
        "lowest_hu": int(ct.array.min()),
        "highest_hu": int(ct.array.max()),
    }


def _around(ct: Volume, point: np.ndarray) -> float:
    """Mean HU of the voxel of a point and its neighbours."""
    centre = np.rint(ct.to_index(point)).astype(int)[::-1]
    return float(ct.array[tuple(slice(max(each - 1, 0), each + 2) for each in centre)].mean())


def _check_near(point: np.ndarray, mask: np.ndarray, ct: Volume) -> None:
    marked = ct.to_physical(np.argwhere(mask)[:, ::-1])
    apart = np.linalg.norm(marked - point, axis=1).min()
    if apart > NEAR_MM:
        raise ImageError(
            f"{ct.source}: the seed point lies {apart:.0f} mm from the largest part of its mask: of another tumour, or "
            "in other coordinates; give the mask of this tumour alone, or no seed point"
        )
