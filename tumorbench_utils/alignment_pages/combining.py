"""Ensembles of the models of a page: the table, its figure, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .. import ensembles, knn, statistics
from ..ensembles import ENSEMBLES
from ..plots import Shown
from ..plots.base import percent
from ..plots.ensembles import combined as drawn
from ..plots.several import listed

LEVEL = 0.05


def combined(
    vectors: Mapping[str, np.ndarray],
    labels: Sequence,
    patients: Sequence,
    titles: Mapping[str, str],
    draws: int = 2000,
    seed: int = 0,
) -> tuple[pd.DataFrame | None, str]:
    """Single models and ensembles tested on patient-grouped splits, and a sentence that says of what.

    ``vectors`` has (n, d) by model, ``labels`` (n,) 0, 1 or NaN (left out and counted), ``patients`` (n,). The table is
    that of :func:`ensembles.compared` with a ``title``. It is None where nothing can be combined; the sentence then
    says why. ``draws`` are raised to what Holm's correction asks for: with fewer, no difference could be significant.
    """
    if len(vectors) < 2:
        return None, f"No ensembles: they need two models at least, and this page has {len(vectors)}."
    labels, patients = pd.to_numeric(pd.Series(np.asarray(labels)), errors="coerce").to_numpy(), np.asarray(patients)
    known = ~np.isnan(labels)
    if not known.any():
        return None, "No ensembles: this cohort has no endpoint."
    some = {name: np.asarray(each)[known] for name, each in vectors.items()}
    try:
        found = ensembles.evaluate(some, labels[known], patients[known], seed=seed)
    except (ensembles.EnsembleError, knn.KNNError, statistics.LabelError) as error:
        return None, f"No ensembles: {error}."
    compared = len(found) - 2  # all but the reference and the oracle; p is never below 2 / (draws + 1)
    table = ensembles.compared(found, patients[known], max(draws, int(2 * compared / LEVEL)), seed)
    table.insert(1, "title", table["name"].map({**ENSEMBLES, **titles}))
    return table, _said(found, patients[known], (~known).sum(), len(vectors))


def _said(found: Mapping[str, ensembles.Tested], patients: np.ndarray, lost: int, models: int) -> str:
    scores, note = found[ensembles.REFERENCE].scores, found[ensembles.REFERENCE].note
    people = len(np.unique(patients))
    words = (
        f"{models} models on {len(patients):,} samples of {people:,} patients, in {len(scores)} patient-grouped splits "
        f"with {scores['n_train'].mean():.0f} samples to learn from, {scores['n_validation'].mean():.0f} to choose by "
        f"and {scores['n_test'].mean():.0f} to test on, on average."
    )
    if lost:
        words += f" {lost:,} samples without a label are left out."
    return f"{words} {note}".strip()


def combined_shown(table: pd.DataFrame, mark: str = "") -> Shown:
    """AUC of single models and ensembles, and their differences to the reference."""
    rows = table.set_index("name")
    reference, oracle = rows.loc[ensembles.REFERENCE], rows.loc[ensembles.ORACLE]
    told = "; ".join(
        f"{row.title} {row.auc:.3f} ({_change(row)})" for row in table[table["kind"] == "ensemble"].itertuples()
    )
    caption = (
        "Left: mean test AUC over patient-grouped splits with its corrected 95 % interval. Right: difference to the "
        "single model that has the highest validation AUC in each split, with a paired patient bootstrap's 95 % "
        "interval and, at the right, p after Holm's correction for all rows. Hollow: the single model with the highest "
        "test AUC, which can be known only afterwards; it is no competitor and has no p. "
        f"The reference reaches {reference['auc']:.3f}, the hollow mark {oracle['auc']:.3f}. {told}."
    )
    alt = f"Dot plots of AUC and of differences in AUC. Reference {reference['auc']:.3f}. {told}."
    return Shown(drawn(table), caption, alt, mark)


def _change(row: tuple) -> str:
    return f"{row.difference:+.3f}, {row.difference_low:+.3f} to {row.difference_high:+.3f}, p = {row.p_holm:.3f}"


def combined_found(table: pd.DataFrame) -> list[str]:
    """What the table shows, in sentences."""
    rows = table.set_index("name")
    reference, oracle = rows.loc[ensembles.REFERENCE], rows.loc[ensembles.ORACLE]
    found = [_verdict(table, reference["auc"])]
    best = oracle["auc"] - reference["auc"]
    found.append(
        f"Choosing the single model by its test AUC would give {oracle['auc']:.3f} instead of {reference['auc']:.3f}: "
        f"{best:+.3f} AUC is what that choice adds on paper."
    )
    weights = rows.loc["alignment_weighted", "auc"] - rows.loc["equal_weights", "auc"]
    found.append(f"Weighting by alignment instead of equally changes the AUC by {weights:+.3f}.")
    nested = rows.loc["stacking_released", "auc"] - rows.loc["stacking_nested", "auc"]
    found.append(
        "Stacking as released, which scores its meta-learner on the samples that it was fitted to, differs by "
        f"{nested:+.3f} AUC from stacking with nested choice."
    )
    singles = table[table["kind"] == "single"].sort_values("taken", ascending=False, kind="stable")
    taken = listed((f"{row.title} {percent(row.taken)}" for row in singles.itertuples() if row.taken > 0), ", ")
    chosen = singles.sort_values("chosen", ascending=False, kind="stable").iloc[0]
    found.append(
        f"Validation chooses {chosen['title']} most often as the best single model, in {percent(chosen['chosen'])} of "
        f"the splits. Shares in the greedy choice: {taken}."
    )
    return found


def _verdict(table: pd.DataFrame, reference: float) -> str:
    """Which ensembles differ from the reference, and how large a gain cannot be excluded for the others."""
    some = table[table["kind"] == "ensemble"]
    better = some[(some["p_holm"] < LEVEL) & (some["difference"] > 0)]
    worse = some[(some["p_holm"] < LEVEL) & (some["difference"] < 0)]
    words = [
        f"{name} the best single model that validation chooses (AUC {reference:.3f}): "
        + ", ".join(f"{row.title} ({row.difference:+.3f}, p = {row.p_holm:.3f})" for row in rows.itertuples())
        for name, rows in (("Better than", better), ("Worse than", worse))
        if len(rows)
    ]
    if better.empty:
        words.append(
            f"None of the {len(some)} ensembles is shown to be better than the best single model that validation "
            f"chooses (AUC {reference:.3f}); the intervals reach up to {some['difference_high'].max():+.3f} AUC"
        )
    return ". ".join(words) + "."
