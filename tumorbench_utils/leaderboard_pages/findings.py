"""The leaderboard's table, its sentences, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from .. import artefacts
from ..models import MODELS
from ..plots.base import counted, percent
from ..plots.sortable import Column, Filter, Sortable, sortable
from .choosing import answers
from .gathering import FIRST, Board, folder
from .showing import apart_from_best, best_told, controls_first, foremost, leaders, names, opened, p_told
from .standing import UNTRAINED, Standing

PHANTOM = "phantom"  # in the column <key>_mark of a row
WHICH = "which_model.md"
COLUMNS = (
    Column("title", "model", "embedding table: model, recipe and weights"),
    Column("auc_within", "AUC within", "mean over cohorts, kNN, splits grouped by patient"),
    Column("auc_external_worst", "AUC across, worst", "trained on one cohort, tested on another; the lowest"),
    Column("retest_identification", "retest found", "share of patients whose own second scan is the most alike"),
    Column("kappa", "kappa, seed moved", "agreement of decisions when the seed point is moved"),
    Column("tumour_focus", "focus minus blind", "AUC of saliency for the tumour, minus that of maps that saw no model"),
    Column("auc_within_worst", "AUC within, worst", "on the cohort where it is lowest"),
    Column("cohorts_within", "cohorts", "number of cohorts that AUC within is the mean over", 0),
    Column("overlap", "shared of 10", "nearest neighbours shared with other trained models, mean"),
    Column("published_auc", "mean AUC", "over the study's cohorts, other protocol", 3, published=True),
    Column("parameters_m", "million parameters", "of the encoder", 0, falling=False),
    Column("seconds_per_patch", "seconds a patch", "on the fastest machine that timed it", 2, falling=False),
    Column("licence_weights", "licence of weights"),
    Column("gated", "gated", "whether terms must be accepted to have the weights"),
    Column("pretraining", "pretraining overlap", "cohorts that are, or may be, in its training data"),
    Column("recipe", "recipe", "how patches are fed: as the benchmark, or as the model's authors prescribe"),
    Column("weights", "weights"),
)
MEASURED = {  # measures beside the AUC within a cohort, as a sentence names them
    "auc_external_worst": "the AUC across cohorts",
    "retest_identification": "second scans found",
    "kappa": "kappa of moved seed points",
    "tumour_focus": "focus against blind maps",
    "overlap": "neighbours shared with other trained models",
}
FILTERS = (
    Filter("untrained", "hide untrained"),
    Filter("is_control", "hide controls"),
    Filter("phantom_only", "hide phantom evidence", cells=PHANTOM),
)


def nothing_yet(board: Board) -> str | None:
    """What to do if a run has no results; None if it has."""
    if board.records:
        return None
    return (
        f'<p class="tb-notice">This run ({board.run.name}) has no results yet: run {FIRST} for a cohort first. All '
        "that follows is as published by the study.</p>"
    )


def table_shown(board: Board, record: Mapping) -> Sortable | None:
    """One row a model of this run, to be sorted, filtered and downloaded; None without results."""
    if board.rows.empty:
        return None
    table = shown_rows(board)
    cohorts = board.measures.loc[~board.measures["phantom"].astype(bool), "cohort"].nunique()
    told = (
        f"{counted(len(table), 'embedding table')} of {counted(table['model'].nunique(), 'model')}: {_kinds(table)}. "
        f"Results on "
        f"{counted(cohorts, 'cohort')} of patients."
    )
    caption = (
        "A click on a head sorts. Small print: 95 % interval, where the value is of one cohort (that of a worst case "
        "takes no account of its choice). “phantom”: of computed "
        "images; “–”: not measured, its tip says why; “other recipe”: published of patches fed otherwise than in this "
        "row. No mean mixes patients and phantoms, and means over different cohorts do not compare: rows start in "
        f"order of the mean over those that most share. {told}"
    )
    return sortable(table, caption, COLUMNS, FILTERS, record, "leaderboard", "tags")


def _kinds(rows: pd.DataFrame) -> str:
    """How many rows are what, in words; an untrained encoder that is a control by itself is counted as a control."""
    controls = int(rows["is_control"].sum())
    untrained = int((rows["untrained"] & ~rows["is_control"]).sum())
    return (
        f"{len(rows) - controls - untrained} trained, {untrained} untrained, {counted(controls, 'control')}; "
        f"{int(rows['phantom_only'].sum())} seen on phantoms only"
    )


def shown_rows(board: Board) -> pd.DataFrame:
    """The rows with the words on pretraining: the registry's own, and the cohorts of this run that they are about."""
    return board.rows.assign(pretraining=[_overlap(row) for row in board.rows.to_dict("records")])


def _overlap(row: Mapping) -> str:
    if row["weights"] in (UNTRAINED, "none"):
        return "none"
    words = MODELS.get(row["model"]).overlap if row["model"] in MODELS else "not known: no card in the registry"
    here = [
        f"{kind}: {row[column]}"
        for kind, column in (("known here", "pretraining_known"), ("possible here", "pretraining_possible"))
        if row[column]
    ]
    return "; ".join([words, *here])


def merged_table(board: Board) -> pd.DataFrame | None:
    """How many records were merged how, and of which folders; None without records."""
    if board.report.empty:
        return None
    counts = board.report.groupby("outcome", sort=True)
    rows = [(outcome, len(some), some["cohort"].nunique(), some["table"].nunique()) for outcome, some in counts]
    return pd.DataFrame(rows, columns=["outcome", "records", "cohorts", "embedding tables"])


def lacking(board: Board) -> str | None:
    """What could not be computed, and why, as a Markdown list; None if nothing."""
    lines = [f"- {opened(each)}: {words}." for each in board.standings for words in each.lacking]
    return "\n".join(["Not computed:", "", *lines]) if lines else None


def findings(board: Board) -> str:
    """What the page shows, as a Markdown list; points on phantoms or untrained weights say so."""
    lines = [line for each in board.standings for line in _standing(each)]
    if board.records:
        people = {record["contributor"] for record in board.records if record["contributor"]}
        mark = f"{board.mark.upper()}: " if board.mark else ""
        lines.append(
            f"- {mark}{counted(len(board.records), 'record')} of {counted(len(board.rows), 'embedding table')} "
            f"({_kinds(board.rows)}), {counted(len(people), 'contributor')} named; "
            "none in conflict with another."
        )
        lines.append(_measured(board))
    else:
        lines.append(f"- This run has no results yet: run {FIRST} first.")
    return "\n".join(lines)


def _standing(standing: Standing) -> list[str]:
    opening = f"- {f'{standing.mark.upper()}: ' if standing.mark else ''}{opened(standing)}"
    led = leaders(standing)
    if len(standing.order) < 2:
        return [f"{opening}: one model, no rank."]
    lines = [f"{opening}: {_first(standing, led)}.{controls_first(standing)}"]
    if standing.friedman is not None:
        apart = apart_from_best(standing)
        best = len(foremost(standing))
        lines.append(
            f"{opening}: {best_told(standing)}; {len(apart)} of the other {standing.friedman.models - best} "
            f"{'is' if len(apart) == 1 else 'are'} told apart from {'it' if best == 1 else 'them'} "
            f"(Nemenyi; Friedman {p_told(standing.friedman.p)})."
        )
    if standing.sure is not None:
        known = standing.sure.dropna(subset=["low"])
        best = known[known["model"].isin(foremost(standing))]
        for row in (best if len(best) else known.head(1)).to_dict("records"):
            title, over = standing.titles[row["model"]], "patients and cohorts" if row["cohorts"] > 1 else "patients"
            lines.append(
                f"{opening}: mean rank of {title} {row['mean_rank']:.2f} ({row['low']:.2f} to {row['high']:.2f}), best "
                f"in {percent(row['first'])} of draws of {over}."
            )
    for cohort, table in standing.pairs.items():
        decided = int((table["p_holm"] < standing.alpha).sum())
        title = standing.cohorts[cohort]
        lines.append(
            f"{opening}: on {title} {decided} of {counted(len(table), 'pair')} "
            f"{'differs' if decided == 1 else 'differ'} significantly."
        )
    return lines


def _first(standing: Standing, led: Mapping[str, list[str]]) -> str:
    """Who is first on how many cohorts; on the only one, by its title."""
    if len(led) == 1:
        ((cohort, best),) = led.items()
        return f"first on {standing.cohorts[cohort]}, the only cohort: {names(standing, best)}"
    times = pd.Series([name for best in led.values() for name in best]).value_counts(sort=True)
    first = ", ".join(f"{names(standing, [name])} on {count}" for name, count in times.items())
    return f"first on {len(led)} cohorts: {first}"


def _measured(board: Board) -> str:
    """How many models have each of the measures that are no AUC within a cohort, and of what that is."""
    known = [f"{words} for {_known(board.rows, key)}" for key, words in MEASURED.items()]
    mark = f"{board.mark.upper()}: " if board.mark else ""
    return f"- {mark}Known of {counted(len(board.rows), 'row')}: {'; '.join(known)}."


def _known(rows: pd.DataFrame, key: str) -> str:
    """Number of rows that have a value, and how many of these are of phantoms and of untrained weights: 4 (2 ...)."""
    some = rows[rows[key].notna()]
    untrained = some["untrained"] & ~some["is_control"]
    counts = {
        "on phantoms only": int((some[f"{key}_mark"] == PHANTOM).sum()),
        UNTRAINED: int(untrained.sum()),
        "control": int(some["is_control"].sum()),
    }
    told = [_of_all(count, len(some), what) for what, count in counts.items() if count]
    return f"{len(some)} ({', '.join(told)})" if told else str(len(some))


def _of_all(count: int, number: int, what: str) -> str:
    """``2 untrained`` of more, ``all controls`` of as many, of the only one ``control``."""
    words = f"{what}s" if what == "control" and count > 1 else what
    if number == 1:
        return words
    return f"all {words}" if count == number else f"{count} {words}"


def save(board: Board, record: Mapping) -> None:
    """Write leaderboard.csv and .json (rows, with provenance), ranks.csv, pairs.csv and which_model.md, the Markdown of
    :func:`answers`, into the stage's folder."""
    target = folder(board.run)
    rows = shown_rows(board) if len(board.rows) else pd.DataFrame(columns=["table", "title"])
    whole = {"provenance": dict(record), "rows": _plain(rows), "mean_ranks": _plain(mean_ranks(board))}
    artefacts.write_csv(target / "ranks.csv", ranks(board), record)
    artefacts.write_csv(target / "pairs.csv", pairs(board), record)
    artefacts.write_text(target / WHICH, answers(board))
    artefacts.write_text(target / "leaderboard.json", json.dumps(whole, indent=1, allow_nan=False) + "\n")
    artefacts.write_csv(target / "leaderboard.csv", rows, record)


def ranks(board: Board) -> pd.DataFrame:
    """Rank of every model on every cohort, by source: group, model, title, cohort, auc, rank, of, in_block."""
    parts = [
        each.ranks.cells.assign(group=each.group, title=each.ranks.cells["model"].map(each.titles))
        for each in board.standings
    ]
    return pd.concat(parts)[["group", "model", "title", "cohort", "auc", "rank", "of", "in_block"]]


def mean_ranks(board: Board) -> pd.DataFrame:
    """Mean ranks by source: group, model, title, mean_rank, low, high, cohorts."""
    parts = []
    for each in board.standings:
        table = each.ranks.mean.assign(low=np.nan, high=np.nan) if each.sure is None else each.sure
        parts.append(table.assign(group=each.group, title=table["model"].map(each.titles)))
    return pd.concat(parts)[["group", "model", "title", "mean_rank", "low", "high", "cohorts"]]


def pairs(board: Board) -> pd.DataFrame:
    """Every tested pair by source and cohort."""
    columns = [
        "group",
        "cohort",
        "first",
        "second",
        "auc_first",
        "auc_second",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
    ]
    parts = [
        table.assign(group=each.group, cohort=cohort)
        for each in board.standings
        for cohort, table in each.pairs.items()
    ]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _plain(table: pd.DataFrame) -> list[dict]:
    """Rows for JSON: what is missing is null."""
    known = table.astype(object).where(table.notna(), None)
    return json.loads(known.to_json(orient="records"))
