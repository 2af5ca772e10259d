"""What a later notebook needs of data curation and a run lacks: made here for the cohorts that need no account."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from . import annotations, artefacts, bank, curation
from .cohorts import COHORTS
from .curation import Images
from .patches import Geometry

OPEN = {"phantom": {"cases": 24, "retests": 4}, "lung_ct": {}}  # made as the data curation notebook makes them


class ProvisionError(RuntimeError):
    """A run lacks what a stage needs, and it cannot be made without more; the message says how."""


def ensure(run: str | Path, cohort: str, geometries: Sequence[Geometry], workers: int | None = None) -> None:
    """The annotation table of a cohort and its banks of ``geometries`` in a run, made where they lack.

    Only phantoms and the two real CTs can be made from nothing; for another cohort :class:`ProvisionError` says which
    notebook to run with which parameters. What is there is left alone.
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
    seeds, found = _seeds(run, cohort, made.table), masks_of(images)
    bank.build(
        run, cohort, seeds, lacking, root=images.root, workers=workers, masks=found, segment=COHORTS.get(cohort).segment
    )


def _images(run: str | Path, cohort: str, workers: int | None) -> Images:
    folder = Path(run) / "images" / cohort
    if (folder / "cases.csv").exists():  # as many phantoms as data curation was asked for
        return curation.provide(COHORTS.get(cohort), str(folder), folder)
    options = OPEN[cohort] | ({"workers": workers} if cohort == "phantom" else {})
    return curation.provide(COHORTS.get(cohort), cohort, folder, **options)


def _annotate(run: str | Path, cohort: str, images: Images, workers: int | None) -> None:
    source = COHORTS.get(cohort)
    selected = curation.select(source, images.cases)
    made = curation.place(selected.annotations, curation.measure(images.cases, images.root, source.segment, workers))
    annotations.write(run, cohort, made, artefacts.provenance({"cohort": cohort, "labels": "cases", "images": cohort}))


def _seeds(run: str | Path, cohort: str, table: pd.DataFrame) -> pd.DataFrame:
    """The seed points of the run's other banks, jittered ones included; else those of the annotation table."""
    there = sorted(bank.path_of(run, cohort, "any").parent.glob("*.zarr"))
    if not there:
        return bank.seed_points(table)
    rows = bank.Bank(there[0]).rows[["sample_id", "trial", "x", "y", "z"]]
    return rows.merge(table[["sample_id", "image"]], on="sample_id").sort_values("trial", kind="stable")


def masks_of(images: Images) -> dict[str, str]:
    """Path of the mask of each sample that has one, for :func:`bank.build`."""
    if "mask" not in images.cases:
        return {}
    drawn = images.cases.dropna(subset="mask")
    return dict(zip(drawn["sample_id"].astype(str), drawn["mask"], strict=True))
