"""Figures of at most so many embeddings, the largest change, and how a cosine similarity is written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..plots import Several, Shown

ROUNDING = 1e-12  # of a cosine: closer to 1 is 1
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
    """A cosine similarity: three decimals, or as many as it takes to be told from 1."""
    return "1" if 1 - cosine < ROUNDING else f"{cosine:z.{decimals(1 - cosine)}f}"


def decimals(size: float) -> int:
    """How many decimals a number takes not to be written as 0: three at least."""
    return 3 if not 0 < abs(size) < 5e-4 else int(np.ceil(-np.log10(abs(size))))
