"""Build banks: one read a CT and a mask, every region sampled from it, and nothing lost when the process is killed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .. import artefacts, curation, imaging, parallel, patches
from .. import masks as tumours
from ..patches import AIR, BENCHMARK, Geometry, Grid, centred_grid, crop, released_grid, sample
from .plans import EXCLUDED, MASKS, REGIONS, SHAPE, START, VOXEL, Plan, marks, path_of, planned
from .seeds import NO_MASK, NO_PATCH, checked

ROUNDING = 1e-6  # voxels, by which a point on the outermost voxel centres may seem to lie beyond them


@dataclass(frozen=True)
class Built:
    """The banks' paths by geometry, and the seed points left out (geometry, sample_id, trial, reason)."""

    paths: dict[str, Path]
    excluded: pd.DataFrame


def build(
    run: str | Path,
    cohort: str,
    seeds: pd.DataFrame,
    geometries: Sequence[Geometry] = BENCHMARK,
    *,
    root: str | Path = ".",
    workers: int | None = None,
    masks: Mapping[str, str] | pd.Series | None = None,
    segment: str = "",
) -> Built:
    """Build a cohort's banks from the table of :func:`seed_points`; images and masks are paths under ``root``.

    Cases are done in parallel by ``workers`` processes (default: one a core) and kept as they finish, so that a
    killed build goes on where it stopped and ends with the same bytes. A bank that is there for the same seeds,
    geometry, images and masks (sizes and times of their files) is left alone; a file that is gone makes no bank stale,
    one that came or was changed does. Seeds that are not numbers or whose patch lies outside the image, and images
    that cannot be read, are left out and listed.

    ``masks`` gives the mask's path by sample_id, NaN or nothing for a sample without one. What is kept of it is the
    largest connected component of all its segments that match ``segment`` (:func:`curation.read_segments`), from
    which the seed point was measured too. A mask that cannot be read leaves its patch in; the row says why.
    """
    root, seeds = Path(root), checked(seeds, masks)
    lacking = seeds[["image", "x", "y", "z"]].isna().any(axis=1)
    lacking |= seeds["sample_id"].isin(seeds.loc[lacking & (seeds["trial"] == 0), "sample_id"])
    numbered = seeds.assign(sample=pd.factorize(seeds["sample_id"])[0], row=np.arange(len(seeds)))
    cases = {str(image): rows for image, rows in numbered[~lacking].groupby("image", sort=False)}
    files = {image: marks(root, [image, *rows["mask"].dropna().unique()]) for image, rows in cases.items()}
    plans = [planned(path_of(run, cohort, each.id), each, seeds, files, segment) for each in geometries]
    ahead = [plan for plan in plans if plan.begin()]
    jobs = [
        _Job(number, root, image, rows, segment, due)
        for number, (image, rows) in enumerate(cases.items())
        if (due := [plan for plan in ahead if not plan.case(number).exists()])
    ]
    parallel.run(_do, jobs, workers, f"patches of {cohort}", "case", done=len(cases) - len(jobs))
    for plan in ahead:
        plan.finish(len(cases), seeds[lacking])
    excluded = [
        pd.read_csv(plan.path / EXCLUDED, dtype={"sample_id": str}).assign(geometry=plan.geometry.id) for plan in plans
    ]
    return Built({plan.geometry.id: plan.path for plan in plans}, pd.concat(excluded, ignore_index=True))


@dataclass(frozen=True)
class _Job:
    """One CT with its seed points, and the banks that lack it."""

    number: int
    root: Path
    image: str
    seeds: pd.DataFrame
    segment: str
    plans: list[Plan]


def _do(job: _Job) -> None:
    """Read one CT, and write its regions and then its rows into every bank that lacks them."""
    points = job.seeds[["x", "y", "z"]].to_numpy(float)
    try:
        reach = np.max([plan.reach for plan in job.plans], axis=0)
        volume = imaging.read_ct(job.root / job.image, imaging.Near(points, reach))
    except imaging.ImageError as error:
        for plan in job.plans:
            _write_case(plan, job.number, [], [_left_out(row, _reason(error, job)) for row in job.seeds.itertuples()])
        return
    drawn = {path: _tumour(path, volume, job) for path in job.seeds["mask"].dropna().unique()}
    for plan in job.plans:
        needed = imaging.Near(points, plan.reach).slices(volume.steps, volume.origin, len(volume.array))
        checksum = zlib.crc32(volume.array[needed])
        place = _exact if plan.geometry.sampling == "exact" else _released
        rows, excluded = place(_Scene(volume, drawn), plan, job.seeds)
        _write_case(plan, job.number, [{**row, "ct_crc32": checksum} for row in rows], excluded)


def _reason(error: Exception, job: _Job) -> str:
    return str(error).replace(f"{job.root}{os.sep}", "")  # the same on every machine


def _tumour(path: str, ct: imaging.Volume, job: _Job) -> imaging.Volume | str:
    """The largest component of a mask as a volume of no more than the box around it, or why there is none."""
    try:
        mask = tumours.largest_component(curation.read_segments(job.root / path, ct, job.segment))
    except curation.UNREADABLE as error:
        return _reason(error, job)
    box = tumours.box_of(mask)
    return replace(ct, array=mask[box].copy(), origin=ct.to_physical([each.start for each in box[::-1]]))


@dataclass(frozen=True)
class _Scene:
    """A CT, and by path its masks or why there is none."""

    ct: imaging.Volume
    masks: dict[str, imaging.Volume | str]

    def mask(self, path: str | None) -> imaging.Volume | str:
        """A mask, or why there is none."""
        return self.masks.get(path, NO_MASK)

    def write(
        self, plan: Plan, entry: int, path: str | None, grid: Grid, box: np.ndarray, at: np.ndarray, beyond: float
    ) -> None:
        """Sample the CT and the mask of ``path`` on the same voxels (``box``: first and end), and write both."""
        limits, mask = np.iinfo(np.int16), self.mask(path)
        values = np.rint(sample(self.ct, grid, *box, beyond=beyond)).clip(limits.min, limits.max)
        plan.write(REGIONS, entry, values, at)
        if not isinstance(mask, str):
            plan.write(MASKS, entry, sample(mask, grid, *box) > 0.5, at)


def _released(scene: _Scene, plan: Plan, seeds: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """Rows and exclusions of the samples of one CT; the seeds of a sample share one region of the released grid."""
    grid = released_grid(scene.ct, plan.geometry.spacing)
    rows, excluded = [], []
    for _, trials in seeds.groupby("sample_id", sort=False):
        voxels = {row.trial: grid.voxel([row.x, row.y, row.z]) for row in trials.itertuples()}
        start = voxels[0] - np.array(plan.size) // 2
        kept = []
        for row in trials.itertuples():
            low, high = crop(voxels[row.trial], plan.geometry.size, grid.shape)
            if (low >= high).any():
                excluded.append(_left_out(row, NO_PATCH))
                continue
            clamped = bool((high - low < plan.geometry.size).any())
            kept.append(_row(row, row.sample, voxels[row.trial], start, grid.shape, clamped, scene))
        if kept:
            box = np.clip([start, start + plan.size], 0, grid.shape)
            scene.write(plan, kept[0]["entry"], trials["mask"].iloc[0], grid, box, box[0] - start, beyond=0)
        rows += kept
    return rows, excluded


def _exact(scene: _Scene, plan: Plan, seeds: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """Rows and exclusions of the samples of one CT; every seed point has a region of its own around it."""
    volume, size, rows, excluded = scene.ct, np.array(plan.geometry.size), [], []
    corners, voxels = patches.lattice([(0, n - 1) for n in size]), patches.lattice([range(n) for n in size])
    last, zero = np.array(volume.array.shape[::-1]) - 1 + ROUNDING, np.zeros(3, int)
    for row in seeds.itertuples():
        grid = centred_grid([row.x, row.y, row.z], plan.geometry)
        index = volume.to_index(grid.to_lps(corners))
        clamped = bool(((index < -ROUNDING) | (index > last)).any())  # beyond the outermost centres air is mixed in
        seed_in = volume.contains(np.array([row.x, row.y, row.z]))
        if clamped and not (seed_in or volume.contains(grid.to_lps(voxels)).any()):
            excluded.append(_left_out(row, NO_PATCH))
            continue
        scene.write(plan, row.row, row.mask, grid, np.stack([zero, size]), zero, beyond=AIR)
        rows.append(_row(row, row.row, size // 2, zero, size, clamped, scene))
    return rows, excluded


def _row(row, entry: int, voxel, start, shape, clamped: bool, scene: _Scene) -> dict:
    place = dict(zip([*VOXEL, *START, *SHAPE], map(int, [*voxel, *start, *shape]), strict=True))
    outside = not scene.ct.contains(np.array([row.x, row.y, row.z]))
    mask = scene.mask(row.mask)
    seed = {"sample_id": row.sample_id, "trial": int(row.trial), "entry": int(entry)}
    seed |= {"x": row.x, "y": row.y, "z": row.z}
    flags = {"clamped": clamped, "outside": bool(outside), "mask_reason": mask if isinstance(mask, str) else ""}
    return {**seed, **place, **flags}


def _left_out(row, reason: str) -> dict:
    return {"sample_id": row.sample_id, "trial": int(row.trial), "reason": reason}


def _write_case(plan: Plan, number: int, rows: list[dict], excluded: list[dict]) -> None:
    artefacts.write_text(plan.case(number), json.dumps({"rows": rows, "excluded": excluded}))
