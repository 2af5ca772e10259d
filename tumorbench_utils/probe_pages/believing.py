"""Few labels, calibration and rare outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..plots import Several, Shown
from ..plots.probes import forest, percent, reliability, shots
from ..plots.several import TOLD, in_groups, listed
from ..probes import calibration, few_shot
from .judging import HEADS, Judged, heads_table

PANELS = 2  # models in one figure of reliability
VOLUME = "volume"
JUDGE = "class mean"  # of few labels: the one that needs no others


def few_labels(found: Judged, counts: Sequence[int], draws: int, seed: int = 0) -> tuple[pd.DataFrame, list[int]]:
    """AUC from a few patients of each class (model, title, judge, m, auc, low, high, draws), and the ``counts`` for
    which the smaller class has too few patients."""
    able, unable = few_shot.possible(found.labels, found.patients, counts)
    tables = [
        few_shot.summary(few_shot.evaluate(vectors, found.labels, found.patients, able, draws, seed)).assign(
            model=name, title=found.titles[name]
        )
        for name, vectors in found.vectors.items()
        if able
    ]
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()), unable


def few_labels_shown(found: Judged, table: pd.DataFrame, unable: Sequence[int], mark: str) -> Shown:
    """AUC over the number of labels; of many embeddings the six best, tumour volume among them if it was judged."""
    auc = heads_table(found).query("head == 'knn'").set_index("model")["value"]
    full = {found.titles[name]: value for name, value in auc.items()}
    best = auc.drop(VOLUME, errors="ignore").nlargest(TOLD - (VOLUME in auc)).index
    many = len(auc) > TOLD and len(table)
    table = table[table["model"].isin([*best, VOLUME])] if many else table
    some = (
        f" Of {len(auc)} embeddings those of highest AUC with all labels, and volume; files have all." if many else ""
    )
    means = table[table["judge"] == JUDGE] if len(table) else table
    told = listed(
        f"{title}: "
        + ", ".join(f"{row.auc:.2f} ({row.low:.2f} to {row.high:.2f}) from {row.m}" for row in rows.itertuples())
        for title, rows in (means.groupby("title", sort=False) if len(means) else ())
    )
    lacking = f" Too few patients for {', '.join(map(str, unable))} a class." if unable else ""
    draws = int(table["draws"].max()) if len(table) else 0
    caption = (
        f"Mean AUC over {draws} draws of a few patients of each class, tested on all others; lines hold the central "
        "95 % of the draws, which share patients: luck of the draw, not a confidence interval. Class mean: nearer to "
        "the mean of the positives or of the negatives, by cosine. kNN chooses k on a fifth of the other patients, "
        f"whose labels it therefore needs.{lacking}{some} Class mean: {told}."
    )
    return Shown(shots(table, full), caption, f"AUC over the number of labelled patients. {told}.", mark)


def believed(found: Judged, draws: int, seed: int = 0) -> pd.DataFrame:
    """Measures of both heads of every model: model, title, head, series, measure, value, low, high, chance."""
    tables = [
        calibration.measures(table, draws, seed).assign(
            model=name, title=found.titles[name], head=head, series=HEADS[head]
        )
        for (name, head), table in found.predictions.items()
    ]
    return pd.concat(tables, ignore_index=True)


def reliability_shown(found: Judged, mark: str) -> Shown:
    """Observed share against predicted probability, of the first two models."""
    some = found.models[:PANELS]
    curves = {
        found.titles[name]: {HEADS[head]: calibration.reliability(found.predictions[name, head]) for head in HEADS}
        for name in some
    }
    told = "; ".join(
        f"{title}, {head}: predicted {points['predicted'].iloc[0]:.2f} to {points['predicted'].iloc[-1]:.2f}, observed "
        f"{points['observed'].iloc[0]:.2f} to {points['observed'].iloc[-1]:.2f}"
        for title, by_head in curves.items()
        for head, points in by_head.items()
    )
    edges = sum(calibration.at_edge(found.predictions[name, "knn"]) for name in some)
    few = len(some) < len(found.models)
    lacking = f" Of {len(found.models)} embeddings the first {len(some)}; the table below has all." if few else ""
    caption = (
        "Test predictions of ten splits in bins of equal count (fewer where probabilities are equal): mean prediction "
        "against the observed share of positives, with Wilson's 95 % interval for the number of different patients in "
        f"the bin. kNN gives 0 or 1 in {edges:,} predictions.{lacking} From the lowest bin to the "
        f"highest, {told}."
    )
    return Shown(reliability(curves), caption, f"Reliability curves against the diagonal. {told}.", mark)


def brier_shown(measures: pd.DataFrame, mark: str) -> Shown | Several:
    """Brier skill: is the probability better than the prevalence?"""
    return in_groups(measures[measures["measure"] == "brier_skill"], lambda rows: _brier_shown(rows, mark))


def _brier_shown(rows: pd.DataFrame, mark: str) -> Shown:
    told = _told(rows)
    caption = (
        "Brier skill, 1 - Brier / (prevalence x (1 - prevalence)), mean over splits with 95 % patient-bootstrap "
        "interval: above 0 (dotted) a probability is nearer the truth than telling everybody the prevalence. "
        f"{told}."
    )
    figure = forest(rows.drop(columns="chance"), "Brier skill (dotted: prevalence)", 0.0)
    return Shown(figure, caption, f"Dot plot of Brier skill. {told}.", mark)


def _told(rows: pd.DataFrame) -> str:
    return listed(f"{r.title}, {r.series}: {r.value:z.2f} ({r.low:z.2f} to {r.high:z.2f})" for r in rows.itertuples())


def calibration_table(measures: pd.DataFrame) -> pd.DataFrame:
    """Brier, slope, intercept and error with intervals, one row a model and head."""
    names = {
        "brier": "Brier",
        "calibration_slope": "slope (1 is right)",
        "calibration_intercept": "intercept (0 is right)",
        "calibration_error": "calibration error",
    }
    rows = []
    for _, some in measures.groupby(["model", "head"], sort=False):
        values = some.set_index("measure")
        rows.append(
            {"embedding": some["title"].iloc[0], "judge": some["series"].iloc[0]}
            | {words: _interval(values.loc[name]) for name, words in names.items()}
        )
    return pd.DataFrame(rows)


def _interval(row: pd.Series) -> str:
    if not np.isfinite(row["value"]):
        return "–"
    return f"{row['value']:z.3f} ({row['low']:z.3f} to {row['high']:z.3f})"


def rare_shown(found: Judged, measures: pd.DataFrame, mark: str) -> Shown:
    """Average precision of the rarer class against that of permuted labels."""
    rows = measures[measures["measure"] == "pr_auc"]
    named = rows["of"].iloc[0]
    share = min(found.labels.mean(), 1 - found.labels.mean())
    told = "; ".join(
        f"{r.title}, {r.series}: {r.value:.2f} ({r.low:.2f} to {r.high:.2f}), chance {r.chance:.2f}"
        for r in rows.itertuples()
    )
    caption = (
        "Average precision (area under the precision-recall curve) of the rarer class, mean over splits with 95 % "
        f"patient-bootstrap interval. The rarer class, here {percent(share)} of the samples, are the {named}; for the "
        "other one, a guess is nearly always right. Chance (dotted, the higher of the judges) is the mean average "
        "precision of permuted labels, above the share where few have the outcome; the rarer the outcome, the less a "
        f"high AUC says about the ones that are found. {told}."
    )
    rows = rows.assign(chance=rows.groupby("title")["chance"].transform("max"))
    label = f"average precision of the {named}"
    return Shown(forest(rows, label), caption, f"Dot plot of {label}. {told}.", mark)
