"""The study's overlap of the same models on the same cohort, always marked as published."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from .. import published
from ..alignment import Alignment
from ..models import TEN

FIGURE, K = "mean_shared_neighbours_of_10", 10
RELEASED = "released"  # source of the tables that the study published


def published_pairs(cohort: str) -> pd.DataFrame:
    """Published pairs of a cohort: first, second (model ids), published (mean shared of 10), status; maybe none."""
    study = published.figures("overlap").query("cohort == @cohort")
    study = study.rename(columns={"model_a": "first", "model_b": "second", FIGURE: "published"})
    return study[["first", "second", "published", "status"]].reset_index(drop=True)


def published_titles() -> dict[str, str]:
    """Titles of the study's ten models by id."""
    return {model.id: model.title for model in TEN}


def same_features(records: Mapping[str, Mapping]) -> dict[str, str]:
    """The study's model of each embedding table that was made by the study's recipe: benchmark, trained, no control.

    ``records`` are the parameters in the tables' provenance. Of two tables of a model the one that the study released
    counts, or else the first.
    """
    found = {}
    for name, given in sorted(records.items(), key=lambda item: item[1].get("source") != RELEASED):
        ours = given.get("recipe") == "benchmark" and not given.get("control") and not given.get("untrained")
        if ours and given.get("model") in TEN and given["model"] not in found.values():
            found[name] = given["model"]
    return found


def extracted_here(records: Mapping[str, Mapping]) -> list[str]:
    """Of :func:`same_features` the tables that are not the study's own features, but made anew by its recipe."""
    return [name for name in same_features(records) if records[name].get("source") != RELEASED]


def comparison(aligned: Alignment, cohort: str, records: Mapping[str, Mapping]) -> pd.DataFrame:
    """Pairs that both the study and this run have: first, second (tables), published, shared, difference.

    None for a k other than the study's ten.
    """
    of, study = same_features(records), published_pairs(cohort)
    known = {frozenset(pair): value for *pair, value in study[["first", "second", "published"]].itertuples(index=False)}
    rows = [
        (row.first, row.second, known[pair], row.shared, row.shared - known[pair])
        for row in aligned.pairs.itertuples()
        if (pair := frozenset((of.get(row.first), of.get(row.second)))) in known and row.k == K
    ]
    return pd.DataFrame(rows, columns=["first", "second", "published", "shared", "difference"])
