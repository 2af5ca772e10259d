"""The shape of a phantom: a chest, its nodule, and how the patient lies. Analytic, so that what is true is known.

Coordinates are DICOM's: LPS, mm (x to the patient's left, y to the back, z up). The patient's own frame has its origin
in the middle of the chest. A depth is a distance (mm) to a surface, positive inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.distance import pdist

RIB_MM = 24.0  # from rib to rib
MIDLINE = 6.0  # of the pleural cavity, before the middle of the chest


def norm(*parts: np.ndarray) -> np.ndarray:
    """Euclidean length of vectors given by their parts."""
    return np.sqrt(sum(part * part for part in parts))


def ellipse(x, y, a: float, b: float) -> np.ndarray:
    """Depth in an ellipse with semi-axes a and b, exact along the shorter."""
    return (1 - norm(x / a, y / b)) * min(a, b)


def superellipse(x, y, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Level (1 on the curve of exponent 2.5) and mm per level: near a curve, (its level - level) * mm is the depth."""
    u, v = np.abs(x) / a, np.abs(y) / b
    level = (u**2.5 + v**2.5) ** 0.4 + 1e-6
    return level, level**1.5 / (norm(u**1.5 / a, v**1.5 / b) + 1e-6)


def taper(z) -> np.ndarray:
    """Width of the pleural cavity at a height, as a share of the widest: it narrows to the apex."""
    return np.sqrt(np.clip(1 - (np.maximum(z - 5, 0) / 108) ** 2, 0.05, 1))


def breathing(z) -> np.ndarray:
    """Share of the diaphragm's motion that is seen at a height: all of it at the base, none at the apex."""
    return np.clip((60 - z) / 110, 0, 1)


def sphere(count: int) -> np.ndarray:
    """Unit vectors spread evenly (Fibonacci)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    return np.column_stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z])


@dataclass(frozen=True)
class Chest:
    """What differs between chests: semi-axes of the pleural cavity, thickness of fat, height of the diaphragm and phase
    of the ribs (mm), size of the heart (1 is usual), HU that contrast medium adds to blood."""

    a: float
    b: float
    fat: float
    diaphragm: float
    ribs: float
    heart: float
    contrast: float

    def cavity(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """:func:`superellipse` of the pleural cavity at its widest; at height z its level is ``taper(z)``."""
        return superellipse(x, y + MIDLINE, self.a, self.b)

    def lung(self, x, y, z, inner: np.ndarray, breath: float = 0.0) -> np.ndarray:
        """Depth in the lungs: in the cavity (``inner``), above the diaphragm, beside spine, mediastinum and heart."""
        heart = norm((x - 20) / 56, (y + 26) / 46, (z + 48 - breath / 2) / 58) / self.heart
        medial = np.minimum(-ellipse(x, y + 2, 28, 96), -ellipse(x, y - 62, 25, 21))
        medial = np.minimum(medial, (heart - 1) * 46 * self.heart)
        return np.minimum(np.minimum(inner, medial), 0.85 * (z - self.dome(x, y) - breath))

    def inner(self, x, y, z) -> np.ndarray:
        """Depth in the pleural cavity."""
        level, mm = self.cavity(x, y)
        return (taper(z) - level) * mm

    def dome(self, x, y) -> np.ndarray:
        """Height (mm) of the diaphragm: two domes, the right one higher."""
        side = np.where(np.asarray(x) < 0, np.float32(0), np.float32(-9))
        return self.diaphragm + side - 0.0055 * (np.abs(x) - 55) ** 2 - 0.0075 * (y + 18) ** 2


@dataclass(frozen=True)
class Nodule:
    """A star-shaped nodule: radius times 1 + smooth bumps in the directions of ``lobes`` (x, y, z, height).

    ``spicules`` are rays (x, y, z, length in radii). The inner ``solid`` share of the radius is solid, the rest ground
    glass. ``heterogeneity`` is in HU (standard deviation), ``waves`` (frequency x, y, z, phase) give it its pattern.
    """

    centre: np.ndarray
    radius: float
    lobes: np.ndarray
    spicules: np.ndarray
    solid: float
    hu: float
    heterogeneity: float
    waves: np.ndarray
    calcified: bool
    pleural: bool

    def reach(self, directions: np.ndarray) -> np.ndarray:
        """Distance (mm) from centre to surface along unit vectors (..., 3)."""
        bumps = (height * np.exp(8 * (directions @ lobe - 1)) for *lobe, height in self.lobes.astype(np.float32))
        return self.radius * (1 + sum(bumps))

    @cached_property
    def surface(self) -> np.ndarray:
        """Points (n, 3) of the surface about the centre, evenly spread in angle."""
        directions = sphere(4000)
        return directions * self.reach(directions)[:, None]

    @property
    def volume_ml(self) -> float:
        """Volume within the surface, spicules not counted."""
        return float(4 / 3 * np.pi * (np.linalg.norm(self.surface, axis=1) ** 3).mean() / 1000)

    @property
    def diameter_mm(self) -> float:
        """Longest distance between two points of the surface."""
        return float(pdist(self.surface[::5]).max())

    @property
    def centroid(self) -> np.ndarray:
        """Centre of mass within the surface, in the patient's frame."""
        distance = np.linalg.norm(self.surface, axis=1)[:, None]
        return self.centre + 0.75 * (self.surface * distance**3).mean(axis=0) / (distance**3).mean()

    def hounsfield(self, offsets: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """HU at ``offsets`` (n, 3) from the centre; ``inside`` is 0 at the centre and 1 at the surface."""
        pattern = sum(np.cos(offsets @ wave + phase) for *wave, phase in self.waves.astype(np.float32))
        hu = self.hu + self.heterogeneity * np.sqrt(2 / len(self.waves)) * pattern
        hu = np.where(inside > self.solid, -560 + 0.6 * (hu - self.hu), hu)
        return np.where(inside < 0.5, hu + 320, hu) if self.calcified else hu


@dataclass(frozen=True)
class Pose:
    """How a patient lies in the scanner: turned about z (radians), then shifted; the diaphragm ``breath`` mm higher.

    The scanner's frame has its origin in the middle of the field of view; ``isocentre`` is where that is in the image's
    own coordinates.
    """

    shift: np.ndarray
    angle: float
    breath: float
    isocentre: np.ndarray

    def to_scanner(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the patient's frame at rest, in the scanner's."""
        x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
        z = z + self.breath * breathing(z)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1) + self.shift

    def to_patient(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y of the scanner's frame, in the patient's."""
        x, y = x - self.shift[0], y - self.shift[1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return cos * x + sin * y, cos * y - sin * x
