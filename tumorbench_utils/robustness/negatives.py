"""An embedding against its negative controls: the same patches with the voxels of a region shuffled or drawn anew.

Where a control is near the original, the embedding did not look at the arrangement of those voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from . import agreement
from .agreement import RobustnessError


def compare(
    original: np.ndarray, controls: Mapping[str, np.ndarray], patients: Sequence, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Embeddings (n, d) of the original patches against those of each control, row by row; patients (n,).

    One row a control: control; cosine, the mean over the samples of that between original and control; retrieval, the
    share of samples whose original has, of all n vectors of the control, the own one nearest; identical, how many are
    equal in every number; samples. ``_low`` and ``_high`` are 95 % limits, patients drawn with replacement, while the
    vectors among which an original seeks its own stay all n. Asked the other way round (the original nearest to a
    control vector) the share is lower where a few originals are near to everything. :class:`RobustnessError` for
    unequal shapes and vectors that are zero or not finite.
    """
    patients = np.asarray(patients, str)
    unit = agreement.unit(original, "original", patients)
    weights = agreement.weights(patients, draws, seed)
    rows = []
    for name, vectors in _checked(original, controls).items():
        similar = unit @ agreement.unit(vectors, name, patients).T
        own = np.clip(np.diag(similar), -1, 1)
        found = similar.argmax(axis=1) == np.arange(len(unit))
        equal = (np.asarray(vectors) == np.asarray(original)).all(axis=1).sum()
        rows.append((name, *_interval(own, weights), *_interval(found, weights), int(equal), len(unit)))
    figures = [f"{figure}{end}" for figure in ("cosine", "retrieval") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["control", *figures, "identical", "samples"])


def identical(original: np.ndarray, controls: Mapping[str, np.ndarray], names: Sequence) -> pd.DataFrame:
    """Samples whose control vector equals the original one in every number: control, sample_id.

    Such a patch has no voxel in the region that the control alters, or was not altered for another reason.
    """
    original, names = np.asarray(original), np.asarray(names, dtype=object)
    if len(original) != len(names):
        raise RobustnessError(f"{len(original)} embeddings but {len(names)} names")
    rows = [
        (control, name)
        for control, vectors in _checked(original, controls).items()
        for name in names[(np.asarray(vectors) == original).all(axis=1)]
    ]
    return pd.DataFrame(rows, columns=["control", "sample_id"], dtype=str)


def _checked(original: np.ndarray, controls: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    for name, vectors in controls.items():
        if np.shape(vectors) != np.shape(original):
            raise RobustnessError(f"{name}: shape {np.shape(vectors)}, but the original is {np.shape(original)}")
    return controls


def _interval(values: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    drawn = weights @ values / weights.sum(axis=1)
    return float(drawn[0]), *agreement.limits(drawn[1:])
