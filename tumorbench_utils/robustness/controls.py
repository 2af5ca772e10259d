"""Negative controls: patches whose voxels were destroyed inside the tumour, outside it, or everywhere.

A model that says as much without the tumour as with it says something else. Regions and kinds are those of READII
(BHK Lab, readii.negative_controls): voxels of the region of interest, of all but it, or of the full image are
shuffled, randomised between the region's least and greatest HU (both included), or sampled from the region's own
values with replacement. READII changes whole images before the patch is cut; here the patch is the image, so ranges
and values are those of the patch, and no voxel from beyond it comes in. Padding beyond the border of the image
(-1024 HU) is a voxel as any other: where there is some it takes part.
"""

from __future__ import annotations

import hashlib

import numpy as np

KINDS = {"shuffled": "shuffled", "randomized": "randomised", "randomized_sampled": "sampled"}
REGIONS = {"roi": "tumour", "non_roi": "surroundings", "full": "whole patch"}
CONTROLS: dict[str, str] = {
    f"{kind}_{region}": f"{place.capitalize()} {what}"
    for region, place in REGIONS.items()
    for kind, what in KINDS.items()
}
NO_MASK, EMPTY_MASK = "no mask", "the mask is empty in the patch"
FULL_MASK = "the mask fills the patch, there is nothing outside it"


class NegativeControlError(ValueError):
    """A negative control that cannot be made of a patch; the message says why, as a reason to list."""


def control(id: str, patch: np.ndarray, mask: np.ndarray | None, seed: int, key: str) -> np.ndarray:
    """The patch (three axes, int16 HU) with the voxels of one region destroyed; the others are the same bit for bit.

    ``mask`` (same shape, True in the tumour) may be None for the full patch. What is drawn hangs on ``seed``, ``id``
    and ``key`` (the sample_id) alone. Raises :class:`NegativeControlError` for an unknown ``id``, a mask that is
    missing, empty, of another shape, or that leaves nothing outside it for a control of the surroundings.
    """
    known(id)
    patch = np.asarray(patch)
    if patch.ndim != 3 or patch.dtype != np.int16:
        raise NegativeControlError(f"the patch is {patch.dtype} of shape {patch.shape}, must be int16 with three axes")
    region = _region(id, patch, mask)
    values = patch[region]
    digest = hashlib.sha256(f"{seed} {id} {key}".encode()).digest()
    changed = patch.copy()
    changed[region] = _drawn(id, values, np.random.default_rng(list(digest)))
    return changed


def known(id: str) -> str:
    """``id`` if there is such a control; :class:`NegativeControlError` lists those there are."""
    if id not in CONTROLS:
        raise NegativeControlError(f"unknown negative control '{id}'. Known: {', '.join(CONTROLS)}")
    return id


def region_of(id: str) -> str:
    """The region that a control destroys: roi, non_roi or full."""
    return next(region for region in ("non_roi", "roi", "full") if known(id).endswith(f"_{region}"))


def _region(id: str, patch: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    region = region_of(id)
    if region == "full":
        return np.ones(patch.shape, bool)
    if mask is None:
        raise NegativeControlError(NO_MASK)
    mask = np.asarray(mask, bool)
    if mask.shape != patch.shape:
        raise NegativeControlError(f"the mask is {mask.shape}, the patch {patch.shape}")
    if not mask.any():
        raise NegativeControlError(EMPTY_MASK)
    if region == "non_roi" and mask.all():
        raise NegativeControlError(FULL_MASK)
    return mask if region == "roi" else ~mask


def _drawn(id: str, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if id.startswith("shuffled"):
        return rng.permutation(values)
    if id.startswith("randomized_sampled"):
        return rng.choice(values, len(values))
    return rng.integers(values.min(), values.max(), len(values), np.int16, endpoint=True)
