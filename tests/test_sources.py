"""Manifests from the real IDC index; references in real DICOM objects; a Zenodo record and clinical files."""

import hashlib
import json
import time

import highdicom
import numpy as np
import pandas as pd
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from tests import real, s3
from tests.server import Answer, Server
from tumorbench_utils import buckets, sources
from tumorbench_utils.cohorts import COHORTS

IDC = [cohort.id for cohort in COHORTS if isinstance(cohort.images, sources.Idc)]


def manifest_of(cohort):
    source = COHORTS.get(cohort)
    series = set(source.patient(real.cohort_rows(cohort))) if cohort == "luna16" else None
    return sources.manifest(source.images, series)


@pytest.mark.parametrize("cohort", IDC)
def test_a_manifest_holds_what_is_expected_of_the_real_index(cohort):
    compared = sources.compare(manifest_of(cohort), COHORTS.get(cohort).images.expected)
    assert list(compared["difference"]) == [0] * 6, compared.to_string()


@pytest.mark.parametrize("cohort", IDC)
def test_cases_are_the_samples_of_the_released_tables(cohort):
    table, source, rows = manifest_of(cohort), COHORTS.get(cohort), real.cohort_rows(cohort)
    named = source.patient if cohort == "luna16" or not source.sample else source.sample
    cases = table if cohort == "luna16" else table[table["role"] == "mask"]
    assert set(cases["case_id"]) == set(named(rows))
    assert table["series_uid"].is_unique and not table.drop(columns="licence_url").isna().any(axis=None)


def test_series_are_those_of_the_released_tables():
    for cohort in ("c4kc_kits", "colorectal_liver_metastases"):
        table = manifest_of(cohort)
        assert set(table.loc[table["role"] == "ct", "series_uid"]) == set(real.cohort_rows(cohort)["Series UID"])


def test_manifests_carry_licence_and_origin_of_every_series():
    table = manifest_of("rider")
    licences = table.groupby("role")["licence"].unique().map(list).to_dict()
    assert licences == {"ct": ["CC BY 4.0"], "mask": ["CC BY 3.0"]}
    assert set(table["index_version"]) == {sources.index_version()}
    assert set(manifest_of("nsclc_radiomics")["licence_url"]) == {"https://creativecommons.org/licenses/by-nc/3.0/"}
    assert sources.licence_url("NLM Terms and Conditions") == "" and sources.licence_url(None) == ""


def test_all_manifests_take_seconds():
    real.cohort_rows("luna16")
    start = time.monotonic()
    for cohort in IDC:
        manifest_of(cohort)
    assert time.monotonic() - start < 30


def test_a_difference_is_shown_and_not_raised():
    source = COHORTS.get("colorectal_liver_metastases").images
    compared = sources.compare(sources.manifest(source).iloc[2:], source.expected).set_index("quantity")
    assert dict(compared["difference"]) == {
        "cases": -1, "cases with a choice of CT": 0, "CT series": -1, "mask series": -1, "CT, GB": -0.1, "masks, GB": 0,
    }  # fmt: skip
    assert compared.loc["CT series", "found"] == 196


def test_a_mask_without_its_ct_stays_in_the_manifest():
    source = sources.Idc("c4kc_kits", sources.Expected(0, 0, 0), ct="Modality = 'CT' AND false")
    table = sources.manifest(source)
    assert len(table) == 210 and set(table["candidates"]) == {0}


def test_series_that_the_query_does_not_find_are_named():
    with pytest.raises(sources.SourceError, match=r"lidc_idri: .* 25.*: 1\.2\.3"):
        sources.manifest(COHORTS.get("luna16").images, ["1.2.3"])


def structure_set(path, *referenced):
    """A minimal RTSTRUCT drawn on series."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    study = Dataset()
    study.RTReferencedSeriesSequence = [Dataset() for _ in referenced]
    for item, uid in zip(study.RTReferencedSeriesSequence, referenced, strict=True):
        item.SeriesInstanceUID = uid
    frame = Dataset()
    frame.FrameOfReferenceUID = generate_uid()
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def segmentation(path, series_uid):
    """A DICOM SEG of a CT of one slice, by highdicom."""
    ct = Dataset()
    ct.file_meta = FileMetaDataset()
    ct.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ct.SOPClassUID, ct.SOPInstanceUID = CTImageStorage, generate_uid()
    ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.FrameOfReferenceUID = generate_uid(), series_uid, generate_uid()
    ct.PatientID = ct.PatientName = ct.PatientSex = ct.PatientBirthDate = ct.AccessionNumber = ""
    ct.StudyID = ct.StudyDate = ct.StudyTime = ct.ReferringPhysicianName = ""
    ct.Modality, ct.InstanceNumber, ct.Rows, ct.Columns = "CT", 1, 8, 8
    ct.ImageOrientationPatient, ct.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    ct.PixelSpacing, ct.SliceThickness = [1, 1], 1
    tumour = highdicom.seg.SegmentDescription(
        1, "tumour", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL"
    )
    made = highdicom.seg.Segmentation(
        [ct], np.ones((1, 8, 8), np.uint8), "BINARY", [tumour], generate_uid(), 1, generate_uid(), 1, "m", "m", "1", "1"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)


def test_references_of_seg_and_rtstruct(tmp_path):
    segmentation(tmp_path / "seg.dcm", "1.2.3")
    structure_set(tmp_path / "rt.dcm", "1.2.4", "1.2.5", "1.2.4")
    assert sources.referenced_series(tmp_path / "seg.dcm") == ["1.2.3"]
    assert sources.referenced_series(tmp_path / "rt.dcm") == ["1.2.4", "1.2.5"]


def test_a_mask_that_refers_to_nothing_and_a_file_that_is_no_dicom_are_named(tmp_path):
    structure_set(tmp_path / "rt.dcm")
    with pytest.raises(sources.SourceError, match=r"rt\.dcm: this RTSTRUCT names no series"):
        sources.referenced_series(tmp_path / "rt.dcm")
    (tmp_path / "text.dcm").write_text("no")
    with pytest.raises(sources.SourceError, match=r"text\.dcm: not a readable DICOM file"):
        sources.referenced_series(tmp_path / "text.dcm")
    with pytest.raises(sources.SourceError, match=r"gone\.dcm"):
        sources.referenced_series(tmp_path / "gone.dcm")


def open_cases(table):
    """Masks with a choice, and for each a CT of its study that no other mask takes."""
    masks = table[(table["candidates"] > 1) & (table["role"] == "mask")]
    cts = {study: list(rows["series_uid"]) for study, rows in table[table["role"] == "ct"].groupby("study_uid")}
    return [(mask, cts[mask.study_uid].pop()) for mask in masks.itertuples()]


def test_the_masks_of_rider_choose_their_cts(tmp_path):
    table = manifest_of("rider")
    pairs = open_cases(table)
    for mask, uid in pairs:
        structure_set(tmp_path / mask.series_uid / "rt.dcm", uid, "1.2.3")
    chosen, reasons = sources.choose(table, tmp_path)
    ct = chosen[chosen["role"] == "ct"].set_index("series_uid")["case_id"]
    assert len(pairs) == 28 and all(ct[uid] == mask.case_id for mask, uid in pairs)
    assert set(ct) == set(table.loc[table["role"] == "mask", "case_id"]) and len(ct) == 52 and not reasons
    assert set(chosen["candidates"]) == {1}


def test_the_one_choice_of_radiogenomics(tmp_path):
    table = manifest_of("nsclc_radiogenomics")
    [(mask, uid)] = open_cases(table)
    assert mask.case_id == "R01-059"
    segmentation(tmp_path / mask.series_uid / "seg.dcm", uid)
    chosen = sources.choose(table, tmp_path).table
    assert len(chosen[chosen["role"] == "ct"]) == 144
    assert set(chosen.loc[chosen["case_id"] == "R01-059", "series_uid"]) == {uid, mask.series_uid}


def test_without_a_choice_the_manifest_stays_as_it_is(tmp_path):
    table = manifest_of("c4kc_kits")
    pd.testing.assert_frame_equal(sources.choose(table, tmp_path).table, table)


def test_masks_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(sources.SourceError, match=r"1129164940-retest: its mask .* download the masks first"):
        sources.choose(manifest_of("rider"), tmp_path)


def test_a_choice_that_cannot_be_made_leaves_out_its_case_and_no_other(tmp_path):
    table = manifest_of("rider")
    pairs = open_cases(table)
    for mask, uid in pairs:
        structure_set(tmp_path / mask.series_uid / "rt.dcm", uid)
    (none, _), (garbage, _) = pairs[0], next(pair for pair in pairs if pair[0].study_uid != pairs[0][0].study_uid)
    structure_set(tmp_path / none.series_uid / "rt.dcm", "1.2.3")
    (tmp_path / garbage.series_uid / "rt.dcm").write_text("no")
    chosen = sources.choose(table, tmp_path)
    assert chosen.reasons.keys() == {none.case_id, garbage.case_id}
    assert chosen.reasons[none.case_id] == f"its mask {none.series_uid} refers to 0 of the 2 CTs of its study"
    assert chosen.reasons[garbage.case_id].startswith(f"{garbage.series_uid}/rt.dcm: not a readable DICOM file")
    left = set(table.loc[table["role"] == "mask", "case_id"]) - chosen.reasons.keys()
    for role in ("ct", "mask"):
        assert sorted(chosen.table.loc[chosen.table["role"] == role, "case_id"]) == sorted(left)


def test_masks_that_refer_to_one_ct_are_both_left_out(tmp_path):
    table = manifest_of("rider")
    pairs = open_cases(table)
    studies = [mask.study_uid for mask, _ in pairs]
    study = next(uid for uid in studies if studies.count(uid) == 2)
    rivals = {mask.case_id: uid for mask, uid in pairs if mask.study_uid == study}
    for mask, uid in pairs:
        structure_set(tmp_path / mask.series_uid / "rt.dcm", rivals[min(rivals)] if mask.case_id in rivals else uid)
    chosen = sources.choose(table, tmp_path)
    assert chosen.reasons.keys() == rivals.keys()
    assert set(chosen.reasons.values()) == {f"2 masks refer to the CT {rivals[min(rivals)]}, of {', '.join(rivals)}"}
    assert not chosen.table["study_uid"].eq(study).any() and len(chosen.table) == 2 * 50


def test_masks_first_then_the_chosen_ct(tmp_path):
    """The whole way on a service of this machine: manifest, masks, choice, CTs."""
    structure_set(tmp_path / "rt.dcm", "1.2.1")
    series = s3.made_up(3, 4) | {"1.3.1": {"rt.dcm": (tmp_path / "rt.dcm").read_bytes()}}
    with s3.Service() as service:
        table = service.put(series).assign(
            case_id="a", study_uid="1.9", candidates=3, role=["ct", "ct", "ct", "mask"]
        )  # fmt: skip
        buckets.download(table[table["role"] == "mask"], tmp_path / "images", endpoint=service.endpoint)
        chosen = sources.choose(table, tmp_path / "images").table
        report = buckets.download(chosen, tmp_path / "images", endpoint=service.endpoint)
    assert dict(zip(report["series_uid"], report["status"], strict=True)) == {"1.2.1": "fetched", "1.3.1": "kept"}


FILES = {"table.csv": b"id,label\n1,0\n" * 50, "images_1.zip": bytes(range(256)) * 2000, "images_2.zip": b"2"}
RECORD = sources.Zenodo("10782890", ("*.csv",))


def zenodo(answers=(), wrong=()):
    """A server that answers as Zenodo's API does."""
    server = Server({f"files/{name}": body for name, body in FILES.items()}, answers)
    files = [
        {
            "key": name,
            "size": len(body),
            "checksum": f"md5:{'0' * 32 if name in wrong else hashlib.md5(body).hexdigest()}",
            "links": {"self": server.url(f"files/{name}")},
        }
        for name, body in FILES.items()
    ]
    record = {"id": 10782890, "metadata": {"license": {"id": "cc-by-nc-4.0"}}, "files": files}
    server.files["api/records/10782890"] = json.dumps(record).encode()
    return server


def fetch(server, folder, files=None):
    return sources.fetch_files(RECORD, folder, files, api=server.url("api"), pause=0.01)


def test_only_the_wanted_files_of_a_record_are_fetched_and_once(tmp_path):
    with zenodo() as server:
        assert list(fetch(server, tmp_path)["name"]) == ["table.csv"]
        table = fetch(server, tmp_path, ["*.csv", "*_1.zip"])
        assert [path for path, _ in server.requests].count("files/table.csv") == 1
    assert {path.name: path.read_bytes() for path in table["path"]} == {
        name: FILES[name] for name in ("images_1.zip", "table.csv")
    }
    written = pd.read_csv(tmp_path / "files.csv")
    assert set(written["licence"]) == {"cc-by-nc-4.0"} and list(written["bytes"]) == [512000, 650]


def test_an_interrupted_file_goes_on_where_it_stopped(tmp_path):
    with zenodo([Answer(), Answer(cut=200_000), Answer(status=500)]) as server:
        table = fetch(server, tmp_path, ["images_1.zip"])
        assert server.ranges == [None, None, "bytes=196608-", "bytes=196608-"]
    assert table["path"][0].read_bytes() == FILES["images_1.zip"]


def test_a_cut_file_goes_on_in_a_later_call(tmp_path):
    (tmp_path / "images_1.zip.part").write_bytes(FILES["images_1.zip"][:1000])
    with zenodo() as server:
        fetch(server, tmp_path, ["images_1.zip"])
        assert server.ranges[1:] == ["bytes=1000-"]
    assert (tmp_path / "images_1.zip").read_bytes() == FILES["images_1.zip"]


def test_a_beginning_of_another_file_is_thrown_away(tmp_path):
    (tmp_path / "images_1.zip.part").write_bytes(b"other")
    with zenodo() as server:
        fetch(server, tmp_path, ["images_1.zip"])
        assert server.ranges[1:] == ["bytes=5-", None]
    assert (tmp_path / "images_1.zip").read_bytes() == FILES["images_1.zip"]


def test_a_wrong_md5_is_never_used(tmp_path):
    with zenodo(wrong=["table.csv"]) as server, pytest.raises(sources.SourceError, match="the record says 0000"):
        fetch(server, tmp_path)
    assert not (tmp_path / "table.csv").exists() and not (tmp_path / "table.csv.part").exists()


def test_a_damaged_file_of_a_record_is_fetched_again(tmp_path):
    (tmp_path / "table.csv").write_bytes(FILES["table.csv"][:-1])
    with zenodo() as server:
        fetch(server, tmp_path)
    assert (tmp_path / "table.csv").read_bytes() == FILES["table.csv"]


def test_a_file_that_the_record_lacks_and_a_record_that_there_is_not(tmp_path):
    with zenodo() as server:
        with pytest.raises(sources.SourceError, match=r"no file '\*\.nii'\. It has: images_1\.zip"):
            fetch(server, tmp_path, ["*.csv", "*.nii"])
        with pytest.raises(sources.SourceError, match=r"could not read the Zenodo record .*404"):
            sources.record_files(sources.Zenodo("1"), api=server.url("api"))
    with pytest.raises(sources.SourceError, match="could not read the Zenodo record"):
        sources.record_files(RECORD, api="http://127.0.0.1:9")


def test_a_busy_record_is_asked_again(tmp_path):
    with zenodo([Answer(status=503), Answer(status=500)]) as server:
        assert len(sources.record_files(RECORD, api=server.url("api"))) == 1


def test_archives_that_do_not_fit_are_refused_before(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with zenodo() as server, pytest.raises(sources.SourceError, match="GB are free"):
        fetch(server, tmp_path, ["*.zip"])
    assert not list(tmp_path.glob("*.zip*"))


def clinical_file(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "clinical.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize(("separator", "encoding"), [(",", "utf-8"), (";", "utf-8-sig")])
def test_a_clinical_file_keeps_its_columns_and_identifiers(tmp_path, separator, encoding):
    lines = ["PatientID,Survival.time,stage", "007,100,IIIb", " 8 ,200,", ",,", ""]
    path = clinical_file(tmp_path, "\n".join(lines).replace(",", separator), encoding)
    table = sources.read_clinical(path, ["Survival.time"], "PatientID")
    assert list(table["PatientID"]) == ["007", "8"] and list(table["Survival.time"]) == [100, 200]
    assert list(table["stage"].fillna("-")) == ["IIIb", "-"]


def test_missing_columns_are_named_with_what_may_be_meant(tmp_path):
    path = clinical_file(tmp_path, "Patient ID,survival_time,x\n1,2,3\n")
    with pytest.raises(sources.SourceError) as caught:
        sources.read_clinical(path, ["Survival.time", "x", "vital"], "PatientID")
    text = str(caught.value)
    assert "PatientID (did you mean 'Patient ID'?), Survival.time (did you mean 'survival_time'?), vital." in text
    assert "clinical.csv" in text and "It has: Patient ID, survival_time, x" in text


def test_duplicate_and_nameless_patients_are_errors(tmp_path):
    path = clinical_file(tmp_path, "id,t\na,1\nb,2\na,3\n")
    with pytest.raises(sources.SourceError, match=r"more than one row of id a$"):
        sources.read_clinical(path, ["t"], "id")
    path = clinical_file(tmp_path, "id,t\na,1\n,2\n")
    with pytest.raises(sources.SourceError, match="no id in row 3 "):
        sources.read_clinical(path, ["t"], "id")


def test_a_spreadsheet_is_no_csv(tmp_path):
    path = tmp_path / "clinical.xlsx"
    path.write_bytes(b"PK\x03\x04\xff\xfe\x00" * 20)
    with pytest.raises(sources.SourceError, match="Save a spreadsheet as CSV"):
        sources.read_clinical(path, [], "id")
    with pytest.raises(sources.SourceError, match=r"gone\.csv"):
        sources.read_clinical(tmp_path / "gone.csv", [], "id")


def test_the_released_tables_pass_as_clinical_files(tmp_path):
    rows = real.cohort_rows("c4kc_kits")
    rows.to_csv(tmp_path / "clinical.csv", index=False)
    table = sources.read_clinical(tmp_path / "clinical.csv", ["vital_status", "vital_days_after_surgery"], "patient_id")
    assert len(table) == 210


@pytest.fixture
def idc_index(monkeypatch):
    """The package, whose client does not begin by reading an index of all series, which takes seconds."""
    import idc_index

    monkeypatch.setattr(idc_index.IDCClient, "__init__", lambda client: setattr(client, "clinical_data_dir", None))
    return idc_index


def test_the_silence_of_idc_index_is_an_error(idc_index, monkeypatch):
    monkeypatch.setattr(idc_index.IDCClient, "fetch_index", lambda client, name: None)  # as after a failed fetch
    with pytest.raises(sources.SourceError, match=r"gave no table c4kc_kits_clinical\. Without a network, give"):
        sources.clinical("c4kc_kits_clinical", ["vital_status"])

    def refused(client, name):
        raise ConnectionError("no route")

    monkeypatch.setattr(idc_index.IDCClient, "fetch_index", refused)
    with pytest.raises(sources.SourceError, match=r"could not fetch c4kc_kits_clinical \(no route\)"):
        sources.clinical("c4kc_kits_clinical", [])


def test_a_clinical_table_of_the_idc_is_checked_like_a_file(idc_index, monkeypatch, tmp_path):
    def fetched(client, name):
        client.clinical_data_dir = str(tmp_path)

    pd.DataFrame({"dicom_patient_id": ["a", "a"], "t": [1, 2]}).to_parquet(tmp_path / "some_clinical")
    monkeypatch.setattr(idc_index.IDCClient, "fetch_index", fetched)
    with pytest.raises(sources.SourceError, match="more than one row of dicom_patient_id a"):
        sources.clinical("some_clinical", ["t"])
    with pytest.raises(sources.SourceError, match=r"no column T \(did you mean 't'\?\)"):
        sources.clinical("some_clinical", ["T"])
