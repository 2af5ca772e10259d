"""Phantoms are real DICOM, what is said of them is true of their voxels, and a killed run ends in the same bytes."""

import json
import os
import pickle
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import highdicom
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tumorbench_utils import annotations, imaging, masks, phantom
from tumorbench_utils.cohorts import COHORTS
from tumorbench_utils.cohorts import phantom as cohort
from tumorbench_utils.phantom.anatomy import ellipse, superellipse
from tumorbench_utils.phantom.cohort import TABLE
from tumorbench_utils.registry import UnknownNameError

CASES, RETESTS = 3, 1
MAKE = "import sys; from tumorbench_utils import phantom; phantom.make(sys.argv[1], 3, retests=1, workers=2)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantoms") / "cohort"
    phantom.make(path, CASES, retests=RETESTS, workers=2)
    return path


@pytest.fixture(scope="module")
def table(folder):
    return pd.read_csv(folder / TABLE)


@cache
def scanned(number, site="a", retest=False):
    """A scan of the first seed, computed once for all tests."""
    return phantom.scan(phantom.case(number, site), retest)


@pytest.fixture
def at_hand(monkeypatch):
    """Phantoms made in this process are painted once for all tests, and written each time."""

    def scan(of, retest):
        return scanned(of.number, of.site.id, retest)

    monkeypatch.setattr(sys.modules[phantom.make.__module__], "scan", scan)


@pytest.fixture(scope="module")
def made(table):
    """Every scan of the cohort, computed again without DICOM, by sample_id."""
    return {
        row.sample_id: scanned(int(row.patient_id[-4:]), row.site, row.scan == "retest") for row in table.itertuples()
    }


@cache
def many(null=False):
    """Parameters of as many cases as statistics need."""
    return phantom.parameters(400, retests=0, null=null)


def rescanned(rows):
    """Both scans of the patients that have two."""
    return rows[rows["patient_id"].isin(rows.loc[rows["scan"] == "retest", "patient_id"])]


def bytes_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def slices_of(folder, row):
    return [pydicom.dcmread(path) for path in sorted((folder / row.ct).iterdir())]


# DICOM


def test_pydicom_reads_the_array_and_the_geometry(folder, table, made):
    for row in table.itertuples():
        slices, image = slices_of(folder, row), made[row.sample_id]
        hu = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices])
        assert np.array_equal(hu, image.hu)
        assert len({one.SOPInstanceUID for one in slices}) == len(slices)
        for name in ("SeriesInstanceUID", "FrameOfReferenceUID", "StudyInstanceUID"):
            assert len({one[name].value for one in slices}) == 1
        places = np.array([one.ImagePositionPatient for one in slices], float)
        assert places[0] == pytest.approx(image.origin, abs=1e-4)
        assert np.diff(places, axis=0) == pytest.approx(np.tile([0, 0, image.spacing[2]], (len(slices) - 1, 1)))
        assert {one.file_meta.TransferSyntaxUID for one in slices} == {pydicom.uid.ExplicitVRLittleEndian}
        assert {one.Modality for one in slices} == {"CT"}


def test_simpleitk_reads_the_array_and_the_geometry(folder, table, made):
    for row in table.itertuples():
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / row.ct)))
        read, image = reader.Execute(), made[row.sample_id]
        assert np.array_equal(SimpleITK.GetArrayFromImage(read), image.hu)
        assert read.GetSpacing() == pytest.approx(image.spacing)
        assert read.GetOrigin() == pytest.approx(image.origin, abs=1e-4)
        assert read.GetDirection() == tuple(np.eye(3).ravel())


def test_highdicom_reads_the_true_mask_on_the_right_slices(folder, table, made):
    for row in table.itertuples():
        seg, mask = highdicom.seg.segread(folder / row.mask), made[row.sample_id].mask
        slices = slices_of(folder, row)
        read = seg.get_pixels_by_source_instance(
            [one.SOPInstanceUID for one in slices], segment_numbers=[1], assert_missing_frames_are_empty=True
        )
        assert np.array_equal(read[..., 0], mask)
        assert seg.NumberOfFrames == mask.any(axis=(1, 2)).sum() > 1
        assert seg.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
        assert seg.get_segment_description(1).segmented_property_type.meaning == "Neoplasm, Primary"


def test_our_readers_find_the_nodule_where_the_table_says(folder, table):
    for row in table.itertuples():
        ct = imaging.read_ct(folder / row.ct)
        found = masks.tumour(masks.largest_component(masks.read_mask(folder / row.mask, ct)), ct)
        assert found.centroid == pytest.approx([row.x, row.y, row.z], abs=0.5)
        assert found.volume_ml == pytest.approx(row.true_volume_ml, rel=0.1)
        assert found.diameter_mm == pytest.approx(row.true_diameter_mm, abs=4.5)  # a voxel's diagonal is 3.5 mm


def test_uids_are_of_their_own_in_every_scan_site_and_seed(folder, table):
    slices = [slices_of(folder, row)[0] for row in table.itertuples()]
    for name in ("SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
        assert len({one[name].value for one in slices}) == len(table)
    assert len({one.StudyInstanceUID for one in slices}) == CASES  # both scans of a patient are one study
    other = phantom.case(0, seed=1)
    written = phantom.dicom.ct_series(other, False, phantom.scan(other))
    assert written[0].SeriesInstanceUID not in {one.SeriesInstanceUID for one in slices}


def test_every_file_says_that_it_is_a_phantom(folder, table):
    for path in folder.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert header.PatientID.startswith("PHANTOM-") and "PHANTOM" in str(header.PatientName)
        assert "PHANTOM" in header.SeriesDescription and "PHANTOM" in header.ImageComments
        assert header.PatientID in set(table["patient_id"])


# Images


def lying(of):
    """The scan, and where its voxels are in the patient: x, y (rows, columns) and z (slices, 1, 1)."""
    image, pose = phantom.scan(of), of.pose()
    x, y, z = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(image.hu.shape[::-1], image.spacing, strict=True))
    return image, *pose.to_patient(*np.meshgrid(x, y)), (z - pose.shift[2])[:, None, None]


@pytest.mark.parametrize("site", ["a", "b"])
def test_tissues_have_plausible_hounsfield_units(site):
    of = next(one for one in (phantom.case(n, site) for n in range(20)) if one.chest.contrast == 0)
    image, x, y, z = lying(of)
    chest, lung_fields = of.chest, (np.abs(z) < 60) & ~image.mask
    inner = chest.inner(x, y, z)
    skin, mm = superellipse(x, y, chest.a + 29 + chest.fat, chest.b + 31 + chest.fat)
    wall = (1 - skin) * mm

    def median(where):
        return np.median(image.hu[np.broadcast_to(where, image.hu.shape) & lung_fields])

    assert -880 < median(chest.lung(x, y, z, inner, of.pose().breath) > 6) < -820
    assert -115 < median((wall > 4) & (wall < chest.fat - 1)) < -90
    assert 40 < median((wall > chest.fat + 9) & (inner < -20) & (z < -10)) < 60
    assert median((wall < -8) & (y < chest.b)) < -985
    assert median((ellipse(x, y - 62, 19, 15) > 5) & (np.abs(z % 24 - 12) > 5)) > 150  # marrow
    bone = (image.hu > 200) & (wall > 0) & lung_fields
    assert 0.01 < bone.sum() / (wall > 0).sum() / len(image.hu) < 0.1
    assert not (bone & (inner > 12) & (y < 30)).any()  # nothing is calcified within the lungs but a nodule


def test_the_nodule_lies_in_a_lung_and_its_mask_is_one_piece():
    for number in range(300):
        of = phantom.case(number, "ab"[number % 2])
        point = of.nodule.centre
        inner = of.chest.inner(*point)
        depth = of.chest.lung(*point, inner)
        assert 0 < depth < 60 and (depth < of.nodule.radius) == of.nodule.pleural
    assert all(ndimage.label(scanned(n).mask)[1] == 1 for n in range(3))


def test_mask_volume_and_centroid_are_the_analytic_ones(table, made):
    for row in table.itertuples():
        image = made[row.sample_id]
        k, j, i = np.nonzero(image.mask)
        centroid = image.origin + image.spacing * [i.mean(), j.mean(), k.mean()]
        assert centroid == pytest.approx([row.x, row.y, row.z], abs=0.5)
        assert image.mask.sum() * image.spacing.prod() / 1000 == pytest.approx(row.true_volume_ml, rel=0.1)


def test_a_sphere_has_the_volume_and_diameter_of_a_sphere():
    nodule = phantom.case(0).nodule
    sphere = replace(nodule, radius=10.0, lobes=np.array([[1, 0, 0, 0.0]]))
    assert sphere.volume_ml == pytest.approx(4 / 3 * np.pi)
    assert sphere.diameter_mm == pytest.approx(20, abs=0.05)
    assert sphere.centroid == pytest.approx(nodule.centre, abs=0.02)


def test_texture_and_spicules_are_seen_in_the_image():
    of = phantom.case(3, "b")
    even = replace(of, nodule=replace(of.nodule, heterogeneity=0.0, solid=1.0, calcified=False))
    uneven = replace(even, nodule=replace(even.nodule, heterogeneity=60.0))
    spiculated = scanned(3, "b")
    within = ndimage.binary_erosion(spiculated.mask, iterations=2)
    spread = [phantom.scan(one).hu[within].std() for one in (even, uneven)]
    assert spread[1] > 1.3 * spread[0]
    bare = replace(of, nodule=replace(of.nodule, spicules=of.nodule.spicules[:0]))
    bald = phantom.scan(bare)
    assert np.array_equal(spiculated.mask, bald.mask)  # spicules are no part of the mask
    rays = (spiculated.hu - bald.hu > 200) & ~bald.mask
    apart = ndimage.distance_transform_edt(~bald.mask, of.site.pixel_mm)[rays]
    assert len(apart) > 100 and 3 < apart.max() < 1.5 * of.nodule.radius


def noise_of(number, site):
    """The noise of a scan in the middle of the field of view."""
    of, image = phantom.case(number, site), scanned(number, site)
    silent = phantom.scan(replace(of, site=replace(of.site, noise_hu=0)))
    part = tuple(slice(n // 2 - 15, n // 2 + 15) for n in image.hu.shape)
    return image.hu[part].astype(float) - silent.hu[part]


def test_sites_differ_in_noise_kernel_and_spacing():
    noise = {site: noise_of(1, site) for site in "ab"}
    for site in "ab":
        assert noise[site].std() == pytest.approx(phantom.SITES.get(site).noise_hu, rel=0.25)
    neighbours = {site: np.corrcoef(n[..., 1:].ravel(), n[..., :-1].ravel())[0, 1] for site, n in noise.items()}
    assert neighbours["a"] > neighbours["b"] + 0.2  # smooth against sharp
    spacing = [scanned(1, site).spacing for site in "ab"]
    assert (spacing[0] < spacing[1]).all()


def test_sites_differ_in_case_mix():
    sites = many().groupby("site")
    assert sites["malignant"].mean()["a"] + 0.1 < sites["malignant"].mean()["b"]
    assert sites["true_diameter_mm"].median()["a"] + 1 < sites["true_diameter_mm"].median()["b"]


def test_a_retest_is_the_same_nodule_elsewhere(table, made):
    pairs = rescanned(table)
    assert pairs["patient_id"].nunique() == RETESTS
    for _, rows in pairs.groupby("patient_id"):
        first, second = (made[sample] for sample in rows["sample_id"])
        assert not np.array_equal(first.hu, second.hu)
        volumes = [one.mask.sum() for one in (first, second)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.06)
        assert rows["true_volume_ml"].nunique() == rows["true_diameter_mm"].nunique() == 1
        # the seed moved, in the image and not only in its coordinates, and the nodule is there
        index = [(one.centroid - one.origin) / one.spacing for one in (first, second)]
        assert np.linalg.norm((index[1] - index[0]) * first.spacing) > 1
        for one, at in zip((first, second), index, strict=True):
            assert one.mask[tuple(np.rint(at).astype(int)[::-1])]
        assert rows["scan"].tolist() == ["test", "retest"]


def test_a_retest_shows_the_same_anatomy():
    """Moved back by its pose, the second image is the first, but for noise and interpolation."""
    of = phantom.case(0, "a")
    images = [scanned(0, "a", retest).hu.astype(float) for retest in (False, True)]
    poses = [replace(of.pose(retest), breath=0.0) for retest in (False, True)]
    site, n = of.site, of.site.columns
    k = site.slices - 25  # high up, where breathing does not reach
    x, y = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * site.pixel_mm] * 2)
    z = (k - (site.slices - 1) / 2) * site.slice_mm
    x, y = poses[0].to_patient(x, y)
    places = poses[1].to_scanner(np.stack([x, y, np.full_like(x, z - poses[0].shift[2])], axis=-1))
    step = [site.slice_mm, site.pixel_mm, site.pixel_mm]
    index = [places[..., 2 - axis] / step[axis] + (images[1].shape[axis] - 1) / 2 for axis in range(3)]
    moved = ndimage.map_coordinates(images[1], index, order=1)
    inside = superellipse(x, y, of.chest.a, of.chest.b)[0] < 1
    same = np.corrcoef(moved[inside], images[0][k][inside])[0, 1]
    unmoved = np.corrcoef(images[1][k][inside], images[0][k][inside])[0, 1]
    assert same > 0.97 > unmoved


# Labels


TEXTURE = ["heterogeneity_hu", "solid", "calcified", "spiculation"]


def auc(rows, features):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(model, rows[features], rows["malignant"], cv=5, method="predict_proba")[:, 1]
    return roc_auc_score(rows["malignant"], scores)


@pytest.mark.parametrize("features", [["true_diameter_mm"], TEXTURE, ["heterogeneity_hu"]])
def test_malignancy_shows_but_not_in_a_null_cohort(features):
    assert 0.75 < auc(many(), features) < 0.95
    assert abs(auc(many(null=True), features) - 0.5) < 0.09  # 3 standard errors


@pytest.mark.parametrize(("null", "low", "high"), [(False, 0.15, 0.35), (True, 0.41, 0.59)])
def test_size_foretells_survival_but_not_in_a_null_cohort(null, low, high):
    rows = many(null=null)
    label = cohort.COHORT.endpoint("survival").label(rows)
    known = label.notna()
    assert low < roc_auc_score(label[known], rows["true_diameter_mm"][known]) < high


def test_a_null_cohort_differs_in_its_outcomes_only():
    outcome = ["malignant", "time_days", "event"]
    rows, null = (phantom.parameters(60, null=value) for value in (False, True))
    pd.testing.assert_frame_equal(rows.drop(columns=outcome), null.drop(columns=outcome))
    assert (rows["malignant"] != null["malignant"]).mean() > 0.3
    assert np.array_equal(scanned(2).hu, phantom.scan(phantom.case(2, null=True)).hu)


def test_two_year_survival_has_both_labels_and_leaves_some_out():
    rows = many().head(200)
    made = annotations.from_rows(cohort.COHORT, rows, "survival")
    assert len(made.table) + len(made.excluded) == 200
    assert (made.table["label"] == 1).sum() > 60 and (made.table["label"] == 0).sum() > 40
    assert 10 < len(made.excluded) < 60
    left_out = rows[rows["sample_id"].isin(made.excluded["sample_id"])]
    assert (left_out["time_days"] < 730).all() and (left_out["event"] == 0).all()


def test_a_patient_counts_once_and_pairs_are_the_retest_cohort():
    rows = phantom.parameters(10, retests=3)
    made = annotations.from_rows(cohort.COHORT, rows)
    assert made.table["patient_id"].is_unique and len(made.table) == 10
    assert list(made.excluded["reason"]) == ["second scan of the patient"] * 3
    pairs = rescanned(rows)
    assert pairs["patient_id"].value_counts().tolist() == [2, 2, 2]
    assert COHORTS.get("phantom_retest").sample(pairs).is_unique


# A cohort on disk


def test_table_is_what_parameters_says(table):
    pd.testing.assert_frame_equal(table, phantom.parameters(CASES, retests=RETESTS))


def test_paths_of_the_table_are_there_and_no_more(folder, table):
    assert all((folder / path).exists() for path in [*table["ct"], *table["mask"]])
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(table["sample_id"])


def test_the_first_cases_of_a_larger_cohort_are_the_smaller_one():
    small, large = phantom.parameters(6, retests=2), phantom.parameters(30, retests=2)
    pd.testing.assert_frame_equal(small, large.head(len(small)))


def test_bytes_do_not_depend_on_workers_or_on_growing(folder, tmp_path, at_hand):
    phantom.make(tmp_path, 2, retests=1, workers=1)
    assert len(pd.read_csv(tmp_path / TABLE)) == 3
    phantom.make(tmp_path, CASES, retests=RETESTS, workers=1)
    assert bytes_of(tmp_path) == bytes_of(folder)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in 60 seconds"
        time.sleep(0.01)


def gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    stat = f"/proc/{process}/stat"  # an ended process whose new parent has not asked for it is still in the table
    return os.path.exists(stat) and open(stat).read().rpartition(")")[2].split()[0] == "Z"


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(folder, tmp_path, at_hand):
    def samples():
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("PHANTOM-*")}

    def unfinished():
        return list(tmp_path.glob(".tmp-*"))

    with subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path)], stderr=subprocess.DEVNULL) as killed:
        wait_until(lambda: samples() and any(path.is_dir() for path in unfinished()))
        killed.kill()
    workers = {int(re.match(r"\.tmp-(\d+)-", path.name)[1]) for path in unfinished()}
    wait_until(lambda: all(map(gone, workers)))
    before = samples()
    assert 0 < len(before) < CASES + RETESTS and not (tmp_path / TABLE).exists()
    phantom.make(tmp_path, CASES, retests=RETESTS, workers=1)
    assert {name: samples()[name] for name in before} == before  # what was whole is not made again
    assert not unfinished()
    assert bytes_of(tmp_path) == bytes_of(folder)


@pytest.mark.parametrize("options", [{"seed": 1}, {"null": True}, {"sites": ("b",)}])
def test_a_folder_of_other_phantoms_is_refused_and_left_alone(folder, options):
    before = bytes_of(folder)
    with pytest.raises(phantom.PhantomError, match=r"holds phantoms of .* choose another folder"):
        phantom.make(folder, CASES, retests=RETESTS, workers=1, **options)
    assert bytes_of(folder) == before


@pytest.mark.parametrize("stale", [{"code": {}}, {"tumorbench": "0.0.1"}, {"code": None}], ids=str)
def test_phantoms_of_other_code_are_made_again(folder, tmp_path, stale, at_hand):
    phantom.make(tmp_path, 2, retests=0, workers=1)
    (tmp_path / "notes.txt").write_text("mine")
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["code"].keys() == {path.name for path in Path(phantom.__file__).parent.glob("*.py")}
    for path in tmp_path.rglob("*.dcm"):
        path.write_bytes(b"stale")
    (tmp_path / "recipe.json").write_text(json.dumps({k: v for k, v in (recipe | stale).items() if v is not None}))
    phantom.make(tmp_path, 1, retests=0, workers=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.dcm")}
    assert len({path.parts[0] for path in made}) == 1  # the second one, stale too, is gone
    assert all((tmp_path / path).read_bytes() == (folder / path).read_bytes() for path in made)
    assert json.loads((tmp_path / "recipe.json").read_text()) == recipe


def test_stale_phantoms_of_another_kind_are_refused_too(tmp_path, at_hand):
    phantom.make(tmp_path, 1, retests=0, workers=1)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps(recipe | {"code": {}}))
    before = bytes_of(tmp_path)
    with pytest.raises(phantom.PhantomError, match=r"holds phantoms of {'seed': 0.* choose another folder"):
        phantom.make(tmp_path, 1, retests=0, seed=1, workers=1)
    assert bytes_of(tmp_path) == before


@pytest.mark.parametrize("wrong", [{"cases": 0}, {"retests": 5}, {"retests": -1}, {"sites": ()}, {"seed": -1}], ids=str)
def test_cohorts_that_cannot_be_are_refused(tmp_path, wrong):
    with pytest.raises(phantom.PhantomError, match="give at least one case"):
        phantom.make(tmp_path / "new", **{"cases": 4, **wrong})
    assert not (tmp_path / "new").exists()


def test_an_unknown_site_is_an_error_that_lists_the_sites():
    with pytest.raises(UnknownNameError, match="Known: a, b"):
        phantom.parameters(2, sites=("a", "c"), retests=0)


def test_cases_of_a_seed_are_independent_and_travel_to_workers():
    cases = [phantom.case(number) for number in range(3)]
    assert len({one.nodule.radius for one in cases}) == 3
    first = cases[0].stream("noise").random()
    assert first not in {cases[0].stream("noise", retest=True).random(), cases[1].stream("noise").random()}
    assert pickle.loads(pickle.dumps(cases[0])).nodule.volume_ml == cases[0].nodule.volume_ml
