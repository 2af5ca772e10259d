"""Annotations are made from each source table by its rule, keep their text, and every fault is named by its place."""

import re

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import annotations
from tumorbench_utils.annotations import AnnotationError, Annotations
from tumorbench_utils.cohorts import COHORTS, STUDY

NO_ONE = pd.DataFrame(columns=["sample_id", "patient_id", "reason"])
HEADER = "sample_id,patient_id,x,y,z,label,time_days,event,volume_ml,clinical_age\n"
ROW = "{0},p-{0},1.5,-2,3,1,900,0,4.5,61\n"
TABLE = HEADER + "".join(ROW.format(name) for name in ("007", "b", "c"))


def write_text(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def message(path):
    """What :func:`annotations.read` says of a faulty table, after the file's name."""
    with pytest.raises(AnnotationError) as caught:
        annotations.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def faults(path):
    """Lines of the message, one a fault."""
    head, *lines = message(path).split("\n  ")
    assert head == f"{len(lines)} fault" + "s" * (len(lines) > 1)
    return lines


# From the rows of a source table

SURVIVAL = {"Survival.time": [730, 729, 314, 900.5], "deadstatus.event": [1, 1, 0, 0]}
PLACES = {"coordX": [1.0, 2, 3, 4], "coordY": [-1.0, -2, -3, np.inf], "coordZ": [0.5, 1.5, 2.5, np.nan]}


def test_nsclc_radiomics():
    rows = pd.DataFrame({"PatientID": ["LUNG1-001", "LUNG1-002", "LUNG1-406", "LUNG1-004"], **SURVIVAL, **PLACES})
    rows["age"], rows["Overall.Stage"], rows["Histology"] = [61.5, None, 70, 55], ["I", "IIIa", None, "II"], "nos"
    made = annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows)
    expected = pd.DataFrame(
        {
            "sample_id": rows["PatientID"],
            "patient_id": rows["PatientID"],
            "x": [1.0, 2, 3, 4],
            "y": [-1.0, -2, -3, np.nan],
            "z": [0.5, 1.5, 2.5, np.nan],
            "label": [1.0, 0, 0, 1],  # LUNG1-406, censored at 314 days, is kept as 0
            "time_days": [730, 729, 314, 900.5],
            "event": [1.0, 1, 0, 0],
            "clinical_age": [61.5, np.nan, 70, 55],
            "clinical_overall_stage": ["I", "IIIa", None, "II"],
            "clinical_histology": "nos",
        }
    )
    pd.testing.assert_frame_equal(made.table, expected)
    assert made.excluded.empty


def test_samples_left_out_keep_their_clinical_columns(tmp_path):
    rows = pd.DataFrame({"PatientID": ["LUNG1-001", "LUNG1-406", "LUNG1-003", "LUNG1-004"], **SURVIVAL})
    rows["age"], rows["gender"] = [61.5, 70, 65, 55], ["male", "female", "male", "female"]
    made = annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows, "strict")
    assert made.excluded[["clinical_age", "clinical_gender"]].to_numpy().tolist() == [[65.0, "male"]]
    annotations.write(tmp_path, "mine", made, {})
    read = annotations.read_excluded(tmp_path, "mine")
    assert read["clinical_age"].tolist() == [65.0] and read["clinical_gender"].tolist() == ["male"]
    assert read["sample_id"].tolist() == ["LUNG1-003"] and read["event"].dtype == float


def test_variant_that_leaves_out_gives_the_reason():
    names = ["LUNG1-001", "LUNG1-002", "LUNG1-406", "LUNG1-004"]
    rows = pd.DataFrame({"PatientID": names, **SURVIVAL})
    made = annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows, "strict")
    assert made.table["sample_id"].tolist() == ["LUNG1-001", "LUNG1-002", "LUNG1-004"]
    assert made.table["label"].tolist() == [1, 0, 1]
    assert made.table.index.tolist() == [0, 1, 2]
    assert made.excluded.to_dict("records") == [
        {
            "sample_id": "LUNG1-406",
            "patient_id": "LUNG1-406",
            "time_days": rows["Survival.time"][2],
            "event": 0.0,
            "reason": "censored before two years",
        }
    ]


def test_nsclc_radiogenomics():
    rows = pd.DataFrame({"Case ID": ["R01-1", "R01-2", "R01-3", "R01-4"], **SURVIVAL, "Smoking status": "Former"})
    cohort = COHORTS.get("nsclc_radiogenomics")
    made = annotations.from_rows(cohort, rows)
    assert made.table["label"].tolist() == [0, 0, 1, 1]  # alive at last follow-up
    assert made.table["clinical_smoking"].tolist() == ["Former"] * 4
    strict = annotations.from_rows(cohort, rows, "two_year")
    assert strict.table.set_index("sample_id")["label"].to_dict() == {"R01-1": 1, "R01-2": 0, "R01-4": 1}
    assert strict.excluded["sample_id"].tolist() == ["R01-3"]


def test_c4kc_kits():
    rows = pd.DataFrame(
        {
            "patient_id": ["KiTS-1", "KiTS-2", "KiTS-3"],
            "vital_days_after_surgery": [731, 10, 10],
            "vital_status": ["censored", "dead", "censored"],
            "age_at_nephrectomy": [50, 60, 70],
            "radiographic_size": [3.5, 4, 5],
        }
    )
    made = annotations.from_rows(COHORTS.get("c4kc_kits"), rows)
    assert made.table["label"].tolist() == [1, 0]
    assert made.table["event"].tolist() == [0, 1]
    assert made.table["clinical_radiographic_size_cm"].tolist() == [3.5, 4]
    assert made.excluded["sample_id"].tolist() == ["KiTS-3"]


def test_colorectal_liver_metastases():
    rows = pd.DataFrame(
        {
            "Patient-ID": ["CRLM-1", "CRLM-2", "CRLM-3"],
            "overall_survival_months": [24, 12, 23.9],
            "vital_status": [0, 1, 0],
        }
    )
    made = annotations.from_rows(COHORTS.get("colorectal_liver_metastases"), rows)
    assert made.table["label"].tolist() == [1, 0]
    assert made.table["time_days"].tolist() == [730.5, 365.25]
    assert made.excluded["sample_id"].tolist() == ["CRLM-3"]


def test_dlcs():
    rows = pd.DataFrame({"patient-id": ["D1", "D1", "D2"], "nodule_id": [1, 2, 1], "Malignant_lbl": [0, 1, 0]})
    made = annotations.from_rows(COHORTS.get("dlcs"), rows)
    assert made.table["sample_id"].tolist() == ["D1_1", "D1_2", "D2_1"]
    assert made.table["patient_id"].tolist() == ["D1", "D1", "D2"]
    assert made.table["label"].tolist() == [0, 1, 0]
    assert "time_days" not in made.table


def test_luna16():
    rows = pd.DataFrame({"image_path": ["data/1.2.3.mhd", "data/1.2.3.mhd", "1.2.4.mhd"], "malignancy": [1, 0, 1]})
    rows = rows.assign(coordX=[-10.4, 10.6, 0], coordY=[5.0, 6, 7], coordZ=[-100.0, -200, -300])
    made = annotations.from_rows(COHORTS.get("luna16"), rows)
    assert made.table["sample_id"].tolist() == ["1.2.3_-10_5_-100", "1.2.3_11_6_-200", "1.2.4_0_7_-300"]
    assert made.table["patient_id"].tolist() == ["1.2.3", "1.2.3", "1.2.4"]
    assert made.table["x"].tolist() == [-10.4, 10.6, 0]


def test_every_cohort_with_an_endpoint_is_among_these_tests():
    tested = {name.removeprefix("test_") for name in globals()}
    assert {cohort.id for cohort in STUDY if cohort.endpoints} <= tested


def test_cohort_without_endpoint_keeps_all_samples_without_a_label():
    rows = pd.DataFrame({"PatientID": ["RIDER-1-1", "RIDER-1-2"]})
    made = annotations.from_rows(COHORTS.get("rider"), rows)
    assert made.table["label"].isna().all() and len(made.table) == 2 and made.excluded.empty
    assert made.table["patient_id"].tolist() == ["RIDER-1", "RIDER-1"]
    with pytest.raises(LookupError, match="rider has no variant 'paper'"):
        COHORTS.get("rider").endpoint()


def test_own_images_have_the_label_of_their_table():
    rows = pd.DataFrame({"sample_id": ["a", "b", "c"], "patient_id": ["p", "q", "r"], "label": [1, 0, None]})
    made = annotations.from_rows(COHORTS.get("own"), rows)
    assert made.table["label"].tolist() == [1, 0]
    assert made.excluded[["sample_id", "reason"]].to_numpy().tolist() == [["c", "no label"]]


def test_missing_source_column_names_those_there_are():
    rows = pd.DataFrame({"PatientID": ["LUNG1-001"], "survival": [800]})
    with pytest.raises(AnnotationError, match=r"nsclc_radiomics.*'Survival\.time'.*It has: PatientID, survival"):
        annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows)


def test_source_value_that_is_no_number_names_cohort_and_value():
    rows = pd.DataFrame({"PatientID": ["a", "b"], "Survival.time": ["730", "unknown"], "deadstatus.event": [0, 1]})
    with pytest.raises(AnnotationError, match=r"nsclc_radiomics.*unknown"):
        annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows)


def test_fault_in_the_source_rows_names_the_cohort():
    rows = pd.DataFrame({"PatientID": ["a", "a"], **{name: values[:2] for name, values in SURVIVAL.items()}})
    with pytest.raises(AnnotationError, match="nsclc_radiomics: 2 faults\n  row 2, column sample_id: 'a' is a dup"):
        annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows)


def test_no_sample_with_a_label_is_an_error():
    rows = pd.DataFrame({"PatientID": ["a"], "Survival.time": [10], "deadstatus.event": [0]})
    with pytest.raises(AnnotationError, match="nsclc_radiomics: no samples"):
        annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows, "strict")


# Write and read


def test_written_table_is_read_back_alike(tmp_path):
    values = np.random.default_rng(0).normal(scale=1000, size=(4, 5))
    table = pd.DataFrame(
        {
            "sample_id": ["007", "1e3", "NA", "b, with comma"],
            "patient_id": ["7", "007", "None", "é"],
            "image": ["a/1.nii.gz", None, "c", "d"],
            **dict(zip("xyz", values.T, strict=False)),
            "label": [1.0, 0, np.nan, 1],
            "time_days": abs(values[:, 3]),
            "event": [0.0, 1, 1, np.nan],
            "volume_ml": abs(values[:, 4]),
            "clinical_age": [61.25, np.nan, 70, 55],
            "clinical_stage": ["IIIa", "NA", None, "I"],
        }
    )
    excluded = pd.DataFrame({"sample_id": ["009"], "patient_id": ["NA"], "reason": ["censored before two years"]})
    path = annotations.write(tmp_path, "mine", Annotations(table, excluded), {"parameters": {}})
    assert path == tmp_path / "annotations" / "mine.csv" == annotations.path_of(tmp_path, "mine")
    # to the last digit, but pandas 2 reads some numbers one unit of it away
    pd.testing.assert_frame_equal(annotations.read(path), table, rtol=3e-16, atol=0, check_dtype=False)
    pd.testing.assert_frame_equal(annotations.read_excluded(tmp_path, "mine"), excluded, check_dtype=False)
    assert sorted(other.name for other in path.parent.iterdir()) == [
        "mine.csv",
        "mine.excluded.csv",
        "mine.excluded.provenance.json",
        "mine.provenance.json",
    ]


def test_sample_without_label_may_be_written(tmp_path):
    table = pd.DataFrame({"sample_id": ["RIDER-1-1"], "patient_id": ["RIDER-1"], "label": [np.nan]})
    path = annotations.write(tmp_path, "rider", Annotations(table, NO_ONE), {})
    assert annotations.read(path)["label"].isna().all()
    table = table.drop(columns="label")
    path = annotations.write(tmp_path, "rider", Annotations(table, NO_ONE), {})
    assert annotations.read(path).columns.tolist() == ["sample_id", "patient_id"]


def test_nothing_excluded_is_an_empty_table(tmp_path):
    table = pd.DataFrame({"sample_id": ["a"], "patient_id": ["a"]})
    annotations.write(tmp_path, "mine", Annotations(table, NO_ONE), {})
    excluded = annotations.read_excluded(tmp_path, "mine")
    assert excluded.empty
    assert excluded.columns.tolist() == ["sample_id", "patient_id", "reason"]


def test_faulty_table_is_not_written(tmp_path):
    table = pd.DataFrame({"sample_id": ["a"], "patient_id": ["a"], "label": [2.0]})
    with pytest.raises(AnnotationError, match=r"mine\.csv: 1 fault"):
        annotations.write(tmp_path, "mine", Annotations(table, NO_ONE), {})
    assert not annotations.path_of(tmp_path, "mine").exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_table_of_a_spreadsheet_is_read(tmp_path, encoding, newline):
    path = write_text(tmp_path / "mine.csv", TABLE.replace("\n", newline), encoding)
    read = annotations.read(path)
    assert read["sample_id"].tolist() == ["007", "b", "c"]
    assert read["patient_id"].tolist() == ["p-007", "p-b", "p-c"]
    assert read["x"].tolist() == [1.5] * 3
    assert read["label"].dtype == float


# Faults, by file, row as a spreadsheet numbers it, and column


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("sample_id", "007", "row {row}, column sample_id: '007' is a duplicate"),
        ("sample_id", "", "row {row}, column sample_id: nan is empty"),
        ("patient_id", "", "row {row}, column patient_id: nan is empty"),
        ("label", "2", "row {row}, column label: 2.0 is not 0 or 1"),
        ("label", "0.5", "row {row}, column label: 0.5 is not 0 or 1"),
        ("label", "x", "row {row}, column label: 'x' is not a number"),
        ("label", "NA", "row {row}, column label: 'NA' is not a number"),
        ("time_days", "-1", "row {row}, column time_days: -1.0 is negative"),
        ("time_days", "two years", "row {row}, column time_days: 'two years' is not a number"),
        ("event", "3", "row {row}, column event: 3.0 is not 0 or 1"),
        ("volume_ml", "-0.1", "row {row}, column volume_ml: -0.1 is negative"),
        ("x", "1,5", "row {row}, column x: '1,5' is not a number"),
    ],
)
@pytest.mark.parametrize("row", [3, 4])
def test_faulty_value_is_named_by_its_place(tmp_path, column, value, fault, row):
    table = pd.DataFrame([line.split(",") for line in TABLE.splitlines()[1:]], columns=HEADER.strip().split(","))
    table.loc[row - 2, column] = value
    path = tmp_path / "mine.csv"
    table.to_csv(path, index=False)
    expected = [fault.format(row=row)]
    if "duplicate" in fault:
        expected.insert(0, fault.format(row=2))  # both are told: which of them is wrong is not known
    assert faults(path) == expected


def test_faults_of_several_columns_are_told_together(tmp_path):
    path = write_text(tmp_path / "mine.csv", "sample_id,label,event,lable\na,x,1,1\nb,1,4,1\n")
    assert set(faults(path)) == {
        "column patient_id is missing",
        "column lable is not known (own columns are called clinical_...)",
        "row 2, column label: 'x' is not a number",
        "row 3, column event: 4.0 is not 0 or 1",
    }


@pytest.mark.parametrize("column", ["sample_id", "patient_id"])
def test_missing_column_is_named(tmp_path, column):
    path = write_text(tmp_path / "mine.csv", TABLE.replace(column, "clinical_x"))
    assert faults(path) == [f"column {column} is missing"]


def test_column_given_twice_is_a_fault(tmp_path):
    path = write_text(tmp_path / "mine.csv", TABLE.replace("volume_ml", "label"))
    assert faults(path) == ["column label.1 is not known (own columns are called clinical_...)"]


def test_more_than_five_faults_are_counted(tmp_path):
    path = write_text(tmp_path / "mine.csv", HEADER + "".join(f"s{i},p,1,2,3,{i},9,0,1,1\n" for i in range(2, 11)))
    head, *lines, last = message(path).split("\n  ")
    assert head == "9 faults"
    assert lines == [f"row {i}, column label: {float(i)} is not 0 or 1" for i in range(2, 7)]
    assert last == "and 4 more"


def test_five_faults_are_all_told(tmp_path):
    path = write_text(tmp_path / "mine.csv", HEADER + "".join(f"s{i},p,1,2,3,{i},9,0,1,1\n" for i in range(2, 7)))
    assert len(faults(path)) == 5


def test_table_cut_off_anywhere_is_never_taken_for_other_values(tmp_path):
    whole = annotations.read(write_text(tmp_path / "whole.csv", TABLE))
    ends_of_rows = [end for end, character in enumerate(TABLE, start=1) if character == "\n"]
    for end in range(len(TABLE)):
        path = write_text(tmp_path / "mine.csv", TABLE[:end])
        if end in ends_of_rows[1:]:  # only a cut between two rows cannot be seen
            pd.testing.assert_frame_equal(annotations.read(path), whole.head(ends_of_rows.index(end)))
        else:
            assert message(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not a readable CSV table"),
        (HEADER, "no samples"),
        (TABLE + "d,p,1\n", "row 5 has 3 columns, the header 10"),
        (TABLE + ROW.format("d").replace("\n", ",1\n"), "row 5 has 11 columns, the header 10"),
        (TABLE.replace("\nb", "\n\nb"), "row 3 has 0 columns, the header 10"),
        (TABLE.replace("\nb", '\n"b'), "row 3 has 1 columns, the header 10"),
        (TABLE.replace(",", ";"), "3 faults\n  column sample_id;patient_id;.* is not known"),
    ],
)
def test_broken_table_names_the_row(tmp_path, text, expected):
    assert re.match(expected, message(write_text(tmp_path / "mine.csv", text)))


def test_table_of_another_encoding_is_refused(tmp_path):
    assert message(write_text(tmp_path / "mine.csv", TABLE.replace("p-b", "é"), "latin-1")).startswith("not a readable")


def test_missing_file_is_named(tmp_path):
    assert message(tmp_path / "mine.csv") == "no such annotation table"


@pytest.mark.parametrize(
    ("cohort", "column", "dead", "alive"),
    [("c4kc_kits", "vital_status", "Dead ", "CENSORED"), ("colorectal_liver_metastases", "vital_status", "1", 0.0)],
)
def test_a_status_counts_however_it_is_spelt(cohort, column, dead, alive):
    event = COHORTS.get(cohort).event(pd.DataFrame({column: [dead, alive, None, ""]}))
    assert event.tolist()[:2] == [1, 0] and event[2:].isna().all()


@pytest.mark.parametrize("cohort", ["c4kc_kits", "colorectal_liver_metastases"])
def test_an_unknown_status_is_an_error_and_no_censoring(cohort):
    with pytest.raises(ValueError, match="vital_status holds lost; known are"):
        COHORTS.get(cohort).event(pd.DataFrame({"vital_status": ["lost"]}))
