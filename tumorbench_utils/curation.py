"""Data curation: who is in a cohort and why, and where the tumours of its images lie.

Two halves that meet in the annotation table: labels from a source table or from the LIDC readers (:func:`select`,
:func:`select_lidc`), and seed points measured on masks (:func:`measure`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from . import annotations, artefacts, buckets, imaging, masks, parallel, phantom, sources
from .annotations import Annotations
from .cohorts import lidc, lung_ct, own, own_check, released, seeds
from .cohorts.base import Cohort

FLOW = ["unit", "step", "kept", "left_out", "why"]
MEASURES = ["x", "y", "z", "volume_ml"]
QUALITY = ["diameter_mm", "parts", "tumour_hu", "slices", "pixel_mm", "slice_mm", "lowest_hu", "highest_hu"]
NAMES = ["sample_id", "patient_id"]
SHOWN = 5  # names listed in a message; the rest are counted
UNREADABLE = (imaging.ImageError, OSError)


class CurationError(ValueError):
    """A table of cases or labels that cannot be used; the message names the rows."""


class Selected(NamedTuple):
    """Annotations, and ``flow``: what each step kept and left out (columns ``FLOW``)."""

    annotations: Annotations
    flow: pd.DataFrame


class Lidc(NamedTuple):
    """The LUNA16 nodules with a label, the steps that led to them, and what the readers said.

    ``nodules`` has sample_id, series_uid and the seed's voxel x, y, k; ``ratings`` are the malignancy ratings (1 to 5)
    of all readings of nodules with three readers or more, ``means`` their means by nodule.
    """

    selected: Selected
    nodules: pd.DataFrame
    ratings: pd.Series
    means: pd.Series


class Measured(NamedTuple):
    """One row a case whose tumour was measured, and the cases left out (sample_id, reason).

    Columns: sample_id, image; x, y, z (LPS mm) of the tumour's centroid; volume_ml, diameter_mm; then for quality
    control parts (components of the mask), tumour_hu (its mean), slices, pixel_mm, slice_mm, lowest_hu, highest_hu.
    """

    table: pd.DataFrame
    excluded: pd.DataFrame


def select(
    cohort: Cohort, rows: pd.DataFrame, variant: str = "paper", manifest: pd.DataFrame | None = None
) -> Selected:
    """Annotations by the cohort's endpoint rule from its source rows, and the steps in numbers.

    With a ``manifest`` of its images the first step is its cases; cases that the source table lacks, and samples of the
    table that are none of its cases, are left out and listed.
    """
    made = annotations.from_rows(cohort, rows.reset_index(drop=True), variant)  # tables put together share their index
    names = pd.concat([made.table["sample_id"], made.excluded["sample_id"]])
    if names.duplicated().any():  # also if a rule left one of the rows out
        raise CurationError(f"{cohort.id}: several rows in the source table of {_some(names[names.duplicated()])}")
    flow = [("sample", "in the source table", len(rows), 0, "")]
    if manifest is not None:
        made, flow = _with_images(made, manifest, cohort.id)
    if cohort.endpoints:
        endpoint, (unit, _, before, *_) = cohort.endpoint(variant), flow[-1]
        kept = len(made.table)
        flow.append((unit, f"with a label: {endpoint.title}", kept, before - kept, endpoint.exclusion))
    return Selected(made, pd.DataFrame(flow, columns=FLOW))


def _with_images(made: Annotations, manifest: pd.DataFrame, origin: str) -> tuple[Annotations, list[tuple]]:
    """What is both in the source table and in the manifest, and two rows of the flow."""
    drawn = (manifest["role"] == "mask").any()
    cases = manifest[manifest["role"] == ("mask" if drawn else "ct")]
    cases = cases.drop_duplicates("case_id").rename(columns={"case_id": "sample_id"})
    known = cases["sample_id"].isin([*made.table["sample_id"], *made.excluded["sample_id"]])
    pictured = made.table["sample_id"].isin(cases["sample_id"])
    if not (known.any() and pictured.any()):
        ours, theirs = _some(made.table["sample_id"]), _some(cases["sample_id"])
        raise CurationError(f"{origin}: no sample with a label ({ours}) is a case of the manifest ({theirs})")
    why, commons, version = "not in the source table", "Imaging Data Commons", cases["index_version"].iloc[0]
    lost = [
        cases[~known].assign(reason=why),
        made.table[~pictured].assign(reason=f"no images in the {commons}"),
    ]
    excluded = [made.excluded, *(part[["sample_id", "patient_id", "reason"]] for part in lost)]
    flow = [
        ("case", f"{'with a mask ' if drawn else ''}in the {commons}, index {version}", len(cases), 0, ""),
        ("case", "in the source table", int(known.sum()), int((~known).sum()), why),
    ]
    table = made.table[pictured].reset_index(drop=True)
    return Annotations(table, pd.concat(excluded, ignore_index=True)), flow


def _some(names: Iterable[object]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more


def source_rows(cohort: Cohort, labels: str, folder: str | Path, images: Images | None = None) -> pd.DataFrame:
    """The rows that a cohort's rules read.

    ``labels``: "released" (the authors' table, from the package index), "cases" (the table of ``images`` itself),
    "zenodo" (the annotation table of the record, fetched to ``folder``), "idc" (the collection's clinical table, which
    needs the network), or the path of a CSV file.
    """
    if labels == "released":
        return released.rows(cohort.id)
    if labels == "cases":
        if images is None:
            raise CurationError(f"{cohort.id}: labels is 'cases', but there are no images with a table of cases")
        return images.cases
    if labels == "zenodo":
        if not isinstance(cohort.images, sources.Zenodo):
            raise CurationError(f"{cohort.id}: labels is 'zenodo', but the cohort is in no Zenodo record")
        fetched = sources.fetch_files(cohort.images, folder)
        return _read_table(next(row.path for row in fetched.itertuples() if row.name.endswith(".csv")))
    if labels == "idc":
        if not isinstance(cohort.images, sources.Idc):
            raise CurationError(f"{cohort.id}: labels is 'idc', but the cohort is not in the Imaging Data Commons")
        return sources.clinical(f"{cohort.images.collection}_clinical")
    if not Path(labels).is_file():
        raise CurationError(f"labels is '{labels}': neither released, lidc, idc, cases, zenodo nor a CSV file")
    return _read_table(Path(labels))


def _read_table(path: Path) -> pd.DataFrame:
    """A CSV file; our own identifiers stay text, and so does a column with numbers like 007, which are names."""
    try:
        text = pd.read_csv(path, dtype=str, encoding="utf-8-sig")
        names = [name for name in text if text[name].str.match(r"0\d+$").any()]
        return pd.read_csv(path, dtype=dict.fromkeys([*NAMES, *names], str), encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' own errors and undecodable bytes are ValueErrors
        raise CurationError(f"{path}: not a readable CSV file ({error})") from error


def series_of(cohort: Cohort, readers: Lidc | None = None) -> pd.DataFrame | None:
    """The manifest of a cohort's images; None if they are not in the Imaging Data Commons."""
    if not isinstance(cohort.images, sources.Idc):
        return None
    return sources.manifest(cohort.images, None if readers is None else readers.nodules["series_uid"].unique())


def select_lidc(cohort: Cohort) -> Lidc:
    """LUNA16 from the readers' own annotations: scans, nodules, consensus labels (:mod:`cohorts.lidc`).

    What is left out are scans, by their series UID, and nodules of the other scans. Seed points are voxels there
    (x, y, k); without the image there is no place in mm.
    """
    readers = lidc.annotations()
    scans = lidc.selected_scans(readers, lidc.idc_instances())
    nodules, nodule_of = lidc.nodules(readers, scans.table.index)
    labelled = lidc.consensus(nodules)
    chosen = nodules[nodules["annotations"] >= lidc.READERS - 1]
    ratings = readers.readings.loc[nodule_of.index[nodule_of.isin(chosen.index)], "malignancy"]
    table = labelled.table.reset_index(names="sample_id")[["sample_id", "patient_id", "label"]]
    table["label"] = table["label"].astype(float)
    lost = [
        scans.excluded.rename(columns={"series_uid": "sample_id"}),  # a scan that is left out has no nodules yet
        labelled.excluded.reset_index(names="sample_id"),
    ]
    excluded = pd.concat([part[["sample_id", "patient_id", "reason"]] for part in lost], ignore_index=True)
    flow = pd.concat([scans.flow, labelled.flow], ignore_index=True)
    made = Annotations(annotations.check(table, cohort.id), excluded)
    nodules = labelled.table.reset_index(names="sample_id")[["sample_id", "series_uid", "x", "y", "k"]]
    return Lidc(Selected(made, flow), nodules, ratings, chosen["malignancy"])


def count_check(cohort: Cohort, variant: str, table: pd.DataFrame) -> pd.DataFrame:
    """Positives and negatives as expected and as found: class, expected, found, difference."""
    if not cohort.endpoints:
        return pd.DataFrame(columns=["class", "expected", "found", "difference"])
    endpoint = cohort.endpoint(variant)
    rows = []
    for name, value, expected in (("positive", 1, endpoint.positives), ("negative", 0, endpoint.negatives)):
        found = int((table["label"] == value).sum())
        rows.append((name, expected, found, None if expected is None else found - expected))
    return pd.DataFrame(rows, columns=["class", "expected", "found", "difference"], dtype=object)


def measure(cases: pd.DataFrame, root: str | Path = ".", segment: str = "", workers: int | None = None) -> Measured:
    """Find the tumour of every case: seed point, size, and what quality control looks at.

    ``cases`` has the columns sample_id, ct, mask, both paths under ``root``. Of a mask with several segments those
    whose name matches the regular expression ``segment`` count, all together; the seed is the centroid of the largest
    connected component by volume. A column ``seed`` (:class:`seeds.Seed` or None) gives seed points instead, and such a
    case needs no mask. A case that cannot be measured is left out with its reason, which for a case without a path is
    its ``reason``, if ``cases`` has such a column. Cases are read in parallel by ``workers`` processes.
    """
    missing = {"sample_id", "ct", "mask"} - set(cases)
    if missing:
        raise CurationError(f"the table of cases has no column {', '.join(sorted(missing))}")
    nameless = cases.index[cases["sample_id"].isna()]
    if len(nameless):
        raise CurationError(f"cases without a sample_id, in rows {_some(nameless + 2)} (the header is row 1)")
    names = cases["sample_id"].astype(str)
    if names.duplicated().any():
        raise CurationError(f"cases that are there more than once: {_some(names[names.duplicated()])}")
    given = cases.reindex(columns=["ct", "mask", "reason", "seed"]).astype(object)
    jobs = list(zip(names, *given.where(given.notna(), None).to_numpy().T, strict=True))
    found = parallel.run(partial(_measure, Path(root), segment), jobs, workers, "tumours", "case")
    measured, excluded = ([row for row in found if ("reason" in row) == out] for out in (False, True))
    columns = ["sample_id", "image", *MEASURES, *QUALITY]
    return Measured(pd.DataFrame(measured, columns=columns), pd.DataFrame(excluded, columns=["sample_id", "reason"]))


def _measure(root: Path, segment: str, case: tuple[str, str | None, str | None, str | None, seeds.Seed | None]) -> dict:
    name, image, mask_path, reason, seed = case
    absent = [] if image else ["CT"]
    absent += [] if mask_path or seed else ["mask"]
    if absent:
        return {"sample_id": name, "reason": reason or f"no {' and no '.join(absent)}"}
    try:
        ct = imaging.read_ct(root / image)
        mask = read_segments(root / mask_path, ct, segment) if mask_path else None
        return {"sample_id": name, "image": image, **seeds.described(ct, mask, seed)}
    except UNREADABLE as error:
        return {"sample_id": name, "reason": _reason(error, root)}


def _reason(error: Exception, root: Path) -> str:
    """Without the folder, so that the same run gives the same table anywhere."""
    return str(error).replace(str(root / "_")[:-1], "")


def locate(nodules: pd.DataFrame, root: str | Path, workers: int | None = None) -> Measured:
    """Seed points in mm of the voxels x, y, k of ``nodules``, through the geometry of each image itself.

    The image of a nodule is the folder ``series_uid`` under ``root``; k counts its slices upwards. The readers drew
    outlines, not masks, so the volume stays empty. Some scans run from left to right or from front to back: only the
    image can tell.
    """
    jobs = [(uid, rows) for uid, rows in nodules.groupby("series_uid", sort=False)]
    found = [row for rows in parallel.run(partial(_locate, Path(root)), jobs, workers, "seeds", "scan") for row in rows]
    located, excluded = ([row for row in found if ("reason" in row) == out] for out in (False, True))
    columns = ["sample_id", "image", *MEASURES]
    return Measured(pd.DataFrame(located, columns=columns), pd.DataFrame(excluded, columns=["sample_id", "reason"]))


def _locate(root: Path, job: tuple[str, pd.DataFrame]) -> list[dict]:
    image, rows = job
    try:
        ct = imaging.read_ct(root / image)
    except UNREADABLE as error:
        return [{"sample_id": name, "reason": _reason(error, root)} for name in rows["sample_id"]]
    found = []
    for row in rows.itertuples():
        # an image counts its slices along their normal, which may point down
        point = ct.to_physical([row.x, row.y, row.k if ct.steps[2, 2] > 0 else len(ct.array) - 1 - row.k])
        if not ct.contains(point):
            found.append({"sample_id": row.sample_id, "reason": f"{image}: voxel {row.x, row.y, row.k} is outside"})
            continue
        found.append({"sample_id": row.sample_id, "image": image, **dict(zip("xyz", point, strict=True))})
    return found


def read_segments(path: Path, ct: imaging.Volume, segment: str = "") -> np.ndarray:
    """The union of the segments of a mask whose name matches ``segment``, booleans (z, y, x) on the grid of ``ct``.

    An image file, or an empty ``segment``, is read as one mask. :class:`imaging.ImageError` lists the names there are.
    """
    if not segment or imaging.is_image(path):
        return masks.read_mask(path, ct)
    try:
        names = masks.segments(path)
    except (AttributeError, KeyError) as error:  # as of a file that was cut between two elements
        raise imaging.ImageError(f"{path}: the list of segments is damaged ({error}); fetch it again") from error
    chosen = [number for number, name in names.items() if re.search(segment, name, re.IGNORECASE)]
    if not chosen:
        raise imaging.ImageError(f"{path}: no segment matches '{segment}'. There are: {', '.join(names.values())}")
    mask = np.zeros(ct.array.shape, bool)
    for number in chosen:  # one at a time: a mask of a large CT takes 100 MB and more
        mask |= masks.read_mask(path, ct, number)
    return mask


def place(made: Annotations, measured: Measured) -> Annotations:
    """Annotations with the image, the seed point and the volume of each sample; those without are left out, listed."""
    table = made.table.drop(columns=[*MEASURES, "image"], errors="ignore")
    table = table.merge(measured.table[["sample_id", "image", *MEASURES]], on="sample_id", how="left")
    missing = table["image"].isna()
    reasons = dict(zip(measured.excluded["sample_id"], measured.excluded["reason"], strict=True))
    lost = table.loc[missing, ["sample_id", "patient_id"]]
    lost = lost.assign(reason=[reasons.get(name, "no image") for name in lost["sample_id"]])
    if missing.all():
        raise CurationError(f"none of the {len(lost)} samples has a seed point: {_some(lost['reason'].unique())}")
    excluded = pd.concat([made.excluded, lost], ignore_index=True)
    return Annotations(annotations.check(table[~missing], "measured annotations"), excluded)


class Images(NamedTuple):
    """The images of a cohort: ``cases`` (sample_id, ct, mask if there are any, and the source's own columns).

    Paths are under ``root``. A case that could not be had has no path, and a ``reason`` instead.
    """

    cases: pd.DataFrame
    root: Path


def provide(cohort: Cohort, images: str, folder: str | Path, manifest: pd.DataFrame | None = None, **options) -> Images:
    """The images of a cohort on this machine, made or fetched into ``folder`` where they are not there yet.

    ``images``: "phantom" (``cohort.made`` and ``options`` of :func:`phantom.make`), "lung_ct" (two real CTs from the
    package index), "idc" (the series of ``manifest``, masks first since these say which CT is meant; ``options`` of
    :func:`buckets.download`), or the path of a folder of one's own with a ``cases.csv``.
    """
    folder = Path(folder)
    if images == "phantom":
        return Images(phantom.make(folder, **{**cohort.made, **options}), folder)
    if images == "lung_ct":
        return Images(lung_ct.cases(), artefacts.cache_dir())
    if images == "idc":
        return Images(_from_idc(cohort, manifest, folder, options), folder)
    table = Path(images) / "cases.csv"
    if not table.exists():
        raise CurationError(f"images is '{images}': neither phantom, lung_ct, idc nor a folder with a cases.csv")
    return Images(own.cases(table) if own.is_own(cohort.id) else _read_table(table), Path(images))


def _from_idc(cohort: Cohort, manifest: pd.DataFrame | None, folder: Path, options: dict) -> pd.DataFrame:
    if manifest is None:
        raise CurationError(f"{cohort.id} has no images in the Imaging Data Commons")
    drawn = manifest[manifest["role"] == "mask"]
    everyone = sources.cases(manifest, "mask" if len(drawn) else "ct").drop_duplicates("sample_id")[NAMES]
    reasons: dict[str, str] = {}
    if len(drawn):
        reasons |= sources.by_case(drawn, buckets.download_available(drawn, folder, **options))
        manifest, unclear = sources.choose(sources.without(manifest, reasons), folder)
        reasons |= unclear
    manifest = sources.without(manifest, reasons)
    scans = manifest[manifest["role"] == "ct"]
    reasons |= sources.by_case(scans, buckets.download_available(scans, folder, **options))
    there = sources.cases(manifest, "ct")
    if len(drawn):
        there = there.merge(sources.cases(manifest, "mask"), "outer")  # a mask without a CT is not lost
    lost = everyone[everyone["sample_id"].isin(reasons)]
    lost = lost.assign(reason=lost["sample_id"].map(reasons))
    return pd.concat([there[~there["sample_id"].isin(reasons)], lost], ignore_index=True) if reasons else there


def adopt(made: Annotations, images: Images, refused: pd.DataFrame | None = None) -> Annotations:
    """Annotations that have seed points already, with the image of each sample; those without are left out, listed.

    An image belongs to a sample by the sample's name, or by its patient's (LUNA16, whose scans hold several nodules).
    ``refused`` is what :func:`measure` or :func:`locate` left out: a sample whose CT was the reason is left out here
    too, one with no more than a bad mask keeps its seed.
    """
    cases = images.cases.drop_duplicates("sample_id").set_index("sample_id")
    given = [table for table in (images.cases, refused) if table is not None and "reason" in table]
    reasons = {row.sample_id: row.reason for table in given for row in table.dropna(subset="reason").itertuples()}
    names = made.table[NAMES]
    paths, why = (
        pd.Series([of.get(name, of.get(patient)) for name, patient in names.to_numpy()], names.index, dtype=object)
        for of in (cases["ct"].dropna().to_dict(), reasons)
    )
    lacking = paths.isna() | np.array([_blames(*each) for each in zip(why, paths, strict=True)], bool)
    lost = names[lacking].assign(reason=why[lacking].fillna("no image").astype(str))
    excluded = pd.concat([made.excluded, lost], ignore_index=True)
    table = made.table[~lacking].assign(image=paths[~lacking].astype(str))
    return Annotations(annotations.check(table, "annotations with images"), excluded)


def _blames(reason: object, ct: object) -> bool:
    """Whether a message is of a CT: it opens with its path, or with that of a file in it. A mask's may go on to it."""
    known = isinstance(reason, str) and isinstance(ct, str)
    return known and re.match(rf"(\[Errno.*')?{re.escape(ct)}[:/\\']", reason) is not None


if __name__ == "__main__":
    own_check.main("python -m tumorbench_utils.curation")
