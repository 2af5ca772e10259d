"""A phantom cohort on disk: made in parallel, resumed after a kill, the same bytes for the same seed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from filelock import FileLock

from .. import __version__, artefacts, parallel
from . import dicom
from .cases import Case, PhantomError, parameters, scans
from .image import scan

TABLE = "cases.csv"
KIND = ("seed", "sites", "null")  # what phantoms of another kind differ in; else they are stale


def make(
    folder: str | Path,
    cases: int = 24,
    *,
    sites: Sequence[str] = ("a", "b"),
    retests: int = 4,
    null: bool = False,
    seed: int = 0,
    workers: int | None = None,
) -> pd.DataFrame:
    """Write a cohort to ``folder`` and return its table (:func:`parameters`), which is ``cases.csv`` there.

    ``<sample_id>/ct/*.dcm`` and ``<sample_id>/seg.dcm`` for each scan. A folder of a sample is there only when it is
    whole, ``cases.csv`` comes last. What is there already is kept, so a killed run goes on, and a cohort may grow;
    phantoms that another version of this package made are made again, and a folder with phantoms of another kind is
    refused with :class:`PhantomError`. ``workers``: processes, by default one a processor; one means this process.
    """
    folder, kind = Path(folder), {"seed": seed, "sites": list(sites), "null": null}
    code = {path.name: artefacts.sha256_of(path) for path in sorted(Path(__file__).parent.glob("*.py"))}
    table = parameters(cases, sites=sites, retests=retests, null=null, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        _claim(folder, kind | {"tumorbench": __version__, "code": code})
        _write_all(folder, list(scans(cases, sites, retests, null, seed)), workers)
        record = artefacts.provenance(kind | {"cases": cases, "retests": retests}, code)
        artefacts.write_csv(folder / TABLE, table, record)
    return table


def _claim(folder: Path, recipe: dict) -> None:
    """Note what the phantoms in ``folder`` are made by; refuse if they are of another kind. Clear what a kill left."""
    note = folder / "recipe.json"
    found = json.loads(note.read_text(encoding="utf-8")) if note.exists() else recipe
    theirs, ours = ({name: one.get(name) for name in KIND} for one in (found, recipe))
    if theirs != ours:
        raise PhantomError(f"{folder} holds phantoms of {theirs}, not of {ours}: choose another folder or remove it")
    if found != recipe:  # stale; the note changes last, so that a kill before it leaves none of them
        (folder / TABLE).unlink(missing_ok=True)
        for sample in folder.glob("PHANTOM-*"):
            shutil.rmtree(sample)
    artefacts.write_text(note, json.dumps(recipe) + "\n")
    for leftover in folder.glob(".tmp-*"):
        shutil.rmtree(leftover)


def _write_all(folder: Path, wanted: list[tuple[Case, bool]], workers: int | None) -> None:
    missing = [one for one in wanted if not (folder / one[0].sample_id(one[1])).exists()]
    parallel.run(partial(_write, folder), missing, workers, "phantoms", "scan", done=len(wanted) - len(missing))


def _write(folder: Path, one: tuple[Case, bool]) -> None:
    case, retest = one
    sample = case.sample_id(retest)
    temporary = folder / f".tmp-{os.getpid()}-{sample}"
    dicom.write(temporary, case, retest, scan(case, retest))
    os.replace(temporary, folder / sample)
