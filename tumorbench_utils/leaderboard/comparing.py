"""Which differences count: Friedman's test and the critical difference over cohorts, paired tests within them.

Demsar, Statistical comparisons of classifiers over multiple data sets, J Mach Learn Res 7, 1-30 (2006).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from .base import ALPHA, LeaderboardError

NEARLY = 1e-12  # ranks are sums of halves: what is nearer than this is equal


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that ``models`` are alike, over ``cohorts``.

    ``chi2`` is corrected for ties (that of scipy) and ``f`` the statistic of Iman and Davenport made of it; ``p`` and
    ``p_f`` are their p-values. ``chi2_plain`` and ``f_plain`` are without the correction, as in Demsar's paper.
    ``mean_rank`` (models,).
    """

    models: int
    cohorts: int
    mean_rank: pd.Series
    chi2: float
    p: float
    f: float
    p_f: float
    chi2_plain: float
    f_plain: float


def friedman(aucs: pd.DataFrame) -> Friedman:
    """Friedman's test of a complete block of AUCs (models, cohorts), as :attr:`Ranks.aucs` is.

    It takes three models and two cohorts, or it is a :class:`LeaderboardError`; with fewer than about five cohorts it
    can hardly reject. F = (N - 1) chi2 / (N (k - 1) - chi2) with k - 1 and (k - 1)(N - 1) degrees of freedom.
    """
    k, n = aucs.shape
    if k < 3 or n < 2:
        raise LeaderboardError(f"Friedman's test takes 3 models and 2 cohorts; there are {k} and {n}")
    if aucs.isna().any(axis=None):
        raise LeaderboardError(f"{int(aucs.isna().sum().sum())} cells are empty: give a complete block")
    rank = aucs.rank(axis=0, ascending=False).mean(axis=1)
    plain = 12 * n / (k * (k + 1)) * (np.square(rank).sum() - k * (k + 1) ** 2 / 4)
    if (aucs.nunique(axis=0) == 1).all():  # all models alike everywhere
        return Friedman(k, n, rank, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    chi2, p = stats.friedmanchisquare(*aucs.to_numpy())
    f = _iman_davenport(chi2, k, n)
    p_f = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    return Friedman(k, n, rank, float(chi2), float(p), f, p_f, float(plain), _iman_davenport(plain, k, n))


def _iman_davenport(chi2: float, k: int, n: int) -> float:
    rest = n * (k - 1) - chi2
    return float((n - 1) * chi2 / rest) if rest > NEARLY * n * k else np.inf  # every cohort has the same order


def critical_difference(models: int, cohorts: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference in mean rank, q sqrt(k (k + 1) / (6 N)) for k models on N cohorts.

    q is the quantile of the studentised range for infinite degrees of freedom over the square root of 2 (Demsar 2006,
    table 5a).
    """
    if models < 2 or cohorts < 1:
        raise LeaderboardError(f"a critical difference takes 2 models and a cohort; there are {models} and {cohorts}")
    q = stats.studentized_range.ppf(1 - alpha, models, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(models * (models + 1) / (6 * cohorts)))


def cliques(mean_rank: Mapping[str, float], difference: float) -> list[list[str]]:
    """Groups of models that are not told apart, for the bars of a diagram: each as large as can be, best model first.

    A group are neighbours in order of ``mean_rank`` of which the first and the last differ by less than
    ``difference``; two models that differ by just as much are told apart. Groups overlap; models that are told apart
    from all others are in none.
    """
    mean_rank = dict(mean_rank)
    names = sorted(mean_rank, key=lambda name: mean_rank[name])
    groups, reached = [], 0
    for start, name in enumerate(names):
        end = start + 1
        while end < len(names) and mean_rank[names[end]] - mean_rank[name] < difference - NEARLY:
            end += 1
        if end - start > 1 and end > reached:  # otherwise it is part of the group before
            groups.append(names[start:end])
            reached = end
    return groups


def names_of(table: pd.DataFrame) -> list[str]:
    """The models of a table of pairs, in their order."""
    return list(dict.fromkeys([*table["first"], *table["second"]]))


def aucs_of(table: pd.DataFrame) -> dict[str, float]:
    """AUC of each model of a table of pairs."""
    second = dict(zip(table["second"], table["auc_second"], strict=True))
    return second | dict(zip(table["first"], table["auc_first"], strict=True))


def best_of(table: pd.DataFrame, names: list[str], alpha: float = ALPHA) -> list[str]:
    """Of ``names`` the best and those not significantly worse than it, highest AUC first."""
    aucs = aucs_of(table)
    order = sorted((name for name in names if name in aucs), key=lambda name: -aucs[name])
    return [name for name in order if name == order[0] or versus(table, order[0], name)["p_holm"] >= alpha]


def versus(table: pd.DataFrame, model: str, other: str) -> pd.Series | None:
    """The row of two models in a table of pairs, turned so that ``model`` is first; None if it has none."""
    found = table[(table["first"] == model) & (table["second"] == other)]
    if len(found):
        return found.iloc[0]
    found = table[(table["first"] == other) & (table["second"] == model)]
    if not len(found):
        return None
    row = found.iloc[0].copy()
    row["first"], row["second"] = model, other
    row["auc_first"], row["auc_second"] = row["auc_second"], row["auc_first"]
    row["difference"], row["low"], row["high"] = -row["difference"], -row["high"], -row["low"]
    return row
