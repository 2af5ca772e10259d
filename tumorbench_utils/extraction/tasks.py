"""One table to be: what it is made of, the folder in which its grains gather, and its end."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import annotations, artefacts, embeddings
from ..bank import Bank
from ..bank.plans import RECORD
from ..cohorts import is_phantom
from ..models.encoder import Described, Encoder
from ..models.locating import FULL
from .records import SOURCE, ExtractionError, bank_sha256, of_control, of_encoder, record_of, record_of_table, same

GRAIN, GRAIN_BYTES = 32, 1 << 26  # rows of a grain, fewer where their patches would take more room
NOT_FINITE, ZERO = "the embedding holds NaN or infinity", "the embedding is zero throughout"
EXTRACTED, RESUMED, THERE = "extracted", "resumed", "was there"
LEFT_OUT = ["sample_id", "trial", "reason"]


@dataclass(frozen=True, eq=False)
class Task:
    """One table to be: who makes it, of which rows of which bank, and the record of all that makes it what it is."""

    maker: Encoder | Described
    bank: Bank
    rows: pd.DataFrame
    path: Path
    record: dict
    grain: int

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.maker.name

    @property
    def building(self) -> Path:
        """The folder in which its grains gather."""
        return self.path.with_name(f".building-{self.name}")

    @property
    def excluded(self) -> Path:
        """Where the seed points without a vector are listed."""
        return self.path.with_name(f"{self.name}.excluded.csv")

    @property
    def grains(self) -> int:
        """How many grains there are."""
        return math.ceil(len(self.rows) / self.grain)

    def rows_of(self, number: int) -> pd.DataFrame:
        """The rows of one grain."""
        return self.rows.iloc[number * self.grain : (number + 1) * self.grain]

    def file(self, number: int) -> Path:
        """Where the vectors of one grain lie once they are there."""
        return self.building / f"{number}.npz"

    def begin(self) -> str:
        """Make the folder of grains, unless table or folder are there already; says which."""
        if self.path.exists():
            found = record_of_table(self.path)
            if found.get("parameters", {}).get("source") != SOURCE:
                title = found.get("parameters", {}).get("title", "of unknown origin")
                raise ExtractionError(
                    f"{self.path}: holds embeddings that were not extracted here ({title}), and is never overwritten. "
                    "Move it away, or take another run folder"
                )
            if same(found, self.record) and self.excluded.exists():
                shutil.rmtree(self.building, ignore_errors=True)
                return THERE
        begun = self.building / RECORD
        if begun.exists() and same(json.loads(begun.read_text(encoding="utf-8")), self.record):
            return RESUMED
        shutil.rmtree(self.building, ignore_errors=True)
        with on_full_disk(self.building):
            artefacts.write_text(begun, json.dumps(self.record, indent=1, sort_keys=True) + "\n")
        return EXTRACTED

    def finish(self) -> None:
        """Gather the grains into the table; the record is that of when it was begun."""
        vectors, reasons = None, []
        for number in range(self.grains):
            with np.load(self.file(number)) as part:
                if vectors is None:
                    vectors = np.empty((len(self.rows), part["vectors"].shape[1]), np.float32)
                vectors[len(reasons) : len(reasons) + len(part["vectors"])] = part["vectors"]
                reasons += part["reasons"].tolist()
        lost = np.array([reason != "" for reason in reasons])
        if lost.all():
            shutil.rmtree(self.building)  # a second try must not find them again
            raise ExtractionError(
                f"{self.path}: no vector of {len(lost)} is of use: {', '.join(dict.fromkeys(reasons))}"
            )
        unused = self.rows.assign(reason=reasons).loc[lost, LEFT_OUT]
        before = self.bank.excluded[self.bank.excluded["trial"].isin(self.rows["trial"].unique())]
        kept, record = self.rows[~lost], json.loads((self.building / RECORD).read_text(encoding="utf-8"))
        with on_full_disk(self.building):
            with artefacts.atomic_path(self.excluded) as temporary:
                pd.concat([before[LEFT_OUT], unused]).to_csv(temporary, index=False)
            vectors = vectors[~lost] if lost.any() else vectors
            embeddings.write(self.path, kept["sample_id"].to_numpy(), vectors, record, kept["trial"].to_numpy())
        shutil.rmtree(self.building)


def task_of(run: str | Path, cohort: str, maker: Encoder | Described, bank: Bank, trials: Sequence[int] | None) -> Task:
    """The table that an encoder or a control is to make of a bank, ``trials`` of its seed points (None: by default)."""
    wanted = [0] if trials is None and isinstance(maker, Described) else trials
    rows = bank.rows if wanted is None else bank.rows[bank.rows["trial"].isin(list(wanted))]
    absent = sorted(set(wanted or ()) - set(bank.rows["trial"]))
    if absent or rows.empty:
        which = f"trials {', '.join(map(str, absent))}" if absent else "seed points"
        raise ExtractionError(f"{bank.path}: holds no {which}; the data curation notebook makes them")
    held = record_of(bank)["parameters"]["geometry"]
    grain = max(1, min(GRAIN, GRAIN_BYTES // (2 * math.prod(held["size"]))))
    model = maker.model if isinstance(maker, Encoder) else maker.control
    parameters = {"source": SOURCE, "cohort": cohort, "model": model.id, "title": model.title, "control": None}
    parameters |= {"geometry": held, "grain": grain, "phantom": is_phantom(cohort)}
    inputs = {"bank": bank_sha256(bank, rows, isinstance(maker, Described))}
    if isinstance(maker, Encoder):
        more, made_of = of_encoder(maker)
    else:
        more, made_of = of_control(maker.control, annotations.path_of(run, cohort))
    record = json.loads(json.dumps(artefacts.provenance(parameters | more, inputs | made_of)))  # as it is read back
    return Task(maker, bank, rows.reset_index(drop=True), embeddings.path_of(run, cohort, maker.name), record, grain)


def fault(vector: np.ndarray) -> str:
    """Why a vector cannot be used; empty if it can."""
    if not np.isfinite(vector).all():
        return NOT_FINITE
    return "" if vector.any() else ZERO


def keep(path: Path, vectors: np.ndarray, reasons: Sequence[str]) -> None:
    """Write one grain."""
    with on_full_disk(path.parent), artefacts.atomic_path(path) as temporary:
        np.savez(temporary, vectors=np.asarray(vectors, np.float32), reasons=np.array(reasons, str))


@contextmanager
def on_full_disk(folder: Path) -> Iterator[None]:
    """Say what to do where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ExtractionError(
            f"{folder}: the disk is full. What was finished is kept: make room and run it again, it goes on from there"
        ) from error
