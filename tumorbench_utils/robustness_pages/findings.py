"""What a page of robustness shows, in sentences made from its tables; and its tables, written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from .. import artefacts, plots, robustness
from ..plots.base import counted, percent
from ..tables import mark_of
from .readers import mean_kappa
from .showing import largest, likeness, perturbation

COLUMNS = ["part", "embedding", "quantity", "value"]
CONDITIONS = ("kind", "size", "size_mm", "control")


def findings(
    cohort: str,
    retest: pd.DataFrame | None,
    kappas: Mapping[str, robustness.StudyKappa],
    dose: pd.DataFrame,
    responses: pd.DataFrame,
    controls: pd.DataFrame,
    odd: pd.DataFrame,
    titles: Mapping[str, str],
) -> str:
    """A Markdown list; a point bears the mark of the one embedding it is about."""
    points = []
    if retest is not None:
        points += [(row.title, f"**{row.verdict}** on test and retest. {row.reason}") for row in retest.itertuples()]
    points += [
        (
            titles[name],
            f"kappa by the study's rule is {mean_kappa(each)} with k = {each.k}; in {percent(np.mean(each.itself))} of "
            "cases a moved patch finds itself.",
        )
        for name, each in kappas.items()
    ]
    points += [(title, _dose(rows)) for title, rows in _by_title(dose)]
    points += [(title, _response(rows)) for title, rows in _by_title(responses)]
    points += [(title, _control(rows)) for title, rows in _by_title(controls)]
    lines = [f"- {_opening(cohort, title)}{title}: {words}" for title, words in points]
    if len(odd):
        names = ", ".join(
            f"{name} ({counted(rows['control'].nunique(), 'control')})" for name, rows in odd.groupby("sample_id")
        )
        lines.append(
            f"- {counted(odd['sample_id'].nunique(), 'sample')} with controls that equal the original in every "
            f"number, most likely since the patch holds no voxel of the region: {names}."
        )
    return "\n".join(lines) or "*Nothing to compare on this page.*"


def _opening(cohort: str, title: str) -> str:
    marked = mark_of(cohort, title)
    return f"{marked.upper()}: " if marked else ""


def _by_title(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return list(table.groupby("title", sort=False)) if len(table) else []


def _dose(rows: pd.DataFrame) -> str:
    clean, most = rows.loc[rows["size_mm"].idxmin()], rows.loc[rows["size_mm"].idxmax()]
    return (
        f"a seed point that is {most['size_mm']:g} mm off (standard deviation on each axis) leaves "
        f"{percent(most['agreement'])} ({percent(most['agreement_low'])} to {percent(most['agreement_high'])}) of "
        f"held-out decisions as they were; the AUC of {clean['auc']:.2f} ({clean['auc_low']:.2f} to "
        f"{clean['auc_high']:.2f}) changes by {most['auc_change']:+z.2f} ({most['auc_change_low']:+z.2f} to "
        f"{most['auc_change_high']:+z.2f})."
    )


def _response(rows: pd.DataFrame) -> str:
    rows = rows[rows["size"] != 0]
    worst = largest(rows)
    if np.isnan(worst["agreement"]):
        return (
            f"the perturbation that moves the embedding most is {perturbation(worst)}, to a cosine similarity of "
            f"{likeness(worst['cosine'])}."
        )
    if worst["agreement"] == 1:
        return "none of the perturbations changes a held-out decision."
    return (
        f"the perturbation that changes the most held-out decisions is {perturbation(worst)}: "
        f"{percent(1 - worst['agreement'])} of {int(worst['samples'])}, at a cosine similarity to the clean patch of "
        f"{likeness(worst['cosine'])}."
    )


def _control(rows: pd.DataFrame) -> str:
    found = ", ".join(f"{row.control_title} {percent(row.retrieval)}" for row in rows.itertuples())
    return f"{_lost(rows)} Share of samples whose original has its own control nearest: {found}."


def _lost(rows: pd.DataFrame) -> str:
    """Which controls are shown to cost AUC, or how much they may; none where there may be none to lose."""
    clean = rows.iloc[0]
    if np.isnan(clean["clean_auc"]):
        return "no AUC could be had."
    reach = f"{clean['clean_auc']:.2f} ({clean['clean_auc_low']:.2f} to {clean['clean_auc_high']:.2f})"
    if clean["clean_auc_low"] <= plots.CHANCE:
        words = (
            f"the held-out AUC of the originals, {reach}, is not shown to be above chance, so that no change of it can "
            "be called a loss."
        )
        away = [
            f"{row.control_title} (AUC {row.clean_auc + row.auc_change:.2f})"
            for row in rows.itertuples()
            if row.auc_change_high < 0 or row.auc_change_low > 0
        ]
        return f"{words} The interval of the change leaves out 0 for {', '.join(away)}." if away else words
    lost = [row.control_title for row in rows.itertuples() if row.auc_change_high < 0]
    if lost:
        return f"of the held-out AUC of the originals, {reach}, these controls cost some: {', '.join(lost)}."
    least = rows["auc_change_low"].min()
    excluded = f"; a loss of up to {-least:.3f} cannot be excluded" if least < 0 else ""
    return f"no control is shown to cost any of the held-out AUC of the originals, {reach}{excluded}."


def save(
    stem: str,
    parts: Mapping[str, pd.DataFrame | None],
    kappas: Mapping[str, robustness.StudyKappa],
    cohort: str,
    record: Mapping,
) -> None:
    """Write the tables of a page: ``<stem>.<part>.csv`` for each that there is, and last ``<stem>.csv``, tidy.

    The tidy table has cohort, part, embedding, quantity, value: what the leaderboard reads. A part that there is none
    of leaves no file of an earlier run.
    """
    tidy = []
    for part, table in parts.items():
        path = Path(f"{stem}.{part}.csv")
        if table is None or not len(table):
            for old in (path, artefacts.provenance_path(path)):
                old.unlink(missing_ok=True)
            continue
        artefacts.write_csv(path, table, record)
        tidy.append(_tidy(table, part))
    rows = [
        ("jitter", name, quantity, value)
        for name, each in kappas.items()
        for quantity, value in [("kappa", np.mean(each.kappas)), ("finds itself", np.mean(each.itself))]
    ]
    tidy.append(pd.DataFrame(rows, columns=COLUMNS))
    artefacts.write_csv(f"{stem}.csv", pd.concat(tidy).assign(cohort=cohort)[["cohort", *COLUMNS]], record)


def _tidy(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """A table of one row an embedding and condition as one of one row a number; conditions join the quantity."""
    if "embedding" not in table:
        return pd.DataFrame(columns=COLUMNS)
    condition = [name for name in CONDITIONS if name in table]
    numbers = [name for name in table.select_dtypes("number") if name not in condition]
    long = table.melt(["embedding", *condition], numbers, "quantity", "value")
    rows = long[condition].astype(object).to_numpy()
    about = [" ".join(_word(each) for each in row if pd.notna(each)) for row in rows]
    long["quantity"] = [f"{quantity} {words}".strip() for quantity, words in zip(long["quantity"], about, strict=True)]
    return long.assign(part=part)[COLUMNS]


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
