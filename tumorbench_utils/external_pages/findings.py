"""What a page of external validation shows, in sentences made from its tables; and its tables, written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from .. import artefacts
from ..plots import CHANCE
from ..plots.base import counted
from ..probes import external, external_scores
from ..probes.external import Evaluated
from .reading import Page
from .showing import VOLUME, changes, drops, interval, worst

COLUMNS = ["page", "endpoint", "model", "title", "head", "train", "train_variant", "test", "variant", "measure"]
COLUMNS += ["value", "low", "high", "n_train", "n_test"]
KEPT = ["train", "test", "head", "fold", "sample_id", "patient_id", "label", "probability"]


def findings(page: Page, scores: pd.DataFrame, apart: pd.DataFrame) -> str:
    """A Markdown list: the worst case, the drops, what volume alone reaches, whether the cohorts can be told apart."""
    ranking, lost = worst(page, scores), drops(page, scores)
    best = ranking.iloc[0]
    above = ranking[ranking["low"] > CHANCE]
    points = [
        f"Highest worst case: {best['title']}, {best['head']}, {interval(best)} in {best['where']}. Worst "
        f"cases with an interval above chance: {len(above)} of {len(ranking)} (model and head).",
        _drops(lost),
    ]
    points += _against_volume(ranking)
    points.append(_apart(page, apart))
    mark = page.mark()
    opening = f"{mark.upper()}: " if mark else ""
    return "\n".join(f"- {opening}{point}" for point in points)


def _drops(lost: pd.DataFrame) -> str:
    sure = lost[lost["p_holm"] < 0.05]
    deepest = lost.loc[lost["value"].idxmin()]
    return (
        f"Against the same patients judged within their own cohort, the AUC changes by {lost['value'].mean():+.2f} on "
        f"average over {len(lost)} comparisons; {changes(sure)} beyond chance (Holm). Most is "
        f"lost by {deepest['title']}, {deepest['head']}: {interval(deepest, sign='+')}."
    )


def _against_volume(ranking: pd.DataFrame) -> list[str]:
    """How many worst cases lie above that of volume with the same head, as two decimals show them."""
    points = []
    for head, rows in ranking.groupby("head", sort=True):
        control, others = rows[rows["model"] == VOLUME], rows[rows["model"] != VOLUME]
        if len(control) and len(others):
            value, *values = (f"{each:.2f}" for each in [control["value"].iloc[0], *others["value"]])
            above, alike = sum(float(each) > float(value) for each in values), values.count(value)
            equal = f"; {alike} {'is' if alike == 1 else 'are'} as high to two decimals" if alike else ""
            points.append(
                f"By {head}, {above} of {counted(len(others), 'other embedding')} {'has' if above == 1 else 'have'} a "
                f"higher worst case than tumour volume alone, {interval(control.iloc[0])}{equal}."
            )
    return points


def _apart(page: Page, apart: pd.DataFrame) -> str:
    most = apart.loc[apart["value"].idxmax()]
    told = apart[apart["low"] > CHANCE]
    among = " (tumour volume counted)" if VOLUME in set(apart["model"]) else ""
    return (
        f"{len(told)} of {len(apart)} embeddings{among} tell the cohorts apart with an interval above chance, best of "
        f"all {most['title']} ({page.names[most['first']]} or {page.names[most['second']]}: {interval(most)})."
    )


def results(page: Page, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores as a run keeps them, tidy: ``COLUMNS``; ``variant`` is the endpoint of the test cohort."""
    variants = {"variant": scores["test"].map(page.variants), "train_variant": scores["train"].map(page.variants)}
    return scores.assign(page=page.id, endpoint=page.endpoint, **variants)[COLUMNS]


def predictions_path(run: str | Path, page: str, model: str) -> Path:
    """Where a run keeps the predictions of a model on a page of external validation."""
    return Path(run) / "predictions" / "external" / page / f"{model}.parquet"


def save(
    run: str | Path,
    page: Page,
    found: Evaluated,
    scores: pd.DataFrame,
    apart: pd.DataFrame,
    record: Mapping,
    draws: int,
    seed: int = 0,
) -> None:
    """Predictions a model, and tables of the page: drops with p, cohorts told apart, drift, calibration, choices, left
    out, AUCs had the test cohort been rescaled; last ``<page>.csv``, the scores."""
    for model, rows in found.predictions.groupby("model", sort=False):
        table = rows[KEPT].reset_index(drop=True)
        artefacts.write_parquet(predictions_path(run, page.id, model), table, record)
    folder = Path(run) / "results" / "3c_external_validation"
    parts = {
        "drops": scores[scores["measure"] == "drop"].drop(columns="measure"),
        "apart": apart,
        "drift": external.drift(page.sites),
        "rescaled": external_scores.aucs(found.rescaled, draws, seed),
        "calibration": external_scores.calibration(found.predictions, draws, seed),
        "choices": found.choices,
        "left_out": page.left_out,
    }
    for part, table in parts.items():
        artefacts.write_csv(folder / f"{page.id}.{part}.csv", table, record)
    artefacts.write_csv(folder / f"{page.id}.csv", results(page, scores), record)
