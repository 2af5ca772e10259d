"""What another scanner, protocol or reader would do to a patch, in physical units.

A perturbation changes HU only, never the labels, and works on a batch of patches on the device where they are. Sizes
are in HU, mm or degrees, so that a patch of 0.75 mm voxels and one of 3 mm are changed by the same amount of the world.

Two choices hold for all of them. Beyond the border of the patch its outermost voxels are repeated. And a voxel at or
below -1024 HU holds no tissue (beyond the image, or beyond the scanner's circle): noise and shift leave it as it is,
and put nothing else below -1024, where scanners end. Other values are not clipped; a recipe's window does that. Padding
of another value (CT-CLIP's benchmark recipe pads with 0 HU) cannot be told from tissue and changes with it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..patches import AIR, AXES, oriented
from ..registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

FWHM = 2 * math.sqrt(2 * math.log(2))  # of a normal distribution, in standard deviations: 2.3548
REACH = 4  # standard deviations after which the Gaussian kernel ends, as SciPy's


class PerturbationError(ValueError):
    """A perturbation that cannot be applied; the message says what is wrong."""


@dataclass(frozen=True)
class Setting:
    """What a perturbation must know of the patches beside their voxels.

    ``spacing`` (3,) mm and ``axes`` (letters as in "SPL") of the last three axes; ``seed`` and the ``keys`` (n,) of
    the samples, by which random numbers are drawn.
    """

    spacing: tuple[float, float, float]
    axes: str
    seed: int
    keys: Sequence[str]

    def place(self, letters: str) -> int:
        """Which of the three axes runs along one of ``letters`` ("SI" for the long axis of the body)."""
        return next(place for place, letter in enumerate(self.axes) if letter in letters)


@dataclass(frozen=True)
class Perturbation:
    """One kind of change.

    ``unit`` and ``sizes`` give the default ladder. ``apply(hu (n, *size) float32, size, setting)`` gives the changed
    batch. ``signed`` says that a negative size has a meaning, ``drawn`` that random numbers decide.
    """

    id: str
    title: str
    unit: str
    sizes: tuple[float, ...]
    apply: Callable[[Tensor, float, Setting], Tensor]
    signed: bool = False
    drawn: bool = False


def perturbed(
    hu: Tensor,
    kind: str,
    size: float,
    spacing: Sequence[float],
    axes: str = "RAS",
    seed: int = 0,
    keys: Sequence[str] | None = None,
) -> Tensor:
    """Patches (n, *size) as float32 HU after a perturbation, on their device; the input is left alone.

    ``hu`` may be of any number type. ``spacing`` (3,) is in mm along the patches' own ``axes`` ("RAS", "SPL", ...).
    Size 0 changes nothing. Noise is drawn from ``seed`` and each patch's key alone (``keys`` (n,), the sample_id), so
    batches and their order do not matter, and one sample's noise at 50 HU is twice that at 25 HU.

    Raises :class:`PerturbationError` for a size, axes, spacing or keys that have no meaning, and
    :class:`tumorbench_utils.registry.UnknownNameError` for an unknown ``kind``.
    """
    change = checked(kind, size)
    if hu.ndim != 4:
        raise PerturbationError(f"patches are {tuple(hu.shape)}, must be (n, *size) with three axes")
    if sorted(AXES.get(letter, (-1,))[0] for letter in axes) != [0, 1, 2]:
        raise PerturbationError(f"axes are '{axes}', must be one letter each of R or L, A or P, S or I")
    if len(spacing) != 3 or not all(math.isfinite(each) and each > 0 for each in spacing):
        raise PerturbationError(f"spacing is {tuple(spacing)}, must be three distances in mm, all above 0")
    if keys is None and change.drawn:
        raise PerturbationError(f"{kind} is drawn by the keys of the samples, and there are none: give keys")
    if keys is not None and len(keys) != len(hu):
        raise PerturbationError(f"{len(keys)} keys but {len(hu)} patches")
    setting = Setting(tuple(spacing), axes, seed, () if keys is None else tuple(keys))
    hu = hu.float().clone()
    return change.apply(hu, float(size), setting) if size else hu


def checked(kind: str, size: float) -> Perturbation:
    """The perturbation of this name; :class:`PerturbationError` if ``size`` is none of it."""
    change = PERTURBATIONS.get(kind)
    if not math.isfinite(size) or (size < 0 and not change.signed):
        allowed = "a finite number" if change.signed else "0 or more"
        raise PerturbationError(f"{kind} of {size} {change.unit}: its size must be {allowed}")
    return change


def _noise(hu: Tensor, size: float, setting: Setting) -> Tensor:
    """White normal noise with a standard deviation of ``size`` HU; that of a scanner is correlated over voxels."""
    import torch

    turned_back = [hu.shape[1 + setting.place(letters)] for letters in ("RL", "AP", "SI")]
    drawn = []
    for key in setting.keys:
        digest = hashlib.sha256(f"{setting.seed} {key}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        # along R, A, S whatever the axes of the patch are: the noise lies in the patient, not in the array
        drawn.append(oriented(torch.randn(turned_back, generator=generator).numpy(), setting.axes))
    return _tissue(hu, hu + size * torch.from_numpy(np.stack(drawn)).to(hu.device))


def _shift(hu: Tensor, size: float, setting: Setting) -> Tensor:
    """``size`` HU more everywhere, as a calibration that drifts or contrast medium would."""
    return _tissue(hu, hu + size)


def _tissue(before: Tensor, after: Tensor) -> Tensor:
    """What is no tissue stays as it was, and nothing new falls below AIR."""
    return after.clamp(min=AIR).where(before > AIR, before)


def _blur(hu: Tensor, size: float, setting: Setting) -> Tensor:
    """A softer kernel: a Gaussian of ``size`` mm full width at half maximum, in the axial plane."""
    for place in (setting.place("RL"), setting.place("AP")):
        matrix = _gaussian(hu.shape[1 + place], size / FWHM / setting.spacing[place])
        hu = _along(hu, matrix, place)
    return hu


def _gaussian(count: int, sigma: float) -> np.ndarray:
    """(count, count) weights of a Gaussian of ``sigma`` voxels; what falls beyond an end goes to the last voxel."""
    reach = int(REACH * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    matrix = np.zeros((count, count))
    voxels = np.arange(count)
    for step, weight in zip(steps, kernel / kernel.sum(), strict=True):
        np.add.at(matrix, (voxels, np.clip(voxels + step, 0, count - 1)), weight)
    return matrix


def _thickness(hu: Tensor, size: float, setting: Setting) -> Tensor:
    """Slices of ``size`` mm along S, interpolated back to the patch's own: means over slabs that touch one another.

    Two slabs meet at the centre of the patch. Slices no thicker than those of the patch change nothing.
    """
    place = setting.place("SI")
    if size <= setting.spacing[place]:
        return hu
    return _along(hu, _slabs(hu.shape[1 + place], size / setting.spacing[place]), place)


def _slabs(count: int, width: float) -> np.ndarray:
    """(count, count) weights: means over slabs of ``width`` voxels, then linear interpolation at the voxels."""
    middle, half = (count - 1) / 2, math.ceil(count / (2 * width)) + 1
    centres = middle + (np.arange(-half, half) + 0.5) * width
    # far enough out, since a slab beyond the border holds its last voxel
    beyond = math.ceil((half + 1) * width)
    voxels = np.arange(-beyond, count + beyond)
    low = np.maximum(voxels - 0.5, centres[:, None] - width / 2)
    high = np.minimum(voxels + 0.5, centres[:, None] + width / 2)
    means = np.zeros((len(centres), count))
    np.add.at(means.T, np.clip(voxels, 0, count - 1), (np.maximum(high - low, 0) / width).T)
    at = (np.arange(count) - centres[0]) / width
    below = np.floor(at).astype(int)
    weight = (at - below)[:, None]
    return (1 - weight) * means[below] + weight * means[below + 1]


def _along(hu: Tensor, matrix: np.ndarray, place: int) -> Tensor:
    """``matrix`` (out, in) applied along one of the three axes of a batch."""
    import torch

    weights = torch.from_numpy(matrix).to(torch.float32).to(hu.device)
    return (hu.movedim(1 + place, -1) @ weights.T).movedim(-1, 1 + place)


def _rotation(hu: Tensor, size: float, setting: Setting) -> Tensor:
    """Turned by ``size`` degrees about the S axis through the centre of the patch, R towards A; linear between voxels.

    Each voxel looks up where it came from. Seen from above the patient's head this is counter-clockwise.
    """
    import torch

    places = (setting.place("RL"), setting.place("AP"))
    counts = [hu.shape[1 + place] for place in places]
    signs = [AXES[setting.axes[place]][1] for place in places]
    steps = [sign * setting.spacing[place] for sign, place in zip(signs, places, strict=True)]  # mm to R and A
    right, front = np.meshgrid(
        *(step * (np.arange(n) - (n - 1) / 2) for step, n in zip(steps, counts, strict=True)), indexing="ij"
    )
    angle = math.radians(size)
    came_from = (
        right * math.cos(angle) + front * math.sin(angle),
        front * math.cos(angle) - right * math.sin(angle),
    )
    at = [np.clip(mm / step + (n - 1) / 2, 0, n - 1) for mm, step, n in zip(came_from, steps, counts, strict=True)]
    below = [np.floor(each).astype(int) for each in at]
    planes = hu.movedim([1 + place for place in places], [-2, -1]).flatten(-2)
    turned = torch.zeros_like(planes)
    for corner in np.ndindex(2, 2):
        index, weight = 0, 1.0
        for step, low, where, n in zip(corner, below, at, counts, strict=True):
            index = index * n + np.minimum(low + step, n - 1)
            weight = weight * (where - low if step else 1 - (where - low))
        index = torch.from_numpy(np.ascontiguousarray(index)).flatten().to(hu.device)
        turned += planes[..., index] * torch.from_numpy(weight).flatten().to(torch.float32).to(hu.device)
    return turned.unflatten(-1, counts).movedim([-2, -1], [1 + place for place in places])


PERTURBATIONS: Registry[Perturbation] = Registry(
    "perturbation",
    (
        Perturbation("noise", "Noise", "HU", (10, 25, 50), _noise, drawn=True),
        Perturbation("blur", "Softer kernel", "mm", (1, 2, 4), _blur),
        Perturbation("thickness", "Thicker slices", "mm", (2.5, 5, 10), _thickness),
        Perturbation("shift", "HU shift", "HU", (-40, -20, 20, 40), _shift, signed=True),
        Perturbation("rotation", "Rotation", "degrees", (2, 5, 10), _rotation, signed=True),
    ),
)
