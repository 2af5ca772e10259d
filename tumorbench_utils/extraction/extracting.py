"""From banks, encoders and controls to tables: one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..bank import Bank, BankError, path_of
from ..models.encoder import Described, Encoder
from .controls import describe
from .passes import encode
from .records import ExtractionError, fits, record_of, size_of
from .tasks import LEFT_OUT, THERE, task_of


@dataclass(frozen=True)
class Extracted:
    """What an extraction gave.

    ``paths`` are the tables by name. ``timings`` has one row a table: ``status`` (extracted, resumed, was there),
    ``images`` embedded now, ``seconds`` spent on them by this encoder, of these ``forward_seconds`` in the network,
    ``images_per_second``, ``pass_seconds`` of all encoders of its geometry together, reading and writing included, and
    ``peak_bytes`` (:class:`models.encoder.Usage`). ``excluded`` lists every seed point without a vector: name,
    sample_id, trial, reason.
    """

    paths: dict[str, Path]
    timings: pd.DataFrame
    excluded: pd.DataFrame


def extract(
    run: str | Path,
    cohort: str,
    encoders: Sequence[Encoder | Described],
    *,
    batch: int | None = None,
    trials: Sequence[int] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Extracted:
    """Embed the patches of a cohort's banks by each of :func:`models.ready` encoders and controls.

    ``batch`` patches go through a network together (default: by device). ``trials`` of the seed points, default all
    for encoders and 0 for controls, which are computed by ``workers`` processes (default: one a core).

    Tables are ``embeddings/<cohort>/<name>.parquet``, beside each the seed points left out and why
    (``<name>.excluded.csv``). A table that is there, made of the same, is left alone; one of another origin is never
    overwritten. A killed run goes on at its last finished grain if bank, weights, recipe, precision, device, code and
    torch are still the same, and starts anew otherwise.
    """
    names = [each.name for each in encoders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExtractionError(f"given twice: {', '.join(twice)}")
    banks = _banks(run, cohort, encoders)
    tasks = [task_of(run, cohort, each, banks[each.geometry.id], trials) for each in encoders]
    status = {task.name: task.begin() for task in tasks}
    ahead = [task for task in tasks if status[task.name] != THERE]
    timings: dict[str, dict] = {}
    for bank in banks.values():
        mine = [task for task in ahead if task.bank is bank and isinstance(task.maker, Encoder)]
        if mine:
            timings |= encode(bank, mine, batch, progress)
            for task in mine:
                task.finish()
    for task in ahead:
        if isinstance(task.maker, Described):
            timings[task.name] = describe(task, run, cohort, workers)
            task.finish()
    rows = [{"name": name, "status": status[name], **timings.get(name, {"images": 0})} for name in names]
    left_out = [pd.read_csv(task.excluded, dtype={"sample_id": str}).assign(name=task.name) for task in tasks]
    excluded = pd.concat(left_out, ignore_index=True)[["name", *LEFT_OUT]] if left_out else pd.DataFrame()
    return Extracted({task.name: task.path for task in tasks}, pd.DataFrame(rows), excluded)


def _banks(run: str | Path, cohort: str, encoders: Sequence[Encoder | Described]) -> dict[str, Bank]:
    """The bank of every geometry; all that are missing or do not fit are named in one error."""
    banks, problems = {}, {}
    for each in encoders:
        needed = each.geometry
        try:
            bank = banks.get(needed.id) or Bank(path_of(run, cohort, needed.id))
        except BankError:
            problems[each.name] = (needed.id, "is not there")
            continue
        banks[needed.id] = bank
        held = record_of(bank)["parameters"]["geometry"]
        if not fits(bank, each):
            words = f"{_words(held['spacing'], held['size'], held['sampling'])}, but "
            wanted = _words(needed.spacing, size_of(each), needed.sampling)
            problems[each.name] = (needed.id, f"is {words}{wanted} is needed")
    if problems:
        why = "; ".join(f"{name}: bank '{bank}' {problem}" for name, (bank, problem) in problems.items())
        wanted = ", ".join(dict.fromkeys(bank for bank, _ in problems.values()))
        raise ExtractionError(
            f"{cohort}: patches are missing in {Path(run) / 'patches' / cohort}: {why}. Build the geometries {wanted} "
            "of this cohort in the data curation notebook"
        )
    return banks


def _words(spacing: Sequence[float], size: Sequence[int], sampling: str) -> str:
    numbers = "x".join(f"{each:g}" for each in spacing)
    return f"{sampling}, {numbers} mm, {'x'.join(map(str, size))} voxels"
