"""Endpoint rules against the released cohort tables, and against cases worked by hand."""

import tarfile

import numpy as np
import pandas as pd
import pytest

from tests import real
from tumorbench_utils import annotations, artefacts, curation, phantom
from tumorbench_utils.cohorts import COHORTS, STUDY, Cohort, is_phantom, released
from tumorbench_utils.cohorts.base import two_year_survival
from tumorbench_utils.registry import UnknownNameError

PHANTOMS = ["phantom", "phantom_retest", "phantom_a", "phantom_b"]
RULES = [(cohort.id, variant) for cohort in COHORTS if cohort.id in real.COHORT_TABLES for variant in cohort.endpoints]


@pytest.mark.parametrize(("cohort", "variant"), RULES)
def test_rule_gives_the_expected_counts_on_the_released_table(cohort, variant):
    source = COHORTS.get(cohort)
    made = annotations.from_rows(source, real.cohort_rows(cohort), variant)
    labels = made.table["label"]
    endpoint = source.endpoint(variant)
    assert (int((labels == 1).sum()), int((labels == 0).sum())) == (endpoint.positives, endpoint.negatives)
    assert len(made.table) + len(made.excluded) == len(real.cohort_rows(cohort))


def test_every_cohort_of_the_study_but_dlcs_is_checked_on_its_table():
    assert {cohort.id for cohort in STUDY} - set(real.COHORT_TABLES) == {"dlcs"}


def test_two_year_survival_by_hand():
    time = pd.Series([730, 729, 729, 0, 5000, np.nan])
    event = pd.Series([0, 1, 0, 1, 1, 1])
    expected = [1, 0, np.nan, 0, 1, np.nan]  # censored early and unknown follow-up have no label
    assert np.array_equal(two_year_survival(time, event), expected, equal_nan=True)


def test_strict_drops_the_one_patient_that_the_paper_keeps():
    rows = real.cohort_rows("nsclc_radiomics")
    strict = annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows, "strict")
    assert list(strict.excluded["sample_id"]) == ["LUNG1-406"]
    assert list(strict.excluded["reason"]) == ["censored before two years"]


def test_our_rule_is_the_label_that_was_released():
    rows = real.cohort_rows("nsclc_radiomics")
    made = annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows)
    assert np.array_equal(made.table["label"], rows["survival"])


def test_luna16_nodules_have_names_of_their_own_and_scans_are_shared():
    made = annotations.from_rows(COHORTS.get("luna16"), real.cohort_rows("luna16"))
    assert made.table["sample_id"].is_unique
    assert made.table["patient_id"].nunique() == 433


def test_rider_pairs_share_a_patient():
    rider = COHORTS.get("rider")
    patients = rider.patient(real.cohort_rows("rider"))
    assert set(patients.value_counts()) == {2} and patients.nunique() == 26


def test_colorectal_follow_up_is_in_days():
    rows = real.cohort_rows("colorectal_liver_metastases")
    days = COHORTS.get("colorectal_liver_metastases").time_days(rows)
    assert days.to_numpy() == pytest.approx(rows["overall_survival_months"].to_numpy() * 30.4375)


def test_dlcs_names_patient_and_nodule():
    rows = pd.DataFrame({"patient-id": ["DLCS_0001"] * 2, "nodule_id": [1, 2], "Malignant_lbl": [0, 1]})
    made = annotations.from_rows(COHORTS.get("dlcs"), rows).table
    assert list(made["sample_id"]) == ["DLCS_0001_1", "DLCS_0001_2"]
    assert list(made["label"]) == [0, 1]


def test_unknown_names_are_errors_that_list_what_there_is():
    with pytest.raises(UnknownNameError, match="Did you mean 'luna16'"):
        COHORTS.get("luna61")
    with pytest.raises(LookupError, match="Known: paper, strict"):
        COHORTS.get("nsclc_radiomics").endpoint("three_year")


def test_a_new_cohort_needs_no_more_than_its_rules():
    cohort = Cohort(
        id="mine", title="Mine", anatomy="lung", size="2", source="here", doi="", licence="", citation="",
        seed_rule="", endpoints=COHORTS.get("luna16").endpoints, patient=lambda rows: rows["who"],
    )  # fmt: skip
    rows = pd.DataFrame({"who": ["a", "b"], "malignancy": [0, 1]})
    assert list(annotations.from_rows(cohort, rows).table["sample_id"]) == ["a", "b"]


def test_luna16_without_a_seed_point_names_the_missing_column():
    rows = real.cohort_rows("luna16").drop(columns="coordX")
    with pytest.raises(annotations.AnnotationError, match=r"no column .*coordX"):
        annotations.from_rows(COHORTS.get("luna16"), rows)


def test_a_missing_survival_time_is_no_death():
    rows = real.cohort_rows("nsclc_radiomics").head(3).astype({"Survival.time": float})
    rows.loc[0, "Survival.time"] = np.nan
    made = annotations.from_rows(COHORTS.get("nsclc_radiomics"), rows)
    assert len(made.table) == 2 and list(made.excluded["reason"]) == ["no survival time"]


def test_every_cohort_of_the_study_says_where_its_images_are():
    kinds = {cohort.id: type(cohort.images).__name__ for cohort in STUDY}
    assert kinds.pop("dlcs") == "Zenodo" and set(kinds.values()) == {"Idc"}
    assert COHORTS.get("dlcs").images.record in COHORTS.get("dlcs").doi
    assert all(cohort.images.collection in cohort.source for cohort in COHORTS if cohort.id in kinds)


def test_the_study_has_seven_cohorts_and_the_rest_is_for_trying_things_out():
    assert [cohort.id for cohort in STUDY] == [
        "luna16",
        "dlcs",
        "nsclc_radiomics",
        "nsclc_radiogenomics",
        "c4kc_kits",
        "colorectal_liver_metastases",
        "rider",
    ]
    others = [cohort for cohort in COHORTS if cohort not in STUDY]
    assert [cohort.id for cohort in others] == ["lung_ct", *PHANTOMS, "own"]
    assert all(cohort.images is None for cohort in others)  # none of them is in the Imaging Data Commons


def dlcs_rows(*nodules):
    return pd.DataFrame(nodules, columns=["patient-id", "nodule_id", "coordX", "coordY", "coordZ", "Malignant_lbl"])


def test_dlcs_of_the_paper_ends_with_patient_1120_and_full_does_not():
    rows = dlcs_rows(
        ("DLCS_0001", 1, 1, 2, 3, 0),
        ("DLCS_1120", 1, 1, 2, 3, 1),
        ("DLCS_1120", 2, 4, 5, 6, 0),
        ("DLCS_1121", 1, 1, 2, 3, 1),
        ("DLCS_1613", 4, 1, 2, 3, 0),
    )
    paper = annotations.from_rows(COHORTS.get("dlcs"), rows)
    assert list(paper.table["sample_id"]) == ["DLCS_0001_1", "DLCS_1120_1", "DLCS_1120_2"]
    assert list(paper.table["label"]) == [0, 1, 0]
    assert paper.table[["x", "y", "z"]].iloc[2].tolist() == [4, 5, 6]
    assert list(paper.excluded["sample_id"]) == ["DLCS_1121_1", "DLCS_1613_4"]
    assert set(paper.excluded["reason"]) == {"no label, or not one of the paper's patients"}
    full = annotations.from_rows(COHORTS.get("dlcs"), rows, "full")
    assert list(full.table["label"]) == [0, 1, 0, 1, 0] and full.excluded.empty


def test_dlcs_without_a_label_is_left_out_of_both_variants():
    rows = dlcs_rows(("DLCS_0001", 1, 1, 2, 3, 0), ("DLCS_0002", 1, 1, 2, 3, None))
    for variant in ("paper", "full"):
        made = annotations.from_rows(COHORTS.get("dlcs"), rows, variant)
        assert list(made.table["sample_id"]) == ["DLCS_0001_1"] and list(made.excluded["sample_id"]) == ["DLCS_0002_1"]


def test_a_phantom_has_its_label_and_its_follow_up():
    rows = phantom.parameters(40, retests=2)
    first = rows[rows["scan"] == "test"]
    paper = annotations.from_rows(COHORTS.get("phantom"), rows)
    assert list(paper.table["label"]) == list(first["malignant"]) and set(paper.table["label"]) == {0, 1}
    assert list(paper.table["time_days"]) == list(first["time_days"])
    survival = annotations.from_rows(COHORTS.get("phantom"), rows, "survival")
    early = first[(first["time_days"] < 730) & (first["event"] == 0)]
    assert set(early["sample_id"]) < set(survival.excluded["sample_id"]) and len(early)
    assert len(survival.table) == len(first) - len(early)
    kept = first[first["sample_id"].isin(survival.table["sample_id"])]
    assert list(survival.table["label"]) == list((kept["time_days"] >= 730).astype(float))


def test_the_retest_cohort_keeps_both_scans_of_a_patient_and_has_no_label():
    rows = phantom.parameters(5, retests=3)
    made = annotations.from_rows(COHORTS.get("phantom_retest"), rows)
    assert list(made.table["sample_id"]) == list(rows["sample_id"]) and made.excluded.empty
    assert made.table["patient_id"].value_counts().value_counts().to_dict() == {2: 3, 1: 2}
    assert made.table["label"].isna().all() and "time_days" not in made.table


def test_cohorts_of_phantoms_are_phantoms_and_no_other_is():
    assert [cohort.id for cohort in COHORTS if is_phantom(cohort.id)] == PHANTOMS
    assert not is_phantom("") and not is_phantom("phantoms")


def test_the_two_sites_have_other_scanners_another_case_mix_and_no_patient_in_common(tmp_path, monkeypatch):
    made = {}
    monkeypatch.setattr(phantom, "make", lambda folder, **how: made.setdefault(folder.name, how) and pd.DataFrame())
    for site in ("a", "b"):
        curation.provide(COHORTS.get(f"phantom_{site}"), "phantom", tmp_path / site, cases=32, retests=0)
    tables = {site: phantom.parameters(how.pop("cases"), **how) for site, how in made.items()}
    assert all(set(table["site"]) == {site} for site, table in tables.items())
    assert not set(tables["a"]["patient_id"]) & set(tables["b"]["patient_id"])
    assert tables["b"]["malignant"].mean() > tables["a"]["malignant"].mean() + 0.1
    assert all(table["malignant"].value_counts().min() >= 10 for table in tables.values())  # enough for grouped splits


def test_released_rows_are_those_of_the_archive_in_the_order_of_the_splits():
    counts = {cohort: len(released.rows(cohort)) for cohort in released.TABLES}
    assert counts == {
        "luna16": 677,
        "nsclc_radiomics": 421,
        "nsclc_radiogenomics": 144,
        "c4kc_kits": 210,
        "colorectal_liver_metastases": 197,
        "rider": 52,
    }
    archive = artefacts.cache_dir() / f"{released.SDIST}.tar.gz"
    with tarfile.open(archive) as opened:
        parts = [
            pd.read_csv(opened.extractfile(f"{released.SDIST}/data/eval/nsclc_radiomics/{split}_annotations.csv"))
            for split in ("train", "val", "test")
        ]
    assert list(released.rows("nsclc_radiomics")["PatientID"]) == [name for part in parts for name in part["PatientID"]]


def test_a_cohort_without_a_released_table_says_which_have_one():
    with pytest.raises(LookupError, match=r"no released table of dlcs\. There are: luna16, nsclc_radiomics"):
        released.rows("dlcs")
