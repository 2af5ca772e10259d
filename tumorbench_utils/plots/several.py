"""Captions and figures of many embeddings: what a phone can hold, and how many more there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

from .base import Several, Shown

TOLD = 6  # values in a caption
ROWS = 12  # embeddings in one figure


def listed(words: Iterable[str], mark: str = "; ") -> str:
    """The words of a caption, the first six of many."""
    words = list(words)
    more = f"{mark}and {len(words) - TOLD} more" if len(words) > TOLD else ""
    return mark.join(words[:TOLD]) + more


def in_groups(table: pd.DataFrame, draw: Callable[[pd.DataFrame], Shown], most: int = ROWS) -> Shown | Several:
    """``draw`` of a table by title; of more than ``most`` titles, of so many at a time."""
    titles = list(dict.fromkeys(table["title"]))
    groups = [titles[start : start + most] for start in range(0, len(titles), most)] or [[]]
    shown = [draw(table[table["title"].isin(each)].reset_index(drop=True)) for each in groups]
    return shown[0] if len(shown) == 1 else Several(shown)
