"""The patch bank of a cohort: every geometry and every jittered seed, sampled from one read of each CT.

One Zarr group a geometry, ``patches/<cohort>/<geometry>.zarr``: the array ``regions`` (int16 HU, axes R, A, S, one
chunk a region) and the table ``rows.parquet``, one row a seed point, which says where in its region a patch lies.
Jittered seeds of one sample share its region, since the released pipeline samples them all from one grid: fifty seeds
cost a few times the room of one. Exact patches have a region each. After this the CTs are no longer needed.

A million rows need no other design: entries are in the order of the cases, so ``shards=(n, ...)`` of the array and
n cases a job instead of one keep every shard with one writer, and files few.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import artefacts, imaging, parallel, patches
from .patches import AIR, AXES, BENCHMARK, Geometry, centred_grid, crop, oriented, padded, released_grid, sample

REGIONS, ROWS, EXCLUDED, RECORD, CASES = "regions", "rows.parquet", "excluded.csv", "provenance.json", "cases"
SEEDS = ["sample_id", "trial", "image", "x", "y", "z"]
VOXEL, START, SHAPE = ([f"{name}_{axis}" for axis in "ras"] for name in ("voxel", "start", "shape"))
COLUMNS = ["sample_id", "trial", "entry", "x", "y", "z", *VOXEL, *START, *SHAPE, "clamped", "outside", "ct_crc32"]
NO_SEED, NO_PATCH = "no image or no seed point", "the patch lies outside the image"
FAR_MM = 100  # a trial further from the annotated seed point is a mistake, and would make every region as large
ROUNDING = 1e-6  # voxels, by which a point on the outermost voxel centres may seem to lie beyond them
HEADERS = (".nhdr", ".mhd")  # their voxels lie in another file of the same stem
MISSING = "missing"


class BankError(ValueError):
    """A patch bank, or a table of seed points, that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Built:
    """The banks' paths by geometry, and the seed points left out (geometry, sample_id, trial, reason)."""

    paths: dict[str, Path]
    excluded: pd.DataFrame


def seed_points(annotations: pd.DataFrame, trials: int = 0, sigma_mm: float = 4.0, seed: int = 0) -> pd.DataFrame:
    """The seed points of a bank: trial 0 is the annotated one, trials 1 to ``trials`` are jittered.

    The jitter is normal with ``sigma_mm`` on every axis (the study: 50 trials of variance 16 mm2). It depends on the
    sample's name alone, so that more samples or another order change nothing. Columns: those of ``SEEDS``.
    """
    missing = {"sample_id", "image", "x", "y", "z"} - set(annotations)
    if missing:
        raise BankError(
            f"no column {', '.join(sorted(missing))} in the annotations: a bank needs images and seed points"
        )
    tables = [annotations.assign(trial=0)[SEEDS]]
    if trials:
        shifts = np.stack([_shifts(name, trials, sigma_mm, seed) for name in annotations["sample_id"]])
        for trial in range(1, trials + 1):
            moved = annotations[["x", "y", "z"]] + shifts[:, trial - 1]
            tables.append(annotations.assign(trial=trial, **moved)[SEEDS])
    return pd.concat(tables).sort_values("trial", kind="stable").reset_index(drop=True)


def _shifts(name: str, trials: int, sigma_mm: float, seed: int) -> np.ndarray:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return np.random.default_rng(list(digest)).normal(0, sigma_mm, (trials, 3))


def path_of(run: str | Path, cohort: str, geometry: str) -> Path:
    """Where a run keeps a cohort's bank of one geometry."""
    return Path(run) / "patches" / cohort / f"{geometry}.zarr"


def build(
    run: str | Path,
    cohort: str,
    seeds: pd.DataFrame,
    geometries: Sequence[Geometry] = BENCHMARK,
    *,
    root: str | Path = ".",
    workers: int | None = None,
) -> Built:
    """Build a cohort's banks from the table of :func:`seed_points`; images are paths under ``root``.

    Cases are done in parallel by ``workers`` processes (default: one a core) and kept as they finish, so that a
    killed build goes on where it stopped and ends with the same bytes. A bank that is there for the same seeds,
    geometry and images (sizes and times of their files) is left alone; an image that is gone makes no bank stale, one
    that came or was changed does. Seeds that are not numbers or whose patch lies outside the image, and images that
    cannot be read, are left out and listed.
    """
    seeds = _checked(seeds)
    lacking = seeds[["image", "x", "y", "z"]].isna().any(axis=1)
    lacking |= seeds["sample_id"].isin(seeds.loc[lacking & (seeds["trial"] == 0), "sample_id"])
    marks = {str(image): _mark(Path(root) / str(image)) for image in seeds.loc[~lacking, "image"].unique()}
    plans = [_plan(path_of(run, cohort, each.id), each, seeds, marks) for each in geometries]
    ahead = [plan for plan in plans if plan.begin()]
    numbered = seeds.assign(sample=pd.factorize(seeds["sample_id"])[0], row=np.arange(len(seeds)))
    groups = numbered[~lacking].groupby("image", sort=False)
    jobs = [
        _Job(number, Path(root), str(image), rows, due)
        for number, (image, rows) in enumerate(groups)
        if (due := [plan for plan in ahead if not plan.case(number).exists()])
    ]
    parallel.run(_do, jobs, workers, f"patches of {cohort}", "case", done=groups.ngroups - len(jobs))
    for plan in ahead:
        plan.finish(groups.ngroups, seeds[lacking])
    excluded = [
        pd.read_csv(plan.path / EXCLUDED, dtype={"sample_id": str}).assign(geometry=plan.geometry.id) for plan in plans
    ]
    return Built({plan.geometry.id: plan.path for plan in plans}, pd.concat(excluded, ignore_index=True))


def _checked(seeds: pd.DataFrame) -> pd.DataFrame:
    missing = set(SEEDS) - set(seeds)
    if missing:
        raise BankError(f"no column {', '.join(sorted(missing))} in the table of seed points")
    nameless = seeds[["sample_id", "trial"]].isna().any(axis=1)
    if nameless.any():
        raise BankError(f"{nameless.sum()} seed points without sample_id or trial, first in row {nameless.argmax()}")
    seeds = seeds.assign(sample_id=seeds["sample_id"].astype(str))
    twice = seeds[seeds.duplicated(["sample_id", "trial"])]
    if len(twice):
        raise BankError(f"seed points given twice: {_names(twice)}")
    strange = seeds[~seeds["sample_id"].isin(seeds.loc[seeds["trial"] == 0, "sample_id"])]
    if len(strange):
        raise BankError(f"samples without trial 0, the annotated seed point: {_names(strange)}")
    moving = seeds.drop_duplicates(["sample_id", "image"])
    if moving["sample_id"].duplicated().any():
        raise BankError(f"samples in more than one image: {_names(moving[moving['sample_id'].duplicated()])}")
    finite = seeds[["x", "y", "z"]].astype(float).replace([np.inf, -np.inf], np.nan)
    seeds = seeds[SEEDS].assign(**finite).reset_index(drop=True)
    far = np.linalg.norm(_moved(seeds), axis=1) > FAR_MM  # NaN is not
    if far.any():
        raise BankError(f"trials more than {FAR_MM} mm from trial 0, to mend or leave out: {_names(seeds[far])}")
    return seeds


def _moved(seeds: pd.DataFrame) -> np.ndarray:
    """How far (n, 3) mm each seed point lies from trial 0 of its sample."""
    origin = seeds[seeds["trial"] == 0].set_index("sample_id")[["x", "y", "z"]]
    return seeds[["x", "y", "z"]].to_numpy() - origin.loc[seeds["sample_id"]].to_numpy()


def _mark(image: Path) -> str:
    """A hash of the names, sizes and times of an image's files; or that it is missing."""
    apart = image.suffix.lower() in HEADERS
    if not image.exists():
        return MISSING
    files = os.scandir(image.parent if apart else image) if apart or image.is_dir() else [image]
    files = [file for file in files if file.is_file() and (not apart or file.name.startswith(f"{image.stem}."))]
    stats = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16] if stats else MISSING


def _names(rows: pd.DataFrame) -> str:
    names = list(dict.fromkeys(rows["sample_id"]))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


@dataclass(frozen=True)
class _Plan:
    """One bank to be: what makes it what it is (the inputs of its ``record``), and the size of its regions."""

    path: Path
    geometry: Geometry
    record: dict
    size: tuple[int, int, int]
    entries: int

    @property
    def building(self) -> Path:
        return self.path.with_name(f".building-{self.path.name}")

    @property
    def reach(self) -> np.ndarray:
        """How far (3,) mm from a seed point a region needs the CT, two voxels for the interpolation included."""
        return (np.array(self.size) / 2 + 2) * self.geometry.spacing

    def case(self, number: int) -> Path:
        return self.building / CASES / f"{number}.json"

    def begin(self) -> bool:
        """Make the empty bank, unless it is begun; False if it is there."""
        if self._is_in(self.path):
            return False
        if not self._is_in(self.building):
            shutil.rmtree(self.building, ignore_errors=True)
            _create(self.building, self.size, self.entries, self.geometry)
            artefacts.write_text(self.building / RECORD, json.dumps(self.record, indent=1, sort_keys=True) + "\n")
        return True

    def _is_in(self, folder: Path) -> bool:
        """Whether a folder is of these inputs; an image that is gone since its case was done does not matter."""
        if not (folder / RECORD).exists():
            return False
        found, inputs = json.loads((folder / RECORD).read_text())["inputs"], dict(self.record["inputs"])
        was, now = found.pop("images", {}), inputs.pop("images")
        return found == inputs and all(
            was.get(image) == mark or (mark == MISSING and (folder == self.path or self.case(number).exists()))
            for number, (image, mark) in enumerate(now.items())
        )

    def finish(self, cases: int, lacking: pd.DataFrame) -> None:
        """Gather the cases' rows, and give the bank its name. The record is that of when the bank was begun."""
        record = json.loads((self.building / RECORD).read_text())
        parts = [json.loads(self.case(number).read_text()) for number in range(cases)]
        rows = pd.DataFrame([row for part in parts for row in part["rows"]], columns=COLUMNS)
        excluded = lacking[["sample_id", "trial"]].assign(reason=NO_SEED).to_dict("records")
        excluded += [row for part in parts for row in part["excluded"]]
        excluded = pd.DataFrame(excluded, columns=["sample_id", "trial", "reason"])
        artefacts.write_parquet(self.building / ROWS, rows.sort_values(["entry", "trial"]), record)
        with artefacts.atomic_path(self.building / EXCLUDED) as temporary:
            excluded.to_csv(temporary, index=False)
        if parts:
            shutil.rmtree(self.building / CASES)
        for scrap in [*self.building.rglob("*.partial"), *self.building.rglob(".tmp-*")]:  # of a killed writer
            scrap.unlink()
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self.building, self.path)


def _plan(path: Path, geometry: Geometry, seeds: pd.DataFrame, images: dict[str, str]) -> _Plan:
    shifts = np.nan_to_num(np.abs(_moved(seeds)) / geometry.spacing)
    reach = shifts.max(axis=0, initial=0)
    exact = geometry.sampling == "exact"
    margin = np.where((reach == 0) | exact, 0, np.ceil(reach) + 1).astype(int)
    size = tuple(int(n) for n in np.array(geometry.size) + 2 * margin)
    inputs = {
        name: artefacts.sha256_of(Path(__file__).with_name(f"{name}.py")) for name in ("bank", "imaging", "patches")
    }
    inputs["seeds"] = hashlib.sha256(seeds.to_csv(index=False).encode()).hexdigest()
    inputs["geometry"] = hashlib.sha256(json.dumps(asdict(geometry)).encode()).hexdigest()
    inputs["images"] = images
    record = artefacts.provenance({"geometry": asdict(geometry), "axes": "RAS", "unit": "HU"}, inputs)
    entries = len(seeds) if exact else seeds["sample_id"].nunique()
    return _Plan(path, geometry, record, size, entries)


def _create(folder: Path, size: tuple[int, int, int], entries: int, geometry: Geometry) -> None:
    import zarr

    group = zarr.create_group(folder, zarr_format=3)
    group.attrs.update({"spacing_mm": geometry.spacing, "axes": "RAS", "unit": "HU", "sampling": geometry.sampling})
    group.create_array(
        REGIONS,
        shape=(entries, *size),
        chunks=(1, *size),
        dtype="int16",
        fill_value=AIR,
        compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
        chunk_key_encoding={"name": "default", "separator": "."},  # one flat folder of chunks
        dimension_names=["entry", "R", "A", "S"],
    )


@dataclass(frozen=True)
class _Job:
    """One CT with its seed points, and the banks that lack it."""

    number: int
    root: Path
    image: str
    seeds: pd.DataFrame
    plans: list[_Plan]


def _do(job: _Job) -> None:
    """Read one CT, and write its regions and then its rows into every bank that lacks them."""
    points = job.seeds[["x", "y", "z"]].to_numpy(float)
    try:
        reach = np.max([plan.reach for plan in job.plans], axis=0)
        volume = imaging.read_ct(job.root / job.image, imaging.Near(points, reach))
    except imaging.ImageError as error:
        for plan in job.plans:
            reason = str(error).replace(f"{job.root}{os.sep}", "")  # the same on every machine
            _write_case(plan, job.number, [], [_left_out(row, reason) for row in job.seeds.itertuples()])
        return
    for plan in job.plans:
        needed = imaging.Near(points, plan.reach).slices(volume.steps, volume.origin, len(volume.array))
        checksum = zlib.crc32(volume.array[needed])
        place = _exact if plan.geometry.sampling == "exact" else _released
        rows, excluded = place(volume, plan, job.seeds)
        _write_case(plan, job.number, [{**row, "ct_crc32": checksum} for row in rows], excluded)


def _released(volume: imaging.Volume, plan: _Plan, seeds: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """Rows and exclusions of the samples of one CT; the seeds of a sample share one region of the released grid."""
    grid = released_grid(volume, plan.geometry.spacing)
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
            kept.append(_row(row, row.sample, voxels[row.trial], start, grid.shape, clamped, volume))
        if kept:
            low, high = np.clip([start, start + plan.size], 0, grid.shape)
            _write_region(plan, kept[0]["entry"], sample(volume, grid, low, high), low - start)
        rows += kept
    return rows, excluded


def _exact(volume: imaging.Volume, plan: _Plan, seeds: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """Rows and exclusions of the samples of one CT; every seed point has a region of its own around it."""
    size, rows, excluded = np.array(plan.geometry.size), [], []
    corners, voxels = patches.lattice([(0, n - 1) for n in size]), patches.lattice([range(n) for n in size])
    last = np.array(volume.array.shape[::-1]) - 1 + ROUNDING
    for row in seeds.itertuples():
        grid = centred_grid([row.x, row.y, row.z], plan.geometry)
        index = volume.to_index(grid.to_lps(corners))
        clamped = bool(((index < -ROUNDING) | (index > last)).any())  # beyond the outermost centres air is mixed in
        seed_in = volume.contains(np.array([row.x, row.y, row.z]))
        if clamped and not (seed_in or volume.contains(grid.to_lps(voxels)).any()):
            excluded.append(_left_out(row, NO_PATCH))
            continue
        _write_region(plan, row.row, sample(volume, grid, np.zeros(3, int), size, beyond=AIR), np.zeros(3, int))
        rows.append(_row(row, row.row, size // 2, np.zeros(3, int), size, clamped, volume))
    return rows, excluded


def _row(row, entry: int, voxel, start, shape, clamped: bool, volume: imaging.Volume) -> dict:
    place = dict(zip([*VOXEL, *START, *SHAPE], map(int, [*voxel, *start, *shape]), strict=True))
    outside = not volume.contains(np.array([row.x, row.y, row.z]))
    seed = {"sample_id": row.sample_id, "trial": int(row.trial), "entry": int(entry)}
    seed |= {"x": row.x, "y": row.y, "z": row.z}
    return {**seed, **place, "clamped": clamped, "outside": bool(outside)}


def _left_out(row, reason: str) -> dict:
    return {"sample_id": row.sample_id, "trial": int(row.trial), "reason": reason}


def _write_region(plan: _Plan, entry: int, values: np.ndarray, at: np.ndarray) -> None:
    import zarr

    region = np.full(plan.size, AIR, np.int16)
    limits = np.iinfo(np.int16)
    region[tuple(slice(a, a + n) for a, n in zip(at, values.shape, strict=True))] = np.rint(values).clip(
        limits.min, limits.max
    )
    zarr.open_array(plan.building / REGIONS, mode="r+")[entry] = region


def _write_case(plan: _Plan, number: int, rows: list[dict], excluded: list[dict]) -> None:
    artefacts.write_text(plan.case(number), json.dumps({"rows": rows, "excluded": excluded}))


class Bank:
    """A finished bank, to read patches from. ``rows`` is its table, ``spacing`` (3,) mm along R, A, S."""

    def __init__(self, path: str | Path):
        import zarr

        self.path = Path(path)
        if not (self.path / ROWS).exists():
            raise BankError(f"{path}: no patch bank; the data curation notebook builds it")
        self.rows = pd.read_parquet(self.path / ROWS)
        self.excluded = pd.read_csv(self.path / EXCLUDED, dtype={"sample_id": str})
        self.spacing = tuple(zarr.open_group(self.path, mode="r").attrs["spacing_mm"])
        self._regions = zarr.open_array(self.path / REGIONS, mode="r")
        self._region = functools.lru_cache(maxsize=1)(self._regions.__getitem__)  # seeds of a sample come together

    def patch(self, row, size: tuple[int, int, int], axes: str = "RAS", pad: int = AIR) -> np.ndarray:
        """The patch (``size``, int16 HU) of one row of ``rows``, its axes turned to ``axes``.

        What the border of the image cut off is padded with ``pad`` HU on both sides, after the turn, as released.
        """
        voxel, start, shape = (np.array([getattr(row, name) for name in names]) for names in (VOXEL, START, SHAPE))
        turned_back = np.empty(3, int)
        turned_back[[AXES[letter][0] for letter in axes]] = size
        low, high = np.stack(crop(voxel, turned_back, shape)) - start
        region = self._region(int(row.entry))
        return padded(oriented(region[tuple(map(slice, low, high))], axes), size, pad)

    def patches(
        self, size: tuple[int, int, int], axes: str = "RAS", pad: int = AIR, trials: Sequence[int] | None = None
    ) -> Iterator[tuple]:
        """(row, patch) of every row in the bank's order, or of the given trials; see :meth:`patch`."""
        rows = self.rows if trials is None else self.rows[self.rows["trial"].isin(trials)]
        for row in rows.itertuples():
            yield row, self.patch(row, size, axes, pad)
