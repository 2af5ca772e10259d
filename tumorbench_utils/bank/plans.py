"""What a bank is to be: where it lies, what it is made of, and the folder in which it grows until it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import artefacts, storage
from ..patches import AIR, Geometry
from .seeds import NO_SEED, moved

REGIONS, MASKS, ROWS, EXCLUDED = "regions", "masks", "rows.parquet", "excluded.csv"
RECORD, CASES = "provenance.json", "cases"
VOXEL, START, SHAPE = ([f"{name}_{axis}" for axis in "ras"] for name in ("voxel", "start", "shape"))
FLAGS = ["clamped", "outside", "mask_reason", "ct_crc32"]
COLUMNS = ["sample_id", "trial", "entry", "x", "y", "z", *VOXEL, *START, *SHAPE, *FLAGS]
CODE = ("bank", "imaging", "patches")  # rooms whose code makes the regions; the masks need two more
MASK_CODE = ("curation", "masks")
HEADERS = (".nhdr", ".mhd")  # their voxels lie in another file of the same stem
MISSING = "missing"


def path_of(run: str | Path, cohort: str, geometry: str) -> Path:
    """Where a run, a folder or an URL, keeps a cohort's bank of one geometry."""
    return storage.place(run) / "patches" / cohort / f"{geometry}.zarr"


def marks(root: Path, files: Iterable[str]) -> dict[str, str]:
    """The :func:`mark` of every file of a case, its image first."""
    return {file: mark(root / file) for file in files}


def mark(image: Path) -> str:
    """A hash of the names, sizes and times of an image's files; or that it is missing."""
    apart = image.suffix.lower() in HEADERS
    if not image.exists():
        return MISSING
    files = os.scandir(image.parent if apart else image) if apart or image.is_dir() else [image]
    files = [file for file in files if file.is_file() and (not apart or file.name.startswith(f"{image.stem}."))]
    stats = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16] if stats else MISSING


@dataclass(frozen=True)
class Plan:
    """One bank to be: what makes it what it is (the inputs of its ``record``), and the size of its regions."""

    path: Path
    geometry: Geometry
    record: dict
    size: tuple[int, int, int]
    entries: int
    masked: bool

    @property
    def building(self) -> Path:
        """The folder in which it grows."""
        return self.path.with_name(f".building-{self.path.name}")

    @property
    def reach(self) -> np.ndarray:
        """How far (3,) mm from a seed point a region needs the CT, two voxels for the interpolation included."""
        return (np.array(self.size) / 2 + 2) * self.geometry.spacing

    def case(self, number: int) -> Path:
        """Where the rows of a case lie once it is done."""
        return self.building / CASES / f"{number}.json"

    def begin(self) -> bool:
        """Make the empty bank, unless it is begun; False if it is there."""
        if self._is_in(self.path):
            return False
        if not self._is_in(self.building):
            shutil.rmtree(self.building, ignore_errors=True)
            self._create()
            artefacts.write_text(self.building / RECORD, json.dumps(self.record, indent=1, sort_keys=True) + "\n")
        return True

    def _is_in(self, folder: Path) -> bool:
        """Whether a folder is of these inputs; a file that is gone since its case was done does not matter."""
        if not (folder / RECORD).exists():
            return False
        found, inputs = json.loads((folder / RECORD).read_text())["inputs"], dict(self.record["inputs"])
        was, now = found.pop("images", {}), inputs.pop("images")
        return found == inputs and all(
            was.get(image, {}).get(file) == mark
            or (mark == MISSING and (folder == self.path or self.case(number).exists()))
            for number, (image, files) in enumerate(now.items())
            for file, mark in files.items()
        )

    def _create(self) -> None:
        import zarr

        group = zarr.create_group(self.building, zarr_format=3)
        attributes = {"spacing_mm": self.geometry.spacing, "axes": "RAS", "unit": "HU"}
        group.attrs.update({**attributes, "sampling": self.geometry.sampling})
        for name, kind, empty in [(REGIONS, "int16", AIR), (MASKS, "bool", False)][: 1 + self.masked]:
            group.create_array(
                name,
                shape=(self.entries, *self.size),
                chunks=(1, *self.size),
                dtype=kind,
                fill_value=empty,
                compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
                chunk_key_encoding={"name": "default", "separator": "."},  # one flat folder of chunks
                dimension_names=["entry", "R", "A", "S"],
            )

    def write(self, name: str, entry: int, values: np.ndarray, at: np.ndarray) -> None:
        """Put ``values`` at voxel ``at`` of an entry of one of the arrays; the rest of it stays empty."""
        import zarr

        array = zarr.open_array(self.building / name, mode="r+")
        region = np.full(self.size, array.fill_value)
        region[tuple(slice(a, a + n) for a, n in zip(at, values.shape, strict=True))] = values
        array[entry] = region

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


def planned(path: Path, geometry: Geometry, seeds: pd.DataFrame, files: dict[str, dict], segment: str) -> Plan:
    """The plan of one bank; ``files`` are the marks of every image and of its masks, by image."""
    shifts = np.nan_to_num(np.abs(moved(seeds)) / geometry.spacing)
    reach = shifts.max(axis=0, initial=0)
    exact = geometry.sampling == "exact"
    margin = np.where((reach == 0) | exact, 0, np.ceil(reach) + 1).astype(int)
    size = tuple(int(n) for n in np.array(geometry.size) + 2 * margin)
    masked = bool(seeds["mask"].notna().any())
    inputs = {room: _code_of(room) for room in [*CODE, *(MASK_CODE if masked else ())]}
    inputs["seeds"] = hashlib.sha256(seeds.to_csv(index=False).encode()).hexdigest()
    inputs["geometry"] = hashlib.sha256(json.dumps(asdict(geometry)).encode()).hexdigest()
    inputs |= {"segment": hashlib.sha256(segment.encode()).hexdigest()} if masked else {}
    inputs["images"] = files
    record = artefacts.provenance({"geometry": asdict(geometry), "axes": "RAS", "unit": "HU"}, inputs)
    entries = len(seeds) if exact else seeds["sample_id"].nunique()
    return Plan(path, geometry, record, size, entries, masked)


def _code_of(room: str) -> str:
    """SHA-256 of the code of a module, or of all files of a package, of this house."""
    base = Path(__file__).parents[1] / room
    files = sorted(base.glob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
    return hashlib.sha256("".join(map(artefacts.sha256_of, files)).encode()).hexdigest()
