"""What a page of robustness shows, in sentences made from its tables; and its tables, written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .. import artefacts, robustness
from .showing import likeness

AT_CHANCE = 0.0


def findings(
    retest: pd.DataFrame | None,
    kappas: Mapping[str, robustness.StudyKappa],
    dose: pd.DataFrame,
    responses: pd.DataFrame,
    scramble: pd.DataFrame,
    compared: pd.DataFrame,
    odd: pd.DataFrame,
    titles: Mapping[str, str],
    marked: str,
) -> str:
    """A Markdown list, each point of which bears the mark; published controls are real data and bear none."""
    points = []
    if retest is not None:
        points += [f"{row.title}: **{row.verdict}** on test and retest. {row.reason}" for row in retest.itertuples()]
    points += [
        f"{titles[name]}: the study's kappa is {np.mean(each.kappas):.2f} with k = {each.k}; in "
        f"{np.mean(each.itself):.0%} of cases a moved patch finds itself."
        for name, each in kappas.items()
    ]
    points += [_dose_point(title, rows) for title, rows in _by_title(dose)]
    points += [_response_point(title, rows) for title, rows in _by_title(responses)]
    points += [_control_point(title, rows) for title, rows in _by_title(scramble)]
    opening = f"{marked.upper()}: " if marked else ""
    lines = [f"- {opening}{point}" for point in points]
    lines += [f"- {_control_point(title, rows)}" for title, rows in _by_title(compared)]
    if len(odd):
        names = ", ".join(f"{name} ({rows['control'].nunique()})" for name, rows in odd.groupby("sample_id"))
        lines.append(
            f"- {odd['sample_id'].nunique()} patients have a control that is the original itself in every number, most "
            f"likely since the patch holds no voxel of the region: {names} (number of controls)."
        )
    return "\n".join(lines) or "*Nothing to compare on this page.*"


def _by_title(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return list(table.groupby("title", sort=False)) if len(table) else []


def _dose_point(title: str, rows: pd.DataFrame) -> str:
    least, most = rows.loc[rows["size_mm"].idxmin()], rows.loc[rows["size_mm"].idxmax()]
    return (
        f"{title}: a seed point that is {most['size_mm']:.1f} mm off (standard deviation on each axis) leaves "
        f"{most['agreement']:.0%} of decisions as they were; AUC {least['auc']:.2f} at the annotated seed points, "
        f"{most['auc']:.2f} there."
    )


def _response_point(title: str, rows: pd.DataFrame) -> str:
    worst = rows.loc[rows["agreement"].idxmin()]
    return (
        f"{title}: of all perturbations {worst['kind_title'].lower()} of {worst['size']:g} {worst['unit']} changes "
        f"most decisions ({1 - worst['agreement']:.0%}), at a cosine similarity to the clean patch of "
        f"{likeness(worst['cosine'])}."
    )


def _control_point(title: str, rows: pd.DataFrame) -> str:
    blind = rows[(rows["auc_change_high"] >= AT_CHANCE)]
    found = ", ".join(f"{row.control_title} {row.retrieval:.0%}" for row in rows.itertuples())
    lost = f"{len(rows) - len(blind)} of {len(rows)} negative controls lose AUC beyond their interval"
    return f"{title}: {lost}. Share of patients whose original is still nearest to their own control: {found}."


def save(
    stem: str,
    parts: Mapping[str, pd.DataFrame | None],
    kappas: Mapping[str, robustness.StudyKappa],
    cohort: str,
    record: Mapping,
) -> None:
    """Write the tables of a page: ``<stem>.<part>.csv`` for each that there is, and last ``<stem>.csv``, tidy.

    The tidy table has cohort, part, embedding, quantity, value: what the leaderboard reads.
    """
    tidy = []
    for part, table in parts.items():
        if table is None or not len(table):
            continue
        artefacts.write_csv(f"{stem}.{part}.csv", table, record)
        tidy.append(_tidy(table, part))
    rows = [
        ("jitter", name, quantity, value)
        for name, each in kappas.items()
        for quantity, value in [("kappa", np.mean(each.kappas)), ("finds itself", np.mean(each.itself))]
    ]
    columns = ["part", "embedding", "quantity", "value"]
    tidy.append(pd.DataFrame(rows, columns=columns))
    artefacts.write_csv(f"{stem}.csv", pd.concat(tidy).assign(cohort=cohort)[["cohort", *columns]], record)


def _tidy(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """A table of one row an embedding and condition as one of one row a number; conditions join the quantity."""
    if "embedding" not in table:
        return pd.DataFrame(columns=["part", "embedding", "quantity", "value"])
    condition = [name for name in ("kind", "size", "size_mm", "control") if name in table]
    numbers = [name for name in table.select_dtypes("number") if name not in condition]
    long = table.melt(["embedding", *condition], numbers, "quantity", "value")
    about = long[condition].astype(str).agg(" ".join, axis=1) if condition else ""
    long["quantity"] = (long["quantity"] + " " + about).str.strip()
    return long.assign(part=part)[["part", "embedding", "quantity", "value"]]
