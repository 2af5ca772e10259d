"""Cox regression by Newton's method, and the principal components that it is given.

lifelines takes 0.1 s and more a model, and a search over components and penalties in ten splits needs hundreds; this
takes a few milliseconds, and tests hold its coefficients and baseline against those of lifelines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from . import concordance
from .concordance import SurvivalError

STEPS, CLOSE = 50, 1e-8  # Newton steps, and the size of one that ends them


class NotConverged(SurvivalError):
    """A Cox model whose coefficients do not settle: a covariate tells the order of deaths perfectly."""


def fit(x: np.ndarray, time: Sequence[float], event: Sequence[float], penalty: float = 0.0) -> np.ndarray:
    """Coefficients (p,) of covariates (n, p): Cox's partial likelihood with Efron's ties and a ridge.

    Maximises log likelihood - n * penalty / 2 * |b|^2, as lifelines does for covariates of standard deviation 1, by
    Newton's method with halved steps. Cox, J R Stat Soc B 34, 187 (1972); Efron, J Am Stat Assoc 72, 557 (1977).
    """
    time, event = concordance.checked(time, event)
    order = np.argsort(time, kind="stable")
    x, time, event = np.asarray(x, float)[order], time[order], event[order]
    dead = np.flatnonzero(event)
    if not len(dead):
        raise SurvivalError(f"no deaths among {len(time)} patients: there is no hazard to model")
    first = np.searchsorted(time, time[dead])  # at risk at a death: the rows from here on
    _, start, tie, size = np.unique(time[dead], return_index=True, return_inverse=True, return_counts=True)
    share = (np.arange(len(dead)) - start[tie]) / size[tie]  # of its day's deaths that are over at a death
    sets = (dead, first, start, tie, share)
    beta, ridge = np.zeros(x.shape[1]), len(x) * penalty
    best, gradient, curvature = _likelihood(x, beta, ridge, sets)
    for _ in range(STEPS):
        try:
            step = np.linalg.solve(curvature, gradient)
        except np.linalg.LinAlgError as error:
            raise NotConverged(f"the information matrix of {x.shape[1]} covariates is singular") from error
        value, gradient, curvature = _likelihood(x, beta + step, ridge, sets)
        while not value >= best - CLOSE * (1 + abs(best)) and np.abs(step).max() > CLOSE:
            step = step / 2
            value, gradient, curvature = _likelihood(x, beta + step, ridge, sets)
        beta, best = beta + step, value
        if np.abs(step).max() < CLOSE:
            return beta
    raise NotConverged(f"no maximum within {STEPS} steps; the largest coefficient is {np.abs(beta).max():.3g}")


def _likelihood(
    x: np.ndarray, beta: np.ndarray, ridge: float, sets: tuple[np.ndarray, ...]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Penalised log likelihood, gradient (p,) and information (p, p) at ``beta``; rows ascend in time."""
    dead, first, start, tie, share = sets
    eta = x @ beta
    weight = np.exp(eta - eta.max())
    weighted = np.column_stack([weight, weight[:, None] * x])
    later = np.cumsum(weighted[::-1], axis=0)[::-1]
    tied = np.add.reduceat(weighted[dead], start, axis=0)
    at_risk = later[first] - share[:, None] * tied[tie]  # of each death: sum of weights, and of weighted covariates
    mean = at_risk[:, 1:] / at_risk[:, :1]
    each = 1 / at_risk[:, 0]
    # how often a patient is in a risk set, each set at total weight 1
    times = np.cumsum(np.bincount(first, each, len(x)))
    times[dead] -= np.bincount(tie, share * each)[tie]
    value = eta[dead].sum() - (np.log(at_risk[:, 0]) + eta.max()).sum() - ridge / 2 * beta @ beta
    gradient = x[dead].sum(axis=0) - mean.sum(axis=0) - ridge * beta
    information = (x * (weight * times)[:, None]).T @ x - mean.T @ mean + ridge * np.eye(len(beta))
    return float(value), gradient, information


def baseline(eta: np.ndarray, time: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times of death (t,) and Breslow's cumulative baseline hazard (t,) for linear predictors (n,)."""
    times = np.unique(time[event])
    at_risk = np.exp(eta) @ (time[:, None] >= times)
    deaths = event.astype(float) @ (time[:, None] == times)
    return times, np.cumsum(deaths / at_risk)


def components(vectors: np.ndarray, train: np.ndarray, most: int) -> np.ndarray:
    """(n, m) principal components of standardised vectors, m up to ``most``, at variance 1 in the training rows.

    Means, deviations and directions are of the training rows alone. NaN becomes their mean, and what is constant
    there 0.
    """
    scaled = _standardised(vectors, train)
    part = scaled[train]
    few = part.shape[1] > len(train)  # then products between patients give the same, of a smaller matrix
    products = part @ part.T if few else part.T @ part
    size = len(products)
    values, found = linalg.eigh(products, subset_by_index=(max(0, size - most), size - 1))
    values, found = values[::-1], found[:, ::-1]
    directions = part.T @ found / np.sqrt(np.maximum(values, 1e-300)) if few else found
    real = values > 1e-9 * max(values.max(initial=0), 1e-300)
    if not real.any():
        raise SurvivalError(f"all {len(train)} training patients have the same vector: there is nothing to learn from")
    return scaled @ directions[:, real] / np.sqrt(values[real] / len(train))


def _standardised(vectors: np.ndarray, train: np.ndarray) -> np.ndarray:
    part = vectors[train]
    known = np.isfinite(part)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, part, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, part - mean, 0) ** 2).sum(axis=0) / count)
    steady = spread <= 1e-9 * np.abs(mean)  # constant, but for rounding
    scaled = (vectors - mean) / np.where(steady, np.inf, spread)
    return scaled if known.all() and np.isfinite(vectors).all() else np.where(np.isfinite(scaled), scaled, 0)
