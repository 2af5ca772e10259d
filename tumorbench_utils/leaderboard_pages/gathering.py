"""What the leaderboard is made of: records of this run and of others, one row a model, standings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import artefacts, exchange, leaderboard, published
from ..models import MODELS
from ..statistics import bounded
from .standing import UNTRAINED, Standing, cohort_title, is_control, mark_of, runs, study

STAGE = "7_leaderboard"
FIRST = "notebooks 2_embedding_extraction and 3_knn_evaluation"
INTERVALS = {  # column of a row: how its measure is found among those of its table
    "retest_identification": {"stage": "4", "head": "retest", "measure": "identification rate"},
    "retest_icc": {"stage": "4", "head": "retest", "measure": "median ICC"},
    "kappa": {"stage": "4", "head": "jitter", "measure": "kappa"},
}
WHY = {  # a column of a row: why its value is missing
    "auc_within": "no AUC of grouped splits in this run (page: kNN evaluation)",
    "auc_within_worst": "no AUC of grouped splits in this run (page: kNN evaluation)",
    "auc_external_worst": "not trained on one cohort and tested on another (page: external validation)",
    "retest_identification": "no patients scanned twice (page: robustness)",
    "kappa": "no moved seed points (page: robustness)",
    "tumour_focus": "no occlusion maps (page: saliency)",
    "overlap": "not compared with another trained model (page: representation alignment)",
    "parameters_m": "not counted, or no network",
    "seconds_per_patch": "embeddings that were not extracted in this run",
    "published_auc": "the study has no AUC of this model with these weights",
}


@dataclass(frozen=True)
class Board:
    """Records (own and contributed, merged), ``rows`` with one row a model, and standings by source.

    ``report`` says of every record how it was merged and of which files; ``measures`` is one row a measure. ``study``
    is the standing as published, ``runs`` those of this run (none if it has no results).
    """

    run: Path
    records: list[dict]
    report: pd.DataFrame
    measures: pd.DataFrame
    rows: pd.DataFrame
    study: Standing
    runs: list[Standing]

    @property
    def standings(self) -> list[Standing]:
        """All of them, the published first."""
        return [self.study, *self.runs]

    @property
    def mark(self) -> str:
        """What a figure of all rows bears."""
        if self.rows.empty:
            return ""
        some = self.rows["phantom"].astype(bool)
        words = mark_of(False, int((self.rows["weights"] == UNTRAINED).sum()), len(self.rows))
        return ", ".join(filter(None, ["" if not some.any() else "phantom" if some.all() else "partly phantom", words]))


def folder(run: str | Path) -> Path:
    """Where the leaderboard of a run lies."""
    return Path(run) / "results" / STAGE


def gathered(
    run: str | Path,
    contributed: Sequence[str | Path] = (),
    draws: int = 2000,
    seed: int = 0,
    alpha: float = leaderboard.ALPHA,
    pages: Mapping[str, Sequence[str]] | None = None,
) -> Board:
    """The leaderboard of a run and of folders of records that others contributed.

    ``pages`` lists by stage the pages of the run that count, all if empty (:func:`exchange.collect`). The run's own
    records are written to ``results/7_leaderboard/records`` first. Errors are those of
    :mod:`exchange`: a record that is none, and a conflict of two, which names both files.
    """
    own = _own(run, pages)
    records, report = exchange.merge([*([own] if own.is_dir() else []), *contributed])
    found = leaderboard.measures(records)
    figures = {name: published.figures(name) for name in ("auc", "robustness")}
    rows = leaderboard.rows(records, figures) if records else pd.DataFrame()
    titles = titles_of(records)
    rows = completed(rows, found, titles) if records else rows
    table = leaderboard.within(found)
    return Board(Path(run), records, report, found, rows, study(alpha), runs(table, titles, run, draws, seed, alpha))


def _own(run: str | Path, pages: Mapping[str, Sequence[str]] | None = None) -> Path:
    """The folder of the run's own records as its results are now: none of an earlier result stays.

    What has not changed is not written again, so that a page which only reads leaves the run as it is.
    """
    target = folder(run) / "records"
    now = {target / exchange.place(record): record for record in exchange.collect(run, pages=pages)}
    for old in target.rglob("*.json"):
        if old not in now:
            old.unlink()
    changed = [
        record
        for path, record in now.items()
        if not path.exists() or path.read_text(encoding="utf-8") != exchange.text_of(record)
    ]
    exchange.write(changed, target)
    return target


def titles_of(records: Sequence[Mapping]) -> dict[str, str]:
    """A title of its own for each embedding table; where two have the same, with the name of the table."""
    titles = {}
    for record in records:
        words = record["title"]
        altered = record["control"] and record["model"] in MODELS
        words = f"{MODELS.get(record['model']).title}, {words}" if altered else words
        if record["recipe"] == "authors" and record["weights"] in ("pretrained", UNTRAINED) and "recipe" not in words:
            words += ", authors' recipe"
        if record["weights"] == UNTRAINED and UNTRAINED not in words:
            words += f", {UNTRAINED}"
        words += " (control)" if altered else ""
        titles.setdefault(record["table"], words)
    taken = list(titles.values())
    return {name: words if taken.count(words) == 1 else f"{words} ({name})" for name, words in titles.items()}


def completed(rows: pd.DataFrame, found: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """``rows`` of :func:`leaderboard.rows` with titles of their own, intervals, marks, flags and reasons.

    A mean over several cohorts has no interval here. Added: <column>_low, _high, _mark, _why; untrained, is_control,
    phantom_only, tags; cohorts_within (number of cohorts of auc_within, _tip their titles) and auc_common (mean over
    ``common_cohorts``, those of the block over which ranks are averaged). Patients before phantoms, then best
    auc_common first, then best auc_within.
    """
    rows = rows.assign(title=rows["table"].map(titles)).rename(
        columns={"external_low": "auc_external_worst_low", "external_high": "auc_external_worst_high"}
    )
    within = bounded(leaderboard.within(found))
    limits = pd.DataFrame([_limits(row, found, within) for row in rows.to_dict("records")], index=rows.index)
    computed = [set(filter(None, str(each).split(", "))) for each in rows["phantom_columns"]]
    added = {}
    for column, why in WHY.items():
        added[f"{column}_mark"] = ["phantom" if column in some else "" for some in computed]
        added[f"{column}_why"] = np.where(rows[column].isna(), why, "")
    other = rows["published_auc"].notna() & ~rows["published_same_recipe"].eq(True)
    added["published_auc_mark"] = np.where(other, "other recipe", "")
    untrained, control = rows["weights"] == UNTRAINED, is_control(rows)
    only = rows["table"].map(found.groupby("table")["phantom"].all()).astype(bool)
    added |= {"untrained": untrained, "is_control": control, "phantom_only": only}
    words = {"phantom only": only, UNTRAINED: untrained, "control": control}
    added["tags"] = [", ".join(word for word, flags in words.items() if flags[at]) for at in rows.index]
    cohorts = [str(each).split(", ") if pd.notna(each) else [] for each in rows["cohorts"]]
    added["cohorts_within"] = [len(some) or np.nan for some in cohorts]
    added["cohorts_within_tip"] = [", ".join(map(cohort_title, some)) for some in cohorts]
    rows = pd.concat([rows, limits, pd.DataFrame(added, index=rows.index), _common(rows, within)], axis=1)
    rows = rows.astype(dict.fromkeys([*WHY, *INTERVALS], float))
    order = ["auc_within_mark", "auc_common", "auc_within"]
    return rows.sort_values(order, ascending=[True, False, False], kind="stable", ignore_index=True)


def _common(rows: pd.DataFrame, within: pd.DataFrame) -> pd.DataFrame:
    """auc_common and common_cohorts of each row: the mean over the complete block of its patients or phantoms."""
    mean, names = {}, {}
    for phantom in (True, False):  # patients, where a table has both
        some = within[within["phantom"].astype(bool) == phantom]
        some = some.drop(columns="model").rename(columns={"table": "model"})
        block = leaderboard.ranks(some).aucs if len(some) else pd.DataFrame()
        own = dict.fromkeys(some["model"], np.nan) | block.mean(axis=1).to_dict()
        mean |= own
        names |= {name: ", ".join(block) if name in block.index else "" for name in own}
    table = rows["table"]
    return pd.DataFrame({"auc_common": table.map(mean).astype(float), "common_cohorts": table.map(names).fillna("")})


def _limits(row: Mapping, found: pd.DataFrame, within: pd.DataFrame) -> dict[str, float]:
    """Intervals of a row's values, where the value is that of one cohort."""
    mine = found[found["table"] == row["table"]]
    within = within[within["table"] == row["table"]]
    worst = within[within["cohort"] == row["auc_within_worst_on"]]
    one = within if len(str(row["cohorts"]).split(", ")) == 1 else within.head(0)
    one = one[one["cohort"] == row["cohorts"]]
    limits = _pair("auc_within_worst", worst) | _pair("auc_within", one)
    for column, wanted in INTERVALS.items():
        same = mine[(mine[list(wanted)] == pd.Series(wanted)).all(axis=1)]
        same = same[same["value"] == row[column]]
        limits |= _pair(column, same if len(same) == 1 else same.head(0))
    return limits


def _pair(column: str, rows: pd.DataFrame) -> dict[str, float]:
    low, high = (float(rows[side].iloc[0]) if len(rows) else np.nan for side in ("low", "high"))
    return {f"{column}_low": low, f"{column}_high": high}


def inputs(board: Board) -> dict[str, str]:
    """SHA-256 of every file of records that the leaderboard was made of."""
    paths = sorted({path for files in board.report["files"] for path in files.split(", ")})
    return {f"{Path(path).parent.name}/{Path(path).name}": artefacts.sha256_of(path) for path in paths}


def left_out(board: Board) -> pd.DataFrame:
    """Models and cohorts outside of the block over which ranks are averaged: group, what, name, reason."""
    parts = [each.ranks.left_out.assign(group=each.group) for each in board.runs]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["what", "name", "reason", "group"])
    names = {name: title for each in board.runs for name, title in [*each.titles.items(), *each.cohorts.items()]}
    table["name"] = table["name"].map(names)
    return table[["group", "what", "name", "reason"]]
