"""Folders of records: written, read, checked and merged. A merge gives all or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from .. import artefacts
from .base import ConflictError, ExchangeError, check, key, measure_key, named, place, text_of

SAME = 1e-9  # two machines may add in another order
OPEN = ("samples", "positives")  # what a machine may not know: None agrees with anything
UNITED = ("measures", "timings", "contributor", "versions", "inputs")  # what two records of a key may differ in
REPORT = ["cohort", "table", "variant", "outcome", "files"]
SIDES = ("value", "low", "high")


def write(records: Iterable[Mapping], folder: str | Path) -> list[Path]:
    """Check records and write each as ``<cohort>/<table>.<variant>.json``, atomically; their paths.

    None is written unless all are well and no two have the same place.
    """
    texts = {}
    for record in records:
        where = place(check(record, _label(record)))
        if where in texts:
            raise ExchangeError(f"{where}: two records have this place")
        texts[where] = text_of(record)
    return [artefacts.write_text(Path(folder) / where, text) for where, text in texts.items()]


def _label(record: object) -> str:
    try:
        return place(record)
    except (KeyError, TypeError):
        return "record"


def load(path: str | Path) -> object:
    """The JSON of a file; NaN and Infinity, which are no JSON, are refused."""

    def refuse(word: str) -> None:
        raise ExchangeError(f"{path}: holds {word}, which is no JSON and no result")

    def once(pairs: list[tuple]) -> dict:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ExchangeError(f"{path}: the key '{twice}' is there twice in one object")
        return dict(pairs)

    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse, object_pairs_hook=once)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ExchangeError(f"{path}: is no JSON ({error})") from error
    except OSError as error:
        raise ExchangeError(f"{path}: cannot be read ({error})") from error


def files(folder: str | Path) -> list[Path]:
    """The files of records in a folder, in order; what a killed write left is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ExchangeError(f"{folder}: no such folder of records")
    return sorted(path for path in folder.rglob("*.json") if not path.name.startswith("."))


def read(folder: str | Path) -> list[dict]:
    """All records of a folder, checked, in order of their place."""
    return [_placed(check(load(path), str(path)), path) for path in files(folder)]


def _placed(record: dict, path: Path) -> dict:
    if not path.as_posix().endswith(f"/{place(record)}"):
        raise ExchangeError(f"{path}: the record in it belongs into {place(record)}")
    return record


def merge(folders: Sequence[str | Path]) -> tuple[list[dict], pd.DataFrame]:
    """Records of several folders as one set, and a report (cohort, table, variant, outcome, files); nothing is written.

    Records of the same key become one if every measure that both have is the same to within 1e-9 and what both were
    made of too, of which there must be something if they have a measure in common: "identical", "same" or, where one
    has measures that the other lacks, "united"; else a record is "alone". Timings and contributors of all are kept. The
    order of the folders does not matter.

    :class:`ConflictError` names both files and the first difference; :class:`ExchangeError` a file that is no record.
    """
    found: dict[tuple, list[tuple[Path, object]]] = {}
    for path in dict.fromkeys(path for folder in folders for path in files(folder)):
        record = load(path)
        found.setdefault(_raw_key(record, path), []).append((path, record))
    merged, rows = [], []
    for parts in (found[name] for name in sorted(found)):
        _same_format(parts)
        checked = [(path, _placed(check(record, str(path)), path)) for path, record in parts]
        checked.sort(key=lambda each: (text_of(each[1]), str(each[0])))
        record, outcome = _one(checked)
        merged.append(record)
        rows.append((*key(record), outcome, ", ".join(sorted(str(path) for path, _ in checked))))
    return merged, pd.DataFrame(rows, columns=REPORT)


def _raw_key(record: object, path: Path) -> tuple[str, str, str]:
    """Key of a record that was not checked yet: of an unknown version, it may still be in conflict."""
    try:
        return tuple(map(str, key(record)))
    except (KeyError, TypeError):
        check(record, str(path))
        raise


def _same_format(parts: Sequence[tuple[Path, Mapping]]) -> None:
    first_path, first = parts[0]
    for path, other in parts[1:]:
        for name in ("format", "version"):
            if first.get(name) != other.get(name):
                told = f"$.{name} is {first.get(name)} in the one and {other.get(name)} in the other"
                raise ConflictError(f"{first_path} and {path}: {told}; bring both to one version of the format first")


def _one(parts: Sequence[tuple[Path, dict]]) -> tuple[dict, str]:
    """Records of one key folded into one."""
    for (path, record), (other_path, other) in combinations(parts, 2):
        _agree(path, record, other_path, other)
    record, outcome = parts[0][1], "alone" if len(parts) == 1 else "identical"
    for _, other in parts[1:]:
        if text_of(other) == text_of(parts[0][1]):
            continue
        outcome = "united" if outcome == "united" or _keys(record) != _keys(other) else "same"
        record = _united(record, other)
    return record, outcome


def _keys(record: Mapping) -> set:
    return set(map(measure_key, record["measures"]))


def _agree(path: Path, record: Mapping, other_path: Path, other: Mapping) -> None:
    told = _difference(record, other)
    if told:
        raise ConflictError(
            f"{path} and {other_path}: {told}. Both are results of {record['table']} on {record['cohort']} "
            f"({record['variant']}): find out which is right and keep that one"
        )


def _difference(record: Mapping, other: Mapping) -> str:
    """The first thing that two records of a key say differently, empty if they agree: measures, then the rest."""
    theirs = {measure_key(measure): measure for measure in other["measures"]}
    for measure in sorted(record["measures"], key=measure_key):
        match = theirs.get(measure_key(measure))
        for side in SIDES if match else ():
            if not _equal(measure[side], match[side]):
                return f"{named(measure)}: {side} {measure[side]} against {match[side]}"
    for name in sorted(set(record) | set(other)):
        mine, others = record.get(name), other.get(name)
        unknown = name in OPEN and (mine is None or others is None)
        if name not in UNITED and not unknown and mine != others:
            return f"$.{name}: {mine!r} against {others!r}"
    for name in sorted(set(record["inputs"]) & set(other["inputs"])):
        if record["inputs"][name] != other["inputs"][name]:
            return f"$.inputs['{name}']: made of {record['inputs'][name]} against {other['inputs'][name]}"
    apart = not set(record["inputs"]) & set(other["inputs"])
    return "$.inputs: they have no input in common" if apart and _keys(record) & _keys(other) else ""


def _equal(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return abs(first - second) <= SAME


def _united(record: Mapping, other: Mapping) -> dict:
    """Two records that agree, as one: of a measure that both have, the first."""
    mine = {measure_key(measure): measure for measure in record["measures"]}
    both = {measure_key(measure): measure for measure in other["measures"]} | mine
    made = dict(record) | {"measures": [both[name] for name in sorted(both)]}
    made |= {name: other[name] for name in OPEN if record[name] is None}
    timings = {json.dumps(each, sort_keys=True): each for one in (record, other) for each in one.get("timings", ())}
    if timings:
        made["timings"] = [timings[name] for name in sorted(timings)]
    people = {name for one in (record, other) for name in one["contributor"].split("; ") if name}
    versions = sorted(set(record["versions"]) | set(other["versions"]))
    made["contributor"] = "; ".join(sorted(people))
    made["versions"] = {name: _versions(record["versions"].get(name), other["versions"].get(name)) for name in versions}
    made["inputs"] = {**other["inputs"], **record["inputs"]}
    return made


def _versions(*told: str | None) -> str:
    return ", ".join(sorted({each for one in told if one for each in one.split(", ")}))
