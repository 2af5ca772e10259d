"""The annotation table of a cohort: one row a sample, its seed point, label, follow-up and clinical columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from . import artefacts
from .cohorts.base import Cohort, seed_point

FOLLOW_UP = ("time_days", "event")
CLINICAL = "clinical_"
SHOWN = 5  # faults listed in a message; the rest are counted
EMPTY = {"keep_default_na": False, "na_values": [""]}  # only an empty field is missing: "NA" may be a name


class AnnotationError(ValueError):
    """An annotation table that breaks the schema; the message names file, row and column."""


def _text(**options) -> pa.Column:
    return pa.Column(str, pa.Check.str_length(min_value=1, error="is empty"), **options)


def _number(*checks: pa.Check, **options) -> pa.Column:
    return pa.Column(float, list(checks), nullable=True, required=False, coerce=True, **options)


BINARY = pa.Check.isin([0, 1], error="is not 0 or 1")
POSITIVE = pa.Check.ge(0, error="is negative")

SCHEMA = pa.DataFrameSchema(
    {
        "sample_id": _text(unique=True),
        "patient_id": _text(),
        "image": pa.Column(str, nullable=True, required=False),
        "x": _number(description="seed point, LPS, mm"),
        "y": _number(description="seed point, LPS, mm"),
        "z": _number(description="seed point, LPS, mm"),
        "label": _number(BINARY, description="endpoint; empty where the cohort has none"),
        "time_days": _number(POSITIVE, description="follow-up, days"),
        "event": _number(BINARY, description="1 death, 0 censored"),
        "volume_ml": _number(POSITIVE, description="tumour volume, ml"),
        r"clinical_.+": pa.Column(nullable=True, required=False, regex=True),
    },
    strict=True,
)


@dataclass(frozen=True)
class Annotations:
    """An annotation table and, as a table of its own, the samples left out.

    Of these: sample_id, patient_id, reason, where there is follow-up time_days and event, and clinical_* columns.
    """

    table: pd.DataFrame
    excluded: pd.DataFrame


def from_rows(cohort: Cohort, rows: pd.DataFrame, variant: str = "paper") -> Annotations:
    """Annotations of a cohort from the rows of its source table, in their order.

    Columns that the cohort's rules need and the source lacks are an error that names them. Samples without a
    label under ``variant`` are listed in ``excluded`` with the rule's reason; a cohort without endpoints keeps all.
    Where the cohort names no clinical columns, those of the rows that are called ``clinical_*`` are taken.
    """
    endpoint = cohort.endpoint(variant) if cohort.endpoints else None
    try:
        table = pd.DataFrame({"sample_id": (cohort.sample or cohort.patient)(rows), "patient_id": cohort.patient(rows)})
        table = table.join(seed_point(rows))
        table["label"] = endpoint.label(rows) if endpoint else float("nan")
        if cohort.time_days and cohort.event:
            follow_up = pd.DataFrame({"time_days": cohort.time_days(rows), "event": cohort.event(rows)})
            table = table.join(follow_up.dropna(axis="columns", how="all"))  # a user's table may have none
    except KeyError as missing:
        raise AnnotationError(
            f"{cohort.id}: the source table has no column {missing}. It has: {', '.join(map(str, rows.columns))}"
        ) from missing
    except ValueError as error:
        raise AnnotationError(
            f"{cohort.id}: the source table holds a value that the rules cannot read ({error})"
        ) from error
    own = {str(name)[len(CLINICAL) :]: name for name in rows if str(name).startswith(CLINICAL)}
    for ours, theirs in (cohort.clinical or own).items():
        if theirs in rows:
            table[f"{CLINICAL}{ours}"] = rows[theirs]
    left_out = table["label"].isna() & (endpoint is not None)
    reason = endpoint.exclusion if endpoint else ""
    names = [name for name in ("sample_id", "patient_id", *FOLLOW_UP) if name in table]
    names += [name for name in table if name.startswith(CLINICAL)]  # survival analysis takes those left out too
    excluded = table.loc[left_out, names].assign(reason=reason)
    return Annotations(check(table[~left_out], cohort.id), excluded.reset_index(drop=True))


def check(table: pd.DataFrame, origin: str) -> pd.DataFrame:
    """``table`` with columns of the schema's types, or :class:`AnnotationError` with every fault counted.

    ``origin`` (a file's path, a cohort) opens the message. Rows are numbered as a spreadsheet shows the file:
    the header is row 1.
    """
    if table.empty:
        raise AnnotationError(f"{origin}: no samples")
    table = table.reset_index(drop=True)
    try:
        return SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
    # where a value is not a number, the other checks of its column ran on text and blame every row
    unread = cases["check"].astype(str).str.startswith("coerce_dtype")
    cases = cases[unread | ~cases["column"].isin(cases.loc[unread, "column"])]
    faults = list(dict.fromkeys(_fault(case) for _, case in cases.iterrows()))
    more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    raise AnnotationError(f"{origin}: {count}\n  " + "\n  ".join(faults[:SHOWN]) + more)


def _fault(case: pd.Series) -> str:
    """One failure case of pandera in words."""
    check_name = str(case["check"])
    if check_name == "column_in_dataframe":
        return f"column {case['failure_case']} is missing"
    if check_name == "column_in_schema":
        return f"column {case['failure_case']} is not known (own columns are called clinical_...)"
    reason = {"not_nullable": "is empty", "field_uniqueness": "is a duplicate"}.get(check_name, check_name)
    if check_name.startswith(("coerce_dtype", "dtype")):
        reason = "is not a number" if case["column"] not in ("sample_id", "patient_id", "image") else "is not text"
    row = "" if pd.isna(case["index"]) else f"row {int(case['index']) + 2}, "
    return f"{row}column {case['column']}: {case['failure_case']!r} {reason}"


def path_of(run: str | Path, cohort: str) -> Path:
    """Where a run keeps the annotation table of a cohort."""
    return Path(run) / "annotations" / f"{cohort}.csv"


def write(run: str | Path, cohort: str, annotations: Annotations, record: Mapping) -> Path:
    """Write table and exclusions (``<cohort>.excluded.csv``) of a cohort into a run, the table last."""
    path = path_of(run, cohort)
    artefacts.write_csv(path.with_suffix(".excluded.csv"), annotations.excluded, record)
    return artefacts.write_csv(path, check(annotations.table, str(path)), record)


def read(path: str | Path) -> pd.DataFrame:
    """Read and check an annotation table; identifiers stay text ("007" is not 7)."""
    path = Path(path)
    if not path.exists():
        raise AnnotationError(f"{path}: no such annotation table")
    identifiers = dict.fromkeys(("sample_id", "patient_id", "image"), str)
    try:
        text = path.read_text(encoding="utf-8-sig")
        _check_whole(text, str(path))
        table = pd.read_csv(io.StringIO(text), dtype=identifiers, **EMPTY)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: not a readable CSV table ({error})") from error
    return check(table, str(path))


def _check_whole(text: str, origin: str) -> None:
    """pandas would fill up a row that is cut off, and take half a number for a number."""
    widths = [len(row) for row in csv.reader(io.StringIO(text))]
    for row, width in enumerate(widths, start=1):
        if width != widths[0]:
            raise AnnotationError(f"{origin}: row {row} has {width} columns, the header {widths[0]}")
    if widths and not text.endswith("\n"):
        raise AnnotationError(f"{origin}: row {len(widths)} has no end of line; the file may be cut off")


def read_excluded(run: str | Path, cohort: str) -> pd.DataFrame:
    """Samples that were left out, each with its reason; an empty table if there are none."""
    text = dict.fromkeys(("sample_id", "patient_id", "reason"), str)
    table = pd.read_csv(path_of(run, cohort).with_suffix(".excluded.csv"), dtype=text, **EMPTY)
    return table.astype({name: float for name in FOLLOW_UP if name in table})
