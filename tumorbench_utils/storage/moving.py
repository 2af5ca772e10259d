"""Push and pull: many files at a time, only those that differ, each whole or not there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import artefacts
from .base import (
    AGAIN,
    NO_MANIFEST,
    Entry,
    StorageError,
    bytes_of,
    explained,
    place,
    read_manifest,
    units_at,
    write_manifest,
)

KINDS = ("annotations", "patches", "embeddings")
LAST = ("rows.parquet", "provenance.json")  # of a bank, by which readers and builders know that it is whole
WORKERS = 16  # transfers at a time
FLUSH = 15.0  # seconds between two writings of a manifest, the most that a killed push does again


@dataclass(frozen=True)
class Report:
    """Files that were the same on both sides, files that were moved, and bytes of the latter."""

    kept: int
    moved: int
    bytes: int


def push(
    run: str | Path,
    url: str,
    cohorts: Sequence[str] | None = None,
    what: Sequence[str] = KINDS,
    *,
    endpoint: str | None = None,
    workers: int = WORKERS,
) -> Report:
    """Copy tables and banks of a run's cohorts (default: all) to an URL; only files that differ from its manifest.

    An object that replaces another is taken off the manifest first. A killed push goes on by the same call. Two pushes
    of one kind and cohort to one URL at once are not for this. Raises :class:`StorageError`.
    """
    run, root = Path(run), place(url, endpoint)
    units = {unit: _local(run, unit) for unit in _units(run, cohorts, what)}
    names = [name for files in units.values() for name in files]
    with tqdm(names, desc="reading", unit="file") as bar:
        ours = dict(_parallel(lambda name: _entry(run / name), bar, workers))
    moved: list[str] = []
    for unit, files in units.items():
        with explained(root):
            listed = read_manifest(root, unit, missing={})
            banks = {_bank(name) for name in files} - {None}
            gone = [name for name in listed if _bank(name) in banks and name not in files]
            due = [name for name in files if listed.get(name) != ours[name]]
            if due or gone:
                listed = {name: entry for name, entry in listed.items() if name not in {*due, *gone}}
                write_manifest(root, unit, listed)
            if gone:
                root.fs.rm([(root / name).path for name in gone])
        flushed = time.monotonic()
        for name in _moved(lambda name: _upload(run, root, name, ours[name]), due, ours, unit, workers):
            listed[name] = ours[name]
            if time.monotonic() - flushed > FLUSH:
                write_manifest(root, unit, listed)
                flushed = time.monotonic()
        if due:
            with explained(root):
                write_manifest(root, unit, listed)
        moved += due
    return Report(len(names) - len(moved), len(moved), sum(ours[name][0] for name in moved))


def pull(
    url: str,
    run: str | Path,
    cohorts: Sequence[str] | None = None,
    what: Sequence[str] = KINDS,
    *,
    endpoint: str | None = None,
    workers: int = WORKERS,
) -> Report:
    """Copy what :func:`push` put at an URL into a run, the files that differ from the manifest alone.

    A file gets its name when it is whole and as the manifest says; a bank that changes loses its table of rows first,
    and files that the manifest does not list. Local files that differ are replaced. Raises :class:`StorageError`.
    """
    run, root = Path(run), place(url, endpoint)
    with explained(root):
        units = [unit for kind in _known(what) for unit in units_at(root, kind)]
        if not units:
            raise StorageError(f"{root}: {NO_MANIFEST}")
        units = _wanted(units, cohorts, str(root))
        listed = {unit: read_manifest(root, unit) for unit in units}
    entries = {name: entry for each in listed.values() for name, entry in each.items()}
    with tqdm([name for name in entries if (run / name).is_file()], desc="comparing", unit="file") as bar:
        there = dict(_parallel(lambda name: _entry(run / name), bar, workers))
    moved: list[str] = []
    for unit, each in listed.items():
        due = {name for name in each if there.get(name) != each[name]}
        extra = [name for name in _local(run, unit) if _bank(name) and name not in each]
        changed = {_bank(name) for name in [*due, *extra]} & {_bank(name) for name in each} - {None}
        for bank in changed:
            (run / bank / LAST[0]).unlink(missing_ok=True)
            due |= {f"{bank}/{LAST[0]}"} & set(each)
        for name in [name for name in extra if _bank(name) in changed]:
            (run / name).unlink()
        moved += _moved(lambda name: _download(root, run, name, entries[name]), sorted(due), entries, unit, workers)
    return Report(len(entries) - len(moved), len(moved), sum(entries[name][0] for name in moved))


def _units(run: Path, cohorts: Sequence[str] | None, what: Sequence[str]) -> list[str]:
    """Kind and cohort (``patches/phantom``) of all that a run holds and is wanted."""
    paths = [(kind, path) for kind in _known(what) if (run / kind).is_dir() for path in sorted((run / kind).iterdir())]
    names = [f"{kind}/{path.name.split('.')[0]}" for kind, path in paths if not path.name.startswith(".")]
    return _wanted(list(dict.fromkeys(names)), cohorts, str(run))


def _known(what: Sequence[str]) -> list[str]:
    unknown = sorted(set(what) - set(KINDS))
    if unknown:
        raise StorageError(f"nothing is called {', '.join(unknown)}. Known: {', '.join(KINDS)}")
    return list(what)


def _wanted(units: list[str], cohorts: Sequence[str] | None, origin: str) -> list[str]:
    there = sorted({unit.split("/")[1] for unit in units})
    lacking = [cohort for cohort in cohorts or () if cohort not in there]
    if lacking or not units:
        raise StorageError(f"{origin}: nothing of {', '.join(lacking) or 'any cohort'}. There is: {', '.join(there)}")
    return [unit for unit in units if cohorts is None or unit.split("/")[1] in cohorts]


def _local(run: Path, unit: str) -> list[str]:
    """Names of a unit's files relative to the run; none of what is being written."""
    kind, cohort = unit.split("/")
    paths = (run / kind).glob(f"{cohort}.*") if kind == "annotations" else (run / unit).rglob("*")
    names = sorted(path.relative_to(run).as_posix() for path in paths if path.is_file())
    return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]


def _bank(name: str) -> str | None:
    """The bank that a file belongs to."""
    parts = name.split("/")
    return "/".join(parts[:3]) if parts[0] == "patches" else None


def _entry(path: Path) -> Entry:
    return path.stat().st_size, artefacts.sha256_of(path)


def _upload(run: Path, root: Any, name: str, entry: Entry) -> None:
    with explained(root / name):
        root.fs.put_file(str(run / name), (root / name).path)
    if _entry(run / name) != entry:
        raise StorageError(f"{run / name}: changed while it was pushed; push again once it is at rest")


def _download(root: Any, run: Path, name: str, entry: Entry) -> None:
    with artefacts.atomic_path(run / name) as temporary:
        with explained(root / name):
            root.fs.get_file((root / name).path, str(temporary))
        found = _entry(temporary)
        if found != entry:
            why = f"{bytes_of(found[0])} of {entry[0]}" if found[0] != entry[0] else "other bytes"
            raise StorageError(f"{root / name}: {why} than its manifest says; push it again. {AGAIN}")


def _moved(
    function: Callable[[str], None], names: Iterable[str], sizes: dict[str, Entry], title: str, workers: int
) -> Iterator[str]:
    """Names as they are moved, those that make a bank whole after all others."""
    closing = [name for name in names if _bank(name) and name.split("/")[-1] in LAST and name.count("/") == 3]
    others = [name for name in names if name not in set(closing)]
    total = sum(sizes[name][0] for name in names)
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=not total) as bar:
        for part in (others, closing):
            for name, _ in _parallel(function, part, workers):
                bar.update(sizes[name][0])
                yield name


def _parallel(function: Callable[[str], Any], names: Iterable[str], workers: int) -> Iterator[tuple[str, Any]]:
    """(name, result) in the order in which they end; the first error ends all, once those begun are done."""
    with ThreadPoolExecutor(workers) as pool:
        begun = {pool.submit(function, name): name for name in names}
        try:
            for done in as_completed(begun):
                yield begun[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)
