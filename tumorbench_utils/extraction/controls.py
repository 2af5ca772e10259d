"""Controls: what needs no network, computed from patches, masks and annotations, in processes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import annotations, parallel
from ..bank import NO_MASK, Bank
from ..models.base import Sample
from .records import ExtractionError
from .tasks import Task, fault, keep

NO_ANNOTATION = "not in the annotation table"


@dataclass(frozen=True)
class _Job:
    """One grain of a control. Not the control itself, whose names may be a function that cannot travel."""

    name: str
    features: Callable[[Sample], np.ndarray]
    dim: int
    needs_mask: bool
    bank: Path
    size: tuple[int, int, int]
    rows: pd.DataFrame
    annotations: dict[str, dict]
    file: Path


def describe(task: Task, run: str | Path, cohort: str, workers: int | None) -> dict:
    """Compute all grains of a control that are not done yet; its row of timings."""
    control, begun = task.maker.control, time.perf_counter()
    table = annotations.read(annotations.path_of(run, cohort)).set_index("sample_id", drop=False)
    what = (task.name, control.features, len(control.names()), control.needs_mask)
    jobs = []
    for number in range(task.grains):
        if not task.file(number).exists():
            rows = task.rows_of(number)
            known = table.loc[table.index.intersection(rows["sample_id"].unique())].to_dict("index")
            jobs.append(_Job(*what, task.bank.path, task.maker.geometry.size, rows, known, task.file(number)))
    workers = workers if _travels(control.features) else 1
    parallel.run(_do, jobs, workers, task.name, "grain", done=task.grains - len(jobs))
    seconds, images = time.perf_counter() - begun, sum(len(job.rows) for job in jobs)
    rate = images / seconds if images else float("nan")
    return {"images": images, "seconds": seconds, "images_per_second": rate, "pass_seconds": seconds}


def _travels(function: Callable) -> bool:
    """Whether another process can be given a function; it does not know those of a notebook."""
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return getattr(function, "__module__", "") != "__main__"


def _do(job: _Job) -> None:
    """Describe and keep the samples of one grain; those that cannot be described have NaN and a reason."""
    bank = Bank(job.bank)
    described = [_features(job, bank, row) for row in job.rows.itertuples()]
    keep(job.file, np.stack([vector for vector, _ in described]), [reason for _, reason in described])


def _features(job: _Job, bank: Bank, row) -> tuple[np.ndarray, str]:
    nothing = np.full(job.dim, np.nan)
    if row.sample_id not in job.annotations:
        return nothing, NO_ANNOTATION
    mask = bank.mask(row, job.size)
    if job.needs_mask and mask is None:
        return nothing, row.mask_reason or NO_MASK
    sample = Sample(job.annotations[row.sample_id], bank.patch(row, job.size), mask, bank.spacing)
    try:
        vector = np.asarray(job.features(sample), np.float64)
    except ValueError as error:
        return nothing, str(error) or "its features cannot be computed"
    if vector.shape != (job.dim,):
        raise ExtractionError(f"{job.name}: features of shape {vector.shape}, but {job.dim} names")
    return vector, fault(vector.astype(np.float32))
