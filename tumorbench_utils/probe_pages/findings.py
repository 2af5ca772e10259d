"""What the page shows, in sentences made from its tables; and its tables, written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from .. import artefacts
from ..plots.several import listed
from ..statistics import bounded
from .believing import JUDGE
from .clinic import PAIRED, Clinic, told_shares, untrue
from .judging import Judged, heads_table

COLUMNS = [
    "cohort", "variant", "model", "title", "head", "features", "measure", "value", "low", "high", "n", "positives",
]  # fmt: skip
NOT_KEPT = ("auc", "calibration_intercept")  # of the measures: the AUC has the corrected interval


def findings(
    found: Judged,
    differences: pd.DataFrame,
    few: pd.DataFrame,
    measures: pd.DataFrame,
    known: Clinic | None,
    survival: list[str],
    shares: pd.DataFrame,
    mark: str = "",
) -> str:
    """A Markdown list of what was found, with its numbers."""
    doubt = _doubt(shares)
    points = [_heads(found, differences) + doubt]
    if len(few):
        points.append(_few(few))
    clinic = _clinic(known)
    points += [_belief(measures), clinic + doubt if clinic else "", *survival, _honest(shares)]
    opening = f"{mark.upper()}: " if mark else ""
    return "\n".join(f"- {opening}{point}" for point in points if point)


def _doubt(shares: pd.DataFrame) -> str:
    """What a point with the p of a paired difference adds where that test was found to promise too much."""
    broken = len(shares) and untrue(shares[shares["test"] == PAIRED])
    return " Holm's p are of a test that finds too much on outcomes of chance (last point)." if broken else ""


def _heads(found: Judged, differences: pd.DataFrame) -> str:
    above = heads_table(found).query("low > 0.5")
    apart = differences[differences["p_holm"] < 0.05]
    counts = {head: (above["series"] == head).sum() for head in ("kNN", "linear probe")}
    words = listed((f"{row.title} ({row.difference:+z.3f})" for row in apart.itertuples()), ", ")
    return (
        f"The interval lies above chance for {counts['kNN']} of {len(found.models)} embeddings with kNN and for "
        f"{counts['linear probe']} with the linear probe. The two judges differ "
        + (f"(Holm, 0.05) for {words}; differences are linear minus kNN." if words else "for none (Holm, 0.05).")
    )


def _few(few: pd.DataFrame) -> str:
    rows = few[(few["judge"] == JUDGE) & (few["m"] == few["m"].max())]
    best = rows.loc[rows["auc"].idxmax()]
    return (
        f"From {best['m']} patients of each class the class mean reaches at best {best['auc']:.2f} ({best['title']}), "
        f"and another handful of patients could have given {best['low']:.2f} or {best['high']:.2f}."
    )


def _belief(measures: pd.DataFrame) -> str:
    skill = measures[measures["measure"] == "brier_skill"]
    parts = []
    for head, rows in skill.groupby("series", sort=False):
        parts.append(f"{(rows['low'] > 0).sum()} of {len(rows)} with {head}")
    slopes = measures[measures["measure"] == "calibration_slope"].groupby("series", sort=False)["value"].median()
    told = ", ".join(f"{value:.2f} with {head}" for head, value in slopes.items())
    return (
        f"A probability is better than telling everybody the prevalence (Brier skill, interval above 0) for "
        f"{' and '.join(parts)}. Calibration slope, median over embeddings: {told}; 1 is right, below it a probability "
        "is too sure of itself."
    )


def _clinic(known: Clinic | None) -> str:
    if known is None:
        return ""
    table = bounded(known.table)
    base = table[table["features"].isin(["clinical", "volume"])].iloc[0]
    alone = table[table["features"] == "embedding"].set_index("model")
    both = table[table["features"] == "both"].set_index("model")
    higher = (both["value"] > alone["value"].reindex(both.index)).sum()
    against = listed(
        f"{row.title} {row.value:.3f} against {alone['value'][row.Index]:.3f}" for row in both.itertuples()
    )
    helps = known.added[(known.added["p_holm"] < 0.05) & (known.added["difference"] > 0)]
    words = listed((f"{row.title} ({row.difference:+.3f})" for row in helps.itertuples()), ", ")
    return (
        f"{base['title']} alone: AUC {base['value']:.3f} ({base['low']:.3f} to {base['high']:.3f}). With an "
        f"embedding added it is higher than that (Holm, 0.05) in {len(helps)} of {len(known.added)} cases"
        f"{': ' + words if words else ''}. Against the embedding alone, both together have the higher mean AUC in "
        f"{higher} of {len(both)} (no test): {against}."
    )


def _honest(shares: pd.DataFrame) -> str:
    if shares.empty:
        return ""
    return (
        "A test may find something in 5 % of outcomes of chance. Here something was found in "
        f"{told_shares(shares)}. {untrue(shares)}"
    ).rstrip()


def rows(
    found: Judged,
    few: pd.DataFrame,
    measures: pd.DataFrame,
    known: Clinic | None,
    survival: pd.DataFrame | None,
) -> pd.DataFrame:
    """The tidy table of the page: one row a number, in the columns of ``results/3b_beyond_knn/<cohort>.csv``."""
    parts = [heads_table(found).assign(features="embedding", measure="auc")]
    parts.append(measures[~measures["measure"].isin(NOT_KEPT)].assign(features="embedding"))
    if len(few):
        means = few[few["judge"] == JUDGE].rename(columns={"auc": "value"})
        head = "few_shot_" + means["m"].astype(str)
        parts.append(means.assign(head=head, features="embedding", measure="auc"))
    if known is not None:
        extra = known.table[known.table["features"] != "embedding"]
        parts.append(extra.assign(head="linear", measure="auc"))
    about = {"cohort": found.cohort, "variant": found.variant, "n": len(found.labels), "positives": found.labels.sum()}
    table = pd.concat(parts, ignore_index=True).assign(**about)[COLUMNS]
    return table if survival is None else pd.concat([table, survival[COLUMNS]], ignore_index=True)


def save(stem: str | Path, table: pd.DataFrame, parts: Mapping[str, pd.DataFrame | None], record: Mapping) -> None:
    """Write ``<stem>.<part>.csv`` for each part that there is, and last ``<stem>.csv``; old parts go."""
    for part, each in parts.items():
        path = Path(f"{stem}.{part}.csv")
        if each is None or not len(each):
            for old in (path, artefacts.provenance_path(path)):
                old.unlink(missing_ok=True)
            continue
        artefacts.write_csv(path, each, record)
    artefacts.write_csv(f"{stem}.csv", table, record)
