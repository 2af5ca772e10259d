"""Figures of at most so many embeddings: more of them are drawn in several."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from ..plots import Several, Shown

MOST = 6  # lines in one figure that can be told apart


def in_groups(table: pd.DataFrame, draw: Callable[[pd.DataFrame], Shown]) -> Shown | Several:
    """``draw`` of a table by title; of more than six titles, of six at a time."""
    titles = list(dict.fromkeys(table["title"]))
    some = [titles[start : start + MOST] for start in range(0, len(titles), MOST)]
    shown = [draw(table[table["title"].isin(each)].reset_index(drop=True)) for each in some]
    return shown[0] if len(shown) == 1 else Several(shown)
