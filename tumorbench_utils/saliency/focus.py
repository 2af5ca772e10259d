"""Is it the tumour? A map over a patch held against the tumour mask and the HU, and such figures over many cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from .base import SaliencyError, check_map

BRIGHT_HU = 200  # from here on it is bone, or vessels full of contrast agent
TOLERANCE_MM = 1e-6  # spacings are rounded
FEWEST = 5  # patients for an interval: with fewer the bootstrap gives little but the least and the greatest of them
AIR = -1024  # HU, where a map of brightness begins

MEASURES = (
    "mass_inside",
    "mass_expected",
    "enrichment",
    "mass_near",
    "near_expected",
    "pointing",
    "pointing_near",
    "auc",
    "hu_spearman",
    "bright_mass",
    "bright_expected",
)
BLIND = ("centre", "brightness")  # maps that saw no model
HELD_AGAINST = ("mass_inside", "enrichment", "mass_near", "pointing", "pointing_near", "auc")  # them, too
BLIND_MEASURES = tuple(f"{measure}_{name}" for name in BLIND for measure in HELD_AGAINST)


class FocusError(SaliencyError):
    """A mask that a map cannot be held against; the message gives the reason."""


def focus(
    saliency: np.ndarray, mask: np.ndarray, hu: np.ndarray, spacing: Sequence[float], margin_mm: float = 5.0
) -> dict[str, float]:
    """How much of ``saliency`` lies on the ``mask``; both, and ``hu``, are (*size), ``spacing`` (3,) mm along them.

    Mass is saliency above zero: voxels below zero count nothing, so take the absolute values of a signed map before.

    ``mass_inside``: share of the mass in the mask; ``mass_expected``: share of the voxels in it, what a uniform map
    has; ``enrichment``: their ratio. ``mass_near``, ``near_expected``: the same for the voxels within
    ``margin_mm`` of the mask (of the middle of its nearest voxel), the mask included. ``pointing``: whether the most
    salient voxel is in the mask, 1 or 0; of several equal ones the share that is (pointing game, Zhang et al. 2016,
    arXiv 1608.00507); ``pointing_near``: within the margin. ``auc``: chance that a voxel of the mask is more salient
    than one outside. ``hu_spearman``: rank correlation of saliency and HU over all voxels, NaN if all HU are equal.
    ``bright_mass``, ``bright_expected``: shares of mass and voxels from 200 HU on that are outside the mask.

    :class:`FocusError` for a mask that is empty or fills the patch, :class:`SaliencyError` for a map that is constant,
    not finite or nowhere above zero.
    """
    values, mask, hu = np.asarray(saliency), np.asarray(mask), np.asarray(hu, np.float64)
    spacing = _checked(values, mask, hu, spacing, margin_mm)
    values = check_map(values)
    mass = np.maximum(values, 0)
    if not mass.any():
        raise SaliencyError("the map is nowhere above zero: it has no mass")
    mass = mass / mass.sum()
    near = ndimage.distance_transform_edt(~mask, sampling=spacing) <= margin_mm + TOLERANCE_MM
    bright = (hu >= BRIGHT_HU) & ~mask
    top = values == values.max()
    ranks = stats.rankdata(values)
    inside, expected = mass[mask].sum(), mask.mean()
    found = (
        inside,
        expected,
        inside / expected,
        mass[near].sum(),
        near.mean(),
        mask[top].mean(),
        near[top].mean(),
        _auc(ranks, mask.ravel()),
        _correlation(ranks, stats.rankdata(hu)),
        mass[bright].sum(),
        bright.mean(),
    )
    return {name: float(value) for name, value in zip(MEASURES, found, strict=True)}


def blind(mask: np.ndarray, hu: np.ndarray, spacing: Sequence[float], margin_mm: float = 5.0) -> dict[str, float]:
    """What two maps that saw no model have on the same case: ``auc_centre``, ``auc_brightness`` and so on.

    Patches are centred on the tumour, and many tumours are brighter than what is around them, so that a uniform map is
    too weak an opponent. ``centre`` is a Gaussian around the middle of the patch, its sigma a quarter of the patch's
    extent along each axis; the masses depend on the sigma, AUC and pointing do not. ``brightness`` is HU + 1024.

    The measures are ``HELD_AGAINST`` of :func:`focus`; NaN for brightness where all HU are equal, or none is above air.
    Errors are those of :func:`focus`.
    """
    found = {}
    for name, values in (("centre", _centred(np.shape(mask))), ("brightness", np.asarray(hu, np.float64) - AIR)):
        flat = values.min() == values.max() or not (values > 0).any()
        if flat and name == "brightness":
            measures = dict.fromkeys(HELD_AGAINST, np.nan)
        else:
            measures = focus(values, mask, hu, spacing, margin_mm)
        found |= {f"{measure}_{name}": measures[measure] for measure in HELD_AGAINST}
    return found


def _centred(shape: Sequence[int]) -> np.ndarray:
    """(*shape) Gaussian around the middle of a patch; in quarters of the extent it is the same in voxels and in mm."""
    from_middle = [4 * (np.arange(length) - (length - 1) / 2) / length for length in shape]
    return np.exp(-sum(np.square(each) for each in np.ix_(*from_middle)) / 2)


def _checked(
    values: np.ndarray, mask: np.ndarray, hu: np.ndarray, spacing: Sequence[float], margin_mm: float
) -> np.ndarray:
    if values.ndim != 3 or not values.shape == mask.shape == hu.shape:
        raise SaliencyError(f"map {values.shape}, mask {mask.shape} and HU {hu.shape} must have the same three axes")
    if mask.dtype != bool:
        raise FocusError(f"the mask is {mask.dtype}, must be bool")
    if not mask.any():
        raise FocusError("the mask is empty on the patch grid")
    if mask.all():
        raise FocusError("the mask fills the patch: nothing is outside")
    broken = np.count_nonzero(~np.isfinite(hu))
    if broken:
        raise SaliencyError(f"the HU are NaN or infinite in {broken} of {hu.size} voxels")
    spacing = np.asarray(spacing, float)
    if spacing.shape != (3,) or not (spacing > 0).all() or not np.isfinite(spacing).all() or not margin_mm >= 0:
        raise SaliencyError(f"spacing is {spacing} and margin {margin_mm} mm, must be (3,) above 0, and 0 or more")
    return spacing


def _auc(ranks: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve from the ranks (n,) of the scores, Mann-Whitney form."""
    count = np.count_nonzero(positive)
    return (ranks.ravel()[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = (each.ravel() - each.mean() for each in (one, other))
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return one @ other / lengths if lengths > 0 else np.nan


def summarise(
    table: pd.DataFrame,
    by: Sequence[str] = (),
    measures: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Means over cases with 95 % bootstrap intervals over patients.

    ``table`` has a row a case: patient_id, the group columns ``by``, and ``measures`` (unless given, those of
    :func:`focus` and :func:`blind` that it has). Returns a row a group and measure: the group columns, measure, value,
    low, high, cases, patients, lacking; ``cases`` and ``patients`` are those with a value, ``lacking`` counts cases
    without. Patients are drawn with replacement, all their cases with them, and alike for every group of as many
    patients. With fewer than ``FEWEST`` patients low and high are NaN: show the cases.
    """
    by = [by] if isinstance(by, str) else list(by)
    known = (*MEASURES, *BLIND_MEASURES)
    measures = [name for name in known if name in table] if measures is None else list(measures)
    missing = [name for name in ("patient_id", *by, *measures) if name not in table]
    if missing or not measures or not len(table):
        raise SaliencyError(f"{len(table)} cases, {len(measures)} measures, missing columns: {missing or 'none'}")
    unknown = table["patient_id"].isna().sum()
    if unknown:
        raise SaliencyError(f"{unknown} of {len(table)} cases have no patient_id")
    groups = table.groupby(by, sort=False, dropna=False, observed=True) if by else [((), table)]
    frames = []
    for key, rows in groups:
        found = _means(rows[measures].to_numpy(float), rows["patient_id"].to_numpy(), draws, seed)
        frame = pd.DataFrame({"measure": measures, **found})
        for place, (name, value) in enumerate(zip(by, key, strict=True)):
            frame.insert(place, name, value)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _means(values: np.ndarray, patients: np.ndarray, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Of (cases, measures): mean, interval and counts, (measures,) each."""
    person, people = pd.factorize(patients)
    there = np.isfinite(values)
    sums, counts = np.zeros((2, len(people), values.shape[1]))
    np.add.at(sums, person, np.where(there, values, 0))
    np.add.at(counts, person, there)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws).astype(float)
    known = (counts > 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        value = sums.sum(axis=0) / counts.sum(axis=0)
        means = (drawn @ sums) / (drawn @ counts)  # NaN in a draw without any value
    limits = np.full((2, values.shape[1]), np.nan)
    several = known >= FEWEST
    limits[:, several] = np.nanquantile(means[:, several], (0.025, 0.975), axis=0)
    return {
        "value": value,
        "low": limits[0],
        "high": limits[1],
        "cases": there.sum(axis=0),
        "patients": known,
        "lacking": (~there).sum(axis=0),
    }
