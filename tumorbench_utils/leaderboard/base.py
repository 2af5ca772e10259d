"""What the modules of the leaderboard share: the error, and the table of AUCs by model and cohort."""

from __future__ import annotations

import numpy as np
import pandas as pd

ALPHA = 0.05
CONTROLS = ("volume", "radiomics", "random_encoder", "clinical")  # models of no network that was trained


class LeaderboardError(ValueError):
    """A table of results from which no leaderboard can be made; the message names the rows and says what to do."""


def matrix(table: pd.DataFrame) -> pd.DataFrame:
    """AUCs (models, cohorts) of a tidy table (model, cohort, auc), NaN where a model was not evaluated.

    Models and cohorts keep the order in which they come. :class:`LeaderboardError` for a lacking column, a model
    twice in a cohort, and an AUC that is no number of 0 to 1.
    """
    lacking = {"model", "cohort", "auc"} - set(table)
    if lacking:
        raise LeaderboardError(f"the table of AUCs lacks the column(s) {', '.join(sorted(lacking))}")
    twice = table[table.duplicated(["model", "cohort"])]
    if len(twice):
        first = twice.iloc[0]
        raise LeaderboardError(
            f"{len(twice)} cells are there more than once, the first is {first['model']} on {first['cohort']}: "
            "choose one head, protocol and endpoint"
        )
    auc = pd.to_numeric(table["auc"], errors="coerce")
    odd = table[(auc.isna() & table["auc"].notna()) | auc.lt(0) | auc.gt(1)]
    if len(odd):
        first = odd.iloc[0]
        raise LeaderboardError(f"the AUC of {first['model']} on {first['cohort']} is {first['auc']}, not within 0 to 1")
    wide = table.assign(auc=auc).pivot(index="model", columns="cohort", values="auc")
    wide = wide.reindex(index=table["model"].unique(), columns=table["cohort"].unique())
    return wide.rename_axis(index="model", columns="cohort").astype(np.float64)
