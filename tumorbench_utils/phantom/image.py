"""Painting a phantom: the chest slice by slice, then tubes and the nodule, seen through the scanner's kernel and noise.

Arrays are (z, y, x), in HU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import fft, ndimage

from .anatomy import MIDLINE, RIB_MM, Chest, Nodule, Pose, ellipse, norm, superellipse, taper
from .cases import Case, Site


def _tubes(*paths: tuple[float, Sequence[tuple[float, float, float]]]) -> np.ndarray:
    """Tubes (n, 8: start, end, radius at both) along paths of points, each of one radius."""
    return np.array([(*a, *b, radius, radius) for radius, path in paths for a, b in pairwise(path)], float)


AIR = -1000  # HU
BASE, TOP = -115, 115  # mm, beyond what is scanned
AORTA = [(-14, -24, -5), (-15, -26, 25), (-8, -16, 44), (6, 6, 52), (17, 30, 46), (21, 44, 28), (20, 46, BASE)]
VESSELS = _tubes(
    (13, AORTA),
    (10, [(12, -28, -5), (8, -20, 12), (-34, -2, 8)]),  # pulmonary trunk and arteries
    (10, [(8, -20, 12), (34, 6, 14)]),
    (8.5, [(-26, -14, 90), (-27, -12, -5)]),  # venae cavae
    (8.5, [(-20, 8, -45), (-18, 14, BASE)]),
    (5, [(-6, -10, 48), (-12, -6, TOP)]),  # branches of the arch
    (5, [(4, 2, 52), (8, 0, TOP)]),
    (5, [(12, 18, 50), (16, 10, TOP)]),
)
AIRWAYS = _tubes(
    (8.5, [(0, 8, TOP), (0, 12, 22)]),
    (5.5, [(0, 12, 22), (-42, 10, 0)]),
    (5, [(0, 12, 22), (44, 12, -6)]),
    (2.6, [(-38, 10, 2), (-52, -4, 22)]),
    (2.6, [(-42, 10, 0), (-62, 20, -22)]),
    (2.6, [(40, 12, -4), (54, -2, 18)]),
    (2.6, [(44, 12, -6), (62, 24, -28)]),
)
WALLS = AIRWAYS + np.array([0, 0, 0, 0, 0, 0, 1.3, 1.3])  # of the airways
OESOPHAGUS = _tubes((6, [(4, 28, TOP), (6, 32, BASE)]))


@dataclass(frozen=True)
class Scan:
    """An image in HU (int16), the mask of its nodule (both (z, y, x)), and where the first voxel and the nodule's
    centroid are (x, y, z in LPS mm); ``spacing`` is x, y, z in mm."""

    hu: np.ndarray
    mask: np.ndarray
    origin: np.ndarray
    spacing: np.ndarray
    centroid: np.ndarray


def scan(of: Case, retest: bool = False) -> Scan:
    """The CT of a case: the first scan, or the second with the same anatomy, lying differently, and other noise."""
    site, chest, pose, anatomy = of.site, of.chest, of.pose(retest), of.stream("anatomy")
    spacing = np.array([site.pixel_mm, site.pixel_mm, site.slice_mm])
    counts = (site.columns, site.columns, site.slices)
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(counts, spacing, strict=True)]
    image = _chest(chest, axes, pose, anatomy)
    table = axes[1][:, None] - chest.b - chest.fat - 41 + (axes[0] / 60) ** 2
    _paint(image, -300, 2.0 - np.abs(table), site.pixel_mm)
    edge, blood = float(spacing.mean()), 42 + chest.contrast
    layers = [(VESSELS, blood), (OESOPHAGUS, 35), (_lung_vessels(chest, anatomy), blood)]
    layers += [(WALLS, 10), (AIRWAYS, -990), (_spicules(of.nodule), of.nodule.hu)]
    for tubes, hu in layers:
        _paint_tubes(image, axes, pose, tubes, hu, edge)
    mask = _paint_nodule(image, axes, pose, of.nodule)
    image = _acquire(image, site, of.stream("noise", retest))
    hu = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    origin, centroid = [axis[0] for axis in axes], pose.to_scanner(of.nodule.centroid)
    return Scan(hu, mask, pose.isocentre + origin, spacing, pose.isocentre + centroid)


def _chest(chest: Chest, axes: Sequence[np.ndarray], pose: Pose, rng: np.random.Generator) -> np.ndarray:
    x, y = (part.astype(np.float32) for part in pose.to_patient(*np.meshgrid(axes[0], axes[1])))
    heights = axes[2] - pose.shift[2]
    skin, cavity = superellipse(x, y, chest.a + 29 + chest.fat, chest.b + 31 + chest.fat), chest.cavity(x, y)
    wall, edge = (1 - skin[0]) * skin[1], float(axes[0][1] - axes[0][0])
    image = np.full([len(axis) for axis in axes[::-1]], AIR, np.float32)
    body = tuple(slice(line.min(), line.max() + 1) for line in np.nonzero(wall > -edge))  # beyond is air
    x, y, wall, cavity = x[body], y[body], wall[body], [part[body] for part in cavity]
    turn = np.abs(np.arctan2(x, y)) / np.pi  # 0 at the spine, 1 at the sternum
    for k, (z, grain) in enumerate(zip(heights, _grain(rng, x, y, heights), strict=True)):
        inner = (float(taper(z)) - cavity[0]) * cavity[1]
        image[k][body] = _slice(chest, x, y, float(z), pose.breath, wall, inner, turn, grain, edge)
    return image


def _paint(image: np.ndarray, hu, depth: np.ndarray, edge: float) -> None:
    """Blend ``hu`` into ``image`` where ``depth`` (mm) is positive, over a border ``edge`` mm wide."""
    cover = depth / edge
    cover += 0.5
    cover.clip(0, 1, out=cover)
    image += cover * (hu - image)


def _slice(chest: Chest, x, y, z: float, breath: float, wall, inner, turn, grain, edge: float) -> np.ndarray:
    """An axial slice without vessels and nodule; x, y, z in the patient's frame, depths in the skin and the cavity."""
    image = np.full(x.shape, AIR, np.float32)
    muscle = wall - 2 - chest.fat - 3 * grain
    _paint(image, 15, wall, edge)
    _paint(image, -102 + 6 * grain, wall - 2, edge)
    _paint(image, 52 + 6 * grain, muscle, edge)
    _paint(image, -85, np.minimum(muscle - 3, 1.4 - np.abs(inner + 15 + 2 * grain)), edge)  # between muscles
    _paint_scapulae(image, x, y, z, edge)
    _paint_ribs(image, turn, z, chest, inner, edge)
    _paint(image, -98 + 8 * grain, inner, edge)  # mediastinal fat
    below = np.minimum(inner - 2, chest.dome(x, y) + breath - 3 - z)
    _paint(image, -95, below + 3, edge)
    stomach = np.minimum(ellipse(x - 58, y + 22, 46, 40), below)
    _paint(image, 30 + 8 * grain, stomach, edge)
    _paint(image, -980, np.minimum(stomach - 4, -38 - y), edge)
    _paint(image, 50 + 0.6 * chest.contrast, np.minimum(ellipse(x - 82, y - 32, 28, 32), below), edge)  # spleen
    _paint(image, 58 + 0.4 * chest.contrast + 5 * grain, np.minimum(below, 18 - 0.25 * y - x), edge)  # liver
    lung = chest.lung(x, y, z, inner, breath)
    _paint(image, -868 + 26 * grain + 0.35 * y, lung, edge)
    height = (z + 48 - breath / 2) / (56 * chest.heart)
    if abs(height) < 1:
        size = float(np.sqrt(1 - height**2)) * chest.heart
        heart = np.minimum(ellipse(x - 20, y + 26, 51 * size, 41 * size), inner - 3)
        _paint(image, 55 + 0.3 * chest.contrast + 4 * grain, heart, edge)
        for left, back, a, b in ((-8, -38, 22, 20), (44, -18, 17, 19), (6, 2, 26, 12)):  # chambers
            chamber = np.minimum(ellipse(x - left, y - back, a * size, b * size), heart - 5)
            _paint(image, 42 + chest.contrast, chamber, 4 * edge)
    _paint_midline(image, x, y, z, chest, edge)
    return image


def _paint_bone(image: np.ndarray, depth: np.ndarray, marrow: float, edge: float) -> None:
    _paint(image, 620, depth, edge)
    _paint(image, marrow, depth - 2, edge)


def _paint_scapulae(image: np.ndarray, x: np.ndarray, y: np.ndarray, z: float, edge: float) -> None:
    if z > -5:
        side = np.abs(x)
        along = np.clip(((side - 72) * 50 + (y - 84) * -42) / (50**2 + 42**2), 0, 1)
        _paint_bone(image, 3.2 + 3 * along - norm(side - 72 - 50 * along, y - 84 + 42 * along), 230, edge)


def _paint_ribs(image, turn: np.ndarray, z: float, chest: Chest, inner: np.ndarray, edge: float) -> None:
    """Ribs run round the cavity (``turn``), down from the spine; in front they are cartilage."""
    height = (z - chest.ribs + 70 * turn + RIB_MM / 2) % RIB_MM - RIB_MM / 2
    depth = (1 - norm((inner + 7.5) / 4.2, height / 6.5)) * 4.2
    front = turn > 0.82
    _paint_bone(image, np.where(front, -edge, depth), 260, edge)
    _paint(image, 95, np.where(front, depth, -edge), edge)


def _paint_midline(image, x, y, z: float, chest: Chest, edge: float) -> None:
    """Sternum and spine: vertebral bodies with discs between them, canal, arch and processes."""
    _paint_bone(image, ellipse(x, y + MIDLINE + chest.b * float(taper(z)) + 6, 19, 6), 170, edge)
    disc = abs(z % RIB_MM - RIB_MM / 2) < 2.5
    body = np.minimum(ellipse(x, y - 62, 19, 15), ellipse(x, y - 58, 22, 15))
    arch = np.maximum(ellipse(x, y - 86, 14, 13), ellipse(x, y - 98, 4, 11))
    _paint_bone(image, np.maximum(arch, ellipse(np.abs(x) - 20, y - 84, 14, 5)), 240, edge)
    if disc:
        _paint(image, 85, body, edge)
    else:
        _paint_bone(image, body, 190, edge)
    _paint(image, 30, ellipse(x, y - 85, 9, 8), edge)


def _lung_vessels(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Tubes (n, 8: start, end, radius at both, mm) of the pulmonary vessels: from each hilum they fork outwards."""
    tubes = []
    for side in (-1, 1):
        hilum = np.array([side * 36.0, 8, 2])
        start, ahead = np.tile(hilum, (8, 1)), rng.normal([side * 0.8, 0, 0], 1, (8, 3))
        radius = rng.uniform(3.2, 4.6, 8)
        for generation in range(7):
            ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
            end = start + ahead * (rng.uniform(3, 6, len(start)) * np.sqrt(radius) + 7)[:, None]
            kept = (chest.lung(*end.T, chest.inner(*end.T)) > 2) | (generation == 0)
            start, end, ahead, radius = start[kept], end[kept], ahead[kept], radius[kept]
            tubes.append(np.column_stack([start, end, radius, radius * 0.92]))
            outwards = 0.25 * (end - hilum) / np.linalg.norm(end - hilum, axis=1, keepdims=True)
            start, radius = np.repeat(end, 2, axis=0), np.repeat(radius, 2) * rng.uniform(0.66, 0.9, 2 * len(end))
            ahead = np.repeat(ahead + outwards, 2, axis=0) + rng.normal(0, 0.42, start.shape)
    return np.concatenate(tubes)


def _box(axes: Sequence[np.ndarray], low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    """Index of the voxels between two points (x, y, z) in an array (z, y, x)."""
    ranges = zip(axes, low, high, strict=True)
    return tuple(slice(*np.searchsorted(axis, (one, other))) for axis, one, other in ranges)[::-1]


def _paint_tubes(image, axes, pose: Pose, tubes: np.ndarray, hu: float, edge: float) -> None:
    starts, ends = (pose.to_scanner(tubes[:, part]) for part in (slice(3), slice(3, 6)))
    for start, end, (r0, r1) in zip(starts, ends, tubes[:, 6:], strict=True):
        margin = max(r0, r1) + edge
        box = _box(axes, np.minimum(start, end) - margin, np.maximum(start, end) + margin)
        x, y, z = axes[0][box[2]], axes[1][box[1], None], axes[2][box[0], None, None]
        dx, dy, dz = end - start
        along = ((x - start[0]) * dx + (y - start[1]) * dy + (z - start[2]) * dz) / (dx * dx + dy * dy + dz * dz)
        along = np.clip(along, 0, 1)
        away = norm(x - start[0] - along * dx, y - start[1] - along * dy, z - start[2] - along * dz)
        _paint(image[box], hu, r0 + along * (r1 - r0) - away, edge)


def _spicules(nodule: Nodule) -> np.ndarray:
    """Tubes from within the surface outwards, thin at their ends."""
    along, length = nodule.spicules[:, :3], nodule.spicules[:, 3:] * nodule.radius
    starts, ends = nodule.centre + along * 0.8 * nodule.radius, nodule.centre + along * length
    return np.hstack([starts, ends, np.tile([1.8, 0.6], (len(along), 1))])


def _paint_nodule(image, axes, pose: Pose, nodule: Nodule, fine: int = 3) -> np.ndarray:
    """Paint the nodule from ``fine``^3 points in a voxel. Its mask is the voxels that lie in it by half or more."""
    centre, steps = pose.to_scanner(nodule.centre), [axis[1] - axis[0] for axis in axes]
    extent = np.linalg.norm(nodule.surface, axis=1).max() + max(steps)
    box = _box(axes, centre - extent, centre + extent)
    fractions = (np.arange(fine) + 0.5) / fine - 0.5
    x, y, z = (
        (axis[part, None] + step * fractions).ravel() for axis, part, step in zip(axes, box[::-1], steps, strict=True)
    )
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    x, y = pose.to_patient(x - centre[0] + pose.shift[0], y - centre[1] + pose.shift[1])
    offsets = np.stack([x, y, z - centre[2]], axis=-1).reshape(-1, 3).astype(np.float32)
    distance = np.linalg.norm(offsets, axis=1) + np.float32(1e-6)
    inside = distance / nodule.reach(offsets / distance[:, None])
    within = inside <= 1
    hu = np.zeros(len(offsets), np.float32)
    hu[within] = nodule.hounsfield(offsets[within], inside[within])
    shape = [n for part in image[box].shape for n in (part, fine)]
    hu, cover = (values.reshape(shape).mean(axis=(1, 3, 5)) for values in (hu, within))
    image[box] += hu - cover * image[box]
    mask = np.zeros(image.shape, bool)
    mask[box] = cover >= 0.5
    return mask


def _grain(rng: np.random.Generator, x, y, heights: np.ndarray, cell: float = 7.0) -> np.ndarray:
    """Random texture (z, y, x) of unit variance at most, fixed in the patient: values ``cell`` mm apart, joined."""
    knots = rng.standard_normal((40, 64, 64), np.float32)
    place = [y / cell + 32, x / cell + 32]
    level = np.clip(heights / cell + 20, 0, 38.999)
    low, share = level.astype(int), (level % 1).astype(np.float32)[:, None, None]
    needed = knots[low.min() : low.max() + 2]
    planes = np.stack([ndimage.map_coordinates(knot, place, order=1, mode="nearest") for knot in needed])
    low -= low.min()
    return planes[low] * (1 - share) + planes[low + 1] * share


def _acquire(image: np.ndarray, site: Site, rng: np.random.Generator) -> np.ndarray:
    """``image`` through the kernel of the scanner, with noise of the same kernel (power rising as a ramp)."""
    n = site.columns
    frequency = norm(fft.fftfreq(n)[:, None], fft.rfftfreq(n)) / site.pixel_mm  # cycles per mm
    share = frequency * 2 * site.pixel_mm
    kernel = np.exp(-2 * (np.pi * site.blur_mm * frequency) ** 2) * (1 + site.boost * share**2)
    ramp = np.sqrt(share) * kernel
    ramp *= site.noise_hu / np.sqrt((fft.irfft2(ramp, (n, n)) ** 2).sum())
    line = np.linspace(-1, 1, n)
    dose = 0.55 + 0.55 * np.exp(-2.5 * norm(line[:, None], line) ** 2)  # fewer photons come through the middle
    white = rng.standard_normal(image.shape, np.float32) * dose.astype(np.float32)
    spectrum = fft.rfft2(image) * kernel.astype(np.float32) + fft.rfft2(white) * ramp.astype(np.float32)
    return fft.irfft2(spectrum, (n, n), overwrite_x=True)
