"""Labels from the real tables and manifests, and seed points measured on real, phantom and hand-made images."""

import functools
import hashlib
import json
import os
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests import real, s3
from tests.dicom import DIRECTIONS, ORIGIN, SPACING, blob, volume, write_image, write_seg, write_series
from tests.server import Server
from tumorbench_utils import annotations, artefacts, curation, imaging, phantom, sources
from tumorbench_utils.annotations import AnnotationError, Annotations
from tumorbench_utils.cohorts import COHORTS, STUDY
from tumorbench_utils.curation import CurationError

VOXEL_ML = SPACING.prod() / 1000
IN_IDC = [cohort for cohort in STUDY if cohort.id in real.COHORT_TABLES and cohort.id != "luna16"]
VARIANTS = [(cohort.id, variant) for cohort in IN_IDC for variant in cohort.endpoints or ["paper"]]
# cases in the IDC, with a row in the released table, with a label
FLOWS = {
    ("nsclc_radiomics", "paper"): [421, 421, 421],
    ("nsclc_radiomics", "strict"): [421, 421, 420],
    ("nsclc_radiogenomics", "paper"): [144, 144, 144],
    ("nsclc_radiogenomics", "two_year"): [144, 144, 133],
    ("c4kc_kits", "paper"): [210, 210, 134],
    ("colorectal_liver_metastases", "paper"): [197, 197, 194],
    ("rider", "paper"): [52, 52],
}
CLASSES = {
    ("nsclc_radiomics", "paper"): [169, 252],
    ("nsclc_radiomics", "strict"): [169, 251],
    ("nsclc_radiogenomics", "paper"): [93, 51],
    ("nsclc_radiogenomics", "two_year"): [105, 28],
    ("c4kc_kits", "paper"): [118, 16],
    ("colorectal_liver_metastases", "paper"): [176, 18],
}


@functools.cache
def manifest_of(cohort):
    return sources.manifest(COHORTS.get(cohort).images)


def selected(cohort, variant="paper", rows=None, manifest=None):
    if rows is None and manifest is None:
        return selected_whole(cohort, variant)
    rows = real.cohort_rows(cohort) if rows is None else rows
    return curation.select(COHORTS.get(cohort), rows, variant, manifest_of(cohort) if manifest is None else manifest)


@functools.cache
def selected_whole(cohort, variant):
    return curation.select(COHORTS.get(cohort), real.cohort_rows(cohort), variant, manifest_of(cohort))


def samples(table):
    return list(table["sample_id"])


# who is in a cohort


@pytest.mark.parametrize(("cohort", "variant"), VARIANTS)
def test_the_flow_of_the_released_tables_through_the_real_index(cohort, variant):
    made, flow = selected(cohort, variant)
    assert list(flow.columns) == curation.FLOW and set(flow["unit"]) == {"case"}
    assert list(flow["kept"]) == FLOWS[cohort, variant]
    assert list(flow["left_out"]) == [0, *-np.diff(flow["kept"])]
    assert len(made.table) == flow["kept"].iloc[-1] and len(made.excluded) == flow["left_out"].sum()
    listed = samples(made.table) + samples(made.excluded)
    assert len(listed) == len(set(listed)) == len(real.cohort_rows(cohort))
    assert set(listed) == set(manifest_of(cohort).query("role == 'mask'")["case_id"])


@pytest.mark.parametrize(("cohort", "variant"), CLASSES)
def test_the_classes_are_counted_against_what_is_expected(cohort, variant):
    made = selected(cohort, variant).annotations
    count = curation.count_check(COHORTS.get(cohort), variant, made.table)
    assert list(count["class"]) == ["positive", "negative"]
    assert list(count["found"]) == list(count["expected"]) == CLASSES[cohort, variant]
    assert list(count["difference"]) == [0, 0]
    fewer = curation.count_check(COHORTS.get(cohort), variant, made.table[made.table["label"] == 1].iloc[2:])
    assert list(fewer["difference"]) == [-2, -CLASSES[cohort, variant][1]]


def test_without_expectation_there_is_no_difference_and_without_endpoint_no_count():
    table = pd.DataFrame({"label": [1, 1, 0]})
    count = curation.count_check(COHORTS.get("phantom"), "paper", table)
    assert list(count["found"]) == [2, 1] and list(count["difference"]) == [None, None]
    assert curation.count_check(COHORTS.get("rider"), "paper", table).empty


def test_cases_that_the_table_lacks_are_left_out_and_listed():
    rows = real.cohort_rows("c4kc_kits")
    lost = rows["patient_id"].iloc[[3, 77]].tolist()
    made, flow = selected("c4kc_kits", rows=rows.drop(index=[3, 77]))
    assert list(flow["kept"])[:2] == [210, 208] and list(flow["left_out"])[:2] == [0, 2]
    listed = made.excluded[made.excluded["reason"] == "not in the source table"]
    assert samples(listed) == lost and list(listed["patient_id"]) == lost
    assert len(made.table) + len(made.excluded) == 210


def test_samples_of_the_table_without_images_are_left_out_and_listed():
    manifest = manifest_of("colorectal_liver_metastases")
    absent = sorted(manifest["case_id"].unique())[:5]
    made, flow = selected("colorectal_liver_metastases", manifest=manifest[~manifest["case_id"].isin(absent)])
    full = selected("colorectal_liver_metastases").annotations
    assert flow["kept"].iloc[0] == flow["kept"].iloc[1] == 192
    assert flow["kept"].iloc[2] == len(made.table) and not set(absent) & set(samples(made.table))
    assert flow["kept"].iloc[2] + flow["left_out"].iloc[2] == 192
    listed = made.excluded[made.excluded["reason"] == "no images in the Imaging Data Commons"]
    assert set(samples(listed)) == set(absent) & set(samples(full.table)) != set()
    assert len(made.table) + len(made.excluded) == 197  # nobody is in neither table


def test_names_that_never_meet_are_an_error_that_shows_some_of_both():
    rows = real.cohort_rows("c4kc_kits")
    with pytest.raises(CurationError, match=r"c4kc_kits: no sample with a label \(0KiTS-.* and 129 more\) .*\(KiTS-"):
        selected("c4kc_kits", rows=rows.assign(patient_id="0" + rows["patient_id"]))
    with pytest.raises(CurationError, match="no sample with a label"):
        selected("c4kc_kits", manifest=manifest_of("c4kc_kits").head(0))


def test_without_a_manifest_the_rows_are_the_first_step():
    made, flow = curation.select(COHORTS.get("c4kc_kits"), real.cohort_rows("c4kc_kits"))
    assert flow[["unit", "kept", "left_out"]].to_numpy().tolist() == [["sample", 210, 0], ["sample", 134, 76]]
    assert flow["why"].iloc[1] == "censored before two years" and set(made.excluded["reason"]) == {flow["why"].iloc[1]}


def test_a_renamed_column_is_named():
    rows = real.cohort_rows("c4kc_kits").rename(columns={"vital_status": "status"})
    with pytest.raises(AnnotationError, match=r"c4kc_kits: .* no column 'vital_status'\. It has: .* status"):
        selected("c4kc_kits", rows=rows)


def test_a_patient_with_two_rows_is_an_error_wherever_the_rows_end():
    rows, made = real.cohort_rows("c4kc_kits"), selected("c4kc_kits").annotations
    for name in (made.table["sample_id"].iloc[0], made.excluded["sample_id"].iloc[0]):
        again = rows[rows["patient_id"] == name]
        with pytest.raises((AnnotationError, CurationError), match=f"'{name}' is a duplicate|several rows .*{name}"):
            selected("c4kc_kits", rows=pd.concat([rows, again]))
    kept_and_not = rows[rows["patient_id"] == made.table["sample_id"].iloc[0]].assign(
        vital_status="censored", vital_days_after_surgery=10
    )
    with pytest.raises(CurationError, match="several rows in the source table of KiTS"):
        selected("c4kc_kits", rows=pd.concat([rows, kept_and_not]))


@pytest.fixture(scope="module")
def readers():
    start = time.process_time()
    made = real.readers()
    return made, time.process_time() - start


def test_luna16_from_the_readers(readers):
    (made, nodules, ratings, means), seconds = readers
    assert dict(zip(made.flow["step"], made.flow["kept"], strict=True)) == {
        "CT series of LIDC-IDRI": 1018,
        "slice thickness at most 2.5 mm": 897,
        "slice gaps equal within 0.1 mm": 893,
        "as many IDC instances as slices": 888,
        "nodules of the scans": 2283,
        "at least 3 readers": 1186,
        "mean malignancy <= 2.5 or >= 3.5": 677,
    }
    labels = made.annotations.table["label"]
    assert (len(labels), (labels == 0).sum(), (labels == 1).sum()) == (677, 350, 327)
    assert list(curation.count_check(COHORTS.get("luna16"), "paper", made.annotations.table)["difference"]) == [0, 0]
    assert nodules["series_uid"].nunique() == 433 and samples(nodules) == samples(made.annotations.table)
    assert len(means) == 1186 and set(ratings) == {1, 2, 3, 4, 5}
    assert 3 * 1186 <= len(ratings) <= 4 * 1186 + 14  # three readers or four; some nodules stay merged
    assert seconds < 60


def test_luna16_lists_every_scan_and_nodule_that_is_left_out(readers):
    made = readers[0].selected
    excluded = made.annotations.excluded
    assert len(excluded) == made.flow["left_out"].sum() == (1018 - 888) + (2283 - 677)
    steps = made.flow[made.flow["left_out"] > 0]
    assert excluded["reason"].value_counts().to_dict() == dict(zip(steps["why"], steps["left_out"], strict=True))
    assert excluded["sample_id"].is_unique and not set(excluded["sample_id"]) & set(samples(made.annotations.table))
    assert excluded.notna().all(axis=None)


def test_the_series_of_the_chosen_scans_and_of_all_others(readers):
    luna = curation.series_of(COHORTS.get("luna16"), readers[0])
    assert len(luna) == 433 and set(luna["series_uid"]) == set(readers[0].nodules["series_uid"])
    assert curation.series_of(COHORTS.get("rider"))["role"].value_counts()["mask"] == 52
    assert curation.series_of(COHORTS.get("dlcs")) is None and curation.series_of(COHORTS.get("phantom")) is None


# source rows


def test_rows_come_from_where_they_are_said_to_be(tmp_path):
    kits = COHORTS.get("c4kc_kits")
    assert curation.source_rows(kits, "released", tmp_path).equals(real.cohort_rows("c4kc_kits"))
    own = tmp_path / "mine.csv"
    own.write_text("\ufeffpatient_id,vital_days_after_surgery,vital_status\n007,800,censored\n012,10,dead\n", "utf-8")
    rows = curation.source_rows(kits, str(own), tmp_path)
    made = curation.select(kits, rows).annotations.table
    assert samples(made) == ["007", "012"] and list(made["label"]) == [1, 0]
    images = curation.Images(rows, tmp_path)
    assert curation.source_rows(kits, "cases", tmp_path, images) is rows


def test_a_column_of_names_stays_text_and_a_column_of_numbers_does_not(tmp_path):
    (tmp_path / "a.csv").write_text("code,days,patient_id,empty\n0012,800,1,\n12,7.5,,\n")
    rows = curation.source_rows(COHORTS.get("c4kc_kits"), str(tmp_path / "a.csv"), tmp_path)
    assert list(rows["code"]) == ["0012", "12"] and list(rows["days"]) == [800, 7.5]
    assert rows["patient_id"].iloc[0] == "1"  # not 1.0, which the empty one would make of it


def test_rows_that_are_nowhere_are_an_error(tmp_path):
    kits = COHORTS.get("c4kc_kits")
    with pytest.raises(CurationError, match="neither released, lidc, idc, cases, zenodo nor a CSV file"):
        curation.source_rows(kits, "relased", tmp_path)
    with pytest.raises(CurationError, match="no images with a table of cases"):
        curation.source_rows(kits, "cases", tmp_path)
    with pytest.raises(CurationError, match="in no Zenodo record"):
        curation.source_rows(kits, "zenodo", tmp_path)
    with pytest.raises(LookupError, match="no released table of dlcs"):
        curation.source_rows(COHORTS.get("dlcs"), "released", tmp_path)
    for content in (b"\xff\xfe\x00P\xd0", b"", b'a,b\n"1,2\n'):
        (tmp_path / "bad.csv").write_bytes(content)
        with pytest.raises(CurationError, match=r"bad\.csv: not a readable CSV file"):
            curation.source_rows(kits, str(tmp_path / "bad.csv"), tmp_path)


def test_labels_from_the_clinical_table_of_the_idc(tmp_path, monkeypatch):
    import idc_index

    def fetched(client, name):
        client.clinical_data_dir = str(tmp_path)

    kits, rows = COHORTS.get("c4kc_kits"), real.cohort_rows("c4kc_kits")
    rows.assign(dicom_patient_id=rows["patient_id"]).to_parquet(tmp_path / "c4kc_kits_clinical")
    monkeypatch.setattr(idc_index.IDCClient, "fetch_index", fetched)
    made = curation.select(kits, curation.source_rows(kits, "idc", tmp_path)).annotations
    pd.testing.assert_frame_equal(made.table, curation.select(kits, rows).annotations.table)
    monkeypatch.setattr(idc_index.IDCClient, "__init__", lambda client: None)  # it reads an index of all series
    with pytest.raises(sources.SourceError, match=r"no table rider_lung_ct.*_clinical\. Without a network, give"):
        curation.source_rows(COHORTS.get("rider"), "idc", tmp_path)
    with pytest.raises(CurationError, match="dlcs: labels is 'idc', but the cohort is not in the Imaging Data Commons"):
        curation.source_rows(COHORTS.get("dlcs"), "idc", tmp_path)


def test_dlcs_from_a_record(tmp_path, monkeypatch):
    name = "DLCSD24_Annotations_v2.csv"
    table = "patient-id,nodule_id,coordX,coordY,coordZ,Malignant_lbl\n"
    table += "DLCS_0001,1,1.5,2.5,3.5,0\nDLCS_1120,2,4,5,6,1\nDLCS_1121,1,7,8,9,1\n"
    with Server({f"files/{name}": table.encode()}) as server:
        checksum = "md5:" + hashlib.md5(table.encode()).hexdigest()
        file = {"key": name, "size": len(table), "checksum": checksum, "links": {"self": server.url(f"files/{name}")}}
        server.files["api/records/10782890"] = json.dumps({"files": [file]}).encode()
        fetch = functools.partial(sources.fetch_files, api=server.url("api"))
        monkeypatch.setattr(curation.sources, "fetch_files", fetch)
        rows = curation.source_rows(COHORTS.get("dlcs"), "zenodo", tmp_path)
    made, flow = curation.select(COHORTS.get("dlcs"), rows)
    assert samples(made.table) == ["DLCS_0001_1", "DLCS_1120_2"] and samples(made.excluded) == ["DLCS_1121_1"]
    assert made.table[["x", "y", "z"]].to_numpy().tolist() == [[1.5, 2.5, 3.5], [4, 5, 6]]
    assert list(flow["kept"]) == [3, 2]
    assert len(curation.select(COHORTS.get("dlcs"), rows, "full").annotations.table) == 3


# where the tumours lie


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Two patients, one scanned twice: folder, table, and what is measured."""
    folder = tmp_path_factory.mktemp("phantoms")
    images = curation.provide(COHORTS.get("phantom"), "phantom", folder, cases=2, retests=1, workers=1)
    return SimpleNamespace(
        folder=folder, table=images.cases, images=images, found=curation.measure(images.cases, folder, workers=1)
    )


def test_phantoms_are_measured_as_they_were_made(phantoms):
    truth, found = phantoms.table, phantoms.found
    assert len(truth) == 3 and found.excluded.empty
    assert samples(found.table) == samples(truth) and list(found.table["image"]) == list(truth["ct"])
    axes = ["x", "y", "z"]
    assert np.linalg.norm(found.table[axes].to_numpy() - truth[axes].to_numpy(), axis=1).max() < 0.5
    np.testing.assert_allclose(found.table["volume_ml"], truth["true_volume_ml"], rtol=0.05)
    assert ((found.table["diameter_mm"] / truth["true_diameter_mm"]).between(0.9, 1.4)).all()  # to voxel corners
    sites = [phantom.SITES.get(site) for site in truth["site"]]
    assert list(found.table["slices"]) == [site.slices for site in sites]
    np.testing.assert_allclose(found.table["pixel_mm"], [site.pixel_mm for site in sites])
    np.testing.assert_allclose(found.table["slice_mm"], [site.slice_mm for site in sites])
    assert (found.table["parts"] == 1).all()
    assert found.table["tumour_hu"].between(-700, 400).all()
    assert (found.table["lowest_hu"] >= -1024).all() and (found.table["highest_hu"] > 300).all()


def test_phantoms_from_folder_to_annotations(phantoms):
    cohort = COHORTS.get("phantom")
    made = curation.select(cohort, curation.source_rows(cohort, "cases", phantoms.folder, phantoms.images))
    placed = curation.place(made.annotations, phantoms.found)
    assert samples(placed.table) == list(phantoms.table.query("scan == 'test'")["sample_id"])
    assert list(placed.excluded["reason"]) == ["second scan of the patient"]
    seeds = phantoms.found.table.set_index("sample_id").loc[samples(placed.table)]
    for name in ("image", *curation.MEASURES):
        assert list(placed.table[name]) == list(seeds[name])
    assert list(placed.table["label"]) == list(phantoms.table.query("scan == 'test'")["malignant"])


def test_two_real_tumours():
    images = curation.provide(COHORTS.get("lung_ct"), "lung_ct", "unused")
    assert images.root == artefacts.cache_dir()
    found = curation.measure(images.cases, images.root, workers=1)
    assert found.excluded.empty and samples(found.table) == ["lung1", "lung2"]
    table = found.table
    centroids = [(-21.86, -120.54, -611.5), (52.61, -95.87, -256.5)]
    np.testing.assert_allclose(table[["x", "y", "z"]], centroids, atol=0.01)
    assert list(table["volume_ml"].round(2)) == [1.36, pytest.approx(48.4, abs=0.05)]
    assert list(table["slices"]) == [48, 61] and list(table["slice_mm"]) == [5, 5]
    np.testing.assert_allclose(table["pixel_mm"], [0.570, 0.627], atol=0.001)
    sphere = np.cbrt(6000 / np.pi * table["volume_ml"])  # of the same volume
    np.testing.assert_allclose(sphere, [14, 45], atol=0.5)
    assert (table["diameter_mm"] / sphere).between(1, 2).all()
    assert table["tumour_hu"].between(-300, 150).all() and list(table["lowest_hu"]) == [-1024, -1024]


def write_case(folder, name, ct=None, masks=None, **options):
    """A CT and its SEG; the row of the table of cases."""
    ct = volume() if ct is None else ct
    slices = write_series(folder / name / "ct", ct, **options)
    masks = {"Tumour": blob(ct)} if masks is None else masks
    write_seg(folder / name / "seg.dcm", slices, masks, omit=any(mask.any() for mask in masks.values()))
    return {"sample_id": name, "ct": f"{name}/ct", "mask": f"{name}/seg.dcm"}


def set_modality(k, dataset):
    dataset.Modality = "MR"


def test_what_cannot_be_measured_is_left_out_with_its_reason(tmp_path):
    ct = volume()
    names = ["good", "gap", "mixed", "mr", "empty", "foreign", "cut", "cut mask", "kidney", "nothing", "last"]
    options = {
        "mr": {"edit": set_modality},
        "empty": {"masks": {"Tumour": np.zeros_like(blob(ct))}},
        "kidney": {"masks": {"Kidney": blob(ct), "Cyst": blob(ct)}},
    }
    cases = pd.DataFrame([write_case(tmp_path, name, **options.get(name, {})) for name in names])
    (tmp_path / "gap" / "ct" / "004.dcm").unlink()
    write_series(tmp_path / "mixed" / "ct", ct, order=range(100, 109))
    shutil.copy(tmp_path / "good" / "seg.dcm", tmp_path / "foreign" / "seg.dcm")
    os.truncate(tmp_path / "cut" / "ct" / "003.dcm", 900)
    os.truncate(tmp_path / "cut mask" / "seg.dcm", 600)
    shutil.rmtree(tmp_path / "nothing")
    more = [
        {"sample_id": "no mask", "ct": "good/ct", "mask": None},
        {"sample_id": "neither", "ct": None, "mask": None},
        {"sample_id": "a slice", "ct": "good/ct/003.dcm", "mask": "good/seg.dcm"},
        {"sample_id": "a ct as mask", "ct": "good/ct", "mask": "good/ct/003.dcm"},
    ]
    cases = pd.concat([cases, pd.DataFrame(more)], ignore_index=True)
    found = curation.measure(cases, tmp_path, "tumour", workers=1)
    reasons = dict(found.excluded[["sample_id", "reason"]].to_numpy())
    expected = {
        "gap": "gap/ct: missing slices",
        "mixed": "mixed/ct: 2 series",
        "mr": "modality MR, not CT",
        "empty": "is empty",
        "foreign": "foreign/seg.dcm: frame of reference",
        "cut": "cut/ct/003.dcm",
        "cut mask": "cut mask/seg.dcm",
        "kidney": "kidney/seg.dcm: no segment matches 'tumour'. There are: Kidney, Cyst",
        "nothing": "nothing/ct: no such image",
        "no mask": "no mask",
        "neither": "no CT and no mask",
        "a slice": "good/ct/003.dcm: no such image",
        "a ct as mask": "modality CT",
    }
    assert list(reasons) == list(expected)  # in the order of the cases
    for name, part in expected.items():
        assert part in reasons[name], reasons[name]
        assert str(tmp_path) not in reasons[name]
    assert samples(found.table) == ["good", "last"]
    np.testing.assert_allclose(found.table.loc[0, "x"], found.table.loc[1, "x"])


def test_when_nothing_can_be_measured_the_reasons_remain(tmp_path):
    cases = pd.DataFrame({"sample_id": ["a", "b"], "ct": ["none", "none"], "mask": ["none", "none"]})
    found = curation.measure(cases, tmp_path, workers=1)
    assert found.table.empty and samples(found.excluded) == ["a", "b"]
    made = Annotations(pd.DataFrame({"sample_id": ["a", "b"], "patient_id": ["a", "b"], "label": [0.0, 1.0]}),
                       pd.DataFrame(columns=["sample_id", "patient_id", "reason"]))  # fmt: skip
    with pytest.raises(CurationError, match="none of the 2 samples has a seed point: none: no such image"):
        curation.place(made, found)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a"], "more than once: a$"),
        ([1, "1", 2], "more than once: 1$"),
        (["a", None, "b"], r"without a sample_id, in rows 3 \(the header is row 1\)"),
        ([*map(str, range(7))] * 2, "more than once: 0, 1, 2, 3, 4 and 2 more$"),
    ],
)
def test_cases_need_names_of_their_own(tmp_path, names, message):
    with pytest.raises(CurationError, match=message):
        curation.measure(pd.DataFrame({"sample_id": names, "ct": "c", "mask": "m"}), tmp_path)


def test_a_table_of_cases_without_its_columns_says_which(tmp_path):
    with pytest.raises(CurationError, match="no column ct, mask"):
        curation.measure(pd.DataFrame({"sample_id": ["a"], "CT": ["c"]}), tmp_path)


def test_rows_are_in_the_order_of_the_cases_whatever_the_workers(tmp_path):
    names = ["d", "a", "c", "b", "e"]
    cases = [write_case(tmp_path, name, volume((9 + k, 13, 11), seed=k)) for k, name in enumerate(names)]
    cases = pd.DataFrame(cases).assign(other="column", ct=lambda table: table["ct"].where(table["sample_id"] != "c"))
    one, two = (curation.measure(cases, tmp_path, workers=workers) for workers in (1, 2))
    assert samples(one.table) == ["d", "a", "b", "e"] and samples(one.excluded) == ["c"]
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.excluded, two.excluded)
    assert list(one.table["slices"]) == [9, 10, 12, 13]


def test_all_tumour_segments_count_and_the_largest_part_is_the_seed(tmp_path):
    ct = volume((9, 23, 31))
    low, touching, other, kidney = (np.zeros(ct.array.shape, bool) for _ in range(4))
    low[1:4, 2:6, 3:8] = True
    touching[1:4, 6:9, 3:8] = True  # grows onto the first: together they are the largest
    other[5:8, 12:17, 10:16] = True
    kidney[0:9, 18:23, 20:31] = True
    masks = {"Tumor 1": low, "Tumour 2": other, "tumour_3": touching, "Kidney": kidney}
    cases = pd.DataFrame([write_case(tmp_path, "a", ct, masks)])
    found = curation.measure(cases, tmp_path, "tumou?r", workers=1).table.iloc[0]
    assert found["parts"] == 2
    assert found["volume_ml"] == pytest.approx((low | touching).sum() * VOXEL_ML)
    seed = ORIGIN + SPACING * [5, 5, 2]  # middle of 3..7, 2..8, 1..3
    np.testing.assert_allclose(found[["x", "y", "z"]].to_numpy(float), seed)
    assert found["tumour_hu"] == pytest.approx(ct.array[low | touching].mean())
    second = curation.measure(cases, tmp_path, "r 2$", workers=1).table.iloc[0]
    assert second["volume_ml"] == pytest.approx(other.sum() * VOXEL_ML) and second["parts"] == 1
    without = curation.measure(cases, tmp_path, workers=1).excluded
    assert "4 segments match None" in without["reason"].iloc[0]
    np.testing.assert_array_equal(
        curation.read_segments(tmp_path / "a" / "seg.dcm", imaging.read_ct(tmp_path / "a" / "ct"), "^tumor|kidney"),
        low | kidney,
    )


def test_an_image_file_is_one_mask_whatever_the_segment(tmp_path):
    ct = volume()
    write_image(tmp_path / "ct.nii.gz", ct)
    write_image(tmp_path / "mask.NRRD".lower(), replace(ct, array=blob(ct).astype(np.int16) * 3))
    cases = pd.DataFrame({"sample_id": ["a"], "ct": ["ct.nii.gz"], "mask": ["mask.nrrd"]})
    found = curation.measure(cases, tmp_path, "tumour", workers=1).table
    assert found["volume_ml"].tolist() == pytest.approx([blob(ct).sum() * VOXEL_ML])


# seeds that are voxels


@pytest.mark.parametrize(
    ("direction", "k", "signs"),
    [
        ("supine", 5, (1, 1, 1)),
        ("in-plane axes reversed", 5, (-1, -1, 1)),
        ("feet up", 9 - 1 - 5, (1, -1, -1)),  # the image counts its slices downwards, the readers do not
    ],
)
def test_voxels_become_millimetres_by_the_image_itself(tmp_path, direction, k, signs):
    write_series(tmp_path / "1.2", volume(direction=direction), order=np.arange(9)[::-1])
    nodules = pd.DataFrame({"sample_id": ["n1"], "series_uid": ["1.2"], "x": [3], "y": [10], "k": [5]})
    found = curation.locate(nodules, tmp_path, workers=1)
    assert found.excluded.empty
    expected = ORIGIN + np.array(signs) * SPACING * [3, 10, k]
    np.testing.assert_allclose(found.table.loc[0, ["x", "y", "z"]].to_numpy(float), expected, atol=1e-4)
    assert found.table["volume_ml"].isna().all() and list(found.table["image"]) == ["1.2"]


def test_seeds_that_have_no_place_are_listed(tmp_path):
    for uid in ("1.1", "1.2"):
        write_series(tmp_path / uid, volume())
    (tmp_path / "1.2" / "004.dcm").unlink()
    rows = [
        ("a", "1.2", 1, 1, 1),
        ("b", "1.1", 3, 4, 5),
        ("c", "1.1", 11, 4, 5),
        ("d", "1.1", 3, 4, -1),
        ("e", "1.2", 1, 1, 2),
        ("f", "1.3", 1, 1, 1),
        ("g", "1.1", 0, 12, 8),
        ("h", "1.1", np.nan, 1, 1),
    ]
    nodules = pd.DataFrame(rows, columns=["sample_id", "series_uid", "x", "y", "k"])
    one, two = (curation.locate(nodules, tmp_path, workers=workers) for workers in (1, 2))
    assert samples(one.table) == ["b", "g"]
    reasons = dict(one.excluded.to_numpy())
    assert sorted(reasons) == ["a", "c", "d", "e", "f", "h"]
    assert reasons["a"].startswith("1.2: missing slices") and reasons["a"] == reasons["e"]
    assert (
        reasons["c"] == "1.1: voxel (11.0, 4, 5) is outside" and "outside" in reasons["d"] and "outside" in reasons["h"]
    )
    assert reasons["f"].startswith("1.3: no such image")
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.excluded, two.excluded)


def test_located_nodules_of_luna16_are_placed_with_their_labels(readers, tmp_path):
    """Four real nodules of two real scans, on images made for them: one scan runs from right to left."""
    made, nodules, *_ = readers[0]
    several = nodules["series_uid"].value_counts()
    wanted = nodules[nodules["series_uid"].isin(several.index[several == 2][:2])]
    assert len(wanted) == 4
    for uid, direction in zip(wanted["series_uid"].unique(), ["supine", "in-plane axes reversed"], strict=True):
        own = wanted[wanted["series_uid"] == uid]
        shape = tuple((own[["k", "y", "x"]].max() + 2).tolist())
        image = imaging.Volume(np.zeros(shape, np.int16), ORIGIN, SPACING, DIRECTIONS[direction], "memory")
        write_series(tmp_path / uid, image)
    placed = curation.place(made.annotations, curation.locate(wanted, tmp_path, workers=1))
    assert sorted(samples(placed.table)) == sorted(samples(wanted))
    rows = wanted.set_index("sample_id").loc[samples(placed.table)]
    sign = np.where(rows["series_uid"] == wanted["series_uid"].iloc[0], 1, -1)
    np.testing.assert_allclose(placed.table["x"], ORIGIN[0] + sign * SPACING[0] * rows["x"], atol=1e-3)
    np.testing.assert_allclose(placed.table["z"], ORIGIN[2] + SPACING[2] * rows["k"], atol=1e-3)
    assert list(placed.table["image"]) == list(rows["series_uid"])
    lost = placed.excluded[placed.excluded["reason"] == "no image"]
    assert len(lost) == 677 - 4 and len(placed.excluded) == len(made.annotations.excluded) + 673


def test_a_sample_without_image_is_listed_and_nothing_else_is_lost():
    table = pd.DataFrame(
        {"sample_id": list("dabc"), "patient_id": list("DABC"), "label": [0.0, 1, 0, 1], "x": [9.0, 9, 9, 9],
         "clinical_age": [50, 60, 70, 80]}
    )  # fmt: skip
    made = Annotations(table, pd.DataFrame({"sample_id": ["e"], "patient_id": ["E"], "reason": ["no label"]}))
    seeds = pd.DataFrame({"sample_id": list("bdz"), "image": ["b/ct", "d/ct", "z/ct"], "x": [1.0, 2, 3]})
    seeds = seeds.assign(y=0.0, z=-1.0, volume_ml=[1.0, np.nan, 1])
    measured = curation.Measured(seeds, pd.DataFrame({"sample_id": ["a"], "reason": ["a/ct: damaged"]}))
    placed = curation.place(made, measured)
    assert placed.table[["sample_id", "patient_id", "label", "clinical_age", "image", "x"]].to_numpy().tolist() == [
        ["d", "D", 0, 50, "d/ct", 2],
        ["b", "B", 0, 70, "b/ct", 1],
    ]
    assert placed.excluded.to_numpy().tolist() == [
        ["e", "E", "no label"],
        ["a", "A", "a/ct: damaged"],
        ["c", "C", "no image"],
    ]
    assert list(table["x"]) == [9] * 4  # what came in is not changed


# images


def test_a_folder_of_ones_own(phantoms, tmp_path):
    images = curation.provide(COHORTS.get("nsclc_radiomics"), str(phantoms.folder), tmp_path)
    assert images.root == phantoms.folder and images.cases.equals(pd.read_csv(phantoms.folder / "cases.csv"))
    (tmp_path / "cases.csv").write_text("sample_id,patient_id,ct,mask\n007,07,a/ct,a/seg.dcm\n8,,b/ct,\n")
    cases = curation.provide(COHORTS.get("nsclc_radiomics"), str(tmp_path), tmp_path / "x").cases
    assert samples(cases) == ["007", "8"] and cases["patient_id"].iloc[0] == "07"
    assert list(curation.measure(cases, tmp_path, workers=1).excluded["reason"])[1] == "no mask"


def test_images_that_are_nowhere_are_an_error(tmp_path):
    with pytest.raises(CurationError, match="images is 'phantoms': neither phantom, lung_ct, idc nor a folder"):
        curation.provide(COHORTS.get("phantom"), "phantoms", tmp_path)
    with pytest.raises(CurationError, match="dlcs has no images in the Imaging Data Commons"):
        curation.provide(COHORTS.get("dlcs"), "idc", tmp_path)


@pytest.fixture(scope="module")
def service():
    with s3.Service() as service:
        yield service


def read(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def manifest(service, rows, files):
    """A manifest as of the IDC: rows (case_id, role, series_uid, study_uid, candidates) of files by series UID."""
    table = pd.DataFrame(rows, columns=["case_id", "role", "series_uid", "study_uid", "candidates"])
    there = service.put(files)
    table = table.merge(there, on="series_uid").assign(
        patient_id="P",
        modality=table["role"].map({"ct": "CT", "mask": "SEG"}),
        description="",
        licence="CC BY 3.0",
        source_doi="10.0/x",
        licence_url="",
        index_version="25.0.5",
    )
    return table[sources.MANIFEST]


def test_from_the_bucket_to_annotations(service, phantoms, tmp_path):
    """Two scans of one patient in one study: the reference in each mask says which CT is meant."""
    cohort, truth = COHORTS.get("phantom"), phantoms.table.iloc[:2]
    assert list(truth["scan"]) == ["test", "retest"]
    names = truth["sample_id"].tolist()
    first = [next(iter(sorted((phantoms.folder / ct).iterdir()))) for ct in truth["ct"]]
    uids = [str(imaging.read_dicom(path).SeriesInstanceUID) for path in first]
    files = dict(zip(uids, (read(phantoms.folder / ct) for ct in truth["ct"]), strict=True))
    files |= {f"9.{k}": {"seg.dcm": (phantoms.folder / mask).read_bytes()} for k, mask in enumerate(truth["mask"])}
    both = "/".join(sorted(names))
    rows = [(both, "ct", uid, "1", 2) for uid in uids] + [(names[k], "mask", f"9.{k}", "1", 2) for k in (0, 1)]
    series = manifest(service, rows, files)
    images = curation.provide(cohort, "idc", tmp_path, series, endpoint=service.endpoint)
    assert images.cases.set_index("sample_id").loc[names, ["ct", "mask"]].to_numpy().tolist() == [
        [uids[0], "9.0"],
        [uids[1], "9.1"],
    ]
    found = curation.measure(images.cases, images.root, workers=1)
    assert found.excluded.empty
    axes = ["x", "y", "z", "volume_ml"]
    ours = found.table.set_index("sample_id").loc[names, axes].to_numpy()
    np.testing.assert_array_equal(ours, phantoms.found.table.set_index("sample_id").loc[names, axes].to_numpy())
    again = curation.provide(cohort, "idc", tmp_path, series, endpoint="http://127.0.0.1:9")  # all is there
    pd.testing.assert_frame_equal(again.cases, images.cases)
    made, flow = curation.select(cohort, phantoms.table, manifest=series)
    assert list(flow["kept"]) == [2, 2, 1]
    placed = curation.place(made, found)
    assert samples(placed.table) == [names[0]]
    assert len(placed.excluded) == 2  # the second scan, and the patient who is not in the manifest
    annotations.check(placed.table, "here")


def test_one_ct_for_two_masks_and_a_mask_without_ct(service, tmp_path):
    ct = volume()
    slices = write_series(tmp_path / "made" / "ct", ct)
    for name, high in (("a", 6), ("b", 5), ("c", 4)):
        write_seg(tmp_path / "made" / name / "seg.dcm", slices, {"Tumour": blob(ct, high=(high, 9, 7))})
    files = {"1": read(tmp_path / "made" / "ct")}
    files |= {f"9.{k}": read(tmp_path / "made" / name) for k, name in enumerate("abc")}
    rows = [
        ("a/b", "ct", "1", "s", 1),
        ("a", "mask", "9.0", "s", 1),
        ("b", "mask", "9.1", "s", 1),
        ("c", "mask", "9.2", "t", 0),
    ]
    series = manifest(service, rows, files)
    images = curation.provide(COHORTS.get("phantom"), "idc", tmp_path / "idc", series, endpoint=service.endpoint)
    found = curation.measure(images.cases, images.root, workers=1)
    assert samples(found.table) == ["a", "b"] and list(found.table["image"]) == ["1", "1"]
    voxels = [blob(ct, high=(high, 9, 7)).sum() for high in (6, 5)]
    np.testing.assert_allclose(found.table["volume_ml"], np.array(voxels) * VOXEL_ML)
    assert found.excluded.to_numpy().tolist() == [["c", "no CT"]]


def test_scans_without_masks_have_none_and_are_for_seeds_that_are_voxels(service, tmp_path):
    write_series(tmp_path / "made", volume())
    series = manifest(service, [("1.7", "ct", "1.7", "s", 1)], {"1.7": read(tmp_path / "made")})
    images = curation.provide(COHORTS.get("luna16"), "idc", tmp_path / "idc", series, endpoint=service.endpoint)
    assert images.cases.to_dict("list") == {"sample_id": ["1.7"], "patient_id": ["P"], "ct": ["1.7"]}
    nodules = pd.DataFrame({"sample_id": ["n"], "series_uid": ["1.7"], "x": [1], "y": [2], "k": [3]})
    found = curation.locate(nodules, images.root, workers=1).table
    np.testing.assert_allclose(found[["x", "y", "z"]].to_numpy(float)[0], ORIGIN + SPACING * [1, 2, 3], atol=1e-4)


def made_cases(tmp_path, names):
    """Files by series UID of small cases, 1.k a CT and 9.k its mask, and their rows of a manifest."""
    files, rows = {}, []
    for k, name in enumerate(names):
        case = write_case(tmp_path / "made", name)
        files |= {f"1.{k}": read(tmp_path / "made" / case["ct"])}
        files |= {f"9.{k}": {"seg.dcm": (tmp_path / "made" / case["mask"]).read_bytes()}}
        rows += [(name, "ct", f"1.{k}", name, 1), (name, "mask", f"9.{k}", name, 1)]
    return rows, files


def test_a_case_that_cannot_be_had_is_left_out_with_its_reason_and_the_others_go_on(service, tmp_path):
    """One CT is gone, one mask is gone, and one mask with two CTs to choose from refers to neither."""
    rows, files = made_cases(tmp_path, ["good", "no ct", "no mask", "unclear"])
    rows = [row if row[0] != "unclear" else (*row[:4], 2) for row in rows] + [("unclear", "ct", "1.9", "unclear", 2)]
    files["1.9"] = files["1.3"]
    series = manifest(service, rows, files)
    service.remove("1.1", next(iter(files["1.1"])))
    service.remove("9.2", "seg.dcm")
    images = curation.provide(COHORTS.get("phantom"), "idc", tmp_path / "idc", series, endpoint=service.endpoint)
    found = curation.measure(images.cases, images.root, workers=1)
    assert samples(found.table) == ["good"] and list(found.table["image"]) == ["1.0"]
    reasons = found.excluded.set_index("sample_id")["reason"]
    assert sorted(reasons.index) == ["no ct", "no mask", "unclear"]
    assert reasons["no ct"].startswith("1.1: the bucket lists") and reasons["no mask"].startswith("9.2: no object")
    assert reasons["unclear"] == "its mask 9.3 refers to 0 of the 2 CTs of its study"
    assert set(images.cases["patient_id"]) == {"P"}
    assert not {"1.2", "1.3", "1.9"} & {path.name for path in images.root.iterdir()}  # CTs that are of no use


def test_one_ct_of_two_cases_serves_the_one_whose_mask_is_there(service, tmp_path):
    rows, files = made_cases(tmp_path, ["a"])
    rows = [("a/b", *rows[0][1:]), rows[1], ("b", "mask", "9.8", "a", 1)]
    series = manifest(service, rows, files | {"9.8": {"seg.dcm": b"x"}})
    service.remove("9.8", "seg.dcm")
    cases = curation.provide(COHORTS.get("phantom"), "idc", tmp_path / "idc", series, endpoint=service.endpoint).cases
    assert cases[["sample_id", "ct", "mask"]].fillna("").to_numpy().tolist() == [["a", "1.0", "9.0"], ["b", "", ""]]
    assert cases["reason"].iloc[1].startswith("9.8: no object")


def test_a_scan_without_masks_that_is_gone_is_listed(service, tmp_path):
    write_series(tmp_path / "made", volume())
    files = {uid: read(tmp_path / "made") for uid in ("1.7", "1.8")}
    series = manifest(service, [(uid, "ct", uid, uid, 1) for uid in files], files)
    service.remove("1.8", next(iter(files["1.8"])))
    images = curation.provide(COHORTS.get("luna16"), "idc", tmp_path / "idc", series, endpoint=service.endpoint)
    nodules = pd.DataFrame({"sample_id": ["n", "m"], "series_uid": ["1.7", "1.8"], "x": [1, 1], "y": 2, "k": 3})
    found = curation.locate(nodules, images.root, workers=1)
    assert samples(found.table) == ["n"] and found.excluded["reason"].str.startswith("1.8: no such image").tolist()
    kept = pd.DataFrame({"sample_id": ["n", "m"], "patient_id": ["1.7", "1.8"]})
    made = curation.adopt(Annotations(kept, kept.head(0).assign(reason="")), images)
    assert samples(made.table) == ["n"] and made.excluded["reason"].iloc[0].startswith("1.8: the bucket lists")


def test_a_bucket_that_lacks_a_series_is_an_error_with_its_name(service, tmp_path):
    series = manifest(service, [("a", "mask", "9.7", "s", 1)], {"9.7": {"seg.dcm": b"x"}})
    service.remove("9.7", "seg.dcm")
    with pytest.raises(artefacts.ArtefactError, match=r"9\.7: no object found"):
        curation.provide(COHORTS.get("phantom"), "idc", tmp_path, series, endpoint=service.endpoint)


# annotations that a run has already


def test_adopted_annotations_keep_their_seeds_and_get_their_images():
    kept = pd.DataFrame({"sample_id": ["n1", "n2", "n3"], "patient_id": ["s1", "s1", "s2"], "x": [1.0, 2, 3]})
    kept = kept.assign(y=0.0, z=0.0, label=[0.0, 1, 0])
    cases = pd.DataFrame({"sample_id": ["s1", "n3"], "ct": ["s1/ct", "n3/ct"]})
    before = Annotations(kept, pd.DataFrame([["n0", "s0", "censored"]], columns=["sample_id", "patient_id", "reason"]))
    made = curation.adopt(before, curation.Images(cases, None))
    assert made.table[["sample_id", "image", "x"]].to_numpy().tolist() == [
        ["n1", "s1/ct", 1], ["n2", "s1/ct", 2], ["n3", "n3/ct", 3],
    ]  # fmt: skip
    assert samples(made.excluded) == ["n0"]
    fewer = curation.adopt(before, curation.Images(cases.head(1), None))
    assert samples(fewer.table) == ["n1", "n2"]
    assert fewer.excluded.to_numpy().tolist() == [["n0", "s0", "censored"], ["n3", "s2", "no image"]]


def test_samples_whose_ct_was_not_readable_are_not_adopted(tmp_path):
    """A bad mask is no reason: the seed is there already."""
    names = ["good", "torn", "torn file", "empty", "foreign", "gone"]
    options = {"empty": {"masks": {"Tumour": np.zeros_like(blob(volume()))}}}
    cases = pd.DataFrame([write_case(tmp_path, name, **options.get(name, {})) for name in names])
    for path in list((tmp_path / "torn" / "ct").iterdir())[1:]:
        path.unlink()
    next((tmp_path / "torn file" / "ct").iterdir()).write_bytes(b"no")
    shutil.copy(tmp_path / "good" / "seg.dcm", tmp_path / "foreign" / "seg.dcm")  # its reason names the CT too
    shutil.rmtree(tmp_path / "gone" / "ct")
    refused = curation.measure(cases, tmp_path, workers=1).excluded
    assert samples(refused) == names[1:]
    kept = pd.DataFrame({"sample_id": names, "patient_id": names, "x": 1.0, "y": 2.0, "z": 3.0})
    before = Annotations(kept, kept.head(0)[["sample_id", "patient_id"]].assign(reason=""))
    images = curation.Images(cases, tmp_path)
    made = curation.adopt(before, images, refused)
    assert samples(made.table) == ["good", "empty", "foreign"]
    reasons = refused.set_index("sample_id")["reason"]
    assert dict(zip(samples(made.excluded), made.excluded["reason"], strict=True)) == {
        name: reasons[name] for name in ("torn", "torn file", "gone")
    }
    assert samples(curation.adopt(before, images).table) == names


def test_a_reason_is_of_a_ct_only_if_it_opens_with_its_path():
    kept = pd.DataFrame({"sample_id": ["a"], "patient_id": ["a"], "x": [1.0], "y": [2.0], "z": [3.0]})
    before = Annotations(kept, kept.head(0)[["sample_id", "patient_id"]].assign(reason=""))
    images = curation.Images(pd.DataFrame({"sample_id": ["a", "b"], "ct": ["a/ct", "b/ct"]}), None)
    reasons = {
        "a/ct: truncated": False, "a/ct/1.dcm: truncated": False, "[Errno 13] Permission denied: 'a/ct/1.dcm'": False,
        "a/ct.seg.dcm: empty": True, "a/seg.dcm: not drawn on the slices of a/ct: take": True, "no mask": True,
    }  # fmt: skip
    for reason, stays in reasons.items():
        refused = pd.DataFrame({"sample_id": ["a"], "reason": [reason]})
        if stays:
            assert samples(curation.adopt(before, images, refused).table) == ["a"], reason
        else:
            with pytest.raises(AnnotationError, match="no samples"):
                curation.adopt(before, images, refused)
