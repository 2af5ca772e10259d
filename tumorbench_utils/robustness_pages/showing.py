"""Figures of at most so many embeddings, the largest change, and how a cosine similarity is written."""

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


def largest(rows: pd.DataFrame) -> pd.Series:
    """Of the perturbations of an embedding the one that changes most decisions; of equal ones, or where no decision is
    known, that of least cosine."""
    return rows.sort_values(["agreement", "cosine"], kind="stable").iloc[0]


def perturbation(row: pd.Series) -> str:
    """``softer kernel (4 mm)``."""
    title = row["kind_title"]
    title = title if title[:2].isupper() else title[0].lower() + title[1:]
    return f"{title} ({row['size']:g} {row['unit']})"


def likeness(cosine: float) -> str:
    """A cosine similarity in words: three decimals, and if these would say 1.000 how far it is below 1."""
    below = 1 - cosine
    return f"{cosine:z.3f}" if not below < 5e-4 else f"1 − {below:.1g}" if below > 0 else "1"
