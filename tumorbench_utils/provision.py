"""What a later notebook needs of data curation and a run lacks: made here for the cohorts that need no account."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from . import annotations, artefacts, bank, curation
from .cohorts import COHORTS, is_phantom
from .curation import Images
from .patches import Geometry

OPEN = {  # made as the data curation notebook makes them
    "phantom": {"cases": 24, "retests": 4},
    "phantom_retest": {"cases": 12, "retests": 12},
    "phantom_a": {"cases": 32, "retests": 0},
    "phantom_b": {"cases": 32, "retests": 0},
    "lung_ct": {},
}


class ProvisionError(RuntimeError):
    """A run lacks what a stage needs, and it cannot be made without more; the message says how."""


def ensure(
    run: str | Path,
    cohort: str,
    geometries: Sequence[Geometry],
    workers: int | None = None,
    trials: int = 0,
    jitter_mm: float | Sequence[float] = 4.0,
) -> None:
    """The annotation table of a cohort and its banks of ``geometries`` in a run, made where they lack.

    Banks hold the seed points of those that are there; if there are none, ``trials`` jittered ones of each size of
    ``jitter_mm`` (:func:`bank.seed_points`). Only phantoms and the two real CTs can be made from nothing; for another
    cohort :class:`ProvisionError` says which notebook to run with which parameters. What is there is left alone.
    """
    lacking = [grid for grid in geometries if not bank.path_of(run, cohort, grid.id).exists()]
    table = annotations.path_of(run, cohort)
    if table.exists() and not lacking:
        return
    if cohort not in OPEN:
        what = ", ".join([*([] if table.exists() else ["no annotation table"]), *(grid.id for grid in lacking)])
        raise ProvisionError(
            f"{run} lacks for cohort {cohort}: {what}. Run notebooks/1_data_curation.ipynb with cohort={cohort}, "
            f"run={run}, its images, and geometries={[grid.id for grid in geometries]}"
        )
    images = _images(run, cohort, workers)
    if not table.exists():
        _annotate(run, cohort, images, workers)
    made = curation.adopt(
        annotations.Annotations(annotations.read(table), annotations.read_excluded(run, cohort)), images
    )
    seeds, how = _seeds(run, cohort, made.table, trials, jitter_mm), {"root": images.root, "workers": workers}
    build(run, cohort, seeds, lacking, **how, masks=masks_of(images), segment=COHORTS.get(cohort).segment)


def build(run: str | Path, cohort: str, seeds: pd.DataFrame, geometries: Sequence[Geometry], **options) -> bank.Built:
    """:func:`bank.build`, with jittered seed points in the banks of the released pipeline's sampling alone.

    An exact bank would hold a patch of its own for each: 50 trials of 421 tumours on the authors' grids are 300 GB.
    """
    exact = [grid for grid in geometries if grid.sampling == "exact"]
    annotated = seeds[seeds["trial"] == 0]
    if not exact or len(annotated) == len(seeds):
        return bank.build(run, cohort, seeds, geometries, **options)
    released = [grid for grid in geometries if grid not in exact]
    parts = [bank.build(run, cohort, annotated, exact, **options)]
    parts += [bank.build(run, cohort, seeds, released, **options)] if released else []
    paths = {name: path for part in parts for name, path in part.paths.items()}
    ordered = {grid.id: paths[grid.id] for grid in geometries}
    return bank.Built(ordered, pd.concat([part.excluded for part in parts], ignore_index=True))


def _images(run: str | Path, cohort: str, workers: int | None) -> Images:
    folder = Path(run) / "images" / cohort
    if (folder / "cases.csv").exists():  # as many phantoms as data curation was asked for
        return curation.provide(COHORTS.get(cohort), str(folder), folder)
    options = OPEN[cohort] | ({"workers": workers} if is_phantom(cohort) else {})
    return curation.provide(COHORTS.get(cohort), _source_of(cohort), folder, **options)


def _source_of(cohort: str) -> str:
    """Where the images of an open cohort come from, as the data curation notebook names it."""
    return "phantom" if is_phantom(cohort) else cohort


def _annotate(run: str | Path, cohort: str, images: Images, workers: int | None) -> None:
    source = COHORTS.get(cohort)
    selected = curation.select(source, images.cases)
    made = curation.place(selected.annotations, curation.measure(images.cases, images.root, source.segment, workers))
    used = {"cohort": cohort, "labels": "cases", "images": _source_of(cohort)}
    annotations.write(run, cohort, made, artefacts.provenance(used))


def _seeds(
    run: str | Path, cohort: str, table: pd.DataFrame, trials: int, jitter_mm: float | Sequence[float]
) -> pd.DataFrame:
    """The seed points of the run's other banks, jittered ones included; else those of the annotation table."""
    most = seeded(run, cohort)
    if most is None:
        return bank.seed_points(table, trials, jitter_mm)
    rows = most[["sample_id", "trial", "x", "y", "z"]]
    return rows.merge(table[["sample_id", "image"]], on="sample_id").sort_values("trial", kind="stable")


def seeded(run: str | Path, cohort: str) -> pd.DataFrame | None:
    """The rows of that bank of a cohort which holds the most seed points, since exact ones hold no jittered ones; None
    if there is no bank."""
    there = sorted(bank.path_of(run, cohort, "any").parent.glob("*.zarr"))
    return max((bank.Bank(path).rows for path in there), key=len, default=None)


def masks_of(images: Images) -> dict[str, str]:
    """Path of the mask of each sample that has one, for :func:`bank.build`."""
    if "mask" not in images.cases:
        return {}
    drawn = images.cases.dropna(subset="mask")
    return dict(zip(drawn["sample_id"].astype(str), drawn["mask"], strict=True))
