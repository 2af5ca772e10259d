"""Ranks: who is best on a cohort, who on average, and how sure that order is.

A mean rank compares models only if all were ranked on the same cohorts. Where cells are missing, ranks are averaged
over a complete block of models and cohorts, and what is outside of it is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from .base import LeaderboardError, matrix

KEEP = ("most", "models", "cohorts")
SEARCHED = 14  # cohorts of which every subset is tried in search of the largest block


@dataclass(frozen=True)
class Ranks:
    """Ranks of models, 1 is best and exact ties share the mean of their ranks.

    ``cells``: model, cohort, auc, rank among the ``of`` models that the cohort has, in_block. ``mean``: model,
    mean_rank, best, worst (ranks within the block), first (cohorts on which it is best, ties included), cohorts; best
    first. ``aucs`` (models, cohorts) is the complete block. ``missing``: model, cohort of each empty cell.
    ``left_out``: what (model or cohort), name, reason.
    """

    cells: pd.DataFrame
    mean: pd.DataFrame
    aucs: pd.DataFrame
    missing: pd.DataFrame
    left_out: pd.DataFrame


def ranks(table: pd.DataFrame, keep: str = "most") -> Ranks:
    """Ranks by cohort and their mean over a complete block, of AUCs (model, cohort, auc).

    ``keep`` says how the block is chosen where cells are missing: "models" keeps every model and the cohorts that all
    of them have, "cohorts" keeps every cohort and the models that are in all of them, "most" keeps as many cells as
    possible (of two such blocks, the one with more models). A block of no cells is an empty ``mean``.
    """
    if keep not in KEEP:
        raise LeaderboardError(f"keep is '{keep}', must be one of {', '.join(KEEP)}")
    wide = matrix(table)
    block = _block(wide, keep)
    inside = _ranked(block)
    empty = wide.isna().stack()
    missing = empty[empty].index.to_frame(index=False)
    return Ranks(_cells(wide, block), _mean(inside), block, missing, _left_out(wide, block))


def _ranked(wide: pd.DataFrame) -> pd.DataFrame:
    """Ranks within each column, 1 for the highest; NaN stays NaN."""
    return wide.rank(axis=0, ascending=False, method="average")


def _cells(wide: pd.DataFrame, block: pd.DataFrame) -> pd.DataFrame:
    tall = wide.stack().rename("auc").dropna().reset_index()
    rank = _ranked(wide)
    tall["rank"] = [rank.loc[row.model, row.cohort] for row in tall.itertuples()]
    tall["of"] = tall["cohort"].map(wide.notna().sum()).astype(int)
    return tall.assign(in_block=tall["model"].isin(block.index) & tall["cohort"].isin(block.columns))


def _mean(inside: pd.DataFrame) -> pd.DataFrame:
    first = inside.eq(inside.min(axis=0), axis=1).sum(axis=1)
    found = pd.DataFrame(
        {
            "mean_rank": inside.mean(axis=1),
            "best": inside.min(axis=1),
            "worst": inside.max(axis=1),
            "first": first.astype(int),
            "cohorts": inside.shape[1],
        }
    )
    return found.rename_axis("model").sort_values("mean_rank", kind="stable").reset_index()


def _block(wide: pd.DataFrame, keep: str) -> pd.DataFrame:
    there = wide.notna()
    all_models = wide.loc[:, there.all(axis=0)]
    all_cohorts = wide.loc[there.all(axis=1)]
    if keep != "most" or there.all(axis=None):
        return all_cohorts if keep == "cohorts" else all_models
    if wide.shape[1] > SEARCHED:
        return max(all_models, all_cohorts, key=lambda block: block.size)
    return _largest(wide, there.to_numpy())


def _largest(wide: pd.DataFrame, there: np.ndarray) -> pd.DataFrame:
    """Of every set of cohorts, with the models that are in all of them, the one of most cells, then of most models."""
    places = range(wide.shape[1])
    subsets = (list(some) for size in range(1, len(places) + 1) for some in combinations(places, size))
    best, found = (0, 0), ([], [])
    for some in subsets:
        models = np.flatnonzero(there[:, some].all(axis=1))
        size = (len(models) * len(some), len(models))
        if len(models) > 1 and size > best:  # one model alone has nobody to be ranked against
            best, found = size, (models, some)
    return wide.iloc[found[0], found[1]]


def _left_out(wide: pd.DataFrame, block: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for what, names, kept, axis in (("model", wide.index, block.index, 1), ("cohort", wide.columns, block.columns, 0)):
        there = wide.notna().sum(axis=axis)
        of = wide.shape[axis]
        unit = "cohorts" if what == "model" else "models"
        rows += [(what, name, f"has {there[name]} of {of} {unit}") for name in names if name not in kept]
    return pd.DataFrame(rows, columns=["what", "name", "reason"])


def rank_draws(draws: Mapping[str, Mapping[str, np.ndarray]], seed: int = 0) -> pd.DataFrame:
    """How sure mean ranks are: a bootstrap over patients, and one over patients and cohorts.

    ``draws`` maps a cohort to what :func:`statistics.auc_draws` gives of it: model to (draws + 1,) AUCs, the first of
    the data, as many draws in every cohort. The models are those that all cohorts have. Patients of different cohorts
    are drawn independently; cohorts are drawn with replacement, and one that is drawn twice brings two draws of its
    patients. With few cohorts their part is understated: no draw holds a cohort that is not there.

    Returns one row a model, best first: model, mean_rank, low, high (95 %, patients and cohorts), low_patients,
    high_patients, first and first_patients (probability that its mean rank is the best; ties share it), place_low,
    place_high (95 % of its place in the order of mean ranks), cohorts.
    """
    names, aucs = _stacked(draws)
    cohorts, count = aucs.shape[0], aucs.shape[1] - 1
    rng = np.random.default_rng(seed)
    every = np.tile(np.arange(cohorts), (count, 1))
    usable = [np.flatnonzero(np.isfinite(each).all(axis=1)) for each in aucs]
    usable = [rows[rows > 0] for rows in usable]
    empty = [cohort for cohort, rows in zip(draws, usable, strict=True) if not len(rows)]
    if empty or not np.isfinite(aucs[:, 0]).all():
        raise LeaderboardError(f"no usable draw of {', '.join(empty) or 'a model: its AUC is NaN'}")
    ranked = rankdata(-aucs, axis=2)
    means = {}
    for how, chosen in (("_patients", every), ("", rng.integers(cohorts, size=every.shape))):
        # the draws of a cohort are taken in any order: those of two cohorts come of one seed and may be alike
        row = np.empty(chosen.shape, int)
        for cohort, rows in enumerate(usable):
            here = chosen == cohort
            row[here] = rng.choice(rows, here.sum())
        means[how] = ranked[chosen, row].mean(axis=1)
    table = pd.DataFrame({"model": names, "mean_rank": ranked[:, 0].mean(axis=0)})
    for how, each in means.items():
        table[f"low{how}"], table[f"high{how}"] = np.quantile(each, (0.025, 0.975), axis=0)
        best = np.isclose(each, each.min(axis=1, keepdims=True), rtol=0, atol=1e-9)
        table[f"first{how}"] = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    place = rankdata(means[""].round(9), axis=1, method="average")
    table["place_low"], table["place_high"] = np.quantile(place, (0.025, 0.975), axis=0)
    order = ["model", "mean_rank", "low", "high", "low_patients", "high_patients", "first", "first_patients"]
    table = table[[*order, "place_low", "place_high"]].assign(cohorts=cohorts)
    return table.sort_values("mean_rank", kind="stable", ignore_index=True)


def _stacked(draws: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[list[str], np.ndarray]:
    """Models of all cohorts, and their AUCs (cohorts, draws + 1, models)."""
    if not draws:
        raise LeaderboardError("no cohort has draws")
    names = [name for name in next(iter(draws.values())) if all(name in of for of in draws.values())]
    if len(names) < 2:
        raise LeaderboardError(f"{len(names)} models are in all of {', '.join(draws)}: ranks take two")
    lengths = {cohort: {len(of[name]) for name in names} for cohort, of in draws.items()}
    if len(set().union(*lengths.values())) > 1 or max(set().union(*lengths.values())) < 2:
        told = ", ".join(f"{cohort} {sorted(of)}" for cohort, of in lengths.items())
        raise LeaderboardError(f"as many draws are needed in every cohort, and the data before them; there are: {told}")
    return names, np.array([np.column_stack([of[name] for name in names]) for of in draws.values()], np.float64)
