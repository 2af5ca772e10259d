"""Nodules and consensus labels from the real LIDC annotations against the released table, and cases worked by hand."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from tests import real
from tumorbench_utils.cohorts import COHORTS, lidc

SPACING = 0.5  # mm, of the scans made by hand; their slices are 2 mm apart and thick


@pytest.fixture(scope="module")
def made():
    """All steps from the raw annotations, and the CPU seconds that they took (fetching not counted)."""
    lidc.annotations()  # into the cache
    lidc.idc_instances()
    start = time.process_time()
    source = lidc.annotations()
    scans = lidc.selected_scans(source, lidc.idc_instances())
    nodules, nodule_of = lidc.nodules(source, scans.table.index)
    labels = lidc.consensus(nodules)
    seconds = time.process_time() - start
    parts = {"source": source, "scans": scans, "nodules": nodules, "nodule_of": nodule_of, "labels": labels}
    return parts | {"seconds": seconds}


@pytest.fixture(scope="module")
def released():
    rows = real.cohort_rows("luna16")
    return rows.assign(series_uid=COHORTS.get("luna16").patient(rows))


def steps(selection):
    return selection.flow[["kept", "left_out"]].to_numpy().tolist()


def test_scans(made):
    assert steps(made["scans"]) == [[1018, 0], [897, 121], [893, 4], [888, 5]]
    excluded = made["scans"].excluded
    assert dict(excluded["reason"].value_counts()) == {
        "slices thicker than 2.5 mm": 121,
        "uneven slice gaps": 4,
        "instances are not the slices": 5,
    }
    extra = excluded[excluded["reason"] == "instances are not the slices"]
    assert (extra["instances"] - extra["slices"]).tolist() == [1, 1, 5, 1, 5]
    assert len(made["scans"].table) + len(excluded) == len(made["source"].scans)


def test_consensus(made):
    labels = made["labels"]
    assert steps(labels) == [[2283, 0], [1186, 1097], [677, 509]]
    assert labels.table["label"].value_counts().to_dict() == {0: 350, 1: 327}
    assert labels.table["series_uid"].nunique() == 433
    assert set(labels.table.index) | set(labels.excluded.index) == set(made["nodules"].index)
    assert labels.excluded["reason"].notna().all()


def test_every_label_is_the_released_one(made, released):
    ours = made["labels"].table[["series_uid", "label"]].to_numpy().tolist()
    assert sorted(ours) == sorted(released[["series_uid", "malignancy"]].to_numpy().tolist())


def worst_mismatch(ours, seeds, spacing, sign):
    """Distance (mm) of the worst pair of nodules one to one, under the best in-plane origin.

    Both are (n, 4): x, y, z, label; x and y of ``ours`` are voxel indices, along (sign 1) or against (-1) LPS.
    """
    ours = ours * (sign * spacing, sign * spacing, 1, 1)
    worst = []
    for first in ours:
        moved = ours + np.append(seeds[0, :2] - first[:2], [0, 0])
        apart = np.linalg.norm(moved[:, None] - seeds, axis=2)
        worst.append(apart[linear_sum_assignment(apart)].max())
    return min(worst)


def test_nodules_are_the_released_ones_one_to_one(made, released):
    """In label and slice exactly; in plane up to the origin of each scan, which the annotations do not hold."""
    source, against = made["source"], []
    positions = source.slices.groupby("scan_id")["z"]
    by_scan = released.groupby("series_uid")
    for (scan_id, uid), nodules in made["labels"].table.groupby(["scan_id", "series_uid"]):
        z = positions.get_group(scan_id).to_numpy()[nodules["k"]]
        ours = np.column_stack([nodules[["x", "y"]], z, nodules["label"]])
        seeds = by_scan.get_group(uid)[["coordX", "coordY", "coordZ", "malignancy"]].to_numpy(float)
        along, back = (
            worst_mismatch(ours, seeds, source.scans.loc[scan_id, "pixel_spacing"], sign) for sign in (1, -1)
        )
        assert min(along, back) < 0.001
        if along > 0.001:
            against.append(uid.rsplit(".", 1)[1])
    # scans of more than one nodule whose in-plane axes point the other way
    assert sorted(against) == [
        "144883090372691745980459537053",
        "148447286464082095534651426689",
        "312127933722985204808706697221",
        "964952370561266624992539111877",
    ]


def test_annotations_keep_their_nodule_and_ratings(made):
    readings = made["source"].readings.join(made["nodule_of"], how="inner")
    by_nodule = readings.groupby("nodule_id")
    assert by_nodule.size().sort_index().equals(made["nodules"]["annotations"].sort_index().rename(None))
    pd.testing.assert_frame_equal(by_nodule[lidc.RATINGS].mean(), made["nodules"][lidc.RATINGS].sort_index())


def test_other_rules_give_other_counts(made):
    """Known counts of near-miss rules: without the selection of scans, and with any mean but 3."""
    everything, _ = lidc.nodules(made["source"])
    assert len(lidc.consensus(everything).table) == 809
    assert int(everything["merged"].sum()) == 14
    three = made["nodules"][made["nodules"]["annotations"] >= 3]
    assert int((three["malignancy"] != 3).sum()) == 1010


def test_fast(made):
    assert made["seconds"] < 60


def square(x, y, z, side=4):
    """Corners (voxel indices) and slice (mm) of one square contour."""
    coords = "\n".join(f"{x + i},{y + j}" for i, j in ((0, 0), (side, 0), (side, side), (0, side)))
    return {"z": float(z), "coords": coords}


def by_hand(*squares, ratings=None):
    """One scan of ten slices, one annotation per contour."""
    contours = pd.DataFrame([{"annotation_id": name, **square(*corner)} for name, corner in enumerate(squares, 1)])
    readings = pd.DataFrame(3, index=pd.RangeIndex(1, len(squares) + 1), columns=["scan_id", *lidc.RATINGS])
    readings = readings.assign(scan_id=7, malignancy=ratings or 3)
    scan = {"series_uid": "1.2", "patient_id": "P", "slice_thickness": 2.0, "pixel_spacing": SPACING}
    slices = pd.DataFrame({"scan_id": 7, "z": np.arange(-10.0, 10.0, 2.0)})
    points = lidc.contour_points(contours)
    return lidc.Annotations(pd.DataFrame([scan], index=pd.Index([7], name="scan_id")), slices, readings, points)


@pytest.mark.parametrize(
    ("second", "count"),
    [
        ((16, 10, 0), 1),  # 1 mm apart: the first ends at x = 14
        ((18, 10, 0), 1),  # 2 mm, the tolerance itself
        ((19, 10, 0), 2),  # 2.5 mm
        ((10, 10, 2), 1),  # on the next slice
        ((11, 10, 2), 2),  # next slice, and off by 0.5 mm in plane
        ((40, 40, 0), 2),
    ],
)
def test_two_readers(second, count):
    assert len(lidc.nodules(by_hand((10, 10, 0), second))[0]) == count


def test_annotations_may_be_linked_through_others():
    nodules, nodule_of = lidc.nodules(by_hand((10, 10, 0), (24, 10, 0), (17, 10, 0)))
    assert nodules["annotations"].tolist() == [3]
    assert nodule_of.to_dict() == {1: "1.2_1", 2: "1.2_1", 3: "1.2_1"}


def test_five_annotations_tighten_the_tolerance():
    # two neighbours 1.5 mm apart, of three and two readers: 2 mm joins them, 2 * 0.9**3 = 1.458 mm does not
    nodules, _ = lidc.nodules(by_hand(*[(10, 10, 0)] * 3, *[(17, 10, 0)] * 2))
    assert nodules["annotations"].tolist() == [3, 2]
    assert not nodules["merged"].any()
    four, _ = lidc.nodules(by_hand(*[(10, 10, 0)] * 2, *[(17, 10, 0)] * 2))
    assert four["annotations"].tolist() == [4]


def test_what_no_tolerance_parts_stays_merged():
    nodules, _ = lidc.nodules(by_hand(*[(10, 10, 0)] * 5, ratings=[1, 2, 3, 4, 5]))
    assert nodules[["annotations", "merged", "malignancy"]].to_numpy().tolist() == [[5, True, 3.0]]


def test_the_tolerance_stops_at_a_tenth_of_a_millimetre():
    def apart(distance):
        line = np.arange(5.0)
        return lidc.cluster(distance * np.abs(line[:, None] - line), 1.0)

    # 0.9**21 = 0.1094 is the last tolerance tried
    assert len(set(apart(0.109))) == 1
    assert len(set(apart(0.110))) == 5


def test_distances_are_those_of_all_pairs_of_points():
    random = np.random.default_rng(0)
    contours = [random.normal(size=(30, 3)) + 4 * random.normal(size=3) for _ in range(12)]
    pairs = [[np.linalg.norm(a[:, None] - b, axis=2).min() for b in contours] for a in contours]
    expected = np.where(np.eye(12, dtype=bool) | (np.array(pairs) > 3), np.inf, pairs)
    assert 10 < np.isfinite(expected).sum() < 132
    assert lidc.contour_distances(contours, 3.0) == pytest.approx(expected)


def test_box_and_seed_of_the_union():
    nodules, _ = lidc.nodules(by_hand((10, 20, -2), (10, 20, 0, 5), (15, 25, 2, 2)))
    box = nodules[["x_min", "x_max", "y_min", "y_max", "k_min", "k_max"]].to_numpy().tolist()
    assert box == [[10, 17, 20, 27, 4, 6]]
    assert nodules[["x", "y", "k"]].to_numpy().tolist() == [[14, 24, 5]]  # 13.5 and 23.5 go up


@pytest.mark.parametrize(
    ("ratings", "label", "reason"),
    [
        ([2, 2, 3], 0, None),
        ([2, 3, 2, 3], 0, None),  # 2.5 itself
        ([3, 4, 3, 4], 1, None),  # 3.5 itself
        ([3, 3, 4], None, "mean malignancy in between"),
        ([5, 5], None, "fewer than 3 readers"),
    ],
)
def test_label_by_hand(ratings, label, reason):
    nodules, _ = lidc.nodules(by_hand(*[(10, 10, 0)] * len(ratings), ratings=ratings))
    table, excluded, _ = lidc.consensus(nodules)
    assert (table["label"].tolist(), excluded["reason"].tolist()) == (
        [label] * (reason is None),
        [reason] * bool(reason),
    )


def test_scans_left_out_by_hand():
    source = by_hand((10, 10, 0))
    kept = lidc.selected_scans(source, pd.Series({"1.2": 10}))
    assert kept.table.index.tolist() == [7] and kept.excluded.empty
    absent = lidc.selected_scans(source, pd.Series({"9.9": 10}))
    assert absent.excluded[["instances", "reason"]].to_numpy().tolist() == [[0, "instances are not the slices"]]
    uneven = source.slices.assign(z=source.slices["z"].replace(8.0, 8.2))
    uneven = lidc.selected_scans(source._replace(slices=uneven), pd.Series({"1.2": 10}))
    assert uneven.excluded["reason"].tolist() == ["uneven slice gaps"]
    none = lidc.selected_scans(source._replace(slices=source.slices[:0]), pd.Series({"1.2": 0}))
    assert none.excluded["reason"].tolist() == ["uneven slice gaps"]


def test_unusable_annotations_are_named():
    source = by_hand((10, 10, 0), (10, 10, 0))
    with pytest.raises(lidc.LidcError, match="without contours: 2"):
        lidc.nodules(source._replace(points=source.points[source.points["annotation_id"] == 1]))
    with pytest.raises(lidc.LidcError, match="unknown scans: 1, 2"):
        lidc.nodules(source._replace(scans=source.scans.rename(index={7: 8})))
    with pytest.raises(lidc.LidcError, match="not 1 to 5 in annotations: 2"):
        lidc.nodules(source._replace(readings=source.readings.assign(malignancy=[5, 0])))
    with pytest.raises(lidc.LidcError, match="between slices: 1, 2"):
        lidc.nodules(source._replace(points=source.points.assign(z=0.5)))
    with pytest.raises(lidc.LidcError, match="no annotation in these scans"):
        lidc.nodules(source, pd.Index([99]))
    with pytest.raises(lidc.LidcError, match="not a pair"):
        lidc.contour_points(pd.DataFrame({"annotation_id": [1], "z": [0.0], "coords": ["1,2\n3"]}))
