"""Who ranks where, of one source: the study as published, or this run on patients, or on phantoms; never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from .. import knn, leaderboard, published, statistics
from ..cohorts import COHORTS
from ..leaderboard import CONTROLS, Friedman, Ranks
from ..models import TEN
from ..plots.base import counted

PUBLISHED, PATIENTS, PHANTOMS = "as published", "this run, patients", "this run, phantoms"
GROUPED = "grouped"
UNTRAINED = "untrained"
ROUNDED = 1e-3  # an AUC of predictions is that of the record if it is no further off


@dataclass(frozen=True)
class Standing:
    """Ranks of the models of one ``group``, and how sure they are.

    ``models`` gives the model and ``titles`` the title of each embedding table, ``cohorts`` the titles of cohorts;
    ``untrained`` are tables of weights as drawn, ``controls`` those of no model or of altered images. ``sure`` is
    :func:`leaderboard.rank_draws`, ``friedman`` and ``difference`` (Nemenyi's, with ``cliques`` of names) the tests
    over cohorts, ``pairs`` the tests within them; None or empty where they cannot be had, for the reasons in
    ``lacking``. ``draws`` is the number of draws of ``sure`` and ``pairs``; ``held`` are tables without draws, whose
    AUCs are held as they are in those of the others. ``mark`` is what figures bear.
    """

    group: str
    ranks: Ranks
    models: Mapping[str, str]
    titles: Mapping[str, str]
    cohorts: Mapping[str, str]
    untrained: frozenset[str] = frozenset()
    controls: frozenset[str] = frozenset()
    alpha: float = leaderboard.ALPHA
    sure: pd.DataFrame | None = None
    friedman: Friedman | None = None
    difference: float = np.nan
    cliques: list[list[str]] = field(default_factory=list)
    pairs: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    mark: str = ""
    draws: int = 0
    held: tuple[str, ...] = ()

    @property
    def published(self) -> bool:
        """Whether the figures are those of the study."""
        return self.group == PUBLISHED

    @property
    def order(self) -> list[str]:
        """Names, best mean rank first, then those outside the block."""
        inside = list(self.ranks.mean["model"])
        return inside + [name for name in dict.fromkeys(self.ranks.cells["model"]) if name not in inside]

    def wide(self, block: bool = False) -> pd.DataFrame:
        """Ranks of models (rows, by title) in cohorts (columns, by title); ``block``: only those of the mean ranks."""
        cells = self.ranks.cells
        table = cells.pivot(index="model", columns="cohort", values="rank")
        cohorts = list(dict.fromkeys(cells["cohort"]))
        names = self.order
        if block:
            names, cohorts = list(self.ranks.mean["model"]), list(self.ranks.aucs)
            table = self.ranks.aucs.rank(ascending=False)
        table = table.reindex(index=names, columns=cohorts)
        return table.rename(index=self.titles, columns=self.cohorts)


def cohort_title(label: str) -> str:
    """The title of a cohort, with its endpoint unless that is the study's: "PHANTOM, site A (survival)"."""
    cohort, _, variant = label.partition(".")
    title = COHORTS.get(cohort).title if cohort in COHORTS else cohort
    return f"{title} ({variant})" if variant else title


@cache
def study(alpha: float = leaderboard.ALPHA) -> Standing:
    """The study's ten models on its six cohorts, as published; it has no draws and no tests within a cohort."""
    table = published.figures("auc")[["model", "cohort", "auc"]]
    table = table.assign(table=table["model"], weights="published", control=None, phantom=False)
    titles = {model.id: model.title for model in TEN}
    lacking = ["intervals of mean ranks and tests within a cohort: the study published no predictions"]
    return _standing(PUBLISHED, table, titles, alpha, lacking)


def runs(
    table: pd.DataFrame, titles: Mapping[str, str], run: str | Path, draws: int, seed: int, alpha: float
) -> list[Standing]:
    """This run's standings, of patients and of phantoms, as far as there are such.

    ``table`` is :func:`leaderboard.within` of its records: AUCs of kNN with patient-grouped splits. There are as many
    ``draws`` as asked for, or as a difference can be significant with after Holm's correction, if that takes more.
    """
    found = []
    for group, phantom in ((PATIENTS, False), (PHANTOMS, True)):
        some = table[table["phantom"].astype(bool) == phantom]
        if len(some):
            enough = max(draws, statistics.least_draws(int(some["cohort"].value_counts().max()), alpha))
            drawn, lost = drawn_of(some, run, enough, seed)
            found.append(_standing(group, some, titles, alpha, lost, drawn, seed))
    return found


def drawn_of(
    table: pd.DataFrame, run: str | Path, draws: int, seed: int
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """:func:`statistics.auc_draws` by cohort and embedding table, and why some have none.

    Predictions count only if their AUC is that of ``table``: those of another endpoint are not taken for these.
    """
    found, lost = {}, []
    for label, rows in table.groupby("cohort", sort=False):
        auc = dict(zip(rows["table"], rows["auc"], strict=True))
        paths = {name: knn.path_of(run, label.partition(".")[0], name) for name in auc}
        given = {name: _grouped(path) for name, path in paths.items() if path.exists()}
        drawn = statistics.auc_draws(_alike(given), draws, seed)
        drawn = {name: aucs for name, aucs in drawn.items() if abs(aucs[0] - auc[name]) < ROUNDED}
        without = [name for name in auc if name not in drawn]
        if without:
            lost.append(f"draws of {', '.join(without)} on {label}: no predictions that give this AUC")
        if drawn:
            found[label] = drawn
    return found, lost


def _grouped(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    return frame[frame["protocol"] == GROUPED].sort_values(statistics.SAMPLE[:2], ignore_index=True)


def _alike(given: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The most predictions of the same samples and splits: only these can be compared in pairs."""
    groups: list[dict[str, pd.DataFrame]] = []
    for name, frame in given.items():
        tested = frame[statistics.SAMPLE]
        group = next((each for each in groups if next(iter(each.values()))[statistics.SAMPLE].equals(tested)), None)
        if group is None:
            groups.append(group := {})
        group[name] = frame
    return max(groups, key=len, default={})


def _standing(
    group: str,
    table: pd.DataFrame,
    titles: Mapping[str, str],
    alpha: float,
    lacking: list[str],
    drawn: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    seed: int = 0,
) -> Standing:
    ranks = leaderboard.ranks(table.drop(columns="model").rename(columns={"table": "model"}))
    cohorts = {label: cohort_title(label) for label in dict.fromkeys(table["cohort"])}
    sure, held, unsure = (None, (), []) if drawn is None else _sure(ranks, drawn, seed)
    tested, difference, cliques, untested = _over_cohorts(ranks, alpha)
    pairs = {cohort: statistics.pairwise_of(aucs) for cohort, aucs in (drawn or {}).items() if len(aucs) > 1}
    untrained = frozenset(table.loc[table["weights"] == UNTRAINED, "table"])
    return Standing(
        group=group,
        ranks=ranks,
        models=dict(zip(table["table"], table["model"], strict=True)),
        titles=titles,
        cohorts=cohorts,
        untrained=untrained,
        controls=frozenset(table.loc[is_control(table), "table"]),
        alpha=alpha,
        sure=sure,
        friedman=tested,
        difference=difference,
        cliques=cliques,
        pairs=pairs,
        lacking=[*lacking, *unsure, *untested],
        mark=mark_of(bool(table["phantom"].any()), len(untrained), table["table"].nunique()),
        draws=_draws(drawn or {}),
        held=held,
    )


def _draws(drawn: Mapping[str, Mapping[str, np.ndarray]]) -> int:
    """Number of draws, those of every table and cohort being as many; 0 without any."""
    return max((len(aucs) - 1 for of in drawn.values() for aucs in of.values()), default=0)


def is_control(table: pd.DataFrame) -> pd.Series:
    """Which rows (model, control) are of no model or of altered images."""
    altered = table["control"].notna() & (table["control"] != "")
    return altered | table["model"].isin(CONTROLS)


def mark_of(phantom: bool, untrained: int, tables: int) -> str:
    """What a figure bears: phantom, untrained (or partly so, if some of its tables are), both or none ("")."""
    words = ["phantom"] if phantom else []
    if untrained:
        words.append(UNTRAINED if untrained == tables else f"partly {UNTRAINED}")
    return ", ".join(words)


def _sure(ranks: Ranks, drawn: Mapping, seed: int) -> tuple[pd.DataFrame | None, tuple[str, ...], list[str]]:
    """Draws of the mean ranks, the tables held as they are, and why there is no interval.

    A table that lacks draws on a cohort of the block, as a contributed one without predictions, keeps its AUC in every
    draw and its place among the others; it has no interval of its own.
    """
    names, cohorts = list(ranks.aucs.index), list(ranks.aucs)
    if len(names) < 2:
        return None, (), ["intervals of mean ranks: fewer than two models share a cohort"]
    held = tuple(name for name in names if any(name not in drawn.get(cohort, {}) for cohort in cohorts))
    if len(held) == len(names):
        return None, (), ["intervals of mean ranks: no model came with the predictions that its AUCs are of"]
    count = _draws(drawn) + 1
    block = {
        cohort: {
            name: np.full(count, ranks.aucs.loc[name, cohort]) if name in held else drawn[cohort][name]
            for name in names
        }
        for cohort in cohorts
    }
    sure = leaderboard.rank_draws(block, seed)
    unknown = [name for name in sure if name not in ("model", "mean_rank", "cohorts")]
    sure.loc[sure["model"].isin(held), unknown] = np.nan
    lost = [f"interval of the mean rank of {name}: no predictions came with it" for name in held]
    return sure, held, lost


def _over_cohorts(ranks: Ranks, alpha: float) -> tuple[Friedman | None, float, list[list[str]], list[str]]:
    models, cohorts = ranks.aucs.shape
    if models < 3 or cohorts < 2:
        here = f"{counted(models, 'model')} and {counted(cohorts, 'cohort')}"
        words = "Friedman's test and a critical difference: at least 3 models and 2 cohorts are needed, here are"
        return None, np.nan, [], [f"{words} {here}"]
    difference = leaderboard.critical_difference(models, cohorts, alpha)
    means = dict(zip(ranks.mean["model"], ranks.mean["mean_rank"], strict=True))
    return leaderboard.friedman(ranks.aucs), difference, leaderboard.cliques(means, difference), []
