"""What a cohort is: its endpoint rules, and how rows of its source table become annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..sources import Idc, Zenodo

TWO_YEARS = 730  # days, as the study counts them
DAYS_PER_MONTH = 365.25 / 12

Column = Callable[[pd.DataFrame], pd.Series]


def two_year_survival(time_days: pd.Series, event: pd.Series) -> pd.Series:
    """Label 1 if alive at two years, 0 if dead before, NaN if censored before (the patient is then left out).

    ``time_days`` is the follow-up in days, ``event`` 1 for death and 0 for censored.
    """
    alive = (time_days >= TWO_YEARS).astype(float)
    censored_early = (time_days < TWO_YEARS) & (event != 1)
    return alive.mask(censored_early | time_days.isna())


@dataclass(frozen=True)
class Endpoint:
    """A binary endpoint: its rule in words, and the same as a function of the source rows.

    ``label`` gives 1.0, 0.0, or NaN for a sample that the rule leaves out for the stated ``exclusion``.
    ``positives`` and ``negatives`` are the counts on the whole cohort.
    """

    title: str
    rule: str
    label: Column
    positives: int | None = None
    negatives: int | None = None
    exclusion: str = "no label"


@dataclass(frozen=True)
class Cohort:
    """A public cohort. ``endpoints`` maps a variant to its rule; ``paper`` is what the published AUCs were made of.

    ``patient`` and ``sample`` name patients and samples from source rows, ``time_days`` and ``event`` give the
    follow-up where there is one, ``clinical`` maps our ``clinical_*`` names to source columns. ``images`` is where the
    images come from; without it they are the user's own. ``segment`` is a regular expression for the names of the
    segments of a mask that are the tumour; empty where a mask has one segment. ``phantom``: the images are computed, of
    no patient, which every figure must say; ``made`` is what :func:`phantom.make` is told of them (sites, seed).
    """

    id: str
    title: str
    anatomy: str
    size: str
    source: str
    doi: str
    licence: str
    citation: str
    seed_rule: str
    endpoints: Mapping[str, Endpoint]
    patient: Column
    sample: Column | None = None
    time_days: Column | None = None
    event: Column | None = None
    clinical: Mapping[str, str] = field(default_factory=dict)
    images: Idc | Zenodo | None = None
    segment: str = ""
    phantom: bool = False
    made: Mapping = field(default_factory=dict)

    def endpoint(self, variant: str = "paper") -> Endpoint:
        """The rule of ``variant``; an unknown one is an error that lists those there are."""
        if variant not in self.endpoints:
            raise LookupError(f"{self.id} has no variant '{variant}'. Known: {', '.join(self.endpoints)}")
        return self.endpoints[variant]


def column(name: str, kind: type = str) -> Column:
    """A source column as text (identifiers) or as numbers."""
    if kind is str:
        return lambda rows: rows[name].astype(str)
    return lambda rows: pd.to_numeric(rows[name]).astype(kind)


def coded(name: str, codes: Mapping[str, float]) -> Column:
    """What ``codes`` says of the values of a source column, in lower case; NaN where it is empty.

    A value without a code is a ValueError that names it: a death must not become a censoring by its spelling.
    """

    def read(rows: pd.DataFrame) -> pd.Series:
        text = rows[name].astype("string").str.strip().str.casefold().str.removesuffix(".0")
        text = text.mask(text == "")
        found = text.map(codes).astype(float)
        unknown = sorted(set(text[found.isna() & text.notna()]))
        if unknown:
            raise ValueError(f"column {name} holds {', '.join(unknown)}; known are {', '.join(codes)}")
        return found

    return read


def survives(time_days: Column, event: Column) -> Column:
    """:func:`two_year_survival` of a cohort's own columns."""
    return lambda rows: two_year_survival(time_days(rows), event(rows))


def seed_point(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns x, y, z (LPS, mm) of the released tables, NaN where a table has none."""
    names = {"coordX": "x", "coordY": "y", "coordZ": "z"}
    return rows.reindex(columns=list(names)).rename(columns=names).astype(float).replace([np.inf, -np.inf], np.nan)
