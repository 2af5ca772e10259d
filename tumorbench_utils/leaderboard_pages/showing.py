"""Figures of the leaderboard with captions that say, in numbers, what they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from .. import leaderboard
from ..leaderboard.comparing import names_of
from ..plots import Several, Shown
from ..plots.base import counted, percent
from ..plots.leaderboard import (
    critical_difference,
    facets,
    leading,
    mean_ranks,
    pairwise_wins,
    rank_heatmap,
    trajectories,
)
from ..plots.several import listed
from .standing import Standing

NONE_KNOWN = "none known"
MOST = 12  # models in a matrix of pairs that a phone can show
FACETS = {
    "auc_external_worst": "AUC on another cohort, worst",
    "retest_identification": "retest found again",
    "kappa": "kappa, seed points moved",
    "tumour_focus": "focus minus blind maps",
    "overlap": "of 10 neighbours shared with other trained models",
    "seconds_per_patch": "seconds a patch",
}


def each(draw: Callable[[Standing], Shown | None], standings: Sequence[Standing]) -> Several | None:
    """``draw`` of every standing of which it can be drawn, one below the other; None if of none."""
    shown = [figure for figure in map(draw, standings) if figure is not None]
    return Several(shown) if shown else None


def names(standing: Standing, models: Sequence[str]) -> str:
    """Titles of models, joined: "A, B and C"."""
    titles = [standing.titles[name] for name in models]
    return " and ".join([", ".join(titles[:-1]), titles[-1]] if len(titles) > 1 else titles)


def opened(standing: Standing) -> str:
    """The group of a standing as a sentence begins with it."""
    return f"{standing.group[0].upper()}{standing.group[1:]}"


def _opening(standing: Standing) -> str:
    return f"{opened(standing)}."


def leaders(standing: Standing) -> dict[str, list[str]]:
    """The models of rank 1 (several if they tie exactly) by cohort."""
    cells = standing.ranks.cells
    best = cells[cells["rank"] == cells.groupby("cohort")["rank"].transform("min")]
    return {cohort: list(best.loc[best["cohort"] == cohort, "model"]) for cohort in dict.fromkeys(cells["cohort"])}


def heat_shown(standing: Standing) -> Shown | None:
    """Ranks by cohort; a dagger where the cohort is, or may be, in the pretraining data."""
    if len(standing.order) < 2:
        return None
    ranks = standing.wide()
    seen = pd.DataFrame(
        [[_seen(standing, name, cohort) for cohort in standing.cohorts] for name in standing.order],
        index=ranks.index, columns=ranks.columns,
    ).to_numpy() & ranks.notna()  # fmt: skip
    led = "; ".join(
        f"{standing.cohorts[cohort]}: {names(standing, best)}" for cohort, best in leaders(standing).items()
    )
    daggers = int(seen.to_numpy().sum())
    told = f"First on {led}.{controls_first(standing)}"
    dagger = f" †: the cohort is, or may be, in the model's pretraining data ({counted(daggers, 'cell')})."
    caption = (
        f"{_opening(standing)} Ranks by AUC of kNN among the models that each cohort has, 1 the best; equal models "
        f"share a rank (=).{dagger if daggers else ''} {told}"
    )
    figure = rank_heatmap(ranks, seen, published=standing.published)
    return Shown(figure, caption, f"Table of ranks, models by cohorts. {told}", standing.mark)


def controls_first(standing: Standing) -> str:
    """A warning where a control is first: no model is better than it there."""
    leading = list(dict.fromkeys(name for best in leaders(standing).values() for name in best))
    first = [name for name in leading if name in standing.controls]
    if len(first) > 1:
        return f" {names(standing, first)} are controls, not models."
    who = "It" if len(leading) == 1 else names(standing, first)
    return f" {who} is a control, not a model." if first else ""


def _seen(standing: Standing, name: str, cohort: str) -> bool:
    trained = name not in standing.untrained
    return trained and leaderboard.pretraining(standing.models[name], cohort)[0] != NONE_KNOWN


def trajectories_shown(standing: Standing) -> Shown | None:
    """Ranks from cohort to cohort, of the complete block."""
    ranks = standing.wide(block=True)
    if ranks.shape[1] < 2 or len(ranks) < 2:
        return None
    most = (ranks.max(axis=1) - ranks.min(axis=1)).sort_values(ascending=False, kind="stable")
    best, movers = (
        [_span(ranks.loc[title]) for title in some]
        for some in ([standing.titles[name] for name in foremost(standing)], most.index[most == most.max()])
    )
    told = (
        f"Best on average{', alike' if len(best) > 1 else ''}: {listed(best)}. "
        f"{'Moves' if len(movers) == 1 else 'Move'} most: {listed(movers)}."
    )
    told = told if most.iloc[0] else "Every model has the same rank on all cohorts."
    few = leading(ranks)
    coloured = "all models" if few == len(ranks) else f"the {few} of the best mean rank" if few else "none, as all tie"
    caption = f"{_opening(standing)} Ranks from cohort to cohort; in colour {coloured}. {told}"
    return Shown(trajectories(ranks, published=standing.published), caption, f"Lines of ranks. {told}", standing.mark)


def _span(ranks: pd.Series) -> str:
    return f"{ranks.name}, rank {ranks.min():g}" + (f" to {ranks.max():g}" if ranks.max() > ranks.min() else "")


def foremost(standing: Standing) -> list[str]:
    """The models of the best mean rank: several if they tie."""
    mean = standing.ranks.mean
    return list(mean.loc[np.isclose(mean["mean_rank"], mean["mean_rank"].min()), "model"])


def best_told(standing: Standing) -> str:
    """``A has the best mean rank``, or of several ``A and B share the best mean rank``."""
    best = foremost(standing)
    return f"{names(standing, best)} {'has' if len(best) == 1 else 'share'} the best mean rank"


def mean_shown(standing: Standing) -> Shown | None:
    """Mean rank with its interval, if there is one."""
    mean = standing.ranks.mean
    if len(mean) < 2:
        return None
    cohorts = standing.ranks.aucs.shape[1]
    if standing.sure is None:
        table = mean.assign(low=np.nan, high=np.nan)
        reasons = [each.partition(": ")[2] for each in standing.lacking if "interval" in each]
        how = f"without an interval ({'; '.join(reasons)})"
    else:
        table = standing.sure
        over = "patients" if cohorts == 1 else "patients and cohorts"
        how = f"with 95 % intervals of a bootstrap over {over}, {standing.draws:,} draws"
        how += f"; without one, held as they are, {names(standing, standing.held)}" if standing.held else ""
    table = table.assign(title=[standing.titles[name] for name in table["model"]])
    tops = table[table["model"].isin(foremost(standing))]
    told = f"{best_told(standing)}, {' and '.join(map(_range, tops.to_dict('records')))}"
    sure = tops[np.isfinite(tops["low"])]
    if len(sure) == len(tops):
        draws = " and ".join(map(percent, sure["first"]))
        told += f", and {'is' if len(tops) == 1 else 'are'} the best of all in {draws} of draws"
    if len(sure) == len(tops) == 1:
        rivals = int((table["low"] <= sure["high"].iloc[0]).sum()) - 1
        told += f"; {counted(rivals, 'other interval')} {'meets' if rivals == 1 else 'meet'} its"
    caption = f"{_opening(standing)} Mean rank over {counted(cohorts, 'cohort')}, {how}. {told}."
    figure = mean_ranks(table[["title", "mean_rank", "low", "high"]], published=standing.published)
    return Shown(figure, caption, f"Dot plot of mean ranks. {told}.", standing.mark)


def _range(row: Mapping) -> str:
    words = f"{row['mean_rank']:.2f}"
    return f"{words} ({row['low']:.2f} to {row['high']:.2f})" if np.isfinite(row["low"]) else words


def critical_shown(standing: Standing) -> Shown | None:
    """Demsar's diagram, with Friedman's test."""
    if standing.friedman is None:
        return None
    mean, test = standing.ranks.mean, standing.friedman
    table = mean.assign(title=[standing.titles[name] for name in mean["model"]])
    groups = [[standing.titles[name] for name in clique] for clique in standing.cliques]
    apart = apart_from_best(standing)
    # where the ranks are the same on all cohorts F has no limit, whatever their number: Friedman's test alone counts
    second = f"; Iman and Davenport F {test.f:.2f}, {p_told(test.p_f)}" if np.isfinite(test.f) else ""
    shown = "" if test.p < standing.alpha else "By Friedman's test no difference between the models is shown. "
    told = (
        f"Friedman chi-squared {test.chi2:.1f}, {p_told(test.p)}{second}. {shown}"
        f"With {test.models} models on {test.cohorts} cohorts, mean ranks that differ by less than "
        f"{standing.difference:.2f} are not told apart (Nemenyi, {standing.alpha:g}). "
        f"{names(standing, apart) or 'No model'} {'are' if len(apart) > 1 else 'is'} told apart from the best, "
        f"{names(standing, foremost(standing))}."
    )
    caption = f"{_opening(standing)} Bars join models that are not told apart. {told}"
    figure = critical_difference(table, standing.difference, groups, published=standing.published)
    return Shown(figure, caption, f"Critical-difference diagram. {told}", standing.mark)


def apart_from_best(standing: Standing) -> list[str]:
    """Models whose mean rank is a critical difference or more from the best."""
    mean = standing.ranks.mean
    gap = mean["mean_rank"] - mean["mean_rank"].iloc[0]
    return list(mean.loc[gap >= standing.difference - 1e-12, "model"])


def p_told(p: float) -> str:
    """``p = 0.187``, or ``p < 0.001``."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def wins_shown(standing: Standing) -> Shown | None:
    """Significant wins and losses of every pair, over the cohorts."""
    if not standing.pairs:
        return None
    table = duels(standing)
    compared = sum(map(len, standing.pairs.values()))
    wins = sum(int((pairs["p_holm"] < standing.alpha).sum()) for pairs in standing.pairs.values())
    told = (
        f"{wins} of {counted(compared, 'comparison')} on {counted(len(standing.pairs), 'cohort')} "
        f"{'is' if wins == 1 else 'are'} significant; all others count as ties."
    )
    rest = len(_compared(standing)) - MOST
    told += f" Of the best {MOST}; {counted(rest, 'model')} more in pairs.csv." if rest > 0 else ""
    score = "+ win, = tie, − loss" if len(standing.pairs) == 1 else "wins : losses"
    caption = (
        f"{_opening(standing)} The model of the row against that of the column ({score}): paired patient bootstrap of "
        f"{standing.draws:,} draws, Holm's correction over the pairs of a cohort, {standing.alpha:g}. {told}"
    )
    return Shown(pairwise_wins(table), caption, f"Matrix of wins and losses. {told}", standing.mark)


def duels(standing: Standing) -> pd.DataFrame:
    """Ordered pairs of titles, of the best twelve, with the numbers of cohorts on which the first wins, ties, loses."""
    models = _compared(standing)[:MOST]
    known = [_signs(table, standing.alpha) for table in standing.pairs.values()]
    rows = []
    for one, two in permutations(models, 2):
        signs = [each[one, two] for each in known if (one, two) in each]
        rows.append((standing.titles[one], standing.titles[two], *(signs.count(sign) for sign in (1, 0, -1))))
    return pd.DataFrame(rows, columns=["first", "second", "wins", "ties", "losses"])


def _signs(table: pd.DataFrame, alpha: float) -> dict[tuple[str, str], int]:
    """1, 0 or -1 of every ordered pair: the first is significantly better, not told apart, worse."""
    signs = np.sign(table["difference"]).where(table["p_holm"] < alpha, 0).astype(int)
    found = {}
    for first, second, sign in zip(table["first"], table["second"], signs, strict=True):
        found[first, second], found[second, first] = int(sign), -int(sign)
    return found


def _compared(standing: Standing) -> list[str]:
    """Models that were compared in pairs, best mean rank first."""
    there = {name for table in standing.pairs.values() for name in names_of(table)}
    return [name for name in standing.order if name in there]


def facets_shown(rows: pd.DataFrame, mark: str) -> Shown | None:
    """What ranks leave out, of this run's models: small multiples."""
    known = {key: title for key, title in FACETS.items() if key in rows and rows[key].notna().any()}
    some = rows[rows[list(known)].notna().any(axis=1)] if known else rows.head(0)
    if some.empty:
        return None
    told = [_extremes(some, key, title) for key, title in known.items()]
    lacking = [title for key, title in FACETS.items() if key not in known]
    rest = f" Not measured in this run: {', '.join(lacking)}." if lacking else ""
    if "seconds_per_patch" in known and "phantom_only" in some:  # a table of phantoms alone was timed on phantoms
        timed = np.where(some["phantom_only"] & some["seconds_per_patch"].notna(), "phantom", "")
        some = some.assign(seconds_per_patch_mark=timed)
    tables = counted(len(some), "embedding table")
    caption = (
        f"What a rank does not say, of {tables}; hollow: measured on phantoms. Right is better; of seconds, left; of "
        f"shared neighbours, neither. {told[0]}.{rest}"
    )
    alt = f"Panels of dots by model. {'; '.join(told)}."
    return Shown(facets(some.reset_index(drop=True), known), caption, alt, mark)


def _extremes(rows: pd.DataFrame, key: str, title: str) -> str:
    values = rows[rows[key].notna()].sort_values(key, kind="stable")
    low, high = values.iloc[0], values.iloc[-1]
    ends = [low] if len(values) == 1 else [low, high]
    return f"{title}: " + " to ".join(
        f"{row[key]:.3g} ({row['title']})".replace("-", "−", int(row[key] < 0)) for row in ends
    )
