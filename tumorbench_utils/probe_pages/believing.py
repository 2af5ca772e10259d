"""Few labels, calibration and rare outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..plots import Several, Shown
from ..plots.base import percent
from ..plots.probes import ends, forest, reliability, shots
from ..plots.several import TOLD, in_groups
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
    told = "; ".join(
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
        f"whose labels it therefore needs.{lacking}{some}{_most_labels(means)}"
    )
    return Shown(shots(table, full), caption, f"AUC over the number of labelled patients. {told}.", mark)


def _most_labels(means: pd.DataFrame) -> str:
    """The class mean from the most labels, of the embeddings of a figure; "" without any."""
    if means.empty:
        return ""
    rows = means[means["m"] == means["m"].max()]
    words = [f"{row.title} {row.auc:.2f} ({row.low:.2f} to {row.high:.2f})" for row in rows.itertuples()]
    return f" Class mean from {rows['m'].iloc[0]} of each class. {ends(rows['auc'], words)}."


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
        f"the bin. Below the diagonal a prediction is too high. kNN gives 0 or 1 in {edges:,} predictions.{lacking}"
    )
    alt = f"Reliability curves against the diagonal. From the lowest bin to the highest, {told}."
    return Shown(reliability(curves), caption, alt, mark)


def brier_shown(measures: pd.DataFrame, mark: str) -> Shown | Several:
    """Brier skill: is the probability better than the prevalence?"""
    return in_groups(measures[measures["measure"] == "brier_skill"], lambda rows: _brier_shown(rows, mark))


def _brier_shown(rows: pd.DataFrame, mark: str) -> Shown:
    words = _words(rows)
    caption = (
        "Brier skill, 1 − Brier / (prevalence × (1 − prevalence)), mean over splits with 95 % patient-bootstrap "
        "interval: above 0 (dotted) a probability is nearer the truth than telling everybody the prevalence. "
        f"{ends(rows['value'], words)}."
    )
    figure = forest(rows.drop(columns="chance"), "Brier skill (dotted: prevalence)", 0.0)
    return Shown(figure, caption, f"Dot plot of Brier skill. {'; '.join(words)}.", mark)


def _words(rows: pd.DataFrame) -> list[str]:
    return [f"{row['title']}, {row['series']} {_interval(row, 2)}" for row in rows.to_dict("records")]


def calibration_table(measures: pd.DataFrame) -> pd.DataFrame:
    """Slope, error, Brier and intercept with intervals, one row a model and head."""
    names = {
        "calibration_slope": ("slope (1 is right)", 2),
        "calibration_error": ("error", 2),
        "brier": ("Brier", 3),
        "calibration_intercept": ("intercept (0 is right)", 2),
    }
    rows = []
    for _, some in measures.groupby(["model", "head"], sort=False):
        values = some.set_index("measure")
        rows.append(
            {"judge": some["series"].iloc[0]}
            | {words: _interval(values.loc[name], digits) for name, (words, digits) in names.items()}
            | {"embedding": some["title"].iloc[0]}
        )
    return pd.DataFrame(rows)


def _interval(row: Mapping, digits: int) -> str:
    if not np.isfinite(row["value"]):
        return "–"
    value, low, high = (f"{row[name]:z.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def rare_shown(found: Judged, measures: pd.DataFrame, mark: str) -> Shown:
    """Average precision of the rarer class against that of permuted labels."""
    rows = measures[measures["measure"] == "pr_auc"]
    named = rows["of"].iloc[0]
    share = min(found.labels.mean(), 1 - found.labels.mean())
    words = [f"{told}, chance {chance:.2f}" for told, chance in zip(_words(rows), rows["chance"], strict=True)]
    caption = (
        "Average precision (area under the precision-recall curve) of the rarer class, mean over splits with 95 % "
        f"patient-bootstrap interval. The rarer class, here {percent(share)} of the samples, are the {named}. Chance "
        "(dotted, the higher of the judges) is the mean over permuted labels, above that share where few have the "
        f"outcome. {ends(rows['value'], words)}."
    )
    rows = rows.assign(chance=rows.groupby("title")["chance"].transform("max"))
    label = f"average precision of the {named}"
    return Shown(forest(rows, label), caption, f"Dot plot of {label}. {'; '.join(words)}.", mark)


def rare_table(measures: pd.DataFrame) -> pd.DataFrame:
    """Average precision of the rarer class with its interval and chance, one row a model and head."""
    rows = measures[measures["measure"] == "pr_auc"]
    words = [_interval(row, 2) for row in rows.to_dict("records")]
    shown = {"judge": rows["series"], "average precision": words, "chance": rows["chance"], "embedding": rows["title"]}
    return pd.DataFrame(shown)
