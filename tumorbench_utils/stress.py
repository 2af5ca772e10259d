"""Embed what was perturbed: the annotated seed points of a patch bank, once clean and once a perturbation.

Every table is a file of the run, ``stress/<cohort>/<encoder>/<what>.parquet``, with all that it was made of inside.
One that is there and made of the same is read; a killed run goes on at the last table that was finished. Patches are
read from the bank anew for each table, a hundredth of the time, so that no more than a few lie in memory.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from . import artefacts, embeddings
from .bank import Bank, path_of
from .cohorts import is_phantom
from .extraction.passes import BAR
from .extraction.records import bank_sha256, code_sha256, fits, of_encoder, record_of, record_of_table, same
from .extraction.tasks import GRAIN, GRAIN_BYTES, THERE, fault, on_full_disk
from .models.encoder import Described, Encoder
from .robustness.controls import NegativeControlError, control, known, region_of
from .robustness.perturbations import checked, perturbed

if TYPE_CHECKING:
    from torch import Tensor

CLEAN, MADE = "clean", "embedded"
NOBODY = "of no sample"  # the status of a negative control that no mask allows: it has no file
SOURCE = "stress"  # in the provenance of every table that is made here
NOT_THERE = "not in the patch bank"
LEFT_OUT = "left_out"  # in a table's provenance: samples without a vector, and why
EXCLUDED = ["what", "sample_id", "reason"]


class StressError(ValueError):
    """Perturbed patches that cannot be embedded as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Stressed:
    """Vectors of the same samples, clean and changed.

    ``sample_id`` (n,) in the order of the bank, ``clean`` (n, d) float32, ``vectors`` (n, d) each, keyed (kind, size)
    of a perturbation or by the id of a negative control. ``excluded`` lists every sample left out of all of them: what
    (the table that lacks it), sample_id, reason. ``status`` says by table whether it was embedded now, was there, or is
    of no sample; ``seconds`` is what this call took.
    """

    sample_id: np.ndarray
    clean: np.ndarray
    vectors: dict[Hashable, np.ndarray]
    excluded: pd.DataFrame
    status: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class _Change:
    """What is done to patches. ``on_patch(row, patch, mask)`` on the processor, ``on_batch(hu, keys)`` on the device.

    ``parameters`` and ``code`` (functions) say what it is made of, ``masks`` that it reads masks.
    """

    what: str
    parameters: dict = field(default_factory=dict)
    code: tuple[Callable, ...] = ()
    masks: bool = False
    on_patch: Callable | None = None
    on_batch: Callable | None = None


def perturb(
    run: str | Path,
    cohort: str,
    encoder: Encoder,
    kinds: Mapping[str, Sequence[float]],
    samples: Sequence[str] | None = None,
    *,
    batch: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Stressed:
    """Embed a cohort's patches clean and after each of the perturbations ``kinds`` (sizes by kind).

    ``kinds`` are those of :data:`robustness.perturbations.PERTURBATIONS`; a name or size that means nothing is an
    error before anything runs. ``samples`` default to all of the bank, at their annotated seed points (trial 0).
    ``batch`` patches go through the network together. ``seed`` decides what is drawn: tables of noise are made anew
    for another, the others are not.
    """
    changes: dict[Hashable, _Change] = {}
    _refuse_described(encoder)
    for kind, sizes in kinds.items():
        for size in sizes:
            changes[kind, float(size)] = _perturbation(encoder, kind, float(size), seed)
    return _stressed(run, cohort, encoder, changes, samples, batch, progress, "perturbations")


def negative_controls(
    run: str | Path,
    cohort: str,
    encoder: Encoder,
    controls: Sequence[str],
    samples: Sequence[str] | None = None,
    *,
    batch: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Stressed:
    """Embed a cohort's patches clean and as each of the negative ``controls``; otherwise as :func:`perturb`.

    ``controls`` are those of :data:`robustness.controls.CONTROLS`. A sample whose mask does not allow one of them is
    left out of all, and listed; where that is every sample, n is 0. The clean table is the one of :func:`perturb` if
    ``samples`` are the same.
    """
    _refuse_described(encoder)
    changes = {id: _negative_control(id, seed) for id in map(known, controls)}
    return _stressed(run, cohort, encoder, changes, samples, batch, progress, "negative controls")


def folder_of(run: str | Path, cohort: str, encoder: str) -> Path:
    """Where a run keeps the tables of an encoder, given the encoder's name."""
    return Path(run) / SOURCE / cohort / encoder


def _refuse_described(encoder: Encoder | Described) -> None:
    if isinstance(encoder, Described):
        raise StressError(f"{encoder.name}: a control without a network embeds no patches; take a model with one")


def _perturbation(encoder: Encoder, kind: str, size: float, seed: int) -> _Change:
    change = checked(kind, size)
    parameters = {"perturbation": kind, "size": size, "unit": change.unit}
    parameters |= {"seed": seed} if change.drawn else {}

    def on_batch(hu: Tensor, keys: Sequence[str]) -> Tensor:
        return perturbed(hu, kind, size, encoder.spacing, encoder.recipe.axes, seed, keys)

    return _Change(f"{kind}-{size!r}".removesuffix(".0"), parameters, (perturbed, change.apply), on_batch=on_batch)


def _negative_control(id: str, seed: int) -> _Change:
    def on_patch(row, patch: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        if mask is None and region_of(id) != "full":
            raise NegativeControlError(row.mask_reason)
        return control(id, patch, mask, seed, row.sample_id)

    return _Change(id, {"negative_control": id, "seed": seed}, (control,), region_of(id) != "full", on_patch=on_patch)


@dataclass(frozen=True)
class _Job:
    """The rows of a bank that an encoder is to embed, and what all its tables have in common."""

    folder: Path
    bank: Bank
    rows: pd.DataFrame
    encoder: Encoder
    parameters: dict
    inputs: dict
    batch: int | None

    def path(self, change: _Change) -> Path:
        return self.folder / f"{change.what}.parquet"

    def record(self, change: _Change) -> dict:
        """The provenance of one table, as it is read back."""
        parameters = self.parameters | {"what": change.what} | change.parameters
        inputs = self.inputs | {"bank": bank_sha256(self.bank, self.rows, change.masks)}
        inputs |= {"change": code_sha256(change.code)}
        return json.loads(json.dumps(artefacts.provenance(parameters, inputs)))

    def is_there(self, change: _Change, record: dict) -> bool:
        path = self.path(change)
        return path.exists() and same(record_of_table(path), record)

    def embed(self, change: _Change, record: dict, bar: tqdm) -> list[tuple[str, str]]:
        """Make one table, a few patches at a time; (sample_id, reason) of the samples that are not in it.

        A table without any sample is not written: an error, but where no mask allows a negative control.
        """
        grain = max(1, min(GRAIN, GRAIN_BYTES // (2 * math.prod(self.encoder.recipe.size))))
        pieces = np.array_split(np.arange(len(self.rows)), math.ceil(len(self.rows) / grain))
        kept, vectors, left_out, faulty = [], [], [], False
        for piece in pieces:
            ids, found, lost = self._vectors(change, self.rows.iloc[piece])
            faults = [fault(vector) for vector in found]
            lost += [(id, reason) for id, reason in zip(ids, faults, strict=True) if reason]
            faulty = faulty or any(faults)
            kept += [id for id, reason in zip(ids, faults, strict=True) if not reason]
            vectors += [vector for vector, reason in zip(found, faults, strict=True) if not reason]
            left_out += lost
            bar.update(len(piece))
        if not kept and faulty:
            reasons = ", ".join(dict.fromkeys(reason for _, reason in left_out))
            raise StressError(
                f"{self.encoder.name}, {change.what}: none of {len(self.rows)} samples is left: {reasons}"
            )
        if kept:
            with on_full_disk(self.folder):
                embeddings.write(self.path(change), kept, np.stack(vectors), record | {LEFT_OUT: left_out})
        return left_out

    def _vectors(self, change: _Change, rows: pd.DataFrame) -> tuple[list[str], np.ndarray, list[tuple[str, str]]]:
        """Names and vectors (m, d) of the patches that can be changed, and (sample_id, reason) of the others."""
        import torch

        recipe = self.encoder.recipe
        ids, patches, lost = [], [], []
        for row in rows.itertuples():
            patch = self.bank.patch(row, recipe.size, recipe.axes, recipe.pad)
            if change.on_patch:
                mask = self.bank.mask(row, recipe.size, recipe.axes) if change.masks else None
                try:
                    patch = change.on_patch(row, patch, mask)
                except NegativeControlError as error:
                    lost.append((row.sample_id, str(error)))
                    continue
            ids.append(row.sample_id)
            patches.append(patch)
        if not ids:
            return ids, np.empty((0, recipe.dim), np.float32), lost
        hu = torch.from_numpy(np.stack(patches)).to(self.encoder.device)
        if change.on_batch:
            hu = change.on_batch(hu, ids)
        return ids, self.encoder.of_hu(hu, self.batch).cpu().numpy(), lost


def _stressed(
    run: str | Path,
    cohort: str,
    encoder: Encoder,
    changes: Mapping[Hashable, _Change],
    samples: Sequence[str] | None,
    batch: int | None,
    progress: bool,
    title: str,
) -> Stressed:
    """Make or read the clean table and those of all changes, and bring them to the same rows."""
    begun = time.perf_counter()
    bank = _bank(run, cohort, encoder)
    rows, absent = _rows(bank, samples)
    more, made_of = of_encoder(encoder)
    parameters = {"source": SOURCE, "cohort": cohort, "model": encoder.model.id, "title": encoder.model.title}
    parameters |= {"geometry": record_of(bank)["parameters"]["geometry"], "phantom": is_phantom(cohort)}
    job = _Job(folder_of(run, cohort, encoder.name), bank, rows, encoder, parameters | more, made_of, batch)
    clean = _Change(CLEAN)
    everything = [clean, *changes.values()]
    records = {change.what: job.record(change) for change in everything}
    status = {change.what: THERE if job.is_there(change, records[change.what]) else MADE for change in everything}
    due = [change for change in everything if status[change.what] == MADE]
    total = len(rows) * len(everything)
    done = total - len(rows) * len(due)
    described = f"{encoder.name}, {title}"
    with tqdm(total=total, initial=done, desc=described, unit="image", disable=not progress, bar_format=BAR) as bar:
        left_out = {change.what: job.embed(change, records[change.what], bar) for change in due}
    nobody = [what for what, lost in left_out.items() if len(lost) == len(rows)]
    status |= dict.fromkeys(nobody, NOBODY)
    tables = {change.what: embeddings.read(job.path(change)) for change in everything if change.what not in nobody}
    left_out |= {what: table.provenance[LEFT_OUT] for what, table in tables.items()}
    lost = [(change.what, *each) for change in everything for each in left_out[change.what]]
    excluded = pd.DataFrame([(CLEAN, *each) for each in absent] + lost, columns=EXCLUDED)
    ids = rows.loc[~rows["sample_id"].isin(excluded["sample_id"]), "sample_id"].to_numpy()
    if not len(ids) and not any(change.masks for change in everything):
        raise StressError(f"{cohort}, {encoder.name}: no sample has a vector in each of {', '.join(tables)}")
    found = {what: table.vectors[pd.Index(table.sample_id).get_indexer(ids)] for what, table in tables.items()}
    found |= dict.fromkeys(nobody, np.empty((0, encoder.recipe.dim), np.float32))
    vectors = {key: found[change.what] for key, change in changes.items()}
    return Stressed(ids, found[CLEAN], vectors, excluded, status, time.perf_counter() - begun)


def _rows(bank: Bank, samples: Sequence[str] | None) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The rows of trial 0 of ``samples``, and (sample_id, reason) of those that the bank lacks."""
    rows = bank.rows[bank.rows["trial"] == 0]
    unused = bank.excluded[bank.excluded["trial"] == 0].set_index("sample_id")["reason"]
    wanted = [*rows["sample_id"], *unused.index] if samples is None else list(dict.fromkeys(samples))
    rows = rows[rows["sample_id"].isin(wanted)].reset_index(drop=True)
    if rows.empty:
        raise StressError(
            f"{bank.path}: holds none of the {len(wanted)} samples; the data curation notebook makes them"
        )
    there = set(rows["sample_id"])
    return rows, [(name, str(unused.get(name, NOT_THERE))) for name in wanted if name not in there]


def _bank(run: str | Path, cohort: str, encoder: Encoder) -> Bank:
    """The bank that the encoder is fed from; one that does not fit is an error."""
    needed, recipe = encoder.geometry, encoder.recipe
    bank = Bank(path_of(run, cohort, needed.id))
    if not fits(bank, encoder):
        held = record_of(bank)["parameters"]["geometry"]
        raise StressError(
            f"{bank.path}: {encoder.name} needs patches of {needed.spacing} mm ({needed.sampling}) and "
            f"{recipe.size} voxels along {recipe.axes}; the bank holds {held}. Build it anew in the data curation "
            "notebook"
        )
    return bank
