"""Does a map show what was learnt? One that stays the same when the weights are random does not."""

from __future__ import annotations

import numpy as np
from scipy import stats

from .base import SaliencyError, check_map

TOP = 0.1  # of the voxels


def alike(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How alike two maps (*size) of the same patch are: of trained and random weights, or of two methods.

    ``spearman`` and ``pearson`` correlation over all voxels; ``top_overlap``: share of the most salient tenth that both
    have, 0.1 by chance. Voxels equal at the edge of the tenth belong to it in part. Adebayo et al. 2018,
    arXiv 1810.03292: a map that hardly changes with random weights shows the image, or the architecture.

    :class:`SaliencyError` for maps that are constant, not finite or of different sizes.
    """
    if np.shape(one) != np.shape(other):
        raise SaliencyError(f"maps are {np.shape(one)} and {np.shape(other)}, must be of the same patch")
    one, other = (check_map(each).ravel() for each in (one, other))
    top, rank = ([measure(each) for each in (one, other)] for measure in (_top, stats.rankdata))
    return {
        "spearman": float(np.corrcoef(*rank)[0, 1]),
        "pearson": float(np.corrcoef(one, other)[0, 1]),
        "top_overlap": float(np.minimum(*top).sum() / top[0].sum()),
    }


def _top(values: np.ndarray) -> np.ndarray:
    """(n,) how far a voxel belongs to the most salient tenth, 0 to 1."""
    count = max(1, round(TOP * len(values)))
    edge = np.partition(values, -count)[-count]
    above, equal = values > edge, values == edge
    return above + equal * ((count - above.sum()) / equal.sum())
