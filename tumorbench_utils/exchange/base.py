"""What a record is: its checks, its key, and its one form in bytes.

A record holds what one embedding table reached on one cohort and endpoint, as JSON of the schema
``data/record.schema.json``. Published figures are no records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from ..cohorts import COHORTS
from ..models import MODELS
from ..registry import UnknownNameError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

FORMAT, VERSION = "tumorbench-record", 1
CLINICAL = "clinical"  # covariates alone: a table of no model
DIGITS = 12  # significant ones, so that the last bits of a sum do not make a new file
SHOWN = 3  # faults named in a message; the rest are counted
MEASURE_KEY = ("stage", "head", "features", "measure", "train", "with")


class ExchangeError(ValueError):
    """A record that must not be used; the message names the file, the place in it, and the fault."""


class ConflictError(ExchangeError):
    """Two records of the same key that say different things; the message names both files."""


@cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    text = resources.files("tumorbench_utils").joinpath("data", "record.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def key(record: Mapping) -> tuple[str, str, str]:
    """What a record is filed under: cohort, table, variant."""
    return record["cohort"], record["table"], record["variant"]


def place(record: Mapping) -> str:
    """Where a record lies in a folder of records: ``<cohort>/<table>.<variant>.json``."""
    return f"{record['cohort']}/{record['table']}.{record['variant']}.json"


def measure_key(measure: Mapping) -> tuple[str, ...]:
    """What tells the measures of a record apart."""
    return tuple(measure.get(name, "") for name in MEASURE_KEY)


def named(measure: Mapping) -> str:
    """A measure in words, for messages."""
    return " ".join(part for part in measure_key(measure) if part)


def check(record: object, origin: str = "record") -> dict:
    """``record`` if it is one, otherwise an :class:`ExchangeError` opened by ``origin``, the file.

    Beside the schema: values are finite, low <= value <= high, no measure is there twice, positives are among the
    samples, cohorts and model are registered, or the model brings its ``model_card``.
    """
    faults = [f"{error.json_path}: {_short(error.message)}" for error in _ordered(record)]
    if not faults:
        faults = [*_names(record), *_figures(record)]
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ExchangeError(f"{origin}: {'; '.join(faults[:SHOWN])}{more}")
    return dict(record)


def _ordered(record: object) -> list:
    return sorted(_validator().iter_errors(record), key=lambda error: list(map(str, error.absolute_path)))


def _short(message: str) -> str:
    return message if len(message) < 300 else f"{message[:120]} ... {message[-150:]}"


def _names(record: Mapping) -> list[str]:
    faults = []
    trained_on = [
        (f"$.measures[{at}].train", each["train"].partition(".")[0])
        for at, each in enumerate(record["measures"])
        if "train" in each
    ]
    for where, cohort in [("$.cohort", record["cohort"]), *trained_on]:
        try:
            COHORTS.get(cohort)
        except UnknownNameError as error:
            faults.append(f"{where}: {error}")
    if record["cohort"] in COHORTS and record["phantom"] != COHORTS.get(record["cohort"]).phantom:
        faults.append(f"$.phantom: is {record['phantom']}, but the cohort's images say otherwise")
    if record["model"] == CLINICAL or "model_card" in record:
        return faults
    try:
        MODELS.get(record["model"])
    except UnknownNameError as error:
        faults.append(f"$.model: {error}. A model of your own needs a model_card (title, licence, parameters)")
    return faults


def _figures(record: Mapping) -> list[str]:
    faults, seen = [], {}
    if record["positives"] is not None and record["positives"] > record["samples"]:
        faults.append(f"$.positives: {record['positives']} of {record['samples']} samples")
    for at, measure in enumerate(record["measures"]):
        where = f"$.measures[{at}]"
        value, low, high = (measure[name] for name in ("value", "low", "high"))
        there = {name: each for name, each in (("value", value), ("low", low), ("high", high)) if each is not None}
        odd = [name for name, each in there.items() if not math.isfinite(each)]
        faults += [f"{where}.{name}: {there[name]} is not finite" for name in odd]
        if not odd and not (there.get("low", value) <= value <= there.get("high", value)):
            faults.append(f"{where}: {named(measure)} is {value}, outside of its interval from {low} to {high}")
        if measure_key(measure) in seen:
            faults.append(
                f"{where}: {named(measure)} is there twice, first as $.measures[{seen[measure_key(measure)]}]"
            )
        seen.setdefault(measure_key(measure), at)
    for at, timing in enumerate(record.get("timings", ())):
        if not math.isfinite(timing["seconds_per_patch"]):
            faults.append(f"$.timings[{at}].seconds_per_patch: {timing['seconds_per_patch']} is not finite")
    return faults


def canonical(record: Mapping) -> dict:
    """A record in its one form: measures and timings in order, numbers to 12 significant digits."""
    made = _rounded(dict(record))
    made["measures"] = sorted(made["measures"], key=measure_key)
    if "timings" in made:
        made["timings"] = sorted(made["timings"], key=lambda timing: json.dumps(timing, sort_keys=True))
    return made


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def text_of(record: Mapping) -> str:
    """A record as the text of its file: the same record gives the same bytes."""
    return json.dumps(canonical(record), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
