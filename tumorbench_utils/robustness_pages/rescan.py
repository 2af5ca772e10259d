"""Test and retest: both scans of a patient under each embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import embeddings, plots, published, robustness
from ..models import TEN
from ..plots import Shown
from ..plots.base import percent
from ..robustness.retest import GOOD
from .showing import decimals, likeness


@dataclass(frozen=True)
class Retested:
    """:class:`robustness.Retest` by embedding, and every scan that is in none of the pairs: embedding, sample_id,
    patient_id, reason."""

    found: dict[str, robustness.Retest]
    left_out: pd.DataFrame


def retested(
    run: str | Path, cohort: str, names: Sequence[str], samples: pd.DataFrame, draws: int, seed: int = 0
) -> Retested | None:
    """Both scans of each patient under each embedding; None for a cohort in which nobody was scanned twice."""
    paired = robustness.retest.pairs(samples)
    if paired.table.empty:
        return None
    found, lost = {}, [paired.left_out.assign(embedding="all")]
    for name in names:
        joined, _ = embeddings.load(run, cohort, [name], samples)
        place = pd.Series(np.arange(len(joined.annotations)), joined.annotations["sample_id"])
        whole = paired.table["test"].isin(place.index) & paired.table["retest"].isin(place.index)
        vectors, table = joined.vectors[name], paired.table[whole]
        both = (vectors[place[table[scan]].to_numpy()] for scan in ("test", "retest"))
        found[name] = robustness.retest.compare(*both, table["patient_id"].to_numpy(), draws, seed)
        half = paired.table[~whole].melt("patient_id", ["test", "retest"], value_name="sample_id")
        without = ~half["sample_id"].isin(place.index)
        reasons = np.where(without, "no embedding", "no embedding of the patient's other scan")
        lost.append(half.assign(reason=reasons, embedding=name)[["embedding", "sample_id", "patient_id", "reason"]])
    return Retested(found, pd.concat(lost, ignore_index=True)[["embedding", "sample_id", "patient_id", "reason"]])


def retest_table(found: Retested, titles: Mapping[str, str]) -> pd.DataFrame:
    """One row an embedding: the figures of its :class:`robustness.Retest` with intervals, and the verdict."""
    rows = []
    for name, each in found.found.items():
        values = each.summary.set_index("quantity")
        row = {"embedding": name, "title": titles[name], "patients": len(each.patients), "verdict": each.verdict}
        for quantity, value in values.iterrows():
            row |= {quantity: value["value"], f"{quantity}, low": value["low"], f"{quantity}, high": value["high"]}
        rows.append(row | {"reason": each.reason})
    return pd.DataFrame(rows)


def retest_shown(found: Retested, titles: Mapping[str, str], marked: str) -> Shown:
    """Cosine between the two scans of a patient against that between patients."""
    others = {
        titles[name]: (each.within, each.similar[~np.eye(len(each.within), dtype=bool)])
        for name, each in found.found.items()
        if len(each.within) > 1
    }
    told = "; ".join(
        f"{title}: {likeness(within.mean())} within, {likeness(between.mean())} between"
        for title, (within, between) in others.items()
    )
    caption = (
        "Cosine similarity of the two scans of each patient (points), and of the test scan of one with the retest scan "
        f"of another (grey). Where both lie in one place, a high similarity says nothing. Means: {told}."
    )
    return Shown(plots.retest(others), caption, f"Points and distributions by embedding. {told}.", marked)


def identification_shown(table: pd.DataFrame, marked: str) -> Shown:
    """How often a retest scan finds its own patient, and how well own and other patients are told apart."""
    columns = {"identification": "identification rate", "separation": "separation"}
    drawn = table[["title", "verdict"]].copy()
    for short, quantity in columns.items():
        lead = {"identification": "", "separation": "sep_"}[short]
        drawn[short] = table[quantity]
        drawn[f"{lead}low"], drawn[f"{lead}high"] = table[f"{quantity}, low"], table[f"{quantity}, high"]
    told = "; ".join(
        f"{row.title}: {_share(row.identification)} of patients identified, {row.verdict}" for row in drawn.itertuples()
    )
    caption = (
        "Share of patients whose own retest scan is the most similar of all (identification), and how often it is more "
        "similar than another patient's (separation), with 95 % intervals: by Wilson's method for the share, by "
        f"bootstrap of patients for the separation. Dotted: chance. {told}."
    )
    figure = plots.identification(drawn, 1 / max(table["patients"].max(), 1))
    return Shown(figure, caption, f"Dot plot of identification rates. {told}.", marked)


def _share(value: float) -> str:
    return percent(value) if np.isfinite(value) else "no share"


def icc_shown(found: Retested, titles: Mapping[str, str], marked: str) -> Shown:
    """The reliability of the single dimensions."""
    judged = {titles[name]: each for name, each in found.found.items() if len(each.within) > 1}
    values = {title: each.icc[np.isfinite(each.icc)] for title, each in judged.items()}
    told = "; ".join(
        f"{title}: median {np.median(each):.2f}, {percent(np.mean(each >= GOOD))} of {len(each):,} dimensions good or "
        f"better{_constant(judged[title].icc)}"
        if len(each)
        else f"{title}: every dimension is constant"
        for title, each in values.items()
    )
    caption = (
        "ICC(2,1), absolute agreement of test and retest, of every dimension that is not constant; colours: poor, "
        f"moderate, good, excellent by Koo and Li (2016). {told}."
    )
    return Shown(plots.icc(values), caption, f"Distribution of ICC by embedding. {told}.", marked)


def _constant(icc: np.ndarray) -> str:
    """That some of the dimensions have no ICC, in words."""
    lost = int((~np.isfinite(icc)).sum())
    return f" ({lost:,} of {len(icc):,} constant)" if lost else ""


def retest_cosines(table: pd.DataFrame) -> pd.DataFrame:
    """The gap of the cosines of :func:`retest_table`, and these, with their intervals, in words, a row an embedding."""
    return _intervals(table, ("gap", "within-patient cosine", "between-patient cosine"))


def retest_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The verdict, separation and median ICC of :func:`retest_table`, with intervals, in words: a table of its own,
    since all columns side by side are wider than a page."""
    shown = _intervals(table, ("separation", "median ICC"))
    shown.insert(1, "verdict", table["verdict"])
    return shown


def _intervals(table: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    words = {quantity: [_interval(row, quantity) for _, row in table.iterrows()] for quantity in quantities}
    return pd.DataFrame({"embedding": table["title"], **words})


def _interval(row: pd.Series, quantity: str) -> str:
    value, low, high = (row[name] for name in (quantity, f"{quantity}, low", f"{quantity}, high"))
    if not np.isfinite(value):
        return "–"
    written = likeness if quantity.endswith("cosine") else lambda number: f"{number:z.{decimals(number)}f}"
    return written(value) + (f" ({written(low)} to {written(high)})" if np.isfinite(low) else "")


def retest_published(table: pd.DataFrame | None) -> pd.DataFrame:
    """The study's mean cosine on RIDER beside this page's; one of the two may be lacking (NaN)."""
    study = published.figures("robustness")[["model", "rider_mean_cosine"]]
    study["title"] = [TEN.get(model).title for model in study["model"]]
    study = study.rename(columns={"rider_mean_cosine": "as published, RIDER", "title": "embedding"})[
        ["embedding", "as published, RIDER"]
    ]
    columns = {
        "within-patient cosine": "this run, same patient",
        "between-patient cosine": "this run, other patients",
        "identification rate": "identified",
        "verdict": "verdict",
    }
    ours = pd.DataFrame(columns=["title", *columns]) if table is None else table[["title", *columns]]
    ours = ours.rename(columns={"title": "embedding", **columns})
    beside = study.merge(ours, "outer", on="embedding", sort=False)
    cosines = [name for name in beside if name not in ("embedding", "identified", "verdict")]
    return beside.assign(**{name: beside[name].map(likeness, na_action="ignore") for name in cosines})
