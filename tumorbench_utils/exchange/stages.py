"""What the tables of each stage say of an embedding table on a cohort, as measures of a record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .. import artefacts
from .base import CLINICAL, ExchangeError

SHARED = {  # of a pair of tables: column with its limits, measure
    "shared": "shared",
    "chance": "chance of shared",
    "shared_given_volume": "shared given volume",
    "shared_given_label": "shared given label",
}
SET_DEPENDENT = ("auc_worst",)  # says which cohorts there were: made anew of the others
PAPER = "paper"
OWN_LABELS = "label"  # the endpoint of a page of external validation that takes each cohort's annotations as they are
OUTSIDE = "the interval does not hold the value and was left out"


@dataclass(frozen=True)
class Found:
    """A measure of a table on a cohort as a stage wrote it; ``variant`` None: that of the run's annotations."""

    table: str
    cohort: str
    variant: str | None
    measure: dict
    samples: int | None = None
    positives: int | None = None


def provenance(path: Path) -> dict:
    """The provenance beside a table of results, which must be there."""
    beside = artefacts.provenance_path(path)
    if not beside.exists():
        raise ExchangeError(
            f"{path}: no {beside.name} beside it, so nobody knows what it was made of; run its page again"
        )
    return json.loads(beside.read_text(encoding="utf-8"))


def _measure(stage: str, head: str, name: str, row: Mapping, features: str = "embedding", **more) -> dict | None:
    """A measure of a row with value, low and high; None if there is no value."""
    value, low, high = (number(row.get(side)) for side in ("value", "low", "high"))
    if value is None:
        return None
    made = {"stage": stage, "head": head, "features": features, "measure": name, "value": value} | more
    if not (value if low is None else low) <= value <= (value if high is None else high):
        return made | {"low": None, "high": None, "note": OUTSIDE}
    return made | {"low": low, "high": high}


def number(value: object) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and pd.notna(value) and math.isfinite(value) else None


def _whole(value: object) -> int | None:
    return int(value) if value is not None and pd.notna(value) else None


def _knn(path: Path, table: pd.DataFrame) -> Iterator[Found]:
    for row in table.to_dict("records"):
        made = _measure("3", "knn", f"auc_{row['protocol']}", row | {"value": row["auc"]})
        if made:
            yield Found(row["model"], row["cohort"], row["variant"], made, _whole(row["n"]))


def _beyond(path: Path, table: pd.DataFrame) -> Iterator[Found]:
    for row in table.to_dict("records"):
        clinical = row["features"] == CLINICAL  # of no embedding, whichever table it stands beside
        name = CLINICAL if clinical or pd.isna(row["model"]) else row["model"]
        made = _measure("3b", row["head"], row["measure"], row, row["features"])
        if made:
            binary = row["measure"] in ("auc", "pr_auc")
            positives = _whole(row["positives"]) if binary else None
            yield Found(name, row["cohort"], row["variant"], made, _whole(row["n"]) if binary else None, positives)


def _external(path: Path, table: pd.DataFrame) -> Iterator[Found]:
    """Measures under the endpoint rules that ``variant`` (of the test cohort) and ``train_variant`` name."""
    lacking = {"variant", "train_variant"} - set(table)
    if lacking and (table["endpoint"] != OWN_LABELS).any():
        raise ExchangeError(
            f"{path}: no column {', '.join(sorted(lacking))} says the endpoint rule; run its page again"
        )
    for row in table[~table["measure"].isin(SET_DEPENDENT)].to_dict("records"):
        trained_on = {} if pd.isna(row["train"]) else {"train": label(row["train"], row.get("train_variant"))}
        made = _measure("3c", row["head"], row["measure"], row, **trained_on)
        if made:
            rule = row.get("variant")
            rule = rule if isinstance(rule, str) else None
            yield Found(row["model"], row["test"], rule, made, _whole(row.get("n_test")))


def label(cohort: str, variant: object) -> str:
    """A cohort with its endpoint rule unless that is the study's, as the leaderboard calls it: phantom_a.survival."""
    return f"{cohort}.{variant}" if isinstance(variant, str) and variant != PAPER else cohort


def _robustness(path: Path, table: pd.DataFrame) -> Iterator[Found]:
    for (cohort, part, name), rows in table.groupby(["cohort", "part", "embedding"], sort=False):
        for quantity, sides in _folded(rows):
            made = _measure("4", part, quantity, sides)
            if made:
                yield Found(name, cohort, None, made)


def _folded(rows: pd.DataFrame) -> Iterator[tuple[str, dict]]:
    """Quantities with their limits, which stand in rows of their own: "gap, low", "auc_low 4" by "gap", "auc 4"."""
    values = dict(zip(rows["quantity"], rows["value"], strict=True))
    for quantity, value in values.items():
        if _owner(quantity) not in values:
            sides = {
                side: values.get(f"{quantity}, {side}", values.get(_limit(quantity, side))) for side in ("low", "high")
            }
            yield quantity, {"value": value} | sides


def _limit(quantity: str, side: str) -> str:
    """What the limit of a quantity is called: "auc 4" has "auc_low 4"."""
    name, space, of = quantity.partition(" ")
    return f"{name}_{side}{space}{of}"


def _owner(quantity: str) -> str:
    """The quantity of which this is a limit, by its name."""
    for side in ("low", "high"):
        if quantity.endswith(f", {side}"):
            return quantity.removesuffix(f", {side}")
        name, space, of = quantity.partition(" ")
        if name.endswith(f"_{side}"):
            return f"{name.removesuffix(f'_{side}')}{space}{of}"
    return ""


def _saliency(path: Path, table: pd.DataFrame) -> Iterator[Found]:
    for row in table.dropna(subset=["encoder"]).to_dict("records"):
        if row["encoder"].split(".")[0] == row["model"] or row["model"] == row["encoder"]:
            made = _measure("5", row["method"], row["measure"], row)
            if made:
                yield Found(row["encoder"], row["cohort"], None, made)


def _alignment(path: Path, table: pd.DataFrame) -> Iterator[Found]:
    """Measures of a table with one other, and those that depend on all the others of the page."""
    cohort, names = path.stem, sorted(set(table["model"]))
    for name, rows in table.groupby("model", sort=False):
        others = ", ".join(other for other in names if other != name)
        for quantity, sides in _folded(rows):
            made = _measure("6", "neighbours", quantity, sides, **({"with": others} if others else {}))
            if made:
                yield Found(name, cohort, None, made)
    beside = path.with_name(f"{cohort}.pairs.csv")
    for row in pd.read_csv(beside).to_dict("records") if beside.exists() else ():
        for made in _shared(row):
            yield Found(row["first"], cohort, None, made | {"with": row["second"]})
            yield Found(row["second"], cohort, None, made | {"with": row["first"]})


def _shared(row: Mapping) -> Iterator[dict]:
    for column, name in SHARED.items():
        # the limits of the first column have no name before them
        low, high = ("low", "high") if column == "shared" else (f"{column}_low", f"{column}_high")
        sides = {"value": row.get(column), "low": row.get(low), "high": row.get(high)}
        made = _measure("6", "neighbours", f"{name}, k={int(row['k'])}", sides)
        if made:
            yield made
    made = _measure("6", "cka", "cka", {"value": row.get("cka")})
    if made:
        yield made


READERS = {
    "3": _knn,
    "3b": _beyond,
    "3c": _external,
    "4": _robustness,
    "5": _saliency,
    "6": _alignment,
}
