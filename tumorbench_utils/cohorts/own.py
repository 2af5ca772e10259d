"""A cohort of one's own: a folder of images with a table ``cases.csv``, the chapter *Bring your own cohort*.

``own``, and ``own_<name>`` for any name: results are filed under the id of a cohort, so that two cohorts of one run,
or those of two groups whose records meet, need two. A name that ends in ``_retest`` has no endpoint.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from .base import Cohort, Column, Endpoint, survives
from .seeds import CONVENTIONS, Seed

TABLE = "cases.csv"
NEEDED = ("sample_id", "patient_id", "ct")
TEXTS = (*NEEDED, "mask")
COORDINATES = tuple(name for each in CONVENTIONS for name in each.columns)
ALLOWED = {"label": (0, 1), "time_days": None, "event": (0, 1), **dict.fromkeys(COORDINATES)}  # None: any number
KNOWN = (*TEXTS, *ALLOWED)
NO_PLACE = "no mask and no seed point"
STOPS, LEFT_OUT, LOOK = "stops the run", "is left out", "look at it"
SHOWN = 5  # faults in a message; the rest are counted


class CasesError(ValueError):
    """A table of cases that cannot be used; the message names file, row and column."""


class Fault(NamedTuple):
    """One thing that is wrong: ``row`` as a spreadsheet counts, the header being row 1; what follows from it; where;
    what it is and what to do."""

    row: int
    follows: str
    sample_id: str
    column: str
    fault: str

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column}: {self.fault}"


def _numbers(name: str) -> Column:
    """A column of numbers; NaN throughout if the table has none."""
    return lambda rows: pd.to_numeric(rows[name]) if name in rows else pd.Series(np.nan, rows.index)


def _names(name: str) -> Column:
    return lambda rows: rows[name].astype(str)


def _labels(rows: pd.DataFrame) -> pd.Series:
    return pd.to_numeric(rows["label"]).astype(float)


COHORT = Cohort(
    id="own",
    title="Own images",
    anatomy="as given",
    size="as many as the table has",
    source="a folder with `cases.csv`",
    doi="",
    licence="the user's",
    citation="",
    seed_rule="as given, or centroid of the largest component of the mask",
    endpoints={
        "paper": Endpoint(
            title="label",
            rule="the column `label` of the table, 0 or 1; samples where it is empty are left out",
            label=_labels,
        ),
        "two_year": Endpoint(
            title="two-year survival",
            rule="alive at 730 days against dead before, by `time_days` and `event`; others are left out",
            label=survives(_numbers("time_days"), _numbers("event")),
            exclusion="censored before two years, or no follow-up",
        ),
    },
    patient=_names("patient_id"),
    sample=_names("sample_id"),
    time_days=_numbers("time_days"),
    event=_numbers("event"),
)


def is_own(name: object) -> bool:
    """Whether ``name`` is that of a cohort of one's own: ``own`` or ``own_<name>``."""
    return isinstance(name, str) and re.fullmatch(r"own(_[A-Za-z0-9_-]*[A-Za-z0-9])?", name) is not None


def named(name: str) -> Cohort:
    """The cohort of one's own called ``name`` (:func:`is_own`)."""
    if name == COHORT.id:
        return COHORT
    endpoints = {} if name.endswith("_retest") else COHORT.endpoints
    title = f"{COHORT.title}, {name.removeprefix('own_').replace('_', ' ')}"
    return replace(COHORT, id=name, title=title, endpoints=endpoints)


def read(path: str | Path) -> pd.DataFrame:
    """A table of cases as text, without spaces around the fields, empty ones as NaN, rows without any left out.

    The index counts the rows of the file from 0, so that the header is row 1 and index 0 row 2. The separator is that
    of comma, semicolon and tab of which the header has most; a byte order mark is skipped. Backslashes of paths become
    slashes. :class:`CasesError` if the file is no such table.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CasesError(f"{path}: not UTF-8 ({error.reason}); save it as 'CSV UTF-8'") from error
    separator = max(",;\t", key=text.partition("\n")[0].count)
    header, *rows = [
        [field.strip() for field in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    ] or [[]]
    for number, row in enumerate(rows, start=2):
        if any(row[len(header) :]):
            raise CasesError(f"{path}: row {number} has {len(row)} columns, the header {len(header)}")
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise CasesError(f"{path}: the column {twice[0]} is there twice")
    wide = len(header)
    table = pd.DataFrame([(row + [""] * wide)[:wide] for row in rows], columns=header, dtype=object)
    table = table.drop(columns=[name for name in header if not name])
    for name in table.columns.intersection(["ct", "mask"]):
        table[name] = table[name].str.replace("\\", "/")
    if separator != ",":  # a spreadsheet that writes semicolons may write 12,5
        for name in table.columns.intersection(ALLOWED):
            table[name] = table[name].str.replace(",", ".")
    table = table.mask(table == "")
    return table[table.notna().any(axis=1)]


def cases(path: str | Path) -> pd.DataFrame:
    """The cases of a folder of one's own: what :func:`read` gives, checked, with numbers where there should be some.

    A column ``mask`` is there in any case, ``seed`` holds a :class:`Seed` or None, ``reason`` why a case has no image
    or no place. Raises :class:`CasesError` with the faults that stop a run.
    """
    table = read(path)
    wrong = [fault for fault in faults(table, "") if fault.follows == STOPS]
    if wrong:
        more = f"\n  and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        lines = "\n  ".join(map(str, wrong[:SHOWN]))
        count = f"{len(wrong)} fault{'s' if len(wrong) > 1 else ''}"
        raise CasesError(f"{path}: {count}\n  {lines}{more}")
    table = table.assign(**{name: pd.to_numeric(table[name]) for name in ALLOWED if name in table})
    for name in (name for name in table if name.startswith("clinical_") or name not in KNOWN):
        table[name] = _as_numbers(table[name])
    table = table.assign(mask=table.get("mask", np.nan), seed=[seed_of(row) for _, row in table.iterrows()])
    placeless = table["mask"].isna() & table["seed"].isna()
    reason = pd.Series(np.nan, table.index, dtype=object).mask(placeless, NO_PLACE).mask(table["ct"].isna(), "no CT")
    return table.assign(reason=reason).reset_index(drop=True)


def _as_numbers(values: pd.Series) -> pd.Series:
    """A column as numbers if all of it are, but for names like 007."""
    numbers = pd.to_numeric(values, errors="coerce")
    return values if (numbers.isna() & values.notna()).any() or values.str.match(r"0\d").any() else numbers


def seed_of(row: pd.Series) -> Seed | None:
    """The seed point of a row of a table of cases, if it has one and its numbers are sound."""
    for convention in CONVENTIONS:
        values = pd.to_numeric(row.reindex(convention.columns), errors="coerce").to_numpy(float)
        if np.isfinite(values).all():
            return Seed(tuple(map(float, values)), convention)
    return None


def faults(table: pd.DataFrame, labelled: str = "label") -> list[Fault]:
    """All that is wrong in a table of :func:`read` by itself, without a look at the images.

    ``labelled`` names the column without which no sample has a label; empty if the cohort needs none.
    """
    missing = [Fault(1, STOPS, "", name, _missing(table, name)) for name in NEEDED if name not in table]
    if missing:
        return missing
    if table.empty:
        return [Fault(2, STOPS, "", "sample_id", "no cases")]
    found = [*_absent(table, labelled), *_not_numbers(table), *_places(table), *_twice(table)]
    return sorted(found, key=lambda fault: fault.row)


def _missing(table: pd.DataFrame, name: str) -> str:
    """What is said of a column that a table lacks."""
    alike = {str(each).casefold(): each for each in table}
    close = get_close_matches(name, alike, n=1)
    there = f"rename '{alike[close[0]]}'" if close else f"there are {', '.join(map(str, table)) or 'none'}"
    return f"is missing; {there}"


def _rows(table: pd.DataFrame, wrong: pd.Series, follows: str, column: str, fault: object) -> Iterator[Fault]:
    """A fault for every row that is ``wrong``; ``fault`` may be a function of the row."""
    for index, row in table[wrong].iterrows():
        said = fault(row) if callable(fault) else fault
        yield Fault(index + 2, follows, str(row["sample_id"]), column, said)


def _absent(table: pd.DataFrame, labelled: str) -> Iterator[Fault]:
    for name in ("sample_id", "patient_id"):
        yield from _rows(table, table[name].isna(), STOPS, name, "is empty; give every row a name")
    yield from _rows(table, table["ct"].isna(), LEFT_OUT, "ct", "is empty; give the path of the CT")
    if labelled in table:
        yield from _rows(table, table[labelled].isna(), LEFT_OUT, labelled, "is empty, so the sample has no label")
    elif labelled:
        yield Fault(1, STOPS, "", labelled, _missing(table, labelled))
    if "time_days" in table or "event" in table:
        one = table.reindex(columns=["time_days", "event"]).isna().sum(axis=1) == 1
        yield from _rows(table, one, LOOK, "time_days", "follow-up takes both time_days and event")
    for name in ("ct", "mask"):
        if name in table:
            absolute = table[name].str.match(r"/|[A-Za-z]:").fillna(False).astype(bool)
            yield from _rows(
                table, absolute, LOOK, name, "an absolute path, which no other machine has; give it from the folder"
            )


def _not_numbers(table: pd.DataFrame) -> Iterator[Fault]:
    for name, allowed in ALLOWED.items():
        if name not in table:
            continue
        number = pd.to_numeric(table[name], errors="coerce")
        wrong = table[name].notna() & ~np.isfinite(number)
        if allowed:
            wrong |= number.notna() & ~number.isin(allowed)
        if name == "time_days":
            wrong |= number < 0
        wanted = "0 or 1" if allowed else "a number of days from 0" if name == "time_days" else "a number"
        yield from _rows(
            table, wrong, STOPS, name, lambda row, name=name, wanted=wanted: f"{row[name]!r} is not {wanted}"
        )


def _places(table: pd.DataFrame) -> Iterator[Fault]:
    given = [table.reindex(columns=each.columns).notna() for each in CONVENTIONS]
    for convention, there in zip(CONVENTIONS, given, strict=True):
        partly = there.any(axis=1) & ~there.all(axis=1)
        names = ", ".join(convention.columns)
        yield from _rows(table, partly, STOPS, convention.columns[0], f"a seed point takes all of {names}")
    ways = sum(there.all(axis=1).astype(int) for there in given)
    yield from _rows(table, ways > 1, STOPS, "x", "a seed point in two conventions; keep the columns of one")
    nowhere = (ways == 0) & table.reindex(columns=["mask"])["mask"].isna()
    yield from _rows(table, nowhere, LEFT_OUT, "mask", f"{NO_PLACE} ({'; '.join(map(_way, CONVENTIONS))})")


def _way(convention) -> str:
    return f"{', '.join(convention.columns)}: {convention.title}"


def _twice(table: pd.DataFrame) -> Iterator[Fault]:
    again = table["sample_id"].duplicated() & table["sample_id"].notna()
    yield from _rows(
        table, again, STOPS, "sample_id", lambda row: f"{row['sample_id']!r} is there already; name it apart"
    )
    owners = table.groupby("ct")["patient_id"].transform("nunique").reindex(table.index)
    yield from _rows(table, owners > 1, LOOK, "ct", "the same CT for several patients")
    same = table.reindex(columns=["ct", "mask", *COORDINATES])
    again = same.duplicated() & same["ct"].notna()
    yield from _rows(table, again, LOOK, "ct", "the same tumour as in a row above: same CT, same mask or seed point")
    if "label" in table:
        classes = table.groupby("patient_id")["label"].transform("nunique").reindex(table.index)
        said = "a patient with both labels: right if the label is the tumour's, wrong if it is the patient's"
        yield from _rows(table, (classes > 1) & ~table["patient_id"].duplicated(), LOOK, "label", said)
