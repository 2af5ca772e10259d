"""Check a folder of one's own before a long run: its table and the headers of its images, every fault at once.

``python -m tumorbench_utils.curation check FOLDER [--variant NAME] [--segment PATTERN]``

No voxel is read, so a few thousand cases take minutes. What only the voxels show is found by data curation, which
leaves the case out and lists it. The exit code is 0 if a run would not stop.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import imaging, masks, parallel
from ..imaging import ImageError, Volume
from .own import LEFT_OUT, LOOK, SHOWN, STOPS, TABLE, CasesError, Fault, faults, read, seed_of
from .seeds import located

LABELLED = {"paper": "label", "two_year": "time_days", "none": ""}  # the column that a variant reads
SPACING_MM = (0.1, 20.0)  # of voxels of a CT of a patient
PATIENTS = 10  # of each class, that grouped splits take
FEW = 100  # cases
UNREADABLE = (ImageError, OSError)


class Checked(NamedTuple):
    """The table as read (text), and its faults in order of rows."""

    table: pd.DataFrame
    faults: list[Fault]


def check(folder: str | Path, variant: str = "paper", segment: str = "", workers: int | None = None) -> Checked:
    """All faults of the table of ``folder`` and of the images that it names (:class:`own.CasesError` if there is none).

    ``variant`` says which label is needed ("none": no label), ``segment`` is the pattern of data curation.
    """
    folder = Path(folder)
    if not (folder / TABLE).is_file():
        raise CasesError(f"{folder}: no {TABLE} in it")
    table = read(folder / TABLE)
    found = faults(table, LABELLED[variant])
    if not {"sample_id", "ct"} <= set(table):
        return Checked(table, found)
    jobs = [(folder, segment, index + 2, row) for index, row in table[table["ct"].notna()].iterrows()]
    workers = workers or (None if len(jobs) > FEW else 1)  # starting processes takes longer than to read few headers
    of_images = parallel.run(_case, jobs, workers, "headers", "case")
    return Checked(table, sorted([*found, *(one for each in of_images for one in each)], key=lambda fault: fault.row))


def _case(job: tuple[Path, str, int, pd.Series]) -> list[Fault]:
    """Faults of the images of one row."""
    folder, segment, number, row = job
    found, seed = [], seed_of(row)

    def add(follows: str, column: str, said: object) -> None:
        said = str(said).replace(f"{folder}/", "")
        found.append(Fault(number, follows, str(row["sample_id"]), column, said))

    try:
        ct = grid(folder / row["ct"])
    except UNREADABLE as error:
        add(LEFT_OUT, "ct", error)
        ct = None
    mask = row.get("mask")
    if ct is not None:
        for said in odd_units(ct, folder / row["ct"]):
            add(LOOK, "ct", said)
        try:
            _ = seed and located(seed, ct)
        except ImageError as error:
            add(LEFT_OUT, seed.convention.columns[0], error)
    if isinstance(mask, str):
        try:
            for said in _mask(folder / mask, ct, segment):
                add(LOOK, "mask", said)
        except (*UNREADABLE, AttributeError, KeyError) as error:  # the last two of a damaged DICOM file
            add(LEFT_OUT, "mask", error)
    return found


def grid(path: Path) -> Volume:
    """An image from its header alone: its voxels all read as 0. Raises :class:`ImageError`."""
    if path.is_dir():
        shape, steps, origin, frame = _dicom(path)
    elif not path.is_file() or not imaging.is_image(path):
        raise ImageError(
            f"{path}: no such image; give a folder with one CT series or a file {' '.join(imaging.IMAGES)}"
        )
    else:
        read_header = _nifti if path.name.lower().endswith(imaging.NIFTI) else _itk
        try:
            (shape, steps, origin), frame = read_header(path), ""
        except ImageError:
            raise
        except Exception as error:  # nibabel and SimpleITK raise many kinds
            reason = (str(error).strip() or "the file ends too early").splitlines()[-1]
            raise ImageError(f"{path}: its header cannot be read ({reason}); write it anew") from error
    spacing = np.linalg.norm(steps, axis=0)
    if not (np.isfinite(origin).all() and (spacing > 0).all()):
        raise ImageError(f"{path}: voxel spacing {spacing.tolist()} mm at {origin.tolist()}; repair the header")
    voxels = np.broadcast_to(np.int16(0), shape[::-1])
    return Volume(voxels, origin, spacing, steps / spacing, str(path), frame)


def _three(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise ImageError(f"{path}: {tuple(map(int, shape))} values are no 3D image; save one volume of it alone")
    return tuple(map(int, shape))


def _nifti(path: Path) -> tuple:
    import nibabel

    image = nibabel.load(path)
    shape = _three(path, image.shape)
    if not (image.header["qform_code"] > 0 or image.header["sform_code"] > 0):
        raise ImageError(f"{path}: neither qform nor sform, so its place in space is unknown; convert it again")
    affine = np.diag([-1, -1, 1, 1]) @ image.affine  # LPS, not RAS
    return shape, affine[:3, :3], affine[:3, 3]


def _itk(path: Path) -> tuple:
    import SimpleITK

    header = SimpleITK.ImageFileReader()
    header.SetFileName(str(path))
    header.ReadImageInformation()
    shape = _three(path, header.GetSize())
    return shape, np.reshape(header.GetDirection(), (3, 3)) * header.GetSpacing(), np.array(header.GetOrigin())


def _dicom(folder: Path) -> tuple:
    """Shape, steps, origin and frame of reference of a series: its slices in order of their normal."""
    import pydicom

    slices = [pydicom.dcmread(path, stop_before_pixels=True) for path in imaging.dicom_files(folder)]
    series = {str(each.get("SeriesInstanceUID")) for each in slices}
    if len(series) > 1:
        raise ImageError(f"{folder}: {len(series)} series in one folder; give each a folder of its own")
    kinds = sorted({str(each.get("Modality")) for each in slices} - {"CT"})
    if kinds:
        raise ImageError(f"{folder}: modality {', '.join(kinds)}, not CT")
    if len(slices) < 2:
        raise ImageError(f"{folder}: {len(slices)} DICOM files; a CT series has at least two")
    first = slices[0]
    try:
        along, down = np.reshape(first.ImageOrientationPatient, (2, 3)).astype(float)
        places = np.array([each.ImagePositionPatient for each in slices], float)
        rows, columns = map(float, first.PixelSpacing)
    except (AttributeError, TypeError, ValueError) as error:
        raise ImageError(f"{folder}: a slice says not where it lies ({error}); fetch the series again") from error
    places = places[np.argsort(places @ np.cross(along, down), kind="stable")]
    steps = np.column_stack([along * columns, down * rows, (places[-1] - places[0]) / (len(places) - 1)])
    return (first.Columns, first.Rows, len(slices)), steps, places[0], str(first.get("FrameOfReferenceUID", ""))


def odd_units(ct: Volume, path: Path) -> Iterator[str]:
    """What may be wrong with the units of an image, in words."""
    low, high = SPACING_MM
    spacing = " x ".join(f"{each:.3g}" for each in ct.spacing)
    if ct.spacing.min() < low or ct.spacing.max() > high:
        yield f"voxels of {spacing} mm: is the header in another unit?"
    if path.name.lower().endswith(imaging.NIFTI):
        import nibabel

        unit = nibabel.load(path).header.get_xyzt_units()[0]
        if unit not in ("mm", "unknown"):
            yield f"the header says {unit}; millimetres are read"


def _mask(path: Path, ct: Volume | None, segment: str) -> Iterator[str]:
    """What is odd about a mask; :class:`ImageError` for one that cannot be used."""
    if imaging.is_image(path):
        mask = grid(path)
        if ct is not None and not _meet(mask, ct):
            raise ImageError(f"{path}: no voxel of it lies in {ct.source}; take the mask's own CT")
        if ct is not None and not _same(mask, ct):
            yield f"on another grid than {ct.source}; it is resampled to the nearest voxel"
        return
    if not path.exists():
        raise ImageError(f"{path}: no such mask; give a DICOM SEG, an RTSTRUCT or an image file")
    names = list(masks.segments(path).values())
    chosen = [name for name in names if re.search(segment, name, re.IGNORECASE)]
    if not chosen or (not segment and len(names) > 1):
        count = f"{len(chosen) if segment else len(names)} segments match '{segment}'"
        raise ImageError(f"{path}: {count}; choose with segment, a pattern, among: {', '.join(names)}")


def _same(mask: Volume, ct: Volume) -> bool:
    alike = mask.array.shape == ct.array.shape and np.allclose(mask.steps, ct.steps, atol=1e-4)
    return alike and bool(np.abs(ct.to_index(mask.origin)).max() < masks.ON_GRID)


def _meet(mask: Volume, ct: Volume) -> bool:
    """Whether the boxes around two images meet."""
    corners = np.array(np.meshgrid(*([0, n - 1] for n in mask.array.shape[::-1]))).reshape(3, -1).T
    index = ct.to_index(mask.to_physical(corners))
    return bool((index.max(axis=0) >= -0.5).all() and (index.min(axis=0) <= np.array(ct.array.shape[::-1]) - 0.5).all())


def report(checked: Checked, variant: str = "paper") -> str:
    """Faults by what follows from them, and what is left, as text."""
    table, found = checked
    lines = []
    for follows in (STOPS, LEFT_OUT, LOOK):
        these = [fault for fault in found if fault.follows == follows]
        lines += [f"{follows} ({len(these)}):", *_alike(these), ""] if these else []
    if any(fault.follows == STOPS for fault in found):
        return "\n".join([*lines, "Mend what stops the run, and check again."])
    out = {fault.row for fault in found if fault.follows == LEFT_OUT}
    kept = table[~(table.index + 2).isin(out)]
    people = f"{kept['patient_id'].nunique():,} patients"
    lines.append(f"{len(kept):,} of {len(table):,} cases can be used, of {people}.")
    if variant == "paper":
        classes = kept.assign(label=pd.to_numeric(kept["label"])).groupby("patient_id")["label"].max()
        positive, negative = int((classes == 1).sum()), int((classes == 0).sum())
        few = min(positive, negative) < PATIENTS
        enough = (
            f"fewer than the {PATIENTS} of each class that grouped splits take" if few else "enough for grouped splits"
        )
        lines.append(f"{positive} patients with label 1, {negative} with label 0: {enough}.")
    return "\n".join(lines)


def _alike(found: list[Fault]) -> Iterator[str]:
    """A line for each fault, rows that have the same one together."""
    rows: dict[tuple[str, str], list[int]] = {}
    for fault in found:
        rows.setdefault((fault.column, fault.fault), []).append(fault.row)
    for (column, said), numbers in rows.items():
        listed = ", ".join(map(str, numbers[:SHOWN]))
        more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        yield f"  row{'s' if len(numbers) > 1 else ''} {listed}{more}, column {column}: {said}"


def main(program: str, arguments: list[str] | None = None) -> None:
    """The command; the exit code is 1 if a run would stop, or nothing would be left."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    checking = parser.add_subparsers(dest="command", required=True).add_parser("check", help="a folder with cases.csv")
    checking.add_argument("folder", type=Path)
    checking.add_argument("--variant", choices=LABELLED, default="paper", help="endpoint; none: a cohort without label")
    checking.add_argument("--segment", default="", help="pattern of the names of the segments that are the tumour")
    given = parser.parse_args(arguments)
    try:
        found = check(given.folder, given.variant, given.segment)
    except (CasesError, re.error) as error:
        sys.exit(f"error: {error}")
    print(report(found, given.variant))
    stops = any(fault.follows == STOPS for fault in found.faults)
    out = {fault.row for fault in found.faults if fault.follows == LEFT_OUT}
    sys.exit(1 if stops or len(out) >= len(found.table) else 0)
